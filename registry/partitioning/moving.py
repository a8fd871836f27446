"""A conversion of the table of events, while it is in use, from any layout to any other.

Every change is mirrored into the next table from the beginning on, and what was there before is
copied in batches, each under the locks of its games; at the end the tables are swapped. Where it
stands is in the database, so that it goes on from wherever it was interrupted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum
from functools import partial
from itertools import takewhile
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
import tenacity
from attrs import define, evolve, field, frozen
from psycopg import Connection, sql

from ..commands.progress import Progress, Silent
from ..errors import RegistryError, RegistryUnavailable
from ..statements import Row
from . import statements
from .ahead import missing_ahead, rest_has
from .ddl import Statement, attach, drop, foreseen
from .layouts import (
    EVENTS,
    ByHash,
    ByTime,
    Layout,
    Plain,
    Table,
    ask,
    database_time,
    describe,
    events,
)
from .statements import CONVERSION, LEFT, NEXT, OLD, TRIGGERS, Copying

T = TypeVar("T")

LOCK: Final = 0x67616D65_70617274
"""The advisory lock of a conversion, beside those of the migrations."""

LINGERING: Final = 2.0
"""Seconds in which the server notices that a conversion which has just ended is gone."""

FIRST_BATCH: Final = 500
SMALLEST_BATCH: Final = 50
LARGEST_BATCH: Final = 20_000
"""Rows; in between the batches are as large as `Pace.hold` allows."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
"""Seconds, at most, before a lock is asked for again, and between two batches."""

GO_ON: Final = "what was done stays; the same command goes on from there"


@frozen(kw_only=True)
class Pace:
    """How much a conversion gets in the way. Times are in seconds."""

    lock_timeout: float = 0.1
    """How long it may keep writers waiting while it waits for a lock of the whole table."""
    patience: float = 60.0
    """How long it tries again to get one, or the lock of one game."""
    hold: float = 0.01
    """How long a batch should hold the games that it copies."""
    share: float = 0.5
    """Of the time, what it is at work; in between it pauses."""
    max_seconds: float | None = None
    """After which it begins no further batch."""


class Outcome(Enum):
    """How a run ended."""

    DONE = "done"
    TIME_UP = "time up"
    """It was to end before it was done; another run goes on from there."""


@frozen
class Conversion:
    """A conversion that is under way, as the database has it."""

    target: Layout
    game_id: str
    sequence: int
    copied: int
    started_at: datetime
    sound: bool
    """Whether all that it needs is there."""


@frozen
class Standing:
    """Where the tables stand."""

    events: Table
    next: Table | None
    old: Table | None
    """What a conversion left behind, still to be dropped."""
    conversion: Conversion | None

    @classmethod
    def ask(cls, connection: Connection[Any]) -> Standing:
        """Reads the catalogue. Raises `RegistryError` where a name is taken by something else."""
        table = events(connection)
        next_, old = describe(connection, NEXT), describe(connection, OLD)
        conversion = _under_way(connection, table, next_)
        comment = ask(connection, _COMMENT, [OLD])
        if old is not None and comment.fetchone() != (LEFT,):
            raise RegistryError(f"there is a table {OLD} of somebody else's: rename or drop it")
        if next_ is not None and conversion is None:
            raise RegistryError(f"there is a table {NEXT} of somebody else's: rename or drop it")
        return cls(table, next_, old, conversion)


_COMMENT: Final = "SELECT obj_description(to_regclass(%s), 'pg_class')"

_TRIGGERS: Final = """
SELECT count(*) FROM pg_trigger
WHERE tgrelid = to_regclass(%s) AND tgname = ANY (%s) AND tgenabled IN ('O', 'A')
"""

