"""A cleanup: which statements it is made of, one bounded batch after another.

Old events go in two steps. First the floor of their game is raised over them, and they are gone for
every reader; that holds the game's row, but deletes nothing. Then their rows are deleted, while the
game goes on. What a process that died left of the second step is found by the next cleanup: as long
as there are rows below its floor, a game counts as one that has old events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import reduce
from time import monotonic
from typing import Any, Final
from uuid import UUID

from attrs import frozen
from psycopg import Connection
from psycopg.types.numeric import Int8

from .config import RegistryConfig
from .database import Database
from .model import Cleanup
from .partitioning.layouts import events
from .partitioning.retention import MINE, Retention
from .queries import queries
from .statements import Params, Row, execute

Log = tuple[str, UUID]
"""A game, and the epoch that tells its log from the next one."""

RESOLUTION: Final = timedelta(microseconds=1)
"""Of the database's times."""


class AnotherCleans(Exception):
    """Another cleanup is at work on the same tables: this one left them to it."""


@frozen
class _Raised:
    """What raising the floors of some games came to."""

    unswept: list[Log]
    """Those that may have rows at or below their floor."""
    went_on: bool
    """Whether anything is different from before."""
    ended: int


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
        self._as_of: datetime = row[0]
        self._retention = config.replay_retention

    @property
    def _limits(self) -> dict[str, object]:
        return {
            "batch_size": self._batch_size,
            "retention": self._retention,
            "as_of": self._as_of,
        }

    def due(self) -> int | None:
        """About how many sessions and events are due; None if there are too many to count."""
        limits = {"retention": self._retention, "as_of": self._as_of}
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
        yield from self._partitions()
        yield from self._aged_games()

    def raise_floors(self) -> Iterator[int]:
        """Raises the floors over all events past the retention, and deletes none of them.

        Says after each batch how many games it ended, which had nothing left. Ends when no floor
        can be raised further: a game with rows at or below its floor then counts as one whose
        oldest event is a microsecond past the retention, and is not claimed again. Games that
        somebody else held are passed over, and so are events behind a young one.

        Raises:
            AnotherCleans: see `pause`.
            RegistryUnavailable: likewise.
        """
        limits = {**self._limits, "as_of": self._as_of - RESOLUTION}
        while (raised := self._raise_floors(limits, {})) is not None:
            yield raised.ended

    def _partitions(self) -> Iterator[Cleanup]:
        """Drops whole partitions, where that is for this role to do. What is younger than those is
        then left for its own one to be dropped, instead of being deleted row by row."""
        if not self._rows(MINE, {}):
            return
        with self._turn() as connection:
            table = events(connection)
        retention = timedelta(seconds=self._retention)
        partitions = Retention(self._turn, table, self._as_of - retention, self._as_of)
        partitions.add_ahead()
        self._as_of = partitions.cutoff + retention
        yield from partitions.drop_aged(self.raise_floors)

    def _counted(self, query: bytes) -> Iterator[int]:
        count = self._batch_size
        while count >= self._batch_size:
            row = self._row(query, self._limits)
            count = int(row[0]) if row else 0
            yield count

    def _row(self, query: bytes, params: Params) -> Row | None:
        rows = self._rows(query, params)
        return rows[0] if rows else None

    def _rows(self, query: bytes, params: Params) -> Sequence[Row]:
        if self._pause is None:
            return self._database.rows(query, params)
        with self._turn() as connection:
            return execute(connection, query, params).fetchall()

    def _aged_games(self) -> Iterator[Cleanup]:
        """Some games after the other: floors raised, rows deleted, and a last look at them."""
        swept: dict[Log, int] = {}
        went_on = True
        # Ends too if all that is left is in the hands of others.
        while went_on and (raised := self._raise_floors(self._limits, swept)) is not None:
            yield Cleanup(0, 0, raised.ended)
            went_on = raised.went_on
            swept = {log: swept[log] for log in raised.unswept if log in swept}
            logs = raised.unswept
            while logs:
                rows = self._sweep(logs, swept)
                epochs = dict(logs)
                swept.update({(game_id, epochs[game_id]): last for game_id, last, *_ in rows})
                logs = [(game_id, epochs[game_id]) for game_id, _, done, _ in rows if not done]
                went_on = went_on or bool(rows)
                yield Cleanup(0, rows[0][3] if rows else 0, 0)

    def _raise_floors(self, claim: Params, swept: Mapping[Log, int]) -> _Raised | None:
        """Raises the floors of some games, or None when no game was to be claimed."""
        with self._turn() as connection:
            logs = execute(connection, queries.claim_aged_games, claim).fetchall()
            if not logs:
                return None
            params = {
                **self._limits,
                "game_ids": [game_id for game_id, _ in logs],
                "swept": [Int8(swept.get((game_id, epoch), -1)) for game_id, epoch in logs],
            }
            rows = execute(connection, queries.raise_floors, params).fetchall()
        epochs: dict[str, UUID] = dict(logs)
        return _Raised(
            unswept=[(game_id, epochs[game_id]) for game_id, unswept, *_ in rows if unswept],
            went_on=any(raised or not unswept for _, unswept, raised, _ in rows),
            ended=sum(ended for *_, ended in rows),
        )

    def _sweep(self, logs: Sequence[Log], swept: Mapping[Log, int]) -> Sequence[Row]:
        params = {
            "game_ids": [game_id for game_id, _ in logs],
            "epochs": [epoch for _, epoch in logs],
            "afters": [Int8(swept.get(log, 0)) for log in logs],
            "batch_size": self._batch_size,
        }
        return self._rows(queries.sweep_events, params)

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
