"""Every wait ends: for a lock, for a connection, for a slow, a dead or a frozen server."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from probes import dump, empty, hold_game, in_thread, rows, until_blocked
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from support import wait_until

from registry import (
    EmbeddedPostgres,
    GameSessionRegistry,
    OutcomeUnknown,
    RegistryConfig,
    RegistryUnavailable,
    SchemaMismatch,
    lease,
    migrate,
    settings,
)
from registry.settings import GRACE

Registry = GameSessionRegistry
SLACK = 10.0
"""Seconds that a busy machine may add to a bound; far below the default of any server."""


@contextmanager
def owned(conninfo: str, config: RegistryConfig) -> Iterator[Registry]:
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        yield registry


@contextmanager
def callers(conninfo: str, config: RegistryConfig) -> Iterator[Registry]:
    sizes = {"min_size": config.pool_min_size, "max_size": config.pool_max_size}
    with ConnectionPool(conninfo, open=True, **sizes) as pool:
        pool.wait(10)
        yield GameSessionRegistry(pool, config=config)


Opener = Callable[[str, RegistryConfig], Any]
both = pytest.mark.parametrize("opened", [owned, callers], ids=["owned pool", "caller's pool"])


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


def refused_within(seconds: float, call: Callable[[], object]) -> Exception:
    """What the call raised; it must do so within a bound, and is left to itself if not."""
    begun = time.monotonic()
    result = in_thread(call)
    with pytest.raises((RegistryUnavailable, OutcomeUnknown)) as caught:
        result.result(seconds + SLACK)
    assert time.monotonic() - begun < seconds + SLACK
    return caught.value


@both
def test_a_lock_is_waited_for_no_longer_than_lock_timeout(conninfo: str, opened: Opener) -> None:
    config = RegistryConfig(lock_timeout=0.3, statement_timeout=60, pool_min_size=1)
    with opened(conninfo, config) as registry:
        registry.record_event("chess", 1)
        before = dump(conninfo)
        with hold_game(conninfo, "chess"):
            error = refused_within(0.3, lambda: registry.record_event("chess", 2))
            assert isinstance(error, RegistryUnavailable)
            assert "lock_timeout" in str(error)
        assert dump(conninfo) == before
        assert registry.record_event("chess", 2) == 2


@both
def test_a_statement_runs_no_longer_than_statement_timeout(conninfo: str, opened: Opener) -> None:
    config = RegistryConfig(lock_timeout=60, statement_timeout=1, pool_min_size=1)
    with opened(conninfo, config) as registry:
        registry.record_event("chess", 1)
        before = dump(conninfo)
        with hold_game(conninfo, "chess"):
            error = refused_within(1, lambda: registry.record_event("chess", 2))
            assert isinstance(error, RegistryUnavailable)
            assert "statement_timeout" in str(error)
        assert dump(conninfo) == before
        assert registry.record_event("chess", 2) == 2


@both
@pytest.mark.parametrize("call", ["end_game", "cleanup"])
def test_a_call_of_several_statements_is_bounded_too(
    conninfo: str, opened: Opener, call: str
) -> None:
    config = RegistryConfig(lock_timeout=0.3, statement_timeout=60, pool_min_size=1)
    with opened(conninfo, config) as registry, psycopg.connect(conninfo) as obstacle:
        registry.issue_resume_token("chess", "alice")
        obstacle.execute("LOCK TABLE game IN ACCESS EXCLUSIVE MODE")
        error = refused_within(
            0.3,
            (lambda: registry.end_game("chess"))
            if call == "end_game"
            else registry.cleanup_expired_sessions,
        )
        assert isinstance(error, RegistryUnavailable)
        obstacle.rollback()
        registry.cleanup_expired_sessions()
        registry.end_game("chess")


@both
def test_a_connection_is_waited_for_no_longer_than_pool_timeout(
    conninfo: str, opened: Opener
) -> None:
    config = RegistryConfig(
        lock_timeout=60, statement_timeout=60, pool_timeout=1.5, pool_min_size=1, pool_max_size=1
    )
    with opened(conninfo, config) as registry:
        registry.record_event("chess", 1)
        with hold_game(conninfo, "chess"):
            busy = in_thread(lambda: registry.record_event("chess", 2))
            until_blocked(conninfo, 1, "record_event")
            for call in (
                lambda: registry.record_event("go", 1),
                lambda: registry.fetch_events_since("chess", 0),
                registry.cleanup_expired_sessions,
            ):
                assert isinstance(refused_within(1.5, call), RegistryUnavailable)
        assert busy.result(30) == 2
        assert registry.record_event("go", 1) == 1


def test_connecting_is_bounded_when_no_server_is_there(tmp_path: Path) -> None:
    config = RegistryConfig(pool_timeout=0.3)
    error = refused_within(
        0.3, lambda: GameSessionRegistry.connect(f"host={tmp_path}", config=config)
    )
    assert isinstance(error, RegistryUnavailable)


@contextmanager
def only_backend_frozen(conninfo: str) -> Iterator[None]:
    """Stops the one that serves a registry. In the end it does what it was sent, and ends."""
    pids: list[int] = []

    def alone() -> bool:  # one that served a connection of the test may still be ending
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        pids[:] = [pid for (pid,) in rows(conninfo, query)]
        return len(pids) == 1

    wait_until(alone)
    (pid,) = pids
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    # Else it might do that in the next test.
    wait_until(lambda: not rows(conninfo, "SELECT FROM pg_stat_activity WHERE pid = %s", [pid]))


@pytest.fixture
def of_this_machine() -> None:
    if os.environ.get("DATABASE_URL"):
        pytest.skip("the processes of a server elsewhere cannot be stopped")


FROZEN = RegistryConfig(
    lock_timeout=0.5, statement_timeout=1, pool_timeout=2, pool_min_size=1, pool_max_size=1
)


@pytest.mark.usefixtures("of_this_machine")
@pytest.mark.parametrize(
    ("opened", "call"),
    [
        (owned, "record_event"),
        (owned, "end_game"),
        (owned, "cleanup"),
        (callers, "record_event"),
    ],
    ids=["owned-append", "owned-end", "owned-cleanup", "caller's-append"],
)
def test_a_frozen_server_process_is_given_up(conninfo: str, opened: Opener, call: str) -> None:
    with opened(conninfo, FROZEN) as registry:
        registry.record_event("chess", 1)
        calls: dict[str, Callable[[], object]] = {
            "record_event": lambda: registry.record_event("chess", 2),
            "end_game": lambda: registry.end_game("chess"),
            "cleanup": registry.cleanup_expired_sessions,
        }
        bound = FROZEN.pool_timeout + FROZEN.statement_timeout + GRACE
        with only_backend_frozen(conninfo):
            refused_within(bound, calls[call])


@pytest.mark.usefixtures("of_this_machine")
def test_the_calls_after_it_go_on_beside_a_frozen_server_process(conninfo: str) -> None:
    with owned(conninfo, FROZEN) as registry:
        registry.record_event("chess", 1)
        with only_backend_frozen(conninfo):
            event_id = uuid4()
            bound = FROZEN.pool_timeout + FROZEN.statement_timeout + GRACE
            refused_within(bound, lambda: registry.record_event("chess", 2, event_id=event_id))
            assert registry.fetch_events_since("chess", 0).head == 1
            assert registry.record_event("go", 1) == 1
        # What the process did when it thawed, if anything, is what a retry finds.
        assert registry.record_event("chess", 2, event_id=event_id) == 2


@pytest.fixture(scope="module")
def server_of_ones_own() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings={"fsync": "off"}) as server:
        migrate(server.conninfo)
        yield server


def test_a_client_that_vanishes_within_a_transaction_does_not_hold_a_game_for_ever(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host is gone when it has sent the half; nobody tells the server."""
    for module in (settings, lease):
        monkeypatch.setattr(module, "GRACE", 0.2)
    config = RegistryConfig(lock_timeout=1, statement_timeout=1)
    with owned(conninfo, config) as registry:
        registry.record_event("g", 1)
        vanishing = GameSessionRegistry.connect(conninfo, config=config)
        with vanishing._database.connection() as connection:
            if connection.info.server_version < 170_000:
                pytest.skip("before version 17 only the network notices, and here is none")
            pipeline = connection.pgconn
            pipeline.enter_pipeline_mode()
            pipeline.send_query_params(b"BEGIN", None)
            pipeline.send_query_params(b"SELECT FROM game WHERE game_id = 'g' FOR UPDATE", None)
            pipeline.flush()
            wait_until(lambda: not recorded(registry))
            wait_until(lambda: recorded(registry), timeout=4 * 1.2 + SLACK)
            pipeline.finish()
        vanishing.close()


