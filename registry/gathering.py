"""Many threads' calls, each for one session, in one statement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .arrays import Array
from .combining import Batch, Combiner
from .config import RegistryConfig
from .database import Database
from .errors import InvalidArgument
from .statements import Row
from .translation import Refused

Job = Mapping[str, Any]
"""The parameters of one call's query."""

Columns = Callable[[Sequence[Job]], Mapping[str, Array]]


class Gathering:
    """Runs a query for each call alone, or one for many. Safe to share between threads.

    Args:
        alone: runs the query of one call, and raises what there is to say when it finds nothing.
        query: the same for many; its first column is the place of the call that a row answers.
            It waits for no lock. A call without a row is done alone, by its own thread.
        columns: the parameters of that query, made of those of the calls.
        most: calls in one statement.
    """

    def __init__(
        self,
        database: Database,
        config: RegistryConfig,
        *,
        name: str,
        alone: Callable[[Job], Row],
        query: bytes,
        columns: Columns,
        most: int,
    ) -> None:
        self._database = database
        self._query = query
        self._columns = columns
        self.combiner: Combiner[Job, Row] = Combiner(
            alone,
            self._together,
            name=name,
            most_weight=most,
            config=config,
        )

    def row(self, session_id: str, params: Job) -> Row:
        """The row that answers one call."""
        return self.combiner.call(session_id, params, 1)

    def _together(self, batch: Batch[Job, Row], _: bool) -> Collection[str]:
        sent = [calls[0] for calls in batch.values()]
        # One call that cannot be sent, or that the server does not take, must not fail the others.
        with suppress(Refused, InvalidArgument):
            params = self._columns([call.job for call in sent])
            for place, *row in self._database.rows(self._query, params):
                sent[place - 1].answer = tuple(row)
        for calls in batch.values():
            for call in calls:
                call.left_alone = call.answer is None
        return ()
