"""A connection breaks under an append: it is done exactly once, and the caller notices nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from integration.test_combined_appends import STOP, log, send, send_many, writer_busy
from probes import (
    PATIENCE,
    PATIENT,
    configured,
    empty,
    held,
    hold_game,
    hold_session,
    in_thread,
    rows,
    until_blocked,
    value,
)
from relay import Fault, Relay, relayed
from soundness import unsound
from support import Clock, wait_until

from registry import (
    EmbeddedPostgres,
    GameNotFound,
    GameSessionRegistry,
    OutcomeUnknown,
    RegistryConfig,
    RegistryUnavailable,
    SequenceConflict,
    migrate,
    retrying,
)
from registry.database import BREAKS

Registry = GameSessionRegistry


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def relay(conninfo: str) -> Iterator[Relay]:
    with relayed(conninfo) as relay:
        yield relay


@pytest.fixture
def registry(relay: Relay) -> Iterator[Registry]:
    """A registry behind the relay."""
    with configured(relay.conninfo, **PATIENT) as registry:
        yield registry


@pytest.fixture
def settled(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """How it ended each time that a connection broke: the statement, and what was found."""
    caplog.set_level(logging.INFO, logger="registry.settling")
    return lambda: [
        (record.__dict__["statement"], record.__dict__["settled"])
        for record in caplog.records
        if record.name == "registry.settling"
    ]


Settled = Callable[[], list[tuple[str, str]]]

FAULTS: list[Fault] = ["answer lost", "request lost", "request late"]
LOST: list[Fault] = FAULTS[:2]
"""Of a statement that comes behind one that locks; were it late, the lock would be held as long."""
FOUND = {"answer lost": "committed", "request lost": "run again", "request late": "run again"}

# What is called, and the payloads of game "a" after it. It has one event before.
ALONE: dict[str, tuple[str, Callable[[Registry], object], object, list[object]]] = {
    "record_event": ("record_event", lambda r: r.record_event("a", "x"), 2, [0, "x"]),
    "record_event, expected": (
        "record_event_checked",
        lambda r: r.record_event("a", "x", expected_sequence=2),
        2,
        [0, "x"],
    ),
    "record_events": (
        "record_events",
        lambda r: r.record_events("a", ["x", "y"]),
        range(2, 4),
        [0, "x", "y"],
    ),
}
alone = pytest.mark.parametrize("name", ALONE)


@alone
@pytest.mark.parametrize("fault", FAULTS)
def test_an_append_alone_is_done_once_whatever_was_lost(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, name: str, fault: Fault
) -> None:
    statement, call, expected, payloads = ALONE[name]
    registry.record_event("a", 0)
    sprung = relay.arm(statement, fault)
    assert call(registry) == expected
    assert sprung.is_set()
    assert settled() == [(statement, FOUND[fault])]
    if fault == "request late":
        relay.let_go()
        if statement != "record_event_checked":  # which finds its sequence taken, before it is
            assert b"statement_receipt" in relay.late_answers[0]  # refused for having been settled
    assert list(log(registry, "a").values()) == payloads
    assert unsound(conninfo) == []


@alone
def test_the_first_append_of_a_game_is_done_once(
    registry: Registry, relay: Relay, conninfo: str, name: str
) -> None:
    statement, call, _, payloads = ALONE[name]
    if name == "record_event, expected":
        call = lambda r: r.record_event("a", "x", expected_sequence=1)  # noqa: E731
    for fault in FAULTS:
        relay.arm(statement, fault)
        call(registry)
        assert list(log(registry, "a").values()) == payloads[1:]
        registry.end_game("a")
    relay.let_go()
    with pytest.raises(GameNotFound):
        registry.fetch_events_since("a", 0)


@alone
def test_an_append_that_still_waits_for_a_lock_elsewhere_is_refused_when_it_gets_it(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, name: str
) -> None:
    """Its snapshot is older than the settling: the receipt's newest version has to count."""
    statement, call, expected, payloads = ALONE[name]
    registry.record_event("a", 0)
    with hold_game(conninfo, "a"):
        result = in_thread(lambda: call(registry))
        until_blocked(conninfo, 1, statement)
        relay.cut_clients()
        until_blocked(conninfo, 2, statement)
        assert settled() == [(statement, "run again")]
    assert result.result(PATIENCE) == expected
    assert list(log(registry, "a").values()) == payloads
    wait_until(lambda: value(conninfo, OTHERS, [statement]) == 0)
    assert list(log(registry, "a").values()) == payloads
    assert unsound(conninfo) == []


OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND strpos(query, %s || ' */') > 0
    AND pid <> pg_backend_pid()
"""


@alone
def test_an_append_that_is_about_to_commit_is_waited_for(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, name: str
) -> None:
    statement, call, expected, payloads = ALONE[name]
    registry.record_event("a", 0)
    rows(conninfo, STOP)
    try:
        with held(conninfo, "SELECT pg_advisory_xact_lock(1)"):
            result = in_thread(lambda: call(registry))
            until_blocked(conninfo, 1, statement)
            relay.cut_clients()
            until_blocked(conninfo, 1, "settle_statement")
        assert result.result(PATIENCE) == expected
    finally:
        rows(conninfo, "DROP TRIGGER stop ON game_event; DROP FUNCTION stop")
    assert settled() == [(statement, "committed")]
    assert list(log(registry, "a").values()) == payloads


@alone
@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_settled_is_said_again_when_that_answer_is_lost_too(
    registry: Registry, relay: Relay, settled: Settled, name: str, fault: Fault
) -> None:
    statement, call, expected, payloads = ALONE[name]
    registry.record_event("a", 0)
    relay.arm(statement, fault)
    for lost in ("answer lost", "request lost", "answer lost"):
        relay.arm("settle_statement", lost)
    assert call(registry) == expected
    assert settled() == [(statement, FOUND[fault])]
    assert list(log(registry, "a").values()) == payloads


@alone
def test_an_append_is_known_to_be_done_though_its_game_has_ended_meanwhile(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, name: str
) -> None:
    statement, call, expected, _ = ALONE[name]
    registry.record_event("a", 0)
    with configured(conninfo) as other:
        relay.arm(statement, "answer lost", lambda: other.end_game("a"))
        assert call(registry) == expected
    assert settled() == [(statement, "committed")]
    with pytest.raises(GameNotFound):
        registry.fetch_events_since("a", 0)


def test_a_conflict_whose_answer_was_lost_is_judged_again(
    registry: Registry, relay: Relay, settled: Settled
) -> None:
    registry.record_event("a", 0)
    relay.arm("record_event_checked", "answer lost")
    with pytest.raises(SequenceConflict) as caught:
        registry.record_event("a", "x", expected_sequence=7)
    assert (caught.value.expected, caught.value.actual) == (7, 2)
    assert settled() == [("record_event_checked", "run again")]
    assert list(log(registry, "a").values()) == [0]


def test_an_event_with_an_id_is_simply_recorded_again(
    registry: Registry, relay: Relay, settled: Settled
) -> None:
    for fault in FAULTS:
        relay.arm("record_event_checked", fault)
        assert registry.record_event("a", "x", event_id=uuid4()) > 0
    relay.let_go()
    assert list(log(registry, "a").values()) == ["x"] * 3
    assert settled() == []


@pytest.mark.parametrize("fault", LOST)
def test_a_game_is_ended_once_and_the_next_of_its_name_is_left_alone(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, fault: Fault
) -> None:
    registry.record_events("a", [1, 2])
    relay.arm("end_game", fault)
    registry.end_game("a")
    assert settled() == [("end_game", FOUND[fault])]
    assert registry.record_event("a", "new") == 1
    assert log(registry, "a") == {1: "new"}
    assert unsound(conninfo) == []


def test_the_end_of_a_game_that_is_under_way_is_waited_for(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled
) -> None:
    registry.record_events("a", [1, 2])
    session = registry.issue_resume_token("a", "alice").session.session_id
    with hold_session(conninfo, session):
        result = in_thread(lambda: registry.end_game("a"))
        until_blocked(conninfo, 1, "end_game")
        relay.cut_clients()
        until_blocked(conninfo, 1, "settle_statement")
    result.result(PATIENCE)
    assert settled() == [("end_game", "committed")]
    assert registry.record_event("a", "new") == 1


# batches

Calls = dict[str, list[Future[Any]]]


def plain_of_many_games(registry: Registry) -> Calls:
    return {
        game: [send(registry, game, f"{game} {n}") for n in range(4)] for game in ("a", "b", "c")
    }


def plain_of_one_game(registry: Registry) -> Calls:
    return {"a": [*(send(registry, "a", n) for n in range(4)), send_many(registry, "a", [5, 6])]}


def with_conditions(registry: Registry) -> Calls:
    """Of each game: one with an id, one with a condition that is met, two without, and a block."""
    calls: Calls = {}
    for game in ("a", "b"):
        calls[game] = [
            send(registry, game, "named", event_id=uuid4()),
            send(registry, game, "expected", expected_sequence=2),
            send(registry, game, "plain"),
            send(registry, game, "plain too"),
            send_many(registry, game, ["m 1", "m 2"]),
        ]
    return calls


def with_conditions_of_one_game(registry: Registry) -> Calls:
    return {"a": with_conditions(registry)["a"]}


BATCHES: dict[str, tuple[str, Callable[[Registry], Calls]]] = {
    "many games": ("record_batch", plain_of_many_games),
    "one game": ("record_events", plain_of_one_game),
    "conditions": ("record_batch_checked", with_conditions),
}
batches = pytest.mark.parametrize("name", BATCHES)


def done_once(registry: Registry, calls: Calls) -> None:
    """Each call's sequences are its own, and the log has nothing else behind the first event."""
    for game, futures in calls.items():
        given: list[int] = []
        for future in futures:
            got = future.result(PATIENCE)
            given += got if isinstance(got, range) else [got]
        recorded = log(registry, game)
        assert sorted(given) == list(recorded)[1:]
        assert len(set(map(str, recorded.values()))) == len(recorded)


