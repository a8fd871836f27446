"""Beats, resumes and acknowledgements of many threads, each as good as if it had come alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import pytest
from probes import (
    PATIENCE,
    PATIENT,
    as_just_opened,
    at_once,
    configured,
    empty,
    end_backend,
    held,
    hold_session,
    in_thread,
    queued,
    rows,
    until_blocked,
    value,
)
from psycopg_pool import ConnectionPool
from soundness import EVERYONE_WAITED_FOR, RULES, unsound

from registry import (
    AheadOfLog,
    Continuity,
    EpochMismatch,
    GameSession,
    GameSessionRegistry,
    InvalidArgument,
    InvalidToken,
    RegistryConfig,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionTakenOver,
)

Registry = GameSessionRegistry
T = TypeVar("T")


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def registry(conninfo: str) -> Iterator[Registry]:
    with configured(conninfo, **PATIENT) as registry:
        yield registry


def begin(registry: Registry, user: str, game: str = "game") -> str:
    return registry.issue_resume_token(game, user).session.session_id


@contextmanager
def writer_busy(conninfo: str, call: Callable[[], object], statement: str) -> Iterator[None]:
    """Within this the writer waits; then it takes all that came up to then.

    The call is made three times: alone, by the writer, and because it was in the way of itself.
    """
    with held(conninfo, "LOCK TABLE game_session IN ACCESS EXCLUSIVE MODE"):
        alone = in_thread(call)
        until_blocked(conninfo, 1, statement)
        with_the_writer = in_thread(call)
        until_blocked(conninfo, 1, f"{statement}_batch")
        yield
    for each in (alone, with_the_writer):
        each.result(PATIENCE)


def error_of(call: Future[Any]) -> type[BaseException] | None:
    error = call.exception(PATIENCE)
    return error and type(error)


def changed_in(conninfo: str) -> int:
    """How many transactions last changed the sessions, but for the gate's."""
    query = "SELECT count(DISTINCT xmin::text) FROM game_session WHERE user_id <> 'gate'"
    return int(value(conninfo, query))


# heartbeat


def beat(registry: Registry, session: str, generation: int | None = None) -> Future[GameSession]:
    call = partial(registry.heartbeat, session, generation=generation)
    return queued(registry._beats.combiner, call)


@contextmanager
def beats_busy(registry: Registry, conninfo: str) -> Iterator[None]:
    gate = begin(registry, "gate")
    with writer_busy(conninfo, lambda: registry.heartbeat(gate), "heartbeat"):
        yield


@pytest.mark.usefixtures("one_writer")
def test_each_beat_of_a_batch_is_answered_with_its_own_session(
    registry: Registry, conninfo: str
) -> None:
    sessions = [begin(registry, f"user {n}", f"game {n % 3}") for n in range(12)]
    rows(conninfo, "UPDATE game_session SET expires_at = now() + interval '1 minute'")
    with beats_busy(registry, conninfo):
        beats = [beat(registry, session, 1) for session in sessions]
    for session, call in zip(sessions, beats, strict=True):
        answer = call.result(PATIENCE)
        assert answer.session_id == session
        assert answer == registry.get_session(session)
    beaten = "SELECT count(*) FROM game_session WHERE expires_at > now() + interval '2 minutes'"
    assert value(conninfo, beaten) == len(sessions) + 1
    assert changed_in(conninfo) == 1


@pytest.mark.usefixtures("one_writer")
def test_who_may_not_beat_is_told_why_and_the_others_of_its_batch_beat(
    registry: Registry, conninfo: str
) -> None:
    ghost, revoked, expired, gone, fine = (
        begin(registry, name) for name in ("ghost", "revoked", "expired", "gone", "fine")
    )
    registry.issue_resume_token("game", "ghost")  # generation 2
    registry.revoke_session(revoked)
    rows(conninfo, "UPDATE game_session SET expires_at = now() WHERE user_id = 'expired'")
    rows(conninfo, "DELETE FROM game_session WHERE user_id = 'gone'")
    with beats_busy(registry, conninfo):
        refused = {
            SessionTakenOver: beat(registry, ghost, 1),
            SessionRevoked: beat(registry, revoked),
            SessionExpired: beat(registry, expired),
            SessionNotFound: beat(registry, gone),
        }
        live = beat(registry, ghost, 2)
        either = beat(registry, ghost)
        beats = [beat(registry, fine, generation) for generation in (1, None, 2)]
    assert {error: error_of(call) for error, call in refused.items()} == {
        error: error for error in refused
    }
    assert live.result(PATIENCE).generation == either.result(PATIENCE).generation == 2
    assert [error_of(call) for call in beats] == [None, None, SessionTakenOver]


