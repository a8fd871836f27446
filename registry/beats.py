"""The heartbeats: many connections' beats in one statement."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple
from uuid import UUID

from .arrays import bigint_array, text_array, uuid_array
from .combining import Batch, Combiner
from .config import RegistryConfig
from .database import Database, Row
from .queries import queries

MOST: Final = 1000
"""Beats in one statement."""


class Beat(NamedTuple):
    """A session, and the generation of the connection that beats, if it says."""

    session_id: str
    game_id: str
    uuid: UUID
    generation: int | None


class Beats:
    """Beats sessions, and returns their rows. Safe to share between threads."""

    def __init__(
        self, database: Database, config: RegistryConfig, alone: Callable[[Beat], Row]
    ) -> None:
        self._database = database
        self._alone = alone
        self.combiner: Combiner[Beat, Row] = Combiner(
            alone,
            self._together,
            name="registry-beats",
            most_waiting=100 * MOST,
            most_weight=MOST,
            config=config,
        )

    def beat(self, beat: Beat) -> Row:
        """Beats at once if nobody else does, or else together with the others."""
        return self.combiner.call(beat.session_id, beat, 1)

    def _together(self, batch: Batch[Beat, Row], patient: bool) -> Collection[str]:
        if patient:
            for calls in batch.values():
                for call in calls:
                    call.settle(self._alone)
            return ()
        sent = [calls[0] for calls in batch.values()]
        rows = self._database.rows(
            queries.heartbeat_batch,
            {
                "game_ids": text_array([call.job.game_id for call in sent]),
                "ids": uuid_array([call.job.uuid for call in sent]),
                "generations": bigint_array([call.job.generation for call in sent]),
            },
        )
        left = set(batch)
        for place, *row in rows:
            first = sent[place - 1]
            left.discard(first.key)
            for call in batch[first.key]:
                # Whoever else beat the same session meanwhile has its answer in this one.
                if call.job.generation in (first.job.generation, None):
                    call.answer = tuple(row)
                else:
                    call.settle(self._alone)
        return left