@pytest.mark.usefixtures("one_writer")
@batches
@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_is_done_once_whatever_was_lost(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, name: str, fault: Fault
) -> None:
    statement, start = BATCHES[name]
    for game in ("a", "b", "c"):
        registry.record_event(game, "first")
    with writer_busy(registry, conninfo):
        sprung = relay.arm(statement, fault)
        calls = start(registry)
    done_once(registry, calls)
    assert sprung.is_set()
    assert settled() == [(statement, FOUND[fault])]
    if fault == "request late":
        relay.let_go()
        assert b"statement_receipt" in relay.late_answers[0]
    done_once(registry, calls)
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
@batches
def test_a_batch_that_is_about_to_commit_is_waited_for(
    registry: Registry, relay: Relay, conninfo: str, settled: Settled, name: str
) -> None:
    statement, start = BATCHES[name]
    for game in ("a", "b", "c"):
        registry.record_event(game, "first")
    rows(conninfo, STOP)
    try:
        with held(conninfo, "SELECT pg_advisory_xact_lock(1)"):
            with writer_busy(registry, conninfo):
                calls = start(registry)
            until_blocked(conninfo, 1, statement)
            relay.cut_clients()
            until_blocked(conninfo, 1, "settle_statement")
        done_once(registry, calls)
    finally:
        rows(conninfo, "DROP TRIGGER stop ON game_event; DROP FUNCTION stop")
    assert settled() == [(statement, "committed")]
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
@pytest.mark.parametrize("fault", LOST)
def test_in_a_batch_a_known_id_and_a_conflict_are_so_still_whatever_was_lost(
    registry: Registry, relay: Relay, conninfo: str, fault: Fault
) -> None:
    known = uuid4()
    registry.record_event("a", "first", event_id=known)
    with writer_busy(registry, conninfo):
        relay.arm("record_batch_checked", fault)
        again = send(registry, "a", "again", event_id=known)
        hole = send(registry, "a", "hole", expected_sequence=99)
        plain = send(registry, "a", "plain")
    assert again.result(PATIENCE) == 1
    assert plain.result(PATIENCE) == 2
    with pytest.raises(SequenceConflict) as caught:
        hole.result(PATIENCE)
    assert caught.value.actual in (2, 3)
    assert list(log(registry, "a").values()) == ["first", "plain"]