@pytest.mark.usefixtures("one_writer")
def test_a_locked_session_delays_no_other_of_its_batch(registry: Registry, conninfo: str) -> None:
    locked, *free = (begin(registry, f"user {n}") for n in range(6))
    with hold_session(conninfo, locked):
        alone = in_thread(lambda: registry.heartbeat(locked))
        until_blocked(conninfo, 1, "heartbeat")
        ends = at_once([partial(registry.heartbeat, session) for session in free * 4])
        assert [end.session_id for end in ends if isinstance(end, GameSession)] == free * 4
        stuck = in_thread(lambda: registry.heartbeat(locked))
        until_blocked(conninfo, 2, "heartbeat")
        ends = at_once([partial(registry.heartbeat, session) for session in free * 4])
        assert [end.session_id for end in ends if isinstance(end, GameSession)] == free * 4
        assert not alone.done()
        assert not stuck.done()
    assert {call.result(PATIENCE).session_id for call in (alone, stuck)} == {locked}


@pytest.mark.usefixtures("one_writer")
def test_a_beat_that_cannot_be_sent_fails_alone(conninfo: str) -> None:
    encoding = {"client_encoding": "LATIN1"}
    with ConnectionPool(conninfo, kwargs=encoding, min_size=1, max_size=4, open=True) as pool:
        registry = GameSessionRegistry(pool, config=RegistryConfig(**PATIENT))
        fine = [begin(registry, f"user {n}") for n in range(3)]
        foreign = fine[0].replace("game", "\N{GAME DIE}")
        with pytest.raises(InvalidArgument):
            registry.heartbeat(foreign)
        with beats_busy(registry, conninfo):
            before, odd, *after = (beat(registry, s) for s in (fine[0], foreign, *fine[1:]))
        assert error_of(odd) is InvalidArgument
        assert [error_of(call) for call in (before, *after)] == [None] * 3
        registry.close()


@pytest.mark.usefixtures("one_writer")
def test_beats_whose_connection_broke_are_beaten_again(registry: Registry, conninfo: str) -> None:
    sessions = [begin(registry, f"user {n}") for n in range(4)]
    gate = begin(registry, "gate")
    with held(conninfo, "LOCK TABLE game_session IN ACCESS EXCLUSIVE MODE"):
        alone = in_thread(lambda: registry.heartbeat(gate))
        until_blocked(conninfo, 1, "heartbeat")
        beats = [in_thread(partial(registry.heartbeat, session)) for session in sessions * 2]
        (pid,) = until_blocked(conninfo, 1, "heartbeat_batch")
        end_backend(conninfo, pid)
        (another,) = until_blocked(conninfo, 1, "heartbeat_batch")
        assert another != pid
    assert [call.result(PATIENCE).session_id for call in beats] == sessions * 2
    assert alone.result(PATIENCE).session_id == gate


# resume


def resume(registry: Registry, token: str, after: int, **how: Any) -> Future[Any]:
    call = partial(registry.resume, token, after=after, **how)
    return queued(registry._resumptions.combiner, call)


@contextmanager
def resumes_busy(registry: Registry, conninfo: str) -> Iterator[None]:
    gate = registry.issue_resume_token("gate", "gate").token
    with writer_busy(conninfo, lambda: registry.resume(gate, after=0), "resume"):
        yield


