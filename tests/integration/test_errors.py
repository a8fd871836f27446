"""Every typed error, raised by real means; and a call that is refused changes nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from uuid import uuid4

import psycopg
import pytest
from attrs import define
from probes import (
    dump,
    empty,
    end_backend,
    hold_game,
    hold_session,
    in_thread,
    rows,
    sequences,
    until_blocked,
    value,
)
from relay import relayed
from support import Clock, wait_until

from registry import (
    AheadOfLog,
    EpochMismatch,
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    InvalidArgument,
    InvalidPayload,
    InvalidToken,
    LimitReached,
    LogCorrupted,
    OutcomeUnknown,
    PayloadTooLarge,
    PayloadUnreadable,
    RegistryConfig,
    RegistryError,
    RegistryUnavailable,
    SchemaMismatch,
    SequenceConflict,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionTakenOver,
    TokenReused,
    errors,
)

Registry = GameSessionRegistry
# Nothing is remembered: rows are changed by hand.
CONFIG = RegistryConfig(cache_bytes=0, on_token_reuse="refuse", lock_timeout=0.3, pool_min_size=1)


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def blocking(conninfo: str) -> Iterator[Registry]:
    """A registry that waits for a lock for as long as a test needs."""
    config = RegistryConfig(lock_timeout=60, statement_timeout=60, pool_min_size=1)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        yield registry


@define
class Scene:
    """A game in the middle: ten events, three of them pruned, two players, one resumed thrice."""

    registry: Registry
    conninfo: str
    clock: Clock
    session: str
    tokens: list[str]

    @property
    def token(self) -> str:
        return self.tokens[-1]


@pytest.fixture
def scene(conninfo: str, clock: Clock) -> Iterator[Scene]:
    with GameSessionRegistry.connect(conninfo, config=CONFIG) as registry:
        registry.record_events("chess", range(9))
        registry.record_event("chess", 10, event_id=uuid4())
        registry.prune_events("chess", 3)
        issued = registry.issue_resume_token("chess", "alice")
        registry.issue_resume_token("chess", "bob")
        registry.issue_resume_token("over", "bob")
        registry.acknowledge(issued.session.session_id, 5)
        tokens = [issued.token]
        for _ in range(3):
            tokens.append(registry.resume(tokens[-1], after=3).token)
        yield Scene(registry, conninfo, clock, issued.session.session_id, tokens)


Call = Callable[[], object]


def all_for_an_acting(scene: Scene) -> list[Call]:
    registry, session = scene.registry, scene.session
    return [lambda: registry.heartbeat(session), lambda: registry.acknowledge(session, 9)]


def all_for_a_token(scene: Scene, token: str) -> list[Call]:
    registry = scene.registry
    return [
        lambda: registry.resume(token, after=3),
        lambda: registry.validate_resume_token(token),
    ]


def invalid_argument(scene: Scene) -> list[Call]:
    registry, session = scene.registry, scene.session
    return [
        lambda: registry.issue_resume_token("", "alice"),
        lambda: registry.issue_resume_token("chess", "a" * 201),
        lambda: registry.issue_resume_token("chess", "alice", ttl=0),
        lambda: registry.resume(scene.token, after=-1),
        lambda: registry.resume(scene.token, after=0, epoch="x"),
        lambda: registry.heartbeat(session, generation=0),
        lambda: registry.heartbeat_many([session, 5]),
        lambda: registry.record_event("chess", 1, event_id="x"),
        lambda: registry.record_event("chess", 1, expected_sequence=0),
        lambda: registry.record_event("\0", 1),
        lambda: registry.record_events("chess", "one payload"),
        lambda: registry.fetch_events_since("chess", -1),
        lambda: registry.fetch_events_since("chess", 5, epoch="x"),
        lambda: registry.fetch_events_since("chess", 5, limit=0),
        lambda: registry.iter_events_since("chess", 5, page_size=0),
        lambda: registry.acknowledge(session, -1),
        lambda: registry.acknowledge(session, 5, generation="1"),
        lambda: registry.prune_events("chess", 2**63),
        lambda: registry.end_game(5),
        lambda: registry.get_session(5),
        lambda: registry.find_session("chess", ""),
        lambda: registry.list_sessions(None),
        lambda: registry.stale_sessions(-1),
        lambda: registry.revoke_session(None),
        lambda: registry.cleanup_expired_sessions(batch_size=0),
    ]


def invalid_payload(scene: Scene) -> list[Call]:
    return [
        lambda: scene.registry.record_event("chess", {1: 2}),
        lambda: scene.registry.record_event("new", float("nan")),
        lambda: scene.registry.record_events("chess", [1, object()]),
    ]


def payload_too_large(scene: Scene) -> list[Call]:
    return [
        lambda: scene.registry.record_event("chess", b"x" * 70_000),
        lambda: scene.registry.record_events("new", [1, "x" * 70_000]),
    ]


def invalid_token(scene: Scene) -> list[Call]:
    return all_for_a_token(scene, scene.token[:-2])


def token_reused(scene: Scene) -> list[Call]:
    return all_for_a_token(scene, scene.tokens[0])


def limit_reached(scene: Scene) -> list[Call]:
    game = RegistryConfig(max_sessions_per_game=2, pool_min_size=1)
    user = RegistryConfig(max_sessions_per_user=1, pool_min_size=1)
    return [
        lambda: issue_within(scene.conninfo, game, "chess", "carol"),
        lambda: issue_within(scene.conninfo, user, "go", "alice"),
    ]


def issue_within(conninfo: str, config: RegistryConfig, game_id: str, user_id: str) -> object:
    with GameSessionRegistry.connect(conninfo, config=config) as limited:
        return limited.issue_resume_token(game_id, user_id)


def session_not_found(scene: Scene) -> list[Call]:
    registry, session = scene.registry, f"chess/{uuid4()}"
    return [
        lambda: registry.get_session(session),
        lambda: registry.revoke_session(session),
        lambda: registry.heartbeat(session),
        lambda: registry.acknowledge(session, 9),
    ]


def session_expired(scene: Scene) -> list[Call]:
    scene.clock.advance(901)
    return [*all_for_an_acting(scene), *all_for_a_token(scene, scene.token)]


def session_revoked(scene: Scene) -> list[Call]:
    scene.registry.revoke_session(scene.session)
    return [*all_for_an_acting(scene), *all_for_a_token(scene, scene.token)]


def session_taken_over(scene: Scene) -> list[Call]:
    registry, session = scene.registry, scene.session
    return [
        lambda: registry.heartbeat(session, generation=1),
        lambda: registry.acknowledge(session, 9, generation=1),
    ]


def game_not_found(scene: Scene) -> list[Call]:
    registry = scene.registry
    return [
        lambda: registry.fetch_events_since("no game", 0),
        lambda: registry.iter_events_since("no game", 0),
        lambda: registry.prune_events("no game", 0),
        lambda: registry.end_game("no game"),
    ]


def history_pruned(scene: Scene) -> list[Call]:
    return [
        lambda: scene.registry.fetch_events_since("chess", 2),
        lambda: scene.registry.iter_events_since("chess", 0),
    ]


def ahead_of_log(scene: Scene) -> list[Call]:
    registry = scene.registry
    return [
        lambda: registry.fetch_events_since("chess", 11),
        lambda: registry.iter_events_since("chess", 11),
        lambda: registry.acknowledge(scene.session, 11),
        lambda: registry.prune_events("chess", 11),
    ]


def epoch_mismatch(scene: Scene) -> list[Call]:
    return [lambda: scene.registry.fetch_events_since("chess", 5, epoch=uuid4())]


def sequence_conflict(scene: Scene) -> list[Call]:
    registry = scene.registry
    return [
        lambda: registry.record_event("chess", 1, expected_sequence=10),
        lambda: registry.record_event("chess", 1, expected_sequence=12, event_id=uuid4()),
        lambda: registry.record_event("new", 1, expected_sequence=2),
    ]


def log_corrupted(scene: Scene) -> list[Call]:
    rows(scene.conninfo, "DELETE FROM game_event WHERE sequence = 6")
    return [
        lambda: scene.registry.fetch_events_since("chess", 5),
        lambda: list(scene.registry.iter_events_since("chess", 3, page_size=1)),
    ]


def payload_unreadable(scene: Scene) -> list[Call]:
    rows(scene.conninfo, "UPDATE game_event SET payload = '{' WHERE sequence = 6")
    registry = scene.registry
    return [
        lambda: registry.fetch_events_since("chess", 5).events,
        lambda: list(registry.iter_events_since("chess", 3)),
    ]


def schema_mismatch(scene: Scene) -> list[Call]:
    def without(table: str, call: Call) -> Call:
        def run() -> None:
            rows(scene.conninfo, f"ALTER TABLE {table} RENAME TO hidden")
            try:
                call()
            finally:
                rows(scene.conninfo, f"ALTER TABLE hidden RENAME TO {table}")

        return run

    registry = scene.registry
    return [
        without("game_event", lambda: registry.record_event("chess", 1)),
        without("game_event_id", lambda: registry.record_event("chess", 1, event_id=uuid4())),
        without("game_event", lambda: registry.record_events("chess", [1, 2])),
        without("game_event", lambda: registry.fetch_events_since("chess", 5)),
        without("game_event", lambda: registry.resume(scene.token, after=5)),
        without("game_session", lambda: registry.issue_resume_token("chess", "carol")),
        without("game_session", lambda: registry.cleanup_expired_sessions()),
    ]


def registry_unavailable(scene: Scene) -> list[Call]:
    def while_held(call: Call) -> Call:
        def run() -> None:
            with hold_game(scene.conninfo, "chess"), hold_session(scene.conninfo, scene.session):
                call()

        return run

    registry, session = scene.registry, scene.session
    return [
        while_held(call)
        for call in (
            lambda: registry.record_event("chess", 1),
            lambda: registry.record_events("chess", [1, 2]),
            lambda: registry.issue_resume_token("chess", "carol"),
            lambda: registry.resume(scene.token, after=3),
            lambda: registry.heartbeat(session),
            lambda: registry.heartbeat_many([session]),
            lambda: registry.acknowledge(session, 10),
            lambda: registry.revoke_session(session),
            lambda: registry.prune_events("chess", 5),
        )
    ]


def outcome_unknown(scene: Scene) -> list[Call]:
    """The connection breaks while the statement is under way, and the server is gone for good."""

    def broken(statement: str, call: Callable[[Registry], object]) -> Call:
        config = RegistryConfig(pool_timeout=1.0, statement_timeout=1.0, pool_min_size=1)

        def run() -> None:
            with (
                relayed(scene.conninfo) as relay,
                GameSessionRegistry.connect(relay.conninfo, config=config) as registry,
            ):
                relay.arm(statement, "request lost", relay.go_down)
                call(registry)

        return run

    return [
        broken("record_event", lambda r: r.record_event("chess", 1)),
        broken("record_event_checked", lambda r: r.record_event("chess", 1, expected_sequence=11)),
        broken("record_events", lambda r: r.record_events("chess", [1, 2])),
        broken("issue_resume_token", lambda r: r.issue_resume_token("chess", "carol")),
        broken("end_game", lambda r: r.end_game("over")),
    ]


CASES: dict[type[RegistryError], Callable[[Scene], list[Call]]] = {
    InvalidArgument: invalid_argument,
    InvalidPayload: invalid_payload,
    PayloadTooLarge: payload_too_large,
    InvalidToken: invalid_token,
    LimitReached: limit_reached,
    TokenReused: token_reused,
    SessionNotFound: session_not_found,
    SessionExpired: session_expired,
    SessionRevoked: session_revoked,
    SessionTakenOver: session_taken_over,
    GameNotFound: game_not_found,
    HistoryPruned: history_pruned,
    AheadOfLog: ahead_of_log,
    EpochMismatch: epoch_mismatch,
    SequenceConflict: sequence_conflict,
    LogCorrupted: log_corrupted,
    PayloadUnreadable: payload_unreadable,
    SchemaMismatch: schema_mismatch,
    RegistryUnavailable: registry_unavailable,
    OutcomeUnknown: outcome_unknown,
}


def test_every_error_of_the_library_has_its_case() -> None:
    public = {
        error
        for name, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, RegistryError) and not name.startswith("_")
    }
    assert public - {RegistryError} == set(CASES)


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.__name__)
def test_a_refused_call_raises_its_typed_error_and_changes_nothing(
    scene: Scene, error: type[RegistryError]
) -> None:
    calls = CASES[error](scene)
    for number, call in enumerate(calls):
        before = dump(scene.conninfo)
        with pytest.raises(RegistryError) as caught:
            call()
        assert type(caught.value) is error, f"call {number}"
        assert str(caught.value)
        assert dump(scene.conninfo) == before, f"call {number}"


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.__name__)
def test_every_error_says_what_to_do_in_one_line(scene: Scene, error: type[RegistryError]) -> None:
    with pytest.raises(error) as caught:
        CASES[error](scene)[0]()
    text = str(caught.value)
    assert 20 < len(text) < 400
    assert "\n" not in text


def test_a_resume_that_finds_the_log_corrupted_costs_the_client_no_token(scene: Scene) -> None:
    rows(scene.conninfo, "DELETE FROM game_event WHERE sequence = 6")
    for _ in range(3):
        with pytest.raises(LogCorrupted):
            scene.registry.resume(scene.token, after=5)
    scene.registry.prune_events("chess", 6)
    resumed = scene.registry.resume(scene.token, after=5)
    assert [event.sequence for event in resumed.replay.events] == [7, 8, 9, 10]
    assert resumed.session.generation > 4


def test_invalid_arguments_are_refused_without_asking_the_database(scene: Scene) -> None:
    scene.registry.close()
    for number, call in enumerate(invalid_argument(scene)):
        with pytest.raises(RegistryError) as caught:
            call()
        assert type(caught.value) is InvalidArgument, f"call {number}"


def test_a_closed_registry_is_unavailable_and_says_so_at_once(scene: Scene) -> None:
    scene.registry.close()
    scene.registry.close()
    with pytest.raises(RegistryUnavailable):
        scene.registry.record_event("chess", 1)


def test_no_error_but_the_librarys_own_leaves_a_call_whose_connection_broke(
    scene: Scene, blocking: Registry
) -> None:
    """What can be repeated is repeated, and that is all that a caller notices."""
    event_id = uuid4()
    for call, expected in [
        (lambda: blocking.record_event("chess", 11, event_id=event_id), 11),
        (lambda: blocking.prune_events("chess", 5), 2),
        (lambda: blocking.acknowledge(scene.session, 7).sequence, 7),
    ]:
        with hold_game(scene.conninfo, "chess"), hold_session(scene.conninfo, scene.session):
            result = in_thread(call)
            (pid,) = until_blocked(scene.conninfo)
            end_backend(scene.conninfo, pid)
            (again,) = until_blocked(scene.conninfo)
            assert again != pid
        assert result.result(30) == expected
    assert sequences(scene.conninfo, "chess")[-1] == 11
    assert value(scene.conninfo, "SELECT count(*) FROM game_event_id") == 2


def test_a_resume_whose_connection_broke_is_repeated_with_the_same_token(
    scene: Scene, blocking: Registry
) -> None:
    with hold_session(scene.conninfo, scene.session):
        result = in_thread(lambda: blocking.resume(scene.token, after=3))
        (pid,) = until_blocked(scene.conninfo, 1, "resume")
        end_backend(scene.conninfo, pid)
        (again,) = until_blocked(scene.conninfo, 1, "resume")
        assert again != pid
    resumed = result.result(30)
    assert blocking.resume(resumed.token, after=3).session.generation > 4


def test_a_connection_that_breaks_each_time_is_unavailability(
    scene: Scene, blocking: Registry
) -> None:
    before = dump(scene.conninfo)
    kill = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    with hold_game(scene.conninfo, "chess"):
        result = in_thread(lambda: blocking.record_event("chess", 1, event_id=uuid4()))
        wait_until(lambda: rows(scene.conninfo, kill) is None or result.done())
        with pytest.raises(RegistryUnavailable):
            result.result()
    assert dump(scene.conninfo) == before


def test_a_broken_connection_of_the_callers_own_leaves_the_outcome_to_the_caller(
    scene: Scene, conninfo: str
) -> None:
    before = dump(conninfo)
    with hold_game(conninfo, "chess"), psycopg.connect(conninfo) as mine:
        result = in_thread(lambda: scene.registry.record_event("chess", 1, connection=mine))
        (pid,) = until_blocked(conninfo, 1, "record_event")
        end_backend(conninfo, pid)
        with pytest.raises((OutcomeUnknown, RegistryUnavailable)):
            result.result(30)
    assert dump(conninfo) == before


def test_a_lock_not_granted_in_the_callers_transaction_is_unavailability(
    scene: Scene, conninfo: str
) -> None:
    with hold_game(conninfo, "chess"), psycopg.connect(conninfo) as mine:
        mine.execute("SET lock_timeout = '200ms'")
        with pytest.raises(RegistryUnavailable):
            scene.registry.record_event("chess", 1, connection=mine)


def test_connecting_to_a_database_without_a_schema_is_a_mismatch(blank_conninfo: str) -> None:
    with pytest.raises(SchemaMismatch, match="migrate"):
        GameSessionRegistry.connect(blank_conninfo)


def test_connecting_to_no_server_is_unavailability() -> None:
    config = RegistryConfig(pool_timeout=0.5)
    with pytest.raises(RegistryUnavailable):
        GameSessionRegistry.connect("host=/nowhere/at/all password=hunter2", config=config)