# when the server is gone


def test_a_server_that_crashes_under_an_append_is_asked_when_it_is_back(
    own_server: EmbeddedPostgres, settled: Settled
) -> None:
    migrate(own_server.conninfo)
    with configured(own_server.conninfo, **PATIENT) as registry:
        registry.record_event("a", 0)
        holder = psycopg.connect(own_server.conninfo)
        holder.execute("SELECT FROM game FOR UPDATE")
        result = in_thread(lambda: registry.record_event("a", "x"))
        until_blocked(own_server.conninfo, 1, "record_event")
        own_server.crash()
        own_server.start()
        assert result.result(PATIENCE) == 2
        holder.close()
        assert settled() == [("record_event", "run again")]
        assert list(log(registry, "a").values()) == [0, "x"]


def test_a_server_that_crashes_after_the_commit_still_knows_it(
    own_server: EmbeddedPostgres, settled: Settled
) -> None:
    migrate(own_server.conninfo)
    with (
        relayed(own_server.conninfo) as relay,
        configured(relay.conninfo, pool_timeout=30.0) as registry,
    ):
        registry.record_event("a", 0)

        def crash() -> None:
            own_server.crash()
            own_server.start()

        relay.arm("record_events", "answer lost", crash)
        assert registry.record_events("a", ["x", "y"]) == range(2, 4)
        assert settled() == [("record_events", "committed")]
        assert list(log(registry, "a").values()) == [0, "x", "y"]


SHORT = {"pool_timeout": 2.0, "statement_timeout": 2.0, "lock_timeout": 1.0}
SLACK = 10.0
"""Seconds that a busy machine may add."""


@pytest.mark.parametrize("fault", ["answer lost", "request lost"])
def test_a_server_that_does_not_come_back_leaves_the_outcome_open_and_in_time(
    relay: Relay, conninfo: str, settled: Settled, fault: Fault
) -> None:
    with configured(relay.conninfo, **SHORT) as registry:
        registry.record_event("a", 0)
        relay.arm("record_event", fault, relay.go_down)
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="last events"):
            registry.record_event("a", "x")
        assert time.monotonic() - begun < 6 + SLACK
        assert settled() == [("record_event", "unknown")]
        with pytest.raises(RegistryUnavailable):
            registry.record_event("a", "y")
    recorded = [0, "x"] if fault == "answer lost" else [0]
    with configured(conninfo) as other:
        assert list(log(other, "a").values()) == recorded


@pytest.mark.usefixtures("one_writer")
def test_a_batch_that_cannot_be_settled_says_so_to_each_call_without_an_id(
    relay: Relay, conninfo: str, settled: Settled
) -> None:
    """Whoever gave one has it tried again."""
    bounds = {"pool_timeout": 2.0, "statement_timeout": 5.0, "lock_timeout": 5.0}
    with configured(relay.conninfo, **bounds) as registry:
        registry.record_event("a", "first")
        with writer_busy(registry, conninfo):
            relay.arm("record_batch_checked", "request lost")
            for _ in range(500):
                relay.arm("settle_statement", "request lost")
            plain = [send(registry, "a", n) for n in range(3)]
            named = send(registry, "a", "named", event_id=uuid4())
        errors = [call.exception(PATIENCE) for call in plain]
        assert [type(error) for error in errors] == [OutcomeUnknown] * 3
        assert len({id(error) for error in errors}) == 3
        assert named.result(PATIENCE) == 2
        assert settled() == [("record_batch_checked", "unknown")]


