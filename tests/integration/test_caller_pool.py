"""A registry on the caller's pool: it works whatever the pool's settings, and leaves them be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from probes import at_once, empty, hold_game, in_thread, rows, sequences, until_blocked, value
from psycopg import ClientCursor, IsolationLevel, RawCursor
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, namedtuple_row, tuple_row
from psycopg_pool import ConnectionPool, NullConnectionPool

from registry import (
    Continuity,
    GameSessionRegistry,
    InvalidToken,
    RegistryConfig,
    RegistryUnavailable,
    SequenceConflict,
    TokenReused,
)

Pool = ConnectionPool[psycopg.Connection[Any]]
Settings = dict[str, Any]


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@contextmanager
def a_pool(
    conninfo: str, kind: type[ConnectionPool] = ConnectionPool, size: int = 4, **settings: Any
) -> Iterator[Pool]:
    sizes = {"min_size": 0 if kind is NullConnectionPool else 1, "max_size": size}
    with kind(conninfo, kwargs=settings, open=True, **sizes) as pool:
        yield pool


def a_session_of_calls(registry: GameSessionRegistry) -> None:
    """Every public call once, with its outcome checked."""
    issued = registry.issue_resume_token("chess", "alice")
    event_id = uuid4()
    assert registry.record_event("chess", {"n": 1}, event_id=event_id) == 1
    assert registry.record_event("chess", {"n": 1}, event_id=event_id) == 1
    assert registry.record_event("chess", b"\0\xff", expected_sequence=2) == 2
    with pytest.raises(SequenceConflict):
        registry.record_event("chess", 3, expected_sequence=2)
    assert registry.record_events("chess", [None, "%s %(x)s $1", 5.5]) == range(3, 6)
    events = registry.fetch_events_since("chess", 0).events
    assert [e.payload for e in events] == [{"n": 1}, b"\0\xff", None, "%s %(x)s $1", 5.5]
    assert len(list(registry.iter_events_since("chess", 1, page_size=2))) == 4
    resumed = registry.resume(issued.token, after=2)
    assert resumed.continuity is Continuity.CONTINUOUS
    assert len(resumed.replay.events) == 3
    session = registry.validate_resume_token(resumed.token)
    assert registry.heartbeat(session.session_id, generation=2).generation == 2
    assert registry.heartbeat_many([session.session_id, "x"]).alive == 1
    assert registry.acknowledge(session.session_id, 3).pruned == 3
    assert registry.prune_events("chess", 4) == 1
    assert registry.get_session(session.session_id).last_acknowledged == 3
    found = registry.find_session("chess", "alice")
    assert found is not None
    assert found.session_id == session.session_id
    assert len(registry.list_sessions("chess")) == len(registry.stale_sessions(0)) == 1
    with pytest.raises(InvalidToken):
        registry.resume("no token", after=0)
    newest = registry.resume(resumed.token, after=4).token
    with pytest.raises(TokenReused):
        registry.resume(issued.token, after=4)
    assert newest
    registry.revoke_session(session.session_id)
    assert registry.cleanup_expired_sessions().sessions == 0
    registry.end_game("chess")


SETTINGS: dict[str, Settings] = {
    "as it comes": {},
    "autocommit": {"autocommit": True},
    "rows as dicts": {"row_factory": dict_row},
    "rows as named tuples": {"row_factory": namedtuple_row, "autocommit": True},
    "never prepared": {"prepare_threshold": None},
    "prepared at once": {"prepare_threshold": 0},
    "cursors that bind in the client": {"cursor_factory": ClientCursor},
    "cursors with raw placeholders": {"cursor_factory": RawCursor},
    "its own limits": {"options": "-c statement_timeout=54321 -c lock_timeout=4321"},
    "repeatable read by default": {"options": "-c default_transaction_isolation=repeatable\\ read"},
    "commits not waited for": {"options": "-c synchronous_commit=off"},
    "another time zone": {"options": "-c timezone=Asia/Kathmandu"},
    "another date style": {"options": "-c datestyle=german -c bytea_output=escape"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_call_works_whatever_the_pools_settings(conninfo: str, name: str) -> None:
    with a_pool(conninfo, **SETTINGS[name]) as pool:
        a_session_of_calls(GameSessionRegistry(pool))


def test_every_call_works_on_a_pool_that_keeps_no_connections(conninfo: str) -> None:
    with a_pool(conninfo, NullConnectionPool) as pool:
        a_session_of_calls(GameSessionRegistry(pool))


def configured(**attributes: Any) -> Callable[[psycopg.Connection[Any]], None]:
    def configure(connection: psycopg.Connection[Any]) -> None:
        for name, wanted in attributes.items():
            setattr(connection, name, wanted)

    return configure


@pytest.mark.parametrize("default", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("level", [None, *IsolationLevel])
def test_appends_of_many_threads_succeed_whatever_the_pools_isolation(
    conninfo: str, level: IsolationLevel | None, default: str
) -> None:
    """Its statements run in read committed transactions of their own."""
    options = {"options": f"-c default_transaction_isolation={default.replace(' ', chr(92) + ' ')}"}
    setup = configured(isolation_level=level)
    with ConnectionPool(
        conninfo, min_size=8, max_size=8, kwargs=options, configure=setup, open=True
    ) as pool:
        registry = GameSessionRegistry(pool)

        def append() -> list[int]:
            return [registry.record_event("hot", n) for n in range(15)]

        outcomes = at_once([append] * 8)
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert sequences(conninfo, "hot") == list(range(1, 121))
        with pool.connection() as connection:
            assert connection.isolation_level == level


STATE = """
    SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),
           current_setting('synchronous_commit'), current_setting('default_transaction_isolation'),
           current_setting('timezone'), current_setting('search_path')
