"""What an observer is told of a registry's work, on a real server; and what it cannot break."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from integration.test_combined_appends import writer_busy
from probes import configured, empty, hold_game, in_thread, queued, until_blocked, value
from psycopg_pool import ConnectionPool
from relay import relayed
from support import Clock, wait_until

from registry import (
    GameSessionRegistry,
    InvalidArgument,
    RegistryConfig,
    RegistryError,
    SequenceConflict,
    SessionNotFound,
    TokenReused,
    standing,
)
from registry.metrics import METHODS, NOBODY, OPERATIONS, Observer
from registry.standing import Standing, Standings, pool_stats

Registry = GameSessionRegistry
Told = tuple[Any, ...]


class Notes(Observer):
    """Notes what it is told: the method, and the arguments but for seconds."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def call_began(self, operation: str) -> object:
        return operation, threading.get_ident()

    def call_ended(self, operation: str, began: object, seconds: float, error: str | None) -> None:
        assert began == (operation, threading.get_ident())
        assert 0 < seconds < 60
        self.told.append(("call", operation, error))

    def connected(self, seconds: float) -> None:
        assert 0 < seconds < 60
        self.told.append(("connected",))

    def combined(self, operation: str, calls: int) -> None:
        self.told.append(("combined", operation, calls))

    def retried(self, reason: str) -> None:
        self.told.append(("retried", reason))

    def settled(self, statement: str, outcome: str) -> None:
        self.told.append(("settled", statement, outcome))

    def recorded(self, events: int) -> None:
        self.told.append(("recorded", events))

    def replayed(self, events: int, source: str) -> None:
        self.told.append(("replayed", events, source))

    def pruned(self, events: int, cause: str) -> None:
        self.told.append(("pruned", events, cause))

    def resumed(self, outcome: str) -> None:
        self.told.append(("resumed", outcome))

    def of(self, call: Callable[[], object]) -> list[Told]:
        """What it is told during a call, whose errors are its own, but for the connections."""
        self.told.clear()
        with suppress(RegistryError):
            call()
        return [told for told in self.told if told != ("connected",)]


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def registry(conninfo: str, notes: Notes) -> Iterator[Registry]:
    with Registry.connect(conninfo, observer=notes) as registry:
        yield registry


def test_every_call_is_told_of_with_what_came_of_it(
    registry: Registry, notes: Notes, conninfo: str, clock: Clock
) -> None:
    def ok(operation: str, *more: Told) -> list[Told]:
        return [("call", operation, None), *more]

    issued = registry.issue_resume_token("chess", "alice")
    session = issued.session.session_id
    r = registry
    assert notes.of(lambda: r.issue_resume_token("chess", "bob")) == ok("issue_resume_token")
    assert notes.of(lambda: r.revoke_session(r.find_session("chess", "bob").session_id)) == [
        *ok("find_session"),
        *ok("revoke_session"),
    ]
    assert notes.of(lambda: r.record_event("chess", 1)) == ok("record_event", ("recorded", 1))
    assert notes.of(lambda: r.record_events("chess", [2, 3, 4])) == ok(
        "record_events", ("recorded", 3)
    )
    page = "replayed", 4, "database"
    assert notes.of(lambda: r.fetch_events_since("chess", 0)) == ok("fetch_events_since", page)
    page = "replayed", 4, "cache"
    assert notes.of(lambda: r.fetch_events_json("chess", 0)) == ok("fetch_events_since", page)
    pages = notes.of(lambda: list(r.iter_events_since("chess", 0, page_size=3)))
    assert pages == [
        *ok("fetch_events_since", ("replayed", 3, "cache")),
        *ok("fetch_events_since", ("replayed", 1, "cache")),
    ]
    assert notes.of(lambda: r.acknowledge(session, 2)) == ok(
        "acknowledge", ("pruned", 2, "acknowledged")
    )
    assert notes.of(lambda: r.acknowledge(session, 1)) == ok("acknowledge")
    assert notes.of(lambda: r.prune_events("chess", 3)) == ok(
        "prune_events", ("pruned", 1, "operator")
    )
    assert notes.of(lambda: r.resume(issued.token, after=3)) == ok(
        "resume", ("resumed", "continuous"), ("replayed", 1, "cache")
    )
    assert notes.of(lambda: r.resume(issued.token, after=1))[1] == ("resumed", "gap")
    assert notes.of(lambda: r.resume(issued.token, after=0, epoch=uuid4()))[1] == (
        "resumed",
        "reset",
    )
    assert notes.of(lambda: r.validate_resume_token(issued.token)) == ok("validate_resume_token")
    assert notes.of(lambda: r.heartbeat(session)) == ok("heartbeat")
    assert notes.of(lambda: r.heartbeat_many([session])) == ok("heartbeat_many")
    assert notes.of(lambda: r.get_session(session)) == ok("get_session")
    assert notes.of(lambda: r.list_sessions("chess")) == ok("list_sessions")
    assert notes.of(lambda: r.stale_sessions(60)) == ok("stale_sessions")
    clock.advance(2 * r.config.replay_retention)
    registry.record_event("chess", 5)
    assert notes.of(r.cleanup_expired_sessions) == ok(
        "cleanup_expired_sessions", ("pruned", 1, "retention")
    )
    assert notes.of(lambda: r.end_game("chess")) == [
        *ok("prune_events", ("pruned", 1, "operator")),
        *ok("end_game"),
    ]
    assert notes.of(r.renew_epochs) == ok("renew_epochs")
    assert notes.told.count(("connected",)) == 1