# What a swap would leave with the old table: views, foreign keys, triggers, policies, publications.
_FOREIGN: Final = """
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
FROM pg_depend AS d
LEFT JOIN pg_index AS i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(%(name)s)
  AND d.deptype IN ('n', 'a')
  AND NOT coalesce(i.indisprimary, false)
  AND coalesce(k.contype, 'f') NOT IN ('p', 'n', 'c')
  AND NOT coalesce(t.tgname = ANY (%(triggers)s) OR t.tgisinternal, false)
  AND NOT (d.classid = 'pg_class'::regclass
           AND d.objid IN (SELECT relid FROM pg_partition_tree(to_regclass(%(name)s))))
ORDER BY 1
"""

# The transactions of this database whose snapshot may be older than the copy.
_SNAPSHOTS: Final = """
SELECT l.pid, l.virtualtransaction
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.pid <> pg_backend_pid()
  AND a.datname = current_database() AND a.backend_xmin IS NOT NULL
  AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
"""

# Who has what a conversion waits for, the longest first, and whether it is vacuum.
_USERS: Final = """
SELECT l.pid, bool_or(l.mode = 'ShareUpdateExclusiveLock')
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (
      SELECT to_regclass(name) FROM unnest(%(names)s::text[]) AS name
      UNION SELECT relid
      FROM unnest(%(names)s::text[]) AS name, pg_partition_tree(to_regclass(name)))
GROUP BY l.pid, a.xact_start
ORDER BY a.xact_start
LIMIT 3
"""

_SIZE: Final = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM (SELECT to_regclass(%(name)s) AS oid
      UNION SELECT relid FROM pg_partition_tree(to_regclass(%(name)s))) AS part