"""


def state(pool: Pool) -> tuple[Any, ...]:
    """All that the owner of a pool's only connection could notice."""
    connection = pool.getconn()
    try:
        assert connection.info.transaction_status == TransactionStatus.IDLE
        attributes = (
            connection.autocommit,
            connection.isolation_level,
            connection.read_only,
            connection.deferrable,
            connection.row_factory,
            connection.cursor_factory,
            connection.prepare_threshold,
            connection.broken,
            connection.closed,
            connection.info.pipeline_status,
        )
        settings = psycopg.Cursor(connection, row_factory=tuple_row).execute(STATE).fetchone()
        connection.rollback()
        return (*attributes, settings)
    finally:
        pool.putconn(connection)


@pytest.mark.parametrize("name", [n for n in SETTINGS if "cursors" not in n])
def test_the_pools_connections_come_back_as_they_were(conninfo: str, name: str) -> None:
    with a_pool(conninfo, size=1, **SETTINGS[name]) as pool:
        before = state(pool)
        a_session_of_calls(GameSessionRegistry(pool))
        assert state(pool) == before


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize(
    "call",
    ["record_event", "end_game", "heartbeat", "cleanup"],
)
def test_a_call_that_failed_in_the_server_brings_its_connection_back_as_it_was(
    conninfo: str, autocommit: bool, call: str
) -> None:
    config = RegistryConfig(lock_timeout=0.1)
    with a_pool(conninfo, size=1, autocommit=autocommit) as pool:
        registry = GameSessionRegistry(pool, config=config)
        session = registry.issue_resume_token("chess", "alice").session.session_id
        before = state(pool)
        calls: dict[str, Callable[[], object]] = {
            "record_event": lambda: registry.record_event("chess", 1),
            "end_game": lambda: registry.end_game("chess"),
            "heartbeat": lambda: registry.heartbeat(session),
            "cleanup": registry.cleanup_expired_sessions,
        }
        with psycopg.connect(conninfo) as obstacle:
            obstacle.execute("LOCK TABLE game, game_session IN ACCESS EXCLUSIVE MODE")
            for _ in range(2):
                with pytest.raises(RegistryUnavailable, match="lock_timeout"):
                    calls[call]()
        assert state(pool) == before
        calls[call]()