def test_an_error_is_told_by_its_type(registry: Registry, notes: Notes) -> None:
    token = registry.issue_resume_token("chess", "alice").token
    forged = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBA")
    assert notes.of(lambda: registry.resume(forged, after=0)) == [
        ("call", "resume", "InvalidToken"),
        ("resumed", "InvalidToken"),
    ]
    assert notes.of(lambda: registry.heartbeat("chess/no")) == [
        ("call", "heartbeat", "SessionNotFound")
    ]
    assert notes.of(lambda: registry.record_event("chess", float("nan"))) == [
        ("call", "record_event", "InvalidPayload")
    ]
    with pytest.raises(SequenceConflict):
        registry.record_event("chess", 1, expected_sequence=7)


def test_every_public_method_is_watched_or_reads_by_one_that_is() -> None:
    public = {
        name
        for name, _ in inspect.getmembers(Registry, inspect.isfunction)
        if not name.startswith("_")
    }
    assert public - set(OPERATIONS) == {
        "close",
        "migrate",
        "fetch_events_json",
        "iter_events_since",
    }
    assert len(set(OPERATIONS)) == len(OPERATIONS)


def test_what_is_watched_looks_as_it_did(registry: Registry) -> None:
    for name in OPERATIONS:
        plain, watched = getattr(Registry, name), getattr(registry, name)
        assert watched.__doc__ == plain.__doc__
        assert watched.__name__ == name
        takes = list(inspect.signature(plain).parameters.values())[1:]
        assert list(inspect.signature(watched).parameters.values()) == takes


def test_without_an_observer_nothing_stands_between(conninfo: str) -> None:
    with configured(conninfo) as registry:
        assert not set(OPERATIONS) & set(vars(registry))
        assert registry._database.observer is NOBODY
        assert type(registry._database.connection()).__name__ == "Lease"


def test_on_a_callers_pool_too(conninfo: str, notes: Notes) -> None:
    with ConnectionPool(conninfo, min_size=1, open=True) as pool:
        registry = Registry(pool, observer=notes)
        assert notes.of(lambda: registry.record_event("chess", 1)) == [
            ("call", "record_event", None),
            ("recorded", 1),
        ]
        registry.close()


def test_calls_done_together_are_told_of_with_their_number(
    conninfo: str, notes: Notes, one_writer: None
) -> None:
    config = RegistryConfig(lock_timeout=60, statement_timeout=60, pool_timeout=60)
    with Registry.connect(conninfo, config=config, observer=notes) as registry:
        with writer_busy(registry, conninfo):
            calls = [
                queued(registry._writer.combiner, lambda n=n: registry.record_event("chess", n))
                for n in range(7)
            ]
        for call in calls:
            call.result(30)
    assert ("combined", "record_event", 7) in notes.told
    assert notes.told.count(("recorded", 1)) >= 7


