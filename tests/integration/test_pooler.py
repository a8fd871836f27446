"""Behind a real PgBouncer in transaction mode: nothing is left to a session."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from integration.test_upkeep import fill
from pooler import pgbouncer
from probes import ADVISORY_LOCKS, PATIENT, configured, held, in_thread, rows, until_blocked, value
from psycopg_pool import ConnectionPool
from relay import relayed
from support import name_of

from registry import (
    Cleanup,
    EpochMismatch,
    GameSessionRegistry,
    InvalidArgument,
    Maintenance,
    RegistryConfig,
    RegistryUnavailable,
    migrate,
    schema,
)
from registry.cli import main
from registry.maintenance import Outcome

SETTINGS = (
    "statement_timeout", "lock_timeout", "synchronous_commit", "TimeZone", "enable_seqscan", "jit",
    "default_transaction_isolation", "tcp_keepalives_idle",
)  # fmt: skip


@pytest.fixture
def through(conninfo: str) -> Iterator[str]:
    """The database, through PgBouncer with two server connections."""
    with pgbouncer(conninfo) as through:
        yield through


@pytest.fixture(params=["own pool", "caller's pool"])
def pooled(request: pytest.FixtureRequest, through: str) -> Iterator[GameSessionRegistry]:
    if request.param == "own pool":
        with GameSessionRegistry.connect(through, config=RegistryConfig(**PATIENT)) as registry:
            yield registry
    else:
        # psycopg prepares what comes back five times, if it is not told otherwise.
        with ConnectionPool(through, min_size=4, max_size=8, open=True) as pool:
            yield GameSessionRegistry(pool, config=RegistryConfig(**PATIENT))


def test_nothing_is_sent_behind_the_end_of_a_transaction(conninfo: str) -> None:
    """PgBouncer would find a server connection for it, and keep that until the client's next call:
    for a Flush, which psycopg sends at the end of a pipeline, there is no answer to wait for."""
    with (
        relayed(conninfo) as relay,
        ConnectionPool(relay.conninfo, min_size=1, max_size=1, open=True) as pool,
    ):
        registry = GameSessionRegistry(pool, config=RegistryConfig(**PATIENT))
        session = registry.issue_resume_token("game", "player").session
        for turn in range(20):
            registry.record_event("game", turn)
            registry.heartbeat(session.session_id)
        told = b"".join(relay.requests)
    assert b"COMMIT" in told
    assert b"H\x00\x00\x00\x04" not in told


def session_settings(through: str) -> set[tuple[str, ...]]:
    """Those of each server connection that another client of the pooler gets."""
    shown = ", ".join(f"current_setting('{name}')" for name in SETTINGS)
    seen = set()
    with psycopg.connect(through) as first, psycopg.connect(through) as second:
        for connection in (first, second):  # both are in a transaction: each on one of the two
            row = connection.execute(f"SELECT {shown}".encode()).fetchone()
            assert row is not None
            seen.add(row)
    return seen


def test_all_of_it_works_from_many_threads(pooled: GameSessionRegistry, conninfo: str) -> None:
    def play(n: int) -> None:
        issued = pooled.issue_resume_token(f"game {n % 4}", f"player {n}")
        for turn in range(20):
            sequence = pooled.record_event(f"game {n % 4}", [n, turn], event_id=uuid4())
            pooled.heartbeat(issued.session.session_id)
        resumed = pooled.resume(issued.token, after=0)
        assert resumed.replay.head >= sequence
        assert pooled.find_session(f"game {n % 4}", f"player {n}").generation == 2

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(play, range(16)))
    for n in range(4):
        events = list(pooled.iter_events_since(f"game {n}", 0, page_size=7))
        assert [event.sequence for event in events] == list(range(1, 81))
    assert pooled.record_events("many", range(500)) == range(1, 501)
    assert pooled.prune_events("many", 499) == 499


def test_nothing_is_left_behind_in_a_session(
    pooled: GameSessionRegistry, through: str, conninfo: str
) -> None:
    before = session_settings(through)
    for n in range(20):
        pooled.record_event("game", n)
        pooled.fetch_events_since("game", n)
    pooled.cleanup_expired_sessions()
    assert session_settings(through) == before
    with psycopg.connect(through) as another:
        assert another.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
    assert value(conninfo, ADVISORY_LOCKS) == 0


def test_a_statement_is_bounded_all_the_same(through: str, conninfo: str) -> None:
    with configured(through, lock_timeout=0.1) as registry:
        registry.record_event("game", 1)
        with (
            held(conninfo, "SELECT FROM game FOR UPDATE"),
            pytest.raises(RegistryUnavailable, match="lock_timeout"),
        ):
            registry.record_event("game", 2)
        assert registry.record_event("game", 2) == 2


def test_a_connection_of_the_caller_is_given_back_as_it_was(through: str) -> None:
    with ConnectionPool(through, min_size=1, max_size=1, open=True) as pool:
        registry = GameSessionRegistry(pool)
        for n in range(10):
            registry.record_event("game", n)
        with pool.connection() as connection:
            assert connection.prepare_threshold == 5
            assert not connection.autocommit


def test_a_server_that_was_changed_behind_the_pooler_is_noticed(
    pooled: GameSessionRegistry, conninfo: str
) -> None:
    pooled.record_event("game", 1)
    for n in range(8):  # over all connections
        pooled.fetch_events_since("game", n % 2)
    # As after a failover, of which a client of the pooler sees nothing.
    rows(conninfo, "UPDATE lineage SET timeline = '00000000'")
    epoch = value(conninfo, "SELECT known_epoch(epoch, (SELECT mark FROM lineage_mark)) FROM game")
    with pytest.raises(EpochMismatch):
        pooled.fetch_events_since("game", 1, epoch=epoch)


def test_of_several_cleanups_one_works(through: str, conninfo: str) -> None:
    fill(conninfo, games=1, sessions=1, events=3, age="2 days")
    with configured(through) as one, configured(through) as another:
        with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
            first = in_thread(Maintenance(one).run_once)
            until_blocked(conninfo, 1, "sweep_events")
            assert Maintenance(another).run_once().outcome is Outcome.ANOTHER_AT_WORK
        assert first.result(30).cleanup == Cleanup(1, 3, 1)
        assert Maintenance(another).run_once().outcome is Outcome.DONE
    assert value(conninfo, ADVISORY_LOCKS) == 0


def limited(conninfo: str) -> None:
    """Gives the database limits of its own, so that it is seen when others are left behind."""
    name = name_of(conninfo)
    rows(conninfo, f"ALTER DATABASE {name} SET statement_timeout = '50s'")
    rows(conninfo, f"ALTER DATABASE {name} SET lock_timeout = '40s'")


@pytest.mark.owner
@pytest.mark.parametrize("size", [1, 5])
def test_the_schema_is_not_changed_through_it(blank_conninfo: str, size: int) -> None:
    limited(blank_conninfo)
    with pgbouncer(blank_conninfo, size=size) as through:
        before = session_settings(through) if size > 1 else None
        calls = [migrate, lambda conninfo: schema.grant(conninfo, "nobody"), schema.rollback]
        for call in calls:
            with pytest.raises(InvalidArgument, match="connect directly"):
                call(through)
        with psycopg.connect(blank_conninfo) as direct:
            query = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            assert direct.execute(query).fetchone() == (0,)
            assert direct.execute(ADVISORY_LOCKS).fetchone() == (0,)
        assert before is None or session_settings(through) == before


@pytest.mark.owner
def test_a_migration_through_it_is_refused_while_others_use_it(blank_conninfo: str) -> None:
    """A server connection that somebody else takes in between does not hide the pooler."""
    with (
        pgbouncer(blank_conninfo, size=4) as through,
        psycopg.connect(through) as one,
        psycopg.connect(through) as another,
    ):
        one.execute("SELECT 1")  # it has a server connection until its transaction ends
        another.execute("SELECT 1")
        with pytest.raises(InvalidArgument, match="connect directly"):
            migrate(through)


@pytest.mark.owner
def test_where_each_client_keeps_its_session_one_can_migrate(blank_conninfo: str) -> None:
    with pgbouncer(blank_conninfo, size=5, mode="session") as through:
        assert migrate(through)
        assert schema.rollback(through)
    assert value(blank_conninfo, ADVISORY_LOCKS) == 0


@pytest.mark.parametrize(
    "command", [["import-prisma", "--from", "dbname=nowhere"], ["demo", "--games", "1"]]
)
def test_commands_that_hold_a_lock_are_refused(
    command: list[str], through: str, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--database", through]) == 1
    assert "connect directly" in capsys.readouterr().err
    assert value(conninfo, ADVISORY_LOCKS) == 0


def test_what_changes_nothing_of_the_schema_works_through_it(
    through: str, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limited(conninfo)
    with configured(conninfo) as registry:
        registry.record_event("chess", 1)
    before = session_settings(through)
    commands = [
        ["migrate"], ["status", "--json"], ["cleanup", "--json"], ["renew-epochs", "--yes"],
        ["top", "--json", "--interval", "0.01"], ["inspect", "game", "chess", "--json"],
    ]  # fmt: skip
    for command in commands:
        assert main([*command, "--database", through]) == 0, capsys.readouterr()
    assert session_settings(through) == before