def recorded(registry: Registry) -> bool:
    try:
        registry.record_event("g", 3)
    except RegistryUnavailable:
        return False
    return True


def test_the_server_too_notices_a_network_that_went_silent() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        access = Path(folder) / "access"
        access.write_text("local all all trust\nhost all all samehost trust\n")
        settings = {"listen_addresses": "127.0.0.77", "hba_file": access}
        with EmbeddedPostgres(settings=settings) as server:
            migrate(server.conninfo)
            there = make_conninfo(server.conninfo, host="127.0.0.77")
            with owned(there, RegistryConfig(statement_timeout=3.0)) as registry:  # noqa: SIM117
                with registry._database.connection() as connection:
                    for name, seconds in {"idle": "5", "interval": "1", "count": "3"}.items():
                        shown = connection.execute(f"SHOW tcp_keepalives_{name}".encode())
                        assert shown.fetchone() == (seconds,)


def test_a_dead_server_is_unavailability_and_its_return_is_noticed(
    server_of_ones_own: EmbeddedPostgres,
) -> None:
    server = server_of_ones_own
    config = RegistryConfig(pool_timeout=1, pool_min_size=1)
    with owned(server.conninfo, config) as mine, callers(server.conninfo, config) as theirs:
        for registry in (mine, theirs):
            registry.record_event("chess", 1)
        server.crash()
        for registry in (mine, theirs):
            for call in (
                lambda registry=registry: registry.record_event("chess", 2),
                lambda registry=registry: registry.fetch_events_since("chess", 0),
                registry.cleanup_expired_sessions,
            ):
                assert isinstance(refused_within(3, call), RegistryUnavailable)
        server.start()
        for registry in (mine, theirs):
            deadline = time.monotonic() + 30
            while True:  # the pool tries again at growing intervals
                try:
                    assert registry.fetch_events_since("chess", 0).head == 2
                    break
                except RegistryUnavailable:
                    assert time.monotonic() < deadline


