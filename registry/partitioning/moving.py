"""A conversion of the table of events, while it is in use, from any layout to any other.

Every change is mirrored into the next table from the beginning on, and what was there before is
copied in batches, each under the locks of its games; at the end the tables are swapped. Where it
stands is in the database, so that it goes on from wherever it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any

import psycopg
from attrs import define, evolve, field
from psycopg import Connection, sql

from ..errors import RegistryError, RegistryUnavailable
from ..progress import Progress, Silent
from ..statements import Params, Row
from . import statements
from .ahead import missing_ahead, rest_has
from .conversion import Conversion, Standing, foreign_objects
from .copying import Copying
from .ddl import attach, drop, foreseen
from .layouts import EVENTS, ByHash, ByTime, Layout, Table, ask, database_time, describe
from .locking import Enough, Locking, Pace, in_the_way
from .queries import Statement, queries
from .statements import NEXT, OLD


class Outcome(Enum):
    """How a run ended."""

    DONE = "done"
    ALREADY = "already"
    """The events were in that layout; at most partitions for the days to come were added."""
    TIME_UP = "time up"
    """It was to end before it was done; another run goes on from there."""


@define
class Mover:
    """Brings the table of events into a layout. Used by one thread, but for `end`.

    `connection` is in autocommit mode, direct to the server, its role the owner of the tables.
    """

    connection: Connection[Any]
    target: Layout
    pace: Pace = field(factory=Pace)
    progress: Progress = field(factory=Silent)
    announce: Callable[[int], object] = lambda size: None
    """Told, before a copy begins or goes on, about how many bytes it takes beside the events."""
    copied: int = 0
    """Rows that this run has copied."""
    copied_before: int = 0
    """Rows that runs before this one had copied."""
    total: int = 0
    """Rows that there are to copy, at most, once the copy has begun."""
    added: int = 0
    """Partitions for times to come that were missing, and are there now."""
    _locking: Locking = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._locking = Locking(self.connection, self.pace)

    def end(self) -> None:
        """Has it begin no further batch; may be called by a signal handler."""
        self._locking.end()

    def run(self) -> Outcome:
        """Begins or goes on, to the end or until its time is up.

        Raises `RegistryUnavailable` when a lock was not to be had in time, another conversion is
        running or the database does not answer; `RegistryError` when another target is under way,
        or something is in the way. What was done stays, and running it again goes on.
        """
        self._locking.begin()
        try:
            with self._locking.alone():
                return self._convert()
        except Enough:
            return Outcome.TIME_UP

    def abandon(self) -> bool:
        """Takes back a conversion that is under way, and says whether there was one.

        Raises as `run`. Concurrency: waits for all that use the table, for a moment each time.
        """
        with self._locking.alone():
            standing = Standing.ask(self.connection)
            if standing.conversion is None:
                return False
            self._locking.patiently(lambda: statements.abandon(standing.next))
        return True

    def script(self) -> Iterator[tuple[str, list[Statement]]]:
        """All that a run would do from here on, a sentence and its statements for each step.

        It changes nothing. The copy is there at once instead of in batches.
        """
        standing = Standing.ask(self.connection)
        if standing.old is not None:
            yield "Drop what the last conversion left.", [drop(standing.old)]
        self._check(standing)
        table = standing.events
        if standing.conversion is None and table.layout == self.target:
            for start in self._due(table):
                yield (
                    f"Add the partition that begins on {start:%Y-%m-%d %H:%M}.",
                    _transaction(self.pace.timeout(), attach(table, start)),
                )
            return
        yield (
            "For the session: go by the key, whatever the statistics of a new table say.",
            [queries.configure],
        )
        wait = self.pace.timeout()
        if standing.conversion is None:
            since, now = self._span()
            yield (
                "Begin: make the next table, and mirror every change into it from now on.",
                _transaction(wait, statements.begin(table, self.target, since, now)),
            )
        yield (
            "Copy: at once as it stands here; the command does it in batches, each a transaction "
            "that holds the games it copies for a moment. The counts have to be the same.",
            _transaction(wait, statements.copy_at_once()),
        )
        yield "Analyze: partitioned tables are not by themselves.", [queries.analyze]
        next_ = standing.next or foreseen(table, NEXT, self.target, *self._span())
        yield (
            "Swap, once all transactions that began before the copy's end are over.",
            _transaction(wait, [queries.lock_both, *statements.swap(table, next_)]),
        )
        old = evolve(table, name=OLD)
        yield "Drop the old table.", _transaction(wait, [drop(old)])

    def script_of_abandon(self) -> Iterator[tuple[str, list[Statement]]]:
        """All that `abandon` would do, as `script`."""
        standing = Standing.ask(self.connection)
        if standing.conversion is not None:
            yield (
                "Give up: first the triggers, so that nothing writes to the copy any more.",
                _transaction(self.pace.timeout(), statements.abandon(standing.next)),
            )

    def _convert(self) -> Outcome:
        self._execute(queries.configure)
        self._drop_old()
        standing = Standing.ask(self.connection)
        self._check(standing)
        if standing.conversion is None and standing.events.layout == self.target:
            self._extend(EVENTS)
            return Outcome.ALREADY
        ((size,),) = self._rows(queries.size, {"name": EVENTS})
        self.announce(size)
        if standing.conversion is None:
            since, now = self._span()
            self._locking.patiently(
                partial(statements.begin, standing.events, self.target, since, now)
            )
            standing = Standing.ask(self.connection)
        else:
            self._extend(NEXT)
        assert standing.conversion is not None
        self._copy(standing.conversion)
        self._settle()
        self._locking.patiently(self._swap)
        self._drop_old()
        return Outcome.DONE

    def _check(self, standing: Standing) -> None:
        """Raises `RegistryError` when what is there is in the way."""
        table, conversion = standing.events, standing.conversion
        if self._rows(queries.owner, {"owner": table.owner}) != [(True,)]:
            raise RegistryError(f"be the owner of the tables: connect as {table.owner}")
        if conversion is not None:
            if conversion.target != self.target:
                raise RegistryError(
                    f"a conversion to {conversion.target} is under way: go on with that one, or "
                    "give it up with --abandon"
                )
            if not conversion.sound:
                raise RegistryError(
                    "the conversion that is under way has lost its triggers or its table, so the "
                    "copy may lack changes: give it up with --abandon and begin again"
                )
        if conversion is None and table.layout == self.target:
            return
        if not standing.foreseen_columns:
            raise RegistryError(
                f"{EVENTS} has other columns than the registry gave it, which the copy would lack: "
                f"it has {', '.join(table.columns)}"
            )
        foreign = foreign_objects(self.connection)
        if foreign:
            raise RegistryError(
                f"{EVENTS} has what is not the registry's and would stay with the old table: "
                f"{', '.join(foreign)}. Drop it first, and make it again after"
            )

    def _span(self) -> tuple[datetime, datetime]:
        """When the oldest event can have been recorded, and now."""
        now = database_time(self.connection)
        row = self._execute(queries.oldest).fetchone()
        return (min(row[0], now) if row else now), now

    def _copy(self, conversion: Conversion) -> None:
        copying = Copying(self.connection, self._locking, conversion)
        self.copied_before, self.total = conversion.copied, copying.total()
        with self.progress.stage("copying", self.total, "events") as advance:
            advance(self.copied_before)
            for number in copying.batches():
                self.copied += number
                advance(number)

    def _extend(self, name: str) -> None:
        """Adds the partitions by time that are due, of the events or of the next table."""
        table = describe(self.connection, name)
        assert table is not None
        for start in self._due(table):
            self._locking.patiently(partial(attach, table, start))
            self.added += 1

    def _due(self, table: Table) -> list[datetime]:
        missing = missing_ahead(table, database_time(self.connection))
        return [start for start in missing if not rest_has(self.connection, table, start)]

    def _settle(self) -> None:
        """Waits until no snapshot is older than the copy: it would not see all of that."""
        self._execute(queries.analyze)
        self._extend(NEXT)
        older = set(self._rows(queries.snapshots))
        deadline = monotonic() + self.pace.patience
        while older:
            if monotonic() > deadline:
                raise RegistryUnavailable(
                    "a transaction is open that began before the copy's end and might miss it"
                    f"{in_the_way(pid for pid, _ in sorted(older))}"
                )
            self._locking.sleep(0.05)
            older &= set(self._rows(queries.snapshots))

    def _swap(self) -> Iterator[Statement]:
        yield queries.lock_both
        now = Standing.ask(self.connection)
        assert now.next is not None
        if now.conversion is None or not now.conversion.sound:
            raise RegistryError("the mirror is gone: give the conversion up with --abandon")
        if now.next.columns != now.events.columns:
            raise RegistryError(
                f"{EVENTS} has other columns than when this began: give it up with --abandon, and "
                "begin again"
            )
        yield from statements.swap(now.events, now.next)

    def _drop_old(self) -> None:
        old = Standing.ask(self.connection).old
        if old is not None:
            self._locking.patiently(lambda: [drop(old)])

    def _rows(self, query: Statement, params: Params | None = None) -> list[Row]:
        return self._execute(query, params).fetchall()

    def _execute(self, query: Statement, params: Params | None = None) -> psycopg.Cursor[Row]:
        return ask(self.connection, query, params)


def command(layout: Layout) -> str:
    """The command that brings the events into a layout."""
    if isinstance(layout, ByHash):
        wanted = f"--by hash --partitions {layout.partitions}"
    elif isinstance(layout, ByTime):
        wanted = f"--by time --every {layout.interval.replace(' ', '')}"
    else:
        wanted = "--by nothing"
    return f"python -m registry partition {wanted}"


def _transaction(*parts: Statement | Iterable[Statement]) -> list[Statement]:
    whole: list[Statement] = [sql.SQL("BEGIN").format()]
    for part in parts:
        whole += [part] if isinstance(part, bytes | sql.Composed) else part
    return [*whole, sql.SQL("COMMIT").format()]