"""


@frozen
class _Batch:
    position: tuple[str, int]
    copied: int
    held: float
    """Seconds that its games were locked."""


class _Enough(Exception):
    """It is to begin nothing further."""


@define
class Mover:
    """Brings the table of events into a layout. Used by one thread, but for `end`.

    `connection` is in autocommit mode, direct to the server, its role the owner of the tables.
    """

    connection: Connection[Any]
    target: Layout
    pace: Pace = Pace()
    progress: Progress = field(factory=Silent)
    copied: int = 0
    """Rows that this run has copied."""
    _until: float = inf
    _end: threading.Event = field(factory=threading.Event)

    def end(self) -> None:
        """Has it begin no further batch; may be called by a signal handler."""
        self._end.set()

    def run(self) -> Outcome:
        """Begins or goes on, to the end or until its time is up.

        Raises `RegistryUnavailable` when a lock was not to be had in time, another conversion is
        running or the database does not answer; `RegistryError` when another target is under way,
        or something is in the way. What was done stays, and running it again goes on.
        """
        if self.pace.max_seconds is not None:
            self._until = monotonic() + self.pace.max_seconds
        try:
            with self._alone():
                self._convert()
        except _Enough:
            return Outcome.TIME_UP
        return Outcome.DONE

    def abandon(self) -> bool:
        """Takes back a conversion that is under way, and says whether there was one.

        Raises as `run`. Concurrency: waits for all that use the table, for a moment each time.
        """
        with self._alone():
            standing = Standing.ask(self.connection)
            if standing.conversion is None:
                return False
            self._patiently(lambda: statements.abandon(standing.events, standing.next))
        return True

    def size(self) -> int:
        """About how many bytes the copy takes, beside the table that is there."""
        ((size,),) = self._rows(_SIZE, {"name": EVENTS})
        return int(size)

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
                    _transaction(_lock_timeout(self.pace), attach(table, start)),
                )
            return
        yield (
            "For the session: go by the key, whatever the statistics of a new table say.",
            [*statements.configure()],
        )
        wait = _lock_timeout(self.pace)
        if standing.conversion is None:
            since, now = self._span(table)
            yield (
                "Begin: make the next table, and mirror every change into it from now on.",
                _transaction(wait, statements.begin(table, self.target, since, now)),
            )
        yield (
            "Copy: at once as it stands here; the command does it in batches, each a transaction "
            "that holds the games it copies for a moment. The counts have to be the same.",
            _transaction(wait, statements.copy_at_once(table)),
        )
        yield "Analyze: partitioned tables are not by themselves.", [statements.analyze(table)]
        next_ = standing.next or foreseen(table, NEXT, self.target, *self._span(table))
        yield (
            "Swap, once all transactions that began before the copy's end are over.",
            _transaction(wait, [*statements.lock_both(table), *statements.swap(table, next_)]),
        )
        old = evolve(table, name=OLD)
        yield "Drop the old table.", _transaction(wait, [drop(old)])

    def script_of_abandon(self) -> Iterator[tuple[str, list[Statement]]]:
        """All that `abandon` would do, as `script`."""
        standing = Standing.ask(self.connection)
        if standing.conversion is not None:
            yield (
                "Give up: first the triggers, so that nothing writes to the copy any more.",
                _transaction(
                    _lock_timeout(self.pace), statements.abandon(standing.events, standing.next)
                ),
            )

    def _convert(self) -> None:
        for statement in statements.configure():
            self._execute(statement)
        self._drop_old()
        standing = Standing.ask(self.connection)
        self._check(standing)
        if standing.conversion is None:
            if standing.events.layout == self.target:
                self._extend(EVENTS)
                return
            since, now = self._span(standing.events)
            self._patiently(partial(statements.begin, standing.events, self.target, since, now))
            standing = Standing.ask(self.connection)
        else:
            self._extend(NEXT)
        self._copy(standing)
        self._settle(standing)
        self._patiently(partial(self._swap, standing))
        self._drop_old()

    def _check(self, standing: Standing) -> None:
        """Raises `RegistryError` when what is there is in the way."""
        table, conversion = standing.events, standing.conversion
        if not self._rows("SELECT WHERE pg_has_role(%s, 'USAGE')", [table.owner]):
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
        foreign = self._rows(_FOREIGN, {"name": EVENTS, "triggers": TRIGGERS})
        if foreign and (conversion is not None or table.layout != self.target):
            raise RegistryError(
                f"{EVENTS} has what is not the registry's and would stay with the old table: "
                f"{', '.join(name for (name,) in foreign)}. Drop it first, and make it again after"
            )

    def _span(self, table: Table) -> tuple[datetime, datetime]:
        """When the oldest event can have been recorded, and now."""
        now = database_time(self.connection)
        query = _sql(
            "SELECT oldest_at FROM {} WHERE head > floor ORDER BY oldest_at LIMIT 1",
            table.identifier("game"),
        )
        row = self._execute(query).fetchone()
        return (min(row[0], now) if row else now), now

    def _copy(self, standing: Standing) -> None:
        assert standing.conversion is not None
        conversion, copying = standing.conversion, Copying(standing.events)
        position = (conversion.game_id, conversion.sequence)
        rows, took = FIRST_BATCH, 0.0
        with self.progress.stage("copying", self._total(standing.events), "events") as advance:
            advance(conversion.copied)
            while True:
                self._pause(took)
                began = monotonic()
                segments = self._look(copying, position, rows)
                if not segments:
                    return
                batch = self._batch(copying, segments)
                if batch is None:  # somebody holds the first game: wait for that one alone
                    batch = self._again(partial(self._batch, copying, segments[:1], wait=True))
                    assert batch is not None  # it waited
                took = monotonic() - began
                position = batch.position
                self.copied += batch.copied
                advance(batch.copied)
                fitting = rows * min(2.0, max(0.5, self.pace.hold / max(batch.held, 1e-4)))
                rows = round(min(LARGEST_BATCH, max(SMALLEST_BATCH, fitting)))

    def _look(
        self, copying: Copying, position: tuple[str, int], rows: int
    ) -> Sequence[tuple[str, int, int]]:
        params = {"game_id": position[0], "sequence": position[1], "rows": rows}
        return self._rows(copying.look, params)

    def _batch(
        self, copying: Copying, segments: Sequence[tuple[str, int, int]], wait: bool = False
    ) -> _Batch | None:
        """Copies what it can lock, from the first game on; None if somebody holds that one.

        Whoever writes events of a game holds its row, so under these locks a game has no event
        that the statement does not see, and none goes but rows at or below the floor. Those are
        never copied, and one that falls below it later is deleted here and, by the mirror, there,
        or nowhere yet.
        """
        with self.connection.transaction():
            # What a crash takes of the copy, it takes of its position too.
            self._execute(_sql("SET LOCAL synchronous_commit = off"))
            game_ids = [game_id for game_id, _, _ in segments]
            floors: dict[str, int]
            began = monotonic()
            if wait:
                self._execute(_lock_timeout(self.pace))
                floors = dict(self._rows(copying.lock_one, {"game_id": game_ids[0]}))
            else:
                floors = dict(self._rows(copying.lock_free, {"game_ids": game_ids}))
                segments = [*takewhile(lambda segment: segment[0] in floors, segments)]
                if not segments:
                    return None
            # One that was waited for and ended meanwhile has no floor, and nothing to copy.
            parts = [segment for segment in segments if segment[0] in floors]
            params = {
                "game_ids": [game for game, _, _ in parts],
                "afters": [max(after, floors[game]) for game, after, _ in parts],
                "throughs": [through for _, _, through in parts],
            }
            game_id, _, sequence = segments[-1]
            with self.connection.pipeline():
                copied = self._execute(copying.copy, params)
                counted = self._execute(copying.count, params)
                ((here, there, same),) = counted.fetchall()
                if not same:
                    raise RegistryError(
                        f"of {here:,} events {there:,} are in the copy, which has to be the same: "
                        "nothing more is done. Give it up with --abandon; the events are unharmed"
                    )
                moved = {"game_id": game_id, "sequence": sequence, "copied": copied.rowcount}
                self._execute(copying.move, moved)
        return _Batch((game_id, sequence), copied.rowcount, monotonic() - began)

    def _total(self, table: Table) -> int:
        query = _sql(
            "SELECT coalesce(sum(head - floor), 0)::bigint FROM {}", table.identifier("game")
        )
        ((total,),) = self._rows(query)
        return int(total)

    def _extend(self, name: str) -> None:
        """Adds the partitions by time that are due, of the events or of the next table."""
        table = describe(self.connection, name)
        assert table is not None
        for start in self._due(table):
            self._patiently(partial(attach, table, start))

    def _due(self, table: Table) -> list[datetime]:
        missing = missing_ahead(table, database_time(self.connection))
        return [start for start in missing if not rest_has(self.connection, table, start)]

    def _settle(self, standing: Standing) -> None:
        """Waits until no snapshot is older than the copy: it would not see all of that."""
        self._execute(statements.analyze(standing.events))
        self._extend(NEXT)
        older = set(self._rows(_SNAPSHOTS))
        deadline = monotonic() + self.pace.patience
        while older:
            if monotonic() > deadline:
                pids = ", ".join(str(pid) for pid, _ in sorted(older))
                raise RegistryUnavailable(
                    f"a transaction is open that began before the copy's end and might miss it "
                    f"(process {pids}): let it end. {GO_ON.capitalize()}"
                )
            self._sleep(0.05)
            older &= set(self._rows(_SNAPSHOTS))

    def _swap(self, standing: Standing) -> Iterator[Statement]:
        yield from statements.lock_both(standing.events)
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
            self._patiently(lambda: [drop(old)])

    def _patiently(self, make: Callable[[], Iterable[Statement]]) -> None:
        """A transaction that never keeps others waiting for longer than `Pace.lock_timeout`, tried
        again until it gets its locks."""

        def once() -> None:
            with self.connection.transaction(), self.connection.pipeline():
                self._execute(_lock_timeout(self.pace))
                for statement in make():
                    self._execute(statement)

        self._again(once)

    def _again(self, once: Callable[[], T]) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
            ),
            wait=tenacity.wait_random_exponential(FIRST_PAUSE, LONGEST_PAUSE),
            stop=tenacity.stop_after_delay(self.pace.patience),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return retrying(once)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            raise RegistryUnavailable(self._in_the_way()) from None

    def _in_the_way(self) -> str:
        users = self._rows(_USERS, {"names": [EVENTS, NEXT, "game"]})
        said = f"others were using the tables for {self.pace.patience:g} s on end"
        if users:
            said += f" (process {', '.join(str(pid) for pid, _ in users)})"
        if any(vacuum for _, vacuum in users):
            said += ", one of them is vacuum, which --lock-timeout 2 has the server interrupt"
        return f"{said}: let them end. {GO_ON.capitalize()}"

    def _pause(self, took: float) -> None:
        self._sleep(min(took * (1 / self.pace.share - 1), LONGEST_PAUSE))

    def _sleep(self, seconds: float) -> None:
        if monotonic() + seconds > self._until or self._end.wait(seconds):
            raise _Enough

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only conversion of this database."""
        deadline = monotonic() + LINGERING
        while self._rows("SELECT pg_try_advisory_lock(%s)", [LOCK]) != [(True,)]:
            if monotonic() > deadline:
                raise RegistryUnavailable(
                    "another process is converting this database: wait for its end"
                )
            self._sleep(LINGERING / 20)
        try:
            yield
        finally:
            if not self.connection.closed and not self.connection.broken:
                self.connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])

    def _rows(self, query: Statement | str, params: Any = None) -> list[Row]:
        return self._execute(query, params).fetchall()

    def _execute(self, query: Statement | str, params: Any = None) -> psycopg.Cursor[Row]:
        return ask(self.connection, query, params)


