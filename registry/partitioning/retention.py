"""What has had its time, dropped by whole partitions: by whoever owns the tables, in the layout by
time.

A partition is sealed first, so that nothing can come into it any more. Then the floors of all games
are raised over what it has, and it is looked through for events that are above them all the same;
only then it is dropped, with nothing in it that anybody could read. Each step is a transaction that
gives way to who uses the table, and what was not done is done by the next cleanup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final

from psycopg import Connection, errors, sql

from ..model import Cleanup
from .ahead import missing_ahead, rest_has
from .ddl import attach
from .layouts import ByTime, Leaf, Table, ask
from .queries import Statement, filled, queries, setting

Turn = Callable[[], AbstractContextManager[Connection[Any]]]
"""Begins a transaction of the cleanup."""

LOCK_TIMEOUT: Final = "100ms"
TRIES: Final = 5

PAGE: Final = 2_000
"""Games that are looked up in a partition by one statement."""

MINE: Final = queries.droppable
"""A row if partitions are dropped by this role."""

# What may pass, or was done by somebody else.
_LATER: Final = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.DeadlockDetected,
    errors.DuplicateTable,
    errors.UndefinedTable,
    errors.InsufficientPrivilege,
)


class Retention:
    """The partitions of one cleanup. Used by one thread."""

    def __init__(self, turn: Turn, table: Table, past: datetime, now: datetime) -> None:
        """`past`: what was recorded before it has had its time."""
        assert isinstance(table.layout, ByTime)
        self._turn = turn
        self._table = table
        self._now = now
        self.cutoff: datetime = table.layout.start(past)
        """The beginning of the partition that `past` is in: what is younger stays until that one is
        dropped."""

    def add_ahead(self) -> None:
        """Adds partitions that are due; none for a time that the partition for the rest has rows
        of, which age out there."""
        for start in missing_ahead(self._table, self._now):
            with self._turn() as connection:
                if rest_has(connection, self._table, start):
                    continue
            self._try(attach(self._table, start))

    def drop_aged(self, raise_floors: Callable[[], Iterator[int]]) -> Iterator[Cleanup]:
        """Drops the partitions whose time is over, and says about how many events each had, and
        how many games were ended while floors were raised."""
        due = [leaf for leaf in self._table.leaves if leaf.upper and leaf.upper <= self.cutoff]
        sealed = [leaf for leaf in due if self._try(self._seal(leaf))]
        if sealed:
            for ended in raise_floors():
                yield Cleanup(0, 0, ended)
        for leaf in sealed:
            rows = 0
            if self._below_floors(leaf):
                with self._turn() as connection:
                    found = ask(connection, queries.rows, {"name": leaf.name}).fetchone()
                    rows = found[0] if found else 0
                if not self._try([self._sql("DROP TABLE {}", leaf)]):
                    rows = 0
            yield Cleanup(0, rows, 0)

    def _seal(self, leaf: Leaf) -> Iterator[Statement]:
        """NOT VALID: it is about rows to come, and tells the planner nothing of those there."""
        yield self._sql(
            "ALTER TABLE {} DROP CONSTRAINT IF EXISTS sealed, "
            "ADD CONSTRAINT sealed CHECK (false) NOT VALID",
            leaf,
        )

    def _below_floors(self, leaf: Leaf) -> bool:
        """Whether no event of a sealed partition is above the floor of its game.

        Floors only rise, and a game that begins meanwhile has no event there, so the answer holds
        for good.
        """
        query = filled(queries.above_floor, leaf=self._table.identifier(leaf.name))
        after, games = "", PAGE
        while games == PAGE:
            with self._turn() as connection:
                try:
                    with connection.transaction():
                        row = ask(connection, query, {"after": after, "games": PAGE}).fetchone()
                except errors.UndefinedTable:  # another cleanup has dropped it
                    return False
            assert row is not None  # a row of counts
            after, games, above = row
            if above:
                return False
        return True

    def _try(self, statements: Iterable[Statement]) -> bool:
        """Runs statements in a transaction that keeps nobody waiting for long; whether it could."""
        whole = [*statements]
        for _ in range(TRIES):
            with self._turn() as connection:
                try:
                    with connection.transaction():
                        ask(connection, setting("lock_timeout", LOCK_TIMEOUT))
                        for statement in whole:
                            ask(connection, statement)
                    return True
                except _LATER:
                    continue
        return False

    def _sql(self, text: str, *leaves: Leaf) -> Statement:
        return sql.SQL(text).format(*(self._table.identifier(leaf.name) for leaf in leaves))
