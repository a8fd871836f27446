"""A cleanup: which statements it is made of, one bounded batch after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from time import monotonic
from typing import Any
from uuid import UUID

from psycopg import Connection

from .config import RegistryConfig
from .database import Database
from .model import Cleanup
from .queries import queries
from .statements import Params, Row, execute


class AnotherCleans(Exception):
    """Another cleanup is at work on the same tables: this one left them to it."""


class Cleaning:
    """One cleanup of what had its time when it began, so that it ends."""

    def __init__(
        self,
        database: Database,
        config: RegistryConfig,
        batch_size: int,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """`pause`: be the only cleanup of all that have one, and call it before each batch with
        the seconds that the batch before it took.

        That one is alone is a lock of the transaction of each batch, so that it goes with it
        whatever becomes of this process or of a pooler in between. The pause is part of it: only
        for an instant could another come in between two batches, and then that one has the rest.
        """
        self._database = database
        self._batch_size = batch_size
        self._pause = pause
        self._took = 0.0
        row = database.row(queries.clock, {})
        assert row is not None  # a constant query
        self._limits = {
            "batch_size": batch_size,
            "retention": config.replay_retention,
            "as_of": row[0],
        }

    def due(self) -> int | None:
        """About how many sessions and events are due; None if there are too many to count."""
        limits = {name: self._limits[name] for name in ("as_of", "retention")}
        row = self._database.row(queries.cleanup_due, limits)
        assert row is not None  # a row of counts
        sessions, events, all_of_them = row
        return int(sessions + events) if all_of_them else None

    def batches(self) -> Iterator[Cleanup]:
        """Cleans up, and says after each batch what it deleted.

        Raises:
            AnotherCleans: see `pause`; what was cleaned up before stays so.
            RegistryUnavailable: likewise.
        """
        for deleted in self._counted(queries.cleanup_expired_sessions):
            yield Cleanup(deleted, 0, 0)
        # Before the games, so that no id outlives the log in which it stood for an event.
        for _ in self._counted(queries.cleanup_event_ids):
            yield Cleanup(0, 0, 0)
        after, seen = UUID(int=0), self._batch_size
        while seen == self._batch_size:
            row = self._row(queries.cleanup_receipts, {**self._limits, "after": after})
            after, seen = row or (after, 0)
            yield Cleanup(0, 0, 0)
        while (gone := self._aged_games()) is not None:
            yield gone

    def _counted(self, query: bytes) -> Iterator[int]:
        count = self._batch_size
        while count >= self._batch_size:
            row = self._row(query, self._limits)
            count = int(row[0]) if row else 0
            yield count

    def _row(self, query: bytes, params: Params) -> Row | None:
        if self._pause is None:
            return self._database.row(query, params)
        with self._turn() as connection:
            return execute(connection, query, params).fetchone()

    def _aged_games(self) -> Cleanup | None:
        """What one batch deleted, or None when no game was due."""
        with self._turn() as connection:
            due = execute(connection, queries.claim_aged_games, self._limits).fetchall()
            if not due:
                return None
            params = {**self._limits, "game_ids": [game_id for (game_id,) in due]}
            row = execute(connection, queries.cleanup_aged_games, params).fetchone()
        assert row is not None  # a row of counts
        return Cleanup(0, row[0], row[1])

    @contextmanager
    def _turn(self) -> Iterator[Connection[Any]]:
        """A transaction for one batch."""
        with self._database.transaction() as connection:
            if self._pause is not None:
                if execute(connection, queries.lock_cleanup, {}).fetchone() != (True,):
                    raise AnotherCleans
                self._pause(self._took)
            began = monotonic()
            yield connection
        self._took = monotonic() - began


def total(batches: Iterator[Cleanup]) -> Cleanup:
    """All of them together."""
    return reduce(Cleanup.plus, batches, Cleanup(0, 0, 0))
