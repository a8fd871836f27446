"""What tests see and do behind the registry's back: dumps, held locks, calls in other threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.pq import ExecStatus
from support import KEPT, TABLES, wait_until

from registry import GameSessionRegistry, RegistryConfig
from registry.combining import Combiner
from registry.recent import Recent

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds after which a test that waits for something fails."""

ADVISORY_LOCKS = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory'
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""How many somebody holds in the database: other tests may hold some in others of the server."""

PATIENT = {"lock_timeout": 60.0, "statement_timeout": 60.0, "pool_timeout": 60.0}
"""Settings of a registry whose calls wait until the test lets them go."""


def rows(conninfo: str, query: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """What a statement of the test's own returns; it is committed."""
    with psycopg.connect(conninfo) as connection:
        cursor = connection.execute(query.encode(), params or None)
        assert cursor.pgresult is not None
        selected = cursor.pgresult.status == ExecStatus.TUPLES_OK  # also if they have no columns
        return cursor.fetchall() if selected else []


def value(conninfo: str, query: str, params: Sequence[object] = ()) -> Any:
    return rows(conninfo, query, params)[0][0]


def empty(conninfo: str) -> None:
    """Leaves the tables as the migrations left them.

    A statement that a process left behind when it ended may still be under way: a game deleted in
    front of it would leave the event that it records behind, without its game.
    """
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET lock_timeout = '20s'")
        connection.execute(f"LOCK TABLE {', '.join(TABLES)} IN EXCLUSIVE MODE".encode())
        for table in reversed(TABLES):
            connection.execute(f"DELETE FROM {table}".encode())


def as_just_opened(registry: GameSessionRegistry) -> None:
    """Has a registry read again what it has read, from the replay cache if there is one."""
    Recent.close(registry._reads.known)


def dump(conninfo: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that callers have put into the tables."""
    with psycopg.connect(conninfo) as connection:
        return {
            table: connection.execute(
                f"SELECT t::text FROM {table} AS t ORDER BY 1".encode()
            ).fetchall()
            for table in KEPT
        }


def sequences(conninfo: str, game_id: str) -> list[int]:
    """The sequences of the event rows of a game, in order."""
    query = "SELECT sequence FROM game_event WHERE game_id = %s ORDER BY sequence"
    return [sequence for (sequence,) in rows(conninfo, query, [game_id])]


def event_tables(conninfo: str) -> list[str]:
    """The tables that the rows of game_event are in: that itself, or its partitions.

    Waits for nobody who has locked them.
    """
    query = """
        SELECT oid::regclass::text
        FROM pg_class
        WHERE relkind = 'r' AND (
            oid = 'game_event'::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'game_event'::regclass))
    """
    return [table for (table,) in rows(conninfo, query)]


def event_table(conninfo: str, game_id: str) -> str:
    """The table that the last event of a game is in: game_event, or one of its partitions."""
    query = """
        SELECT tableoid::regclass::text FROM game_event
        WHERE game_id = %s ORDER BY sequence DESC LIMIT 1
    """
    return str(value(conninfo, query, [game_id]))


def blocked(conninfo: str, statement: str = "") -> list[int]:
    """The server processes of this database that wait for a lock, running that statement."""
    query = """
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
          AND backend_type = 'client backend' AND strpos(query, %s) > 0
    """
    return [pid for (pid,) in rows(conninfo, query, [statement and f"registry.{statement} "])]


def until_blocked(conninfo: str, number: int = 1, statement: str = "") -> list[int]:
    """Waits until that many statements wait for a lock; the server processes that were seen to."""
    seen: list[int] = []

    def enough() -> bool:
        seen[:] = blocked(conninfo, statement)
        return len(seen) >= number

    wait_until(enough, timeout=PATIENCE)
    return seen


def end_backend(conninfo: str, pid: int) -> None:
    """Ends a server process; one that only has been told to is still seen waiting for its lock."""
    assert value(conninfo, "SELECT pg_terminate_backend(%s, 30000)", [pid]), "it did not end"


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Calls the function in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def at_once(functions: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Calls all of them, each in a thread, at the same moment; what each returned or raised."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return function()

    futures = [in_thread(lambda function=function: run(function)) for function in functions]
    outcomes: list[T | Exception] = []
    for future in futures:
        try:
            outcomes.append(future.result(PATIENCE))
        except Exception as error:
            outcomes.append(error)
    return outcomes


@contextmanager
def held(conninfo: str, query: str, params: Sequence[object] = ()) -> Iterator[psycopg.Connection]:
    """An open transaction that has run a statement; committed at the end of the block."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(query.encode(), params or None)
        yield connection


def hold_game(conninfo: str, game_id: str) -> Any:
    return held(conninfo, "SELECT FROM game WHERE game_id = %s FOR UPDATE", [game_id])


def hold_session(conninfo: str, session_id: str) -> Any:
    game_id, _, uuid = session_id.rpartition("/")
    query = "SELECT FROM game_session WHERE game_id = %s AND id = %s FOR UPDATE"
    return held(conninfo, query, [game_id, uuid])


@contextmanager
def configured(conninfo: str, **settings: object) -> Iterator[GameSessionRegistry]:
    """A registry of other settings, closed at the end."""
    config = RegistryConfig(pool_min_size=1, **settings)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        yield registry


@contextmanager
def several(conninfo: str, number: int) -> Iterator[list[GameSessionRegistry]]:
    """As many registries, which know nothing of one another, as those of several processes."""
    with ExitStack() as stack:
        yield [stack.enter_context(configured(conninfo, **PATIENT)) for _ in range(number)]


def waiting(combiner: Combiner[Any, Any]) -> int:
    """The calls that no writer has begun."""
    return len(combiner._inbox) + sum(map(len, list(combiner._waiting.values())))


def until_writers_rest(combiner: Combiner[Any, Any]) -> None:
    """Waits until the next call would be done by its own thread, not by a writer on its way to
    rest."""
    wait_until(lambda: combiner._resting == len(combiner._writers), timeout=PATIENCE)


def queued(combiner: Combiner[Any, Any], call: Callable[[], T]) -> Future[T]:
    """A call of another thread, which waits for a writer by the time that this returns."""
    before = waiting(combiner)
    future = in_thread(call)
    wait_until(lambda: waiting(combiner) > before or future.done(), timeout=PATIENCE)
    return future