def test_what_the_cap_prunes_is_told(conninfo: str, notes: Notes) -> None:
    config = RegistryConfig(max_events_per_game=16)
    with Registry.connect(conninfo, config=config, observer=notes) as registry:
        registry.record_events("chess", range(16))
        told = notes.of(lambda: registry.record_events("chess", range(4)))
        assert ("pruned", 4, "cap") in told
        with psycopg.connect(conninfo) as connection:
            for _ in range(2):
                registry.record_event("chess", 1, connection=connection)
            assert ("pruned", 2, "cap") in notes.told
            connection.rollback()


def test_a_broken_connection_is_told_and_how_it_was_settled(conninfo: str, notes: Notes) -> None:
    with relayed(conninfo) as relay, Registry.connect(relay.conninfo, observer=notes) as registry:
        registry.record_event("chess", 1)
        relay.arm("record_event", "answer lost")
        told = notes.of(lambda: registry.record_event("chess", 2))
        assert told[0] == ("settled", "record_event", "committed")
        relay.arm("record_event", "request lost")
        told = notes.of(lambda: registry.record_event("chess", 3))
        assert told[:2] == [
            ("settled", "record_event", "run again"),
            ("retried", "OperationalError"),
        ]
        relay.arm("heartbeat_many", "request lost")
        session = registry.issue_resume_token("chess", "alice").session.session_id
        told = notes.of(lambda: registry.heartbeat_many([session]))
        assert told == [("retried", "OperationalError"), ("call", "heartbeat_many", None)]


def test_a_retry_is_logged_with_its_reason(conninfo: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="registry.retrying")
    with relayed(conninfo) as relay, configured(relay.conninfo) as registry:
        registry.renew_epochs()
        relay.arm("renew_epochs", "request lost")
        registry.renew_epochs()
    (record,) = [record for record in caplog.records if record.name == "registry.retrying"]
    assert record.levelno == logging.INFO
    assert record.__dict__["reason"] == "OperationalError"
    assert 0 <= record.__dict__["pause"] <= 1


def test_a_wait_for_a_connection_is_told_that_came_to_nothing(conninfo: str, notes: Notes) -> None:
    config = RegistryConfig(
        pool_min_size=1, pool_max_size=1, pool_timeout=2, lock_timeout=30, statement_timeout=30
    )
    with Registry.connect(conninfo, config=config, observer=notes) as registry:
        registry.record_event("chess", 1)
        with hold_game(conninfo, "chess"):
            held = in_thread(lambda: registry.record_event("chess", 2))
            until_blocked(conninfo)
            notes.told.clear()
            with pytest.raises(RegistryError):
                registry.get_session(f"chess/{uuid4()}")
            assert notes.told == [
                ("connected",),
                ("call", "get_session", "RegistryUnavailable"),
            ]
        held.result(30)


class Broken(Observer):
    """Fails in one method, and counts how often it is called."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.calls = 0

        def fail(*_: object) -> None:
            self.calls += 1
            raise error

        setattr(self, method, fail)


@pytest.mark.parametrize("method", METHODS)
def test_an_observer_that_raises_breaks_no_call_and_is_left_out(
    conninfo: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken(method, RuntimeError("the exporter is gone"))
    config = RegistryConfig(max_events_per_game=4)
    with (
        relayed(conninfo) as relay,
        Registry.connect(relay.conninfo, config=config, observer=broken) as registry,
    ):
        issued = registry.issue_resume_token("chess", "alice")
        relay.arm("record_event", "request lost")
        assert registry.record_event("chess", 1) == 1
        assert registry.record_events("chess", range(4)) == range(2, 6)
        assert registry.resume(issued.token, after=1).replay.head == 5
        assert len(registry.fetch_events_since("chess", 1).events) == 4
        with pytest.raises(SessionNotFound):
            registry.get_session(f"chess/{uuid4()}")
        if method == "combined":
            registry._writer.combiner.tell_combined(2)
            registry._writer.combiner.tell_combined(2)
        assert value(conninfo, "SELECT head FROM game") == 5
    assert broken.calls == 1
    (record,) = [record for record in caplog.records if record.name == "registry.metrics"]
    assert record.levelno == logging.ERROR
    assert record.__dict__["method"] == method
    assert record.exc_info is not None


class Fool:
    """Has all that an observer has, as far as it can be asked."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError("not today")