def test_what_is_logged_says_nothing_of_games_players_or_payloads(
    registry: Registry, relay: Relay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="registry.settling")
    relay.arm("record_event", "answer lost")
    registry.record_event("secret game", "secret move")
    (record,) = [record for record in caplog.records if record.name == "registry.settling"]
    assert record.getMessage() == "the connection broke under record_event; settled: committed"
    assert 0 <= record.__dict__["seconds"] < PATIENCE
    assert "secret" not in str(record.__dict__)


# receipts


def receipts(conninfo: str) -> int:
    return int(value(conninfo, "SELECT count(*) FROM statement_receipt"))


def test_there_are_as_many_receipts_as_statements_at_once_and_no_more(
    registry: Registry, conninfo: str
) -> None:
    for n in range(30):
        registry.record_event("a", n)
        registry.record_events(f"b {n}", [1, 2])
    assert receipts(conninfo) == 1
    with hold_game(conninfo, "a"):
        busy = in_thread(lambda: registry.record_event("a", "x"))
        until_blocked(conninfo, 1, "record_event")
        registry.record_event("b", 1)
    busy.result(PATIENCE)
    assert receipts(conninfo) == 2


def test_what_needs_no_receipt_has_none(registry: Registry, conninfo: str) -> None:
    registry.record_event("a", 1, event_id=uuid4())
    with psycopg.connect(conninfo) as mine:
        registry.record_event("a", 2, connection=mine)
        registry.record_event("a", 3, connection=mine, expected_sequence=3)
        registry.record_event("b", 4, connection=mine)
    assert receipts(conninfo) == 0


def test_games_begun_with_a_receipt_have_epochs_of_their_own(
    registry: Registry, conninfo: str
) -> None:
    for n in range(5):
        registry.record_event(f"a {n}", 1)
        registry.record_events(f"b {n}", [1])
        registry.record_event(f"c {n}", 1, expected_sequence=1)
        registry.record_event("again", 1)
        rows(conninfo, "UPDATE game SET game_id = %s WHERE game_id = 'again'", [f"d {n}"])
        rows(conninfo, "DELETE FROM game_event WHERE game_id = 'again'")
    assert value(conninfo, "SELECT count(DISTINCT epoch) FROM game") == 20


def test_the_cleanup_forgets_receipts_that_nobody_uses_and_no_others(
    registry: Registry, conninfo: str
) -> None:
    clock = Clock(conninfo)
    with configured(conninfo) as other:
        other.record_event("a", 1)
        registry.record_event("a", 2)
        clock.advance(86_000)
        registry.record_event("a", 3)
        registry.cleanup_expired_sessions()
        assert receipts(conninfo) == 2
        clock.advance(1_000)
        registry.cleanup_expired_sessions(batch_size=1)  # each batch goes on behind the last
        assert receipts(conninfo) == 1
        assert registry.record_event("a", 4) == 4
        assert other.record_event("a", 5) == 5
        assert receipts(conninfo) == 2


def test_the_cleanup_does_not_wait_for_a_receipt_in_use(registry: Registry, conninfo: str) -> None:
    registry.record_event("a", 1)
    Clock(conninfo).advance(200_000)
    with held(conninfo, "SELECT FROM statement_receipt FOR UPDATE"):
        registry.cleanup_expired_sessions()
    assert receipts(conninfo) == 1


# retries

# The next statements on game_event fail this often, and then no more.
FAIL = """
CREATE SEQUENCE tried;
GRANT USAGE ON SEQUENCE tried TO PUBLIC;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tried') <= {times} THEN {failure}; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON game_event FOR EACH ROW EXECUTE FUNCTION fail();
"""
NO_MORE = "DROP TRIGGER fail ON game_event; DROP FUNCTION fail; DROP SEQUENCE tried"
DIE = "PERFORM pg_terminate_backend(pg_backend_pid(), 0); PERFORM pg_sleep(10)"


@pytest.fixture
def failing(conninfo: str) -> Iterator[Callable[[int, str], None]]:
    begun: list[int] = []

    def fail(times: int, failure: str) -> None:
        begun.append(times)
        rows(conninfo, FAIL.format(times=times, failure=failure))

    yield fail
    if begun:
        rows(conninfo, NO_MORE)