def is_running(connection: Connection[Any]) -> bool:
    """Whether a process is at a conversion just now."""
    query = """
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND classid::bigint << 32 | objid::bigint = %s
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    return ask(connection, query, [LOCK]).rowcount > 0


def command(layout: Layout) -> str:
    """The command that brings the events into a layout."""
    if isinstance(layout, ByHash):
        wanted = f"--by hash --partitions {layout.partitions}"
    elif isinstance(layout, ByTime):
        wanted = f"--by time --every {layout.interval.replace(' ', '')}"
    else:
        wanted = "--by nothing"
    return f"python -m registry partition {wanted}"


def _under_way(connection: Connection[Any], table: Table, next_: Table | None) -> Conversion | None:
    """The conversion that is under way, if one is."""
    if ask(connection, "SELECT to_regclass(%s) IS NULL", [CONVERSION]).fetchone() == (True,):
        return None
    query = _sql(
        "SELECT partitions, every, game_id, sequence, copied, started_at FROM {}",
        table.identifier(CONVERSION),
    )
    row = ask(connection, query).fetchone()
    assert row is not None  # it is begun with one
    partitions, every, game_id, sequence, copied, started_at = row
    target = ByHash(partitions) if partitions else ByTime(every) if every else Plain()
    triggers = ask(connection, _TRIGGERS, [table.name, TRIGGERS]).fetchone()
    sound = next_ is not None and triggers == (len(TRIGGERS),)
    return Conversion(target, game_id, sequence, copied, started_at, sound)


def _lock_timeout(pace: Pace) -> Statement:
    return _sql("SET LOCAL lock_timeout = {}", sql.Literal(f"{round(pace.lock_timeout * 1000)}ms"))


def _transaction(*parts: Statement | Iterable[Statement]) -> list[Statement]:
    whole = [_sql("BEGIN")]
    for part in parts:
        whole += [part] if isinstance(part, sql.Composed) else part
    return [*whole, _sql("COMMIT")]


def _sql(text: str, *parts: sql.Composable) -> Statement:
    return sql.SQL(text).format(*parts)