@pytest.mark.usefixtures("one_writer")
@pytest.mark.parametrize("kept", [True, False], ids=["events in memory", "none in memory"])
def test_each_resume_of_a_batch_has_its_own_session_token_and_page(
    registry: Registry, conninfo: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    players = []
    for n in range(12):
        game = f"game {n % 3}"
        players.append((n, game, registry.issue_resume_token(game, f"user {n}")))
    for game in ("game 0", "game 1"):  # nothing ever happened in the third
        registry.record_events(game, [f"{game} {n}" for n in range(1, 11)])
    if not kept:
        as_just_opened(registry)
    alone: list[str] = []

    def counted(do: Callable[..., Any]) -> Callable[..., Any]:
        def counting(job: Any, *more: Any) -> Any:
            alone.append(job.presented.game_id)
            return do(job, *more)

        return counting

    with monkeypatch.context() as patched:
        # What comes out wrong in company is made good alone.
        resumptions = registry._resumptions
        patched.setattr(resumptions, "_read", counted(resumptions._read))
        patched.setattr(resumptions.combiner, "_do_alone", counted(resumptions.combiner._do_alone))
        with resumes_busy(registry, conninfo):
            calls = [
                resume(registry, issued.token, n if n % 3 < 2 else 0, limit=n + 1)
                for n, _, issued in players
            ]
        together = [call.result(PATIENCE) for call in calls]
    assert set(alone) == {"gate"}
    for (n, game, issued), resumed in zip(players, together, strict=True):
        assert resumed.session.session_id == issued.session.session_id
        assert resumed.session.generation == 2
        if game == "game 2":
            assert (resumed.continuity, list(resumed.replay.events)) == (Continuity.CONTINUOUS, [])
        elif n > 10:
            assert resumed.continuity is Continuity.RESET
        else:
            assert resumed.continuity is Continuity.CONTINUOUS
            page = {event.sequence: event.payload for event in resumed.replay.events}
            assert page == {k: f"{game} {k}" for k in range(n + 1, min(10, 2 * n + 1) + 1)}
        assert registry.resume(resumed.token, after=0).session.generation == 3
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
def test_who_may_not_resume_is_told_why_and_changes_nothing_for_the_others(
    registry: Registry, conninfo: str
) -> None:
    fine, twice, revoked, expired = (
        registry.issue_resume_token("game", name)
        for name in ("fine", "twice", "revoked", "expired")
    )
    registry.revoke_session(revoked.session.session_id)
    rows(conninfo, "UPDATE game_session SET expires_at = now() WHERE user_id = 'expired'")
    forged = fine.token[:-4] + ("AAAA" if fine.token[-4:] != "AAAA" else "BBBA")
    with resumes_busy(registry, conninfo):
        calls = {
            "forged": resume(registry, forged, 0),
            "fine": resume(registry, fine.token, 0),
            "twice": resume(registry, twice.token, 0),
            "again": resume(registry, twice.token, 0),
            "revoked": resume(registry, revoked.token, 0),
            "expired": resume(registry, expired.token, 0),
        }
    assert {name: error_of(call) for name, call in calls.items()} == {
        "forged": InvalidToken,
        "fine": None,
        "twice": None,
        "again": None,
        "revoked": SessionRevoked,
        "expired": SessionExpired,
    }
    assert calls["fine"].result().session.generation == 2
    one, other = (calls[name].result() for name in ("twice", "again"))
    assert {one.session.generation, other.session.generation} == {2, 3}
    assert one.token == other.token != twice.token


# acknowledge


def acknowledge(registry: Registry, session: str, sequence: int, **how: Any) -> Future[Any]:
    call = partial(registry.acknowledge, session, sequence, **how)
    return queued(registry._acknowledgements.combiner, call)


@contextmanager
def acknowledgements_busy(registry: Registry, conninfo: str) -> Iterator[None]:
    registry.record_event("gate", 1)
    begin(registry, "laggard", "gate")
    gate = begin(registry, "gate", "gate")
    with writer_busy(conninfo, lambda: registry.acknowledge(gate, 1), "acknowledge"):
        yield


@pytest.mark.usefixtures("one_writer")
def test_each_acknowledgement_of_a_batch_moves_its_own_session(
    registry: Registry, conninfo: str
) -> None:
    for game in ("a", "b"):
        begin(registry, "laggard", game)
        registry.record_events(game, range(9))
    sessions = [begin(registry, f"user {n}", "ab"[n % 2]) for n in range(8)]
    with acknowledgements_busy(registry, conninfo):
        calls = [acknowledge(registry, session, n + 1) for n, session in enumerate(sessions)]
    for n, (session, call) in enumerate(zip(sessions, calls, strict=True)):
        answer = call.result(PATIENCE)
        assert (answer.sequence, answer.floor, answer.pruned) == (n + 1, 0, 0)
        assert registry.get_session(session).last_acknowledged == n + 1
    assert unsound(conninfo, {**RULES, **EVERYONE_WAITED_FOR}) == []


@pytest.mark.usefixtures("one_writer")
def test_what_a_batch_may_not_acknowledge_is_refused_and_what_can_be_pruned_is(
    registry: Registry, conninfo: str
) -> None:
    for game in ("a", "b"):
        registry.issue_resume_token(game, "ghost")
        registry.record_events(game, range(5))
    ghost, other = begin(registry, "ghost", "a"), begin(registry, "other", "a")  # generation 2
    leader, laggard = begin(registry, "leader", "b"), begin(registry, "ghost", "b")
    registry.acknowledge(leader, 4)
    epoch = registry.fetch_events_since("b", 0).epoch
    with acknowledgements_busy(registry, conninfo):
        calls = {
            "taken over": acknowledge(registry, ghost, 1, generation=1),
            "ahead": acknowledge(registry, other, 6),
            "elsewhere": acknowledge(registry, other, 1, epoch=epoch),
            "gone": acknowledge(registry, f"a/{leader.rpartition('/')[2]}", 1),
            "late": acknowledge(registry, leader, 2),
            "pruning": acknowledge(registry, laggard, 3, epoch=epoch),
        }
    assert {name: error_of(call) for name, call in calls.items()} == {
        "taken over": SessionTakenOver,
        "ahead": AheadOfLog,
        "elsewhere": EpochMismatch,
        "gone": SessionNotFound,
        "late": None,
        "pruning": None,
    }
    assert calls["late"].result().sequence == 4
    pruning = calls["pruning"].result()
    assert (pruning.sequence, pruning.floor, pruning.pruned) == (3, 3, 3)
    assert registry.get_session(other).last_acknowledged == 0
    assert unsound(conninfo, {**RULES, **EVERYONE_WAITED_FOR}) == []