def tried(conninfo: str) -> int:
    return int(value(conninfo, "SELECT last_value FROM tried"))


@alone
@pytest.mark.parametrize("state", ["40001", "40P01", "25006"])
def test_what_passes_is_tried_again_until_it_has(
    registry: Registry,
    conninfo: str,
    failing: Callable[[int, str], None],
    name: str,
    state: str,
) -> None:
    _, call, expected, payloads = ALONE[name]
    registry.record_event("a", 0)
    failing(6, f"RAISE 'it passes' USING ERRCODE = '{state}'")
    assert call(registry) == expected
    assert tried(conninfo) >= 7
    assert list(log(registry, "a").values()) == payloads


def test_what_does_not_pass_is_given_up_when_the_calls_time_is_up(
    conninfo: str, failing: Callable[[int, str], None]
) -> None:
    with configured(conninfo, **SHORT) as registry:
        registry.record_event("a", 0)
        failing(10**6, "RAISE 'it does not pass' USING ERRCODE = '40001'")
        begun = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="it does not pass") as caught:
            registry.record_event("a", 1)
        assert type(caught.value) is RegistryUnavailable
        assert time.monotonic() - begun < 4 + SLACK
        assert 3 <= tried(conninfo) < 1000


@pytest.mark.parametrize("event_id", [None, uuid4()], ids=["without an id", "with an id"])
def test_a_statement_that_breaks_its_connection_each_time_does_not_go_on_doing_so(
    registry: Registry, conninfo: str, failing: Callable[[int, str], None], event_id: Any
) -> None:
    registry.record_event("a", 0)
    failing(10**6, DIE)
    with pytest.raises(RegistryUnavailable) as caught:
        registry.record_event("a", 1, event_id=event_id)
    assert type(caught.value) is RegistryUnavailable
    assert tried(conninfo) == BREAKS
    assert list(log(registry, "a").values()) == [0]


@pytest.mark.parametrize("call", ["record_event", "acknowledge"])
def test_a_call_gets_through_a_failover_to_a_server_that_takes_writes_later(
    registry: Registry, conninfo: str, call: str
) -> None:
    """Every connection of the pool leads to a server that was a primary until just now."""
    registry.record_event("a", 0)
    session = registry.issue_resume_token("a", "alice").session.session_id
    name = value(conninfo, "SELECT current_database()")
    rows(conninfo, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    rows(conninfo, ENDED)
    calls: dict[str, Callable[[], object]] = {
        "record_event": lambda: registry.record_event("a", "x"),
        "acknowledge": lambda: registry.acknowledge(session, 1).sequence,
    }
    result = in_thread(calls[call])
    seen: set[int] = set()
    wait_until(lambda: seen.update(pid for (pid,) in rows(conninfo, BACKENDS)) or len(seen) > 2)
    with psycopg.connect(conninfo, options="-c default_transaction_read_only=off") as connection:
        connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    assert result.result(PATIENCE) in (1, 2)
    assert registry.record_event("a", "after") == (3 if call == "record_event" else 2)


BACKENDS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend'
"""
ENDED = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


def test_a_call_that_succeeds_at_once_pays_nothing_for_retries(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "Retrying", None)
    assert registry.record_event("a", 1) == 1
    assert registry.record_events("a", [2, 3]) == range(2, 4)


def test_dead_connections_of_the_pool_do_not_use_up_a_calls_tries(conninfo: str) -> None:
    """They are silent: nothing says that the server is gone, as when its machine has lost power."""
    bounds = {"pool_timeout": 10.0, "statement_timeout": 1.0, "lock_timeout": 1.0}
    with (
        relayed(conninfo) as relay,
        GameSessionRegistry.connect(
            relay.conninfo, config=RegistryConfig(pool_min_size=6, pool_max_size=6, **bounds)
        ) as registry,
    ):
        in_use = [partial(registry.record_event, f"game {n}", 1) for n in range(6)]
        for call in in_use:
            call()
        relay.go_silent()
        assert registry.record_event("a", "x") == 1
        assert registry.record_event("a", "y") == 2