@pytest.mark.parametrize("how", ["restart", "crash"])
@both
def test_idle_connections_of_a_server_that_was_restarted_cause_no_error(
    server_of_ones_own: EmbeddedPostgres, opened: Opener, how: str
) -> None:
    server = server_of_ones_own
    config = RegistryConfig(pool_timeout=20, pool_min_size=4, pool_max_size=4)
    with opened(server.conninfo, config) as registry:
        game_id = str(uuid4())
        session = registry.issue_resume_token(game_id, "alice").session.session_id
        if how == "crash":
            server.crash()
            server.start()
        else:
            server.restart()
        # Neither of these may be told that its outcome is unknown: nothing was sent before.
        for sequence in range(1, 9):
            assert registry.record_event(game_id, sequence) == sequence
        registry.heartbeat(session)
        registry.cleanup_expired_sessions()


@both
def test_idle_connections_that_the_server_ended_cause_no_error(
    conninfo: str, opened: Opener
) -> None:
    config = RegistryConfig(pool_timeout=20, pool_min_size=4, pool_max_size=4)
    with opened(conninfo, config) as registry:
        registry.record_event("chess", 1)
        rows(
            conninfo,
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        for sequence in range(2, 10):
            assert registry.record_event("chess", sequence) == sequence


def test_a_refused_connect_leaves_no_connection_behind(blank_conninfo: str) -> None:
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with pytest.raises(SchemaMismatch):
        GameSessionRegistry.connect(blank_conninfo)
    deadline = time.monotonic() + 10
    while rows(blank_conninfo, others) != [(0,)]:
        assert time.monotonic() < deadline


def test_who_is_interrupted_waiting_for_a_connection_takes_none_away(conninfo: str) -> None:
    config = RegistryConfig(
        pool_min_size=1, pool_max_size=1, pool_timeout=5, statement_timeout=30, lock_timeout=30
    )
    main = threading.main_thread().ident
    assert main == threading.get_ident()
    with owned(conninfo, config) as registry:
        session_id = registry.issue_resume_token("game", "alice").session.session_id
        pool = registry._database.pool.current

        def interrupt() -> None:
            wait_until(lambda: pool.get_stats().get("requests_waiting"))
            signal.pthread_kill(main, signal.SIGINT)

        with hold_game(conninfo, "game"):
            recorded = in_thread(lambda: registry.record_event("game", "only"))
            until_blocked(conninfo, 1)
            interrupted = in_thread(interrupt)
            with pytest.raises(KeyboardInterrupt):
                registry.get_session(session_id)
            interrupted.result(SLACK)
        assert recorded.result(SLACK) == 1
        # psycopg's pool gives the only connection to whoever does not wait for it any more.
        assert registry.get_session(session_id).session_id == session_id