def test_the_registrys_own_limits_hold_for_its_own_statements_only(conninfo: str) -> None:
    config = RegistryConfig(lock_timeout=0.2, statement_timeout=60)
    with a_pool(conninfo, size=1, options="-c lock_timeout=0 -c statement_timeout=0") as pool:
        registry = GameSessionRegistry(pool, config=config)
        registry.record_event("chess", 1)
        with hold_game(conninfo, "chess"), pytest.raises(RegistryUnavailable):
            registry.record_event("chess", 2)

        def waits() -> None:
            with pool.connection() as connection:
                connection.execute("SELECT FROM game FOR UPDATE /* the caller's own */")

        with hold_game(conninfo, "chess"):
            patient = in_thread(waits)
            (pid,) = until_blocked(conninfo)
            assert value(conninfo, "SELECT current_setting('lock_timeout')") == "0"
            assert not patient.done()
            assert pid
        patient.result(30)


def test_an_event_is_durable_though_the_pools_commits_are_not_waited_for(conninfo: str) -> None:
    """Seen where it matters: in the transaction that records."""
    rows(
        conninfo,
        """
        CREATE TABLE seen (setting text);
        GRANT INSERT ON seen TO PUBLIC;
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO seen VALUES (current_setting('synchronous_commit'));
                RETURN NULL;
            END $$;
        CREATE TRIGGER see AFTER INSERT ON game_event
            FOR EACH STATEMENT EXECUTE FUNCTION see()
        """,
    )
    try:
        with a_pool(conninfo, options="-c synchronous_commit=off") as pool:
            registry = GameSessionRegistry(pool)
            registry.record_event("chess", 1)
            registry.record_events("chess", [2])
        with GameSessionRegistry.connect(
            f"{conninfo} options='-c synchronous_commit=off'"
        ) as registry:
            registry.record_event("chess", 3)
        assert rows(conninfo, "SELECT setting FROM seen") == [("on",)] * 3
    finally:
        rows(conninfo, "DROP FUNCTION see CASCADE; DROP TABLE seen")


def test_closing_the_registry_leaves_the_pool_open(conninfo: str) -> None:
    with a_pool(conninfo) as pool:
        with GameSessionRegistry(pool) as registry:
            registry.record_event("chess", 1)
        registry.close()
        assert not pool.closed
        with pytest.raises(RegistryUnavailable, match="closed"):
            registry.record_event("chess", 2)
        assert GameSessionRegistry(pool).record_event("chess", 2) == 2
        with pool.connection() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_two_registries_share_a_pool(conninfo: str) -> None:
    with a_pool(conninfo, size=2) as pool:
        one = GameSessionRegistry(pool)
        other = GameSessionRegistry(pool, config=RegistryConfig(replay_limit=1))
        one.record_events("chess", range(3))
        assert len(other.fetch_events_since("chess", 0).events) == 1
        assert len(one.fetch_events_since("chess", 0).events) == 3


def test_no_connection_is_kept_by_the_registry(conninfo: str) -> None:
    with a_pool(conninfo, size=1) as pool:
        registry = GameSessionRegistry(pool)
        a_session_of_calls(registry)
        registry.record_events("chess", range(5))
        events = registry.iter_events_since("chess", 0, page_size=2)
        next(events)
        with pool.connection(timeout=5) as connection:  # in the middle of an iteration
            connection.execute("SELECT 1")
        assert len(list(events)) == 4


def test_a_pool_not_opened_yet_is_unavailability(conninfo: str) -> None:
    pool = ConnectionPool(conninfo, open=False, min_size=1)
    registry = GameSessionRegistry(pool, config=RegistryConfig(pool_timeout=0.2))
    with pytest.raises(RegistryUnavailable):
        registry.record_event("chess", 1)
    with pool:
        pool.wait(30)
        assert registry.record_event("chess", 1) == 1


@pytest.mark.owner
def test_the_registry_migrates_where_the_pool_connects(blank_conninfo: str) -> None:
    with a_pool(blank_conninfo, autocommit=True, row_factory=dict_row) as pool:
        registry = GameSessionRegistry(pool)
        registry.migrate()
        a_session_of_calls(registry)