@pytest.mark.parametrize("make", [int, object, str, Fool])
def test_what_is_no_observer_is_refused_at_once(conninfo: str, make: Callable[[], Any]) -> None:
    observer = make()
    with pytest.raises(InvalidArgument, match="observer"):
        Registry.connect(conninfo, observer=observer)
    with ConnectionPool(conninfo, open=False) as pool, pytest.raises(InvalidArgument):
        Registry(pool, observer=observer)


def test_how_the_database_stands(registry: Registry, conninfo: str, clock: Clock) -> None:
    def now(every: float = 0) -> Standing | None:
        return Standings(registry, every).now()

    assert now() == Standing(0, 0.0)
    alice = registry.issue_resume_token("chess", "alice", ttl=10_000).session.session_id
    bob = registry.issue_resume_token("chess", "bob", ttl=100).session.session_id
    gone = registry.issue_resume_token("go", "carol").session.session_id
    registry.record_event("chess", 1)
    registry.record_event("go", 1)
    clock.advance(50)
    registry.record_events("chess", [2, 3])
    registry.acknowledge(bob, 1)
    registry.revoke_session(gone)
    stands = now()
    assert stands is not None
    assert stands.live_sessions == 2
    assert 50 <= stands.oldest_unacknowledged < 60  # of alice, who has acknowledged nothing
    registry.acknowledge(alice, 1)
    stands = now()
    assert stands is not None
    assert 0 < stands.oldest_unacknowledged < 10
    clock.advance(60)  # bob's time is over
    assert now() == Standing(1, pytest.approx(60, abs=10))
    registry.acknowledge(alice, 3)
    assert now() == Standing(1, 0.0)


def test_no_more_sessions_are_looked_at_than_those_silent_longest(
    registry: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "MOST_SESSIONS", 3)
    registry.issue_resume_token("silent", "alice", ttl=500)
    registry.record_event("silent", 1)
    clock.advance(300)
    for player in "bcd":
        registry.issue_resume_token("busy", player, ttl=500)
    registry.record_event("busy", 1)
    assert Standings(registry, 0).now() == Standing(3, pytest.approx(300, abs=10))
    monkeypatch.setattr(standing, "MOST_SESSIONS", 1)
    assert Standings(registry, 0).now() == Standing(1, pytest.approx(300, abs=10))


def test_who_asks_again_soon_gets_the_same_answer(registry: Registry, conninfo: str) -> None:
    seldom = Standings(registry, 3600)
    before = seldom.now()
    registry.issue_resume_token("chess", "alice")
    assert seldom.now() is before
    assert Standings(registry, 0).now() != before


def test_a_database_that_is_away_has_no_standing_and_is_not_waited_for(conninfo: str) -> None:
    with relayed(conninfo) as relay, configured(relay.conninfo) as registry:
        standings = Standings(registry, 0)
        assert standings.now() == Standing(0, 0.0)
        relay.go_down()
        wait_until(lambda: standings.now() is None, timeout=5)
        assert pool_stats(registry)["pool_max"] == registry.config.pool_max_size


def test_the_reuse_of_a_token_is_logged_with_the_session_and_never_the_token(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="registry.sessions")
    game = "chess\nWARNING forged line"
    issued = registry.issue_resume_token(game, "alice")
    second = registry.resume(issued.token, after=0).token
    third = registry.resume(second, after=0).token
    registry.resume(third, after=0)
    for stolen, call in [
        (second, registry.validate_resume_token),
        (second, lambda token: registry.resume(token, after=0)),
    ]:
        with pytest.raises(TokenReused):
            call(stolen)
    refused, revoked = caplog.records
    for record in (refused, revoked):
        assert record.levelno == logging.WARNING
        assert record.__dict__["session_id"] == issued.session.session_id
        assert record.__dict__["standing"] == "retired"
        assert "\n" not in record.getMessage()
        for token in (issued.token, second, third):
            assert token.rpartition(".")[2] not in str(record.__dict__)
    assert (refused.__dict__["revoked"], revoked.__dict__["revoked"]) == (False, True)
