"""Sessions: issued, resumed, kept alive, looked up, revoked, and the rule of their tokens."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from probes import (
    PATIENT,
    at_once,
    dump,
    empty,
    hold_session,
    in_thread,
    rows,
    until_blocked,
    value,
)
from support import Clock

from registry import (
    Continuity,
    GameSession,
    GameSessionRegistry,
    Heartbeats,
    InvalidArgument,
    InvalidToken,
    RegistryConfig,
    RegistryError,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionState,
    SessionTakenOver,
    TokenReused,
)

Registry = GameSessionRegistry


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture(scope="module")
def shared(module_conninfo: str) -> Iterator[Registry]:
    with GameSessionRegistry.connect(module_conninfo, config=RegistryConfig(**PATIENT)) as registry:
        yield registry


@pytest.fixture
def registry(shared: Registry, conninfo: str) -> Registry:
    """A registry on an empty database."""
    return shared


@pytest.fixture
def refusing(conninfo: str) -> Iterator[Registry]:
    """A registry that only refuses a token that was reused."""
    config = RegistryConfig(on_token_reuse="refuse", pool_min_size=1)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        yield registry


@contextmanager
def nothing_changes(conninfo: str) -> Iterator[None]:
    before = dump(conninfo)
    yield
    assert dump(conninfo) == before


def forged(token: str) -> str:
    """A token of the same session with a secret that was never issued."""
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return base64.urlsafe_b64encode(raw[:-32] + b"\x17" * 32).rstrip(b"=").decode()


# issue_resume_token


def test_issuing_begins_the_game_and_a_live_session(registry: Registry) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    session = issued.session
    assert (session.game_id, session.user_id) == ("chess", "alice")
    assert session.session_id.startswith("chess/")
    assert (session.generation, session.last_acknowledged) == (1, 0)
    assert session.state is SessionState.LIVE
    assert session.created_at == session.heartbeat_at
    assert (session.expires_at - session.heartbeat_at).total_seconds() == 900
    assert registry.fetch_events_since("chess", 0).head == 0
    assert registry.get_session(session.session_id) == session


def test_a_token_is_url_safe_and_holds_256_bits_of_secret(registry: Registry) -> None:
    tokens = {registry.issue_resume_token("chess", f"user {n}").token for n in range(20)}
    assert len(tokens) == 20
    for token in tokens:
        assert set(token) <= set(string.ascii_letters + string.digits + "-_")
        assert len(token) >= 256 / 6


def test_only_the_hash_of_a_token_is_stored(registry: Registry, conninfo: str) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    resumed = registry.resume(issued.token, after=0)
    stored = "".join(text for table in dump(conninfo).values() for (text,) in table)
    for token in (issued.token, resumed.token):
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert token not in stored
        assert raw[-32:].hex() not in stored
        assert hashlib.sha256(raw[-32:]).hexdigest() in stored


@pytest.mark.parametrize(
    ("game_id", "user_id"), [("g" * 200, "u" * 200), ("\U0001f3b2" * 200, "日" * 200), ("a/b", "/")]
)
def test_ids_of_any_text_come_back_and_their_tokens_work(
    registry: Registry, game_id: str, user_id: str
) -> None:
    issued = registry.issue_resume_token(game_id, user_id)
    assert (issued.session.game_id, issued.session.user_id) == (game_id, user_id)
    assert registry.validate_resume_token(issued.token) == issued.session
    assert registry.heartbeat(issued.session.session_id).user_id == user_id
    assert registry.find_session(game_id, user_id) is not None


def test_the_same_player_in_two_games_has_two_sessions(registry: Registry) -> None:
    first = registry.issue_resume_token("chess", "alice")
    second = registry.issue_resume_token("go", "alice")
    assert first.session.session_id != second.session.session_id
    registry.revoke_session(first.session.session_id)
    assert registry.validate_resume_token(second.token).state is SessionState.LIVE


def test_issuing_over_a_live_session_takes_it_over_and_keeps_the_acknowledgement(
    registry: Registry, clock: Clock
) -> None:
    registry.record_events("chess", range(5))
    registry.issue_resume_token("chess", "bob")
    first = registry.issue_resume_token("chess", "alice")
    registry.acknowledge(first.session.session_id, 3)
    clock.advance(100)
    second = registry.issue_resume_token("chess", "alice")
    assert second.token != first.token
    assert second.session.session_id == first.session.session_id
    assert second.session.generation == 2
    assert second.session.last_acknowledged == 3
    assert second.session.heartbeat_at > second.session.created_at
    assert (second.session.expires_at - second.session.heartbeat_at).total_seconds() == 900


def test_after_issuing_the_token_before_works_until_the_issued_one_is_used(
    registry: Registry,
) -> None:
    first = registry.issue_resume_token("chess", "alice").token
    second = registry.issue_resume_token("chess", "alice").token
    assert registry.resume(first, after=0).session.generation == 3
    assert registry.validate_resume_token(second).generation == 3
    registry.resume(second, after=0)
    with pytest.raises(TokenReused):
        registry.validate_resume_token(first)


def test_the_token_before_an_issued_one_comes_back_as_itself(registry: Registry) -> None:
    first = registry.issue_resume_token("chess", "alice").token
    second = registry.issue_resume_token("chess", "alice").token
    again = registry.resume(first, after=0)
    assert again.token == first
    assert registry.resume(again.token, after=0).token == first
    assert registry.resume(second, after=0).token not in (first, second)


def test_issuing_twice_retires_the_first_token(registry: Registry) -> None:
    tokens = [registry.issue_resume_token("chess", "alice").token for _ in range(3)]
    assert registry.validate_resume_token(tokens[1]).generation == 3
    assert registry.validate_resume_token(tokens[2]).generation == 3
    with pytest.raises(TokenReused):
        registry.validate_resume_token(tokens[0])


@pytest.mark.parametrize("ending", ["expired", "revoked"])
def test_issuing_for_a_session_that_is_over_begins_a_new_one(
    registry: Registry, clock: Clock, ending: str
) -> None:
    registry.record_events("chess", range(5))
    first = registry.issue_resume_token("chess", "alice")
    registry.acknowledge(first.session.session_id, 2)
    if ending == "revoked":
        registry.revoke_session(first.session.session_id)
    else:
        clock.advance(901)
    second = registry.issue_resume_token("chess", "alice").session
    assert second.session_id != first.session.session_id
    assert second.generation == 1
    assert second.last_acknowledged == 2  # the floor: the first one's acknowledgement pruned
    assert second.state is SessionState.LIVE
    assert second.created_at > first.session.created_at
    with pytest.raises(InvalidToken):
        registry.resume(first.token, after=0)
    with pytest.raises(SessionNotFound):
        registry.heartbeat(first.session.session_id)
    assert registry.find_session("chess", "alice") == second


def test_a_new_session_starts_acknowledged_at_the_floor(registry: Registry) -> None:
    registry.record_events("chess", range(9))
    registry.prune_events("chess", 4)
    issued = registry.issue_resume_token("chess", "late")
    assert issued.session.last_acknowledged == 4
    replay = registry.resume(issued.token, after=issued.session.last_acknowledged).replay
    assert [event.sequence for event in replay.events] == [5, 6, 7, 8, 9]


def test_players_who_come_all_at_once_get_a_session_each(registry: Registry) -> None:
    outcomes = at_once(
        [lambda n=n: registry.issue_resume_token("new game", f"user {n}") for n in range(16)]
    )
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(registry.list_sessions("new game")) == 16
    for outcome in outcomes:
        assert registry.validate_resume_token(outcome.token).generation == 1


def test_one_player_issued_many_tokens_at_once_has_one_session_and_two_valid_tokens(
    registry: Registry,
) -> None:
    outcomes = at_once([lambda: registry.issue_resume_token("chess", "alice")] * 8)
    assert {outcome.session.session_id for outcome in outcomes} == {
        registry.list_sessions("chess")[0].session_id
    }
    assert sorted(outcome.session.generation for outcome in outcomes) == list(range(1, 9))
    newest = sorted(outcomes, key=lambda outcome: outcome.session.generation)
    valid = []
    for outcome in newest:
        try:
            registry.validate_resume_token(outcome.token)
        except TokenReused:
            continue
        valid.append(outcome)
    assert valid == newest[-2:]


# Time to live


def test_a_session_lives_until_its_expiry_and_not_a_moment_longer(
    registry: Registry, clock: Clock
) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    clock.advance(890)
    assert registry.validate_resume_token(issued.token).state is SessionState.LIVE
    clock.advance(10)
    session_id = issued.session.session_id
    calls: list[Callable[[], object]] = [
        lambda: registry.validate_resume_token(issued.token),
        lambda: registry.resume(issued.token, after=0),
        lambda: registry.heartbeat(session_id),
        lambda: registry.acknowledge(session_id, 0),
    ]
    for call in calls:
        with pytest.raises(SessionExpired) as caught:
            call()
        assert caught.value.session_id == session_id
    assert registry.get_session(session_id).state is SessionState.EXPIRED


def test_the_moment_of_the_expiry_is_past_it(registry: Registry, conninfo: str) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    # now() stands still in a transaction: put the expiry on the very moment it reads.
    query = """
        WITH edge AS (UPDATE game_session SET expires_at = now() RETURNING expires_at)
        SELECT expires_at FROM edge
    """
    edge = value(conninfo, query)
    session = registry.get_session(issued.session.session_id)
    assert session.expires_at == edge
    assert session.state is SessionState.EXPIRED


def test_a_session_keeps_its_own_time_to_live(registry: Registry, clock: Clock) -> None:
    short = registry.issue_resume_token("chess", "short", ttl=1_000)
    long = registry.issue_resume_token("chess", "long", ttl=86_400.5)
    assert (short.session.expires_at - short.session.heartbeat_at).total_seconds() == 1_000
    assert (long.session.expires_at - long.session.heartbeat_at).total_seconds() == 86_400.5
    clock.advance(900)
    for beaten in (
        registry.heartbeat(short.session.session_id),
        registry.resume(short.token, after=0).session,
    ):
        assert (beaten.expires_at - beaten.heartbeat_at).total_seconds() == 1_000
    clock.advance(1_100)
    assert [session.user_id for session in registry.list_sessions("chess")] == ["long"]


def test_issuing_again_sets_the_time_to_live_again(registry: Registry) -> None:
    registry.issue_resume_token("chess", "alice", ttl=5000)
    session = registry.issue_resume_token("chess", "alice").session
    assert (session.expires_at - session.heartbeat_at).total_seconds() == 900
    beaten = registry.heartbeat(session.session_id)
    assert (beaten.expires_at - beaten.heartbeat_at).total_seconds() == 900


def test_the_configured_time_to_live_counts_for_new_sessions(conninfo: str) -> None:
    config = RegistryConfig(session_ttl=12.5, pool_min_size=1)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        session = registry.issue_resume_token("chess", "alice").session
    assert (session.expires_at - session.heartbeat_at).total_seconds() == 12.5


# validate_resume_token


def test_validating_changes_nothing(registry: Registry, conninfo: str) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    with nothing_changes(conninfo):
        assert registry.validate_resume_token(issued.token) == issued.session
        assert registry.validate_resume_token(issued.token) == issued.session


def test_validating_a_retired_token_revokes_nobody(registry: Registry, conninfo: str) -> None:
    first = registry.issue_resume_token("chess", "alice").token
    second = registry.resume(first, after=0).token
    third = registry.resume(second, after=0).token
    with nothing_changes(conninfo):
        with pytest.raises(TokenReused) as caught:
            registry.validate_resume_token(first)
        assert caught.value.revoked is False
        assert registry.validate_resume_token(third).state is SessionState.LIVE


def test_validating_says_that_a_session_is_revoked(registry: Registry) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    registry.revoke_session(issued.session.session_id)
    with pytest.raises(SessionRevoked):
        registry.validate_resume_token(issued.token)


# resume and the rotation of tokens


def test_resuming_takes_over_beats_rotates_and_replays(registry: Registry, clock: Clock) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    registry.record_events("chess", ["e4", "e5", "Nf3"])
    clock.advance(100)
    before = registry.get_session(issued.session.session_id)
    resumed = registry.resume(issued.token, after=1)
    assert resumed.session.session_id == before.session_id
    assert resumed.session.generation == 2
    assert resumed.session.heartbeat_at > before.heartbeat_at
    assert resumed.session.expires_at > before.expires_at
    assert resumed.token != issued.token
    assert resumed.continuity is Continuity.CONTINUOUS
    assert resumed.missed == 0
    assert [(e.sequence, e.payload) for e in resumed.replay.events] == [(2, "e5"), (3, "Nf3")]
    assert registry.get_session(before.session_id) == resumed.session


def test_zero_events_is_a_valid_place_to_resume_from(registry: Registry) -> None:
    resumed = registry.resume(registry.issue_resume_token("chess", "alice").token, after=0)
    assert resumed.continuity is Continuity.CONTINUOUS
    assert resumed.replay.events == ()
    assert (resumed.replay.head, resumed.replay.floor, resumed.replay.more) == (0, 0, False)


def test_the_newest_token_works_again_and_again(registry: Registry) -> None:
    token = registry.issue_resume_token("chess", "alice").token
    for generation in range(2, 30):
        resumed = registry.resume(token, after=0)
        assert resumed.session.generation == generation
        token = resumed.token


def test_a_lost_reply_costs_nothing_the_same_new_token_comes_again(registry: Registry) -> None:
    first = registry.issue_resume_token("chess", "alice").token
    lost = registry.resume(first, after=0)
    again = registry.resume(first, after=0)
    assert again.token == lost.token
    assert again.session.generation == lost.session.generation + 1
    assert registry.resume(again.token, after=0).token not in (first, lost.token)


def test_a_lost_reply_in_the_middle_of_a_chain_costs_nothing(registry: Registry) -> None:
    token = registry.issue_resume_token("chess", "alice").token
    for _ in range(5):
        lost = registry.resume(token, after=0).token
        assert registry.validate_resume_token(token).state is SessionState.LIVE
        for _ in range(3):
            assert registry.resume(token, after=0).token == lost
        token = lost


def test_the_previous_token_retires_when_the_newest_is_first_used(refusing: Registry) -> None:
    first = refusing.issue_resume_token("chess", "alice").token
    second = refusing.resume(first, after=0).token
    assert refusing.validate_resume_token(first) == refusing.validate_resume_token(second)
    refusing.resume(second, after=0)
    with pytest.raises(TokenReused):
        refusing.resume(first, after=0)
    assert refusing.validate_resume_token(second).state is SessionState.LIVE


def test_at_most_two_tokens_of_a_session_are_valid(refusing: Registry) -> None:
    tokens = [refusing.issue_resume_token("chess", "alice").token]
    for turn in range(12):
        if turn % 4 == 3:
            tokens.append(refusing.issue_resume_token("chess", "alice").token)
        else:
            tokens.append(refusing.resume(tokens[-1], after=0).token)
        valid = []
        for token in tokens:
            try:
                refusing.validate_resume_token(token)
            except (TokenReused, InvalidToken):
                continue
            valid.append(token)
        assert valid == tokens[-2:]


def test_a_resume_raced_by_its_twin_loses_nothing(registry: Registry, conninfo: str) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    with hold_session(conninfo, issued.session.session_id):
        twins = [in_thread(lambda: registry.resume(issued.token, after=0)) for _ in range(2)]
        until_blocked(conninfo, 2, "resume")
    one, other = (twin.result(30) for twin in twins)
    assert one.token == other.token
    assert {one.session.generation, other.session.generation} == {2, 3}
    assert registry.get_session(issued.session.session_id).generation == 3
    assert registry.resume(one.token, after=0).session.generation == 4


def test_many_twins_all_succeed_with_one_token(registry: Registry) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    for _ in range(3):
        token = registry.resume(issued.token, after=0).token
        twins = at_once([lambda token=token: registry.resume(token, after=0)] * 8)
        assert not [twin for twin in twins if isinstance(twin, Exception)]
        assert len({twin.token for twin in twins}) == 1
        assert len({twin.session.generation for twin in twins}) == 8
        issued = registry.issue_resume_token("chess", "alice")


def test_a_token_used_after_its_successor_was_is_reuse_and_revokes(registry: Registry) -> None:
    first = registry.issue_resume_token("chess", "alice")
    second = registry.resume(first.token, after=0).token
    third = registry.resume(second, after=0).token
    with pytest.raises(TokenReused) as caught:
        registry.resume(first.token, after=0)
    assert caught.value.revoked is True
    assert caught.value.session_id == first.session.session_id
    assert registry.get_session(first.session.session_id).state is SessionState.REVOKED
    for token in (first.token, second, third):
        with pytest.raises(SessionRevoked):
            registry.resume(token, after=0)
    with pytest.raises(SessionRevoked):
        registry.heartbeat(first.session.session_id)


def test_by_configuration_reuse_is_refused_and_changes_nothing(
    refusing: Registry, conninfo: str
) -> None:
    first = refusing.issue_resume_token("chess", "alice").token
    second = refusing.resume(first, after=0).token
    third = refusing.resume(second, after=0).token
    with nothing_changes(conninfo):
        with pytest.raises(TokenReused) as caught:
            refusing.resume(first, after=0)
        assert caught.value.revoked is False
    assert refusing.resume(third, after=0).session.generation == 4


def test_reuse_revokes_no_other_players_session(registry: Registry) -> None:
    bob = registry.issue_resume_token("chess", "bob")
    stolen = registry.issue_resume_token("chess", "alice").token
    registry.resume(registry.resume(stolen, after=0).token, after=0)
    with pytest.raises(TokenReused):
        registry.resume(stolen, after=0)
    assert registry.validate_resume_token(bob.token) == bob.session


def test_a_login_elsewhere_after_a_lost_reply_does_not_make_a_thief_of_the_player(
    registry: Registry,
) -> None:
    before = registry.issue_resume_token("chess", "alice").token
    registry.resume(before, after=0)  # this reply is lost
    elsewhere = registry.issue_resume_token("chess", "alice").token
    for _ in range(2):
        with pytest.raises(TokenReused) as refused:
            registry.resume(before, after=0)
        assert not refused.value.revoked
    registry.resume(elsewhere, after=0)
    with pytest.raises(TokenReused) as refused:  # neither does it once the login is in use
        registry.resume(before, after=0)
    assert not refused.value.revoked
    assert registry.resume(elsewhere, after=0).session.state is SessionState.LIVE


def test_the_last_few_retired_tokens_are_known_and_older_ones_are_unknown(
    refusing: Registry, conninfo: str
) -> None:
    tokens = [refusing.issue_resume_token("chess", "alice").token]
    for _ in range(15):
        tokens.append(refusing.resume(tokens[-1], after=0).token)
    kept = value(conninfo, "SELECT cardinality(retired_token_hashes) FROM game_session")
    assert 3 <= kept <= 10
    retired = tokens[:-2]
    for token in retired[-kept:]:
        with pytest.raises(TokenReused):
            refusing.resume(token, after=0)
    for token in retired[:-kept]:
        with pytest.raises(InvalidToken):
            refusing.resume(token, after=0)


def test_a_forged_token_can_revoke_nobody(registry: Registry, conninfo: str) -> None:
    token = registry.issue_resume_token("chess", "alice").token
    for _ in range(3):
        token = registry.resume(token, after=0).token
    with nothing_changes(conninfo):
        for _ in range(3):
            with pytest.raises(InvalidToken):
                registry.resume(forged(token), after=0)
    assert registry.resume(token, after=0).session.state is SessionState.LIVE


def test_unknown_malformed_and_forged_tokens_are_one_and_the_same_error(
    registry: Registry, conninfo: str
) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    gone = registry.issue_resume_token("ended", "alice").token
    registry.end_game("ended")
    revoked = registry.issue_resume_token("chess", "bob")
    registry.revoke_session(revoked.session.session_id)
    of_another_game = registry.issue_resume_token("go", "alice").token
    raw = base64.urlsafe_b64decode(of_another_game + "=" * (-len(of_another_game) % 4))
    moved = base64.urlsafe_b64encode(b"chess" + raw[2:]).rstrip(b"=").decode()
    bad: list[object] = [
        None,
        7,
        b"bytes",
        "",
        "garbage",
        "\ud800",
        "\0",
        issued.token[:-1],
        issued.token + "A",
        issued.token + "=",
        issued.token[1:],
        forged(issued.token),
        forged(revoked.token),  # a forger does not learn that a session is revoked
        gone,
        moved,
    ]
    errors = []
    with nothing_changes(conninfo):
        for token in bad:
            for call in (
                lambda token=token: registry.validate_resume_token(token),
                lambda token=token: registry.resume(token, after=0),
            ):
                with pytest.raises(RegistryError) as caught:
                    call()
                errors.append(caught.value)
    assert {type(error) for error in errors} == {InvalidToken}
    assert len({(str(error), repr(error.args), repr(vars(error))) for error in errors}) == 1


def test_a_retired_token_of_a_session_that_is_over_says_that_it_is_over(
    registry: Registry, conninfo: str, clock: Clock
) -> None:
    first = registry.issue_resume_token("chess", "alice").token
    registry.resume(registry.resume(first, after=0).token, after=0)
    clock.advance(1000)
    with nothing_changes(conninfo), pytest.raises(SessionExpired):
        registry.resume(first, after=0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"after": -1},
        {"after": 2**63},
        {"after": "0"},
        {"after": True},
        {"after": None},
        {"after": 0, "epoch": "x"},
        {"after": 0, "limit": 0},
        {"after": 0, "limit": 1.5},
    ],
    ids=str,
)
def test_a_resume_refused_for_its_arguments_changes_nothing(
    registry: Registry, conninfo: str, arguments: dict[str, object]
) -> None:
    token = registry.issue_resume_token("chess", "alice").token
    with nothing_changes(conninfo), pytest.raises(InvalidArgument):
        registry.resume(token, **arguments)


# Generations


def test_a_ghost_can_neither_beat_nor_acknowledge(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(3))
    issued = registry.issue_resume_token("chess", "alice")
    live = registry.resume(issued.token, after=0).session
    with nothing_changes(conninfo):
        with pytest.raises(SessionTakenOver):
            registry.heartbeat(live.session_id, generation=issued.session.generation)
        with pytest.raises(SessionTakenOver):
            registry.acknowledge(live.session_id, 3, generation=issued.session.generation)
        assert registry.heartbeat_many([(live.session_id, 1)]) == Heartbeats(
            0, ((live.session_id, 1),)
        )
    assert registry.heartbeat(live.session_id, generation=2).generation == 2
    assert registry.acknowledge(live.session_id, 3, generation=2).sequence == 3


def test_issuing_again_makes_a_ghost_of_the_connection_before(registry: Registry) -> None:
    session = registry.issue_resume_token("chess", "alice").session
    registry.issue_resume_token("chess", "alice")
    with pytest.raises(SessionTakenOver):
        registry.heartbeat(session.session_id, generation=session.generation)


def test_without_a_generation_whoever_holds_the_session_may_act(registry: Registry) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    registry.resume(issued.token, after=0)
    assert registry.heartbeat(issued.session.session_id).generation == 2
    assert registry.acknowledge(issued.session.session_id, 0).sequence == 0


def test_a_ghosts_acknowledgement_that_waited_for_the_takeover_is_refused(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(3))
    registry.issue_resume_token("chess", "laggard")
    issued = registry.issue_resume_token("chess", "alice")
    game_id, _, uuid = issued.session.session_id.rpartition("/")
    with hold_session(conninfo, issued.session.session_id) as connection:
        ghost = in_thread(lambda: registry.acknowledge(issued.session.session_id, 3, generation=1))
        until_blocked(conninfo, 1, "acknowledge")
        takeover = "UPDATE game_session SET generation = 2 WHERE game_id = %s AND id = %s"
        connection.execute(takeover, [game_id, uuid])
    with pytest.raises(SessionTakenOver):
        ghost.result(30)
    assert registry.get_session(issued.session.session_id).last_acknowledged == 0


# Heartbeats


def test_a_heartbeat_extends_the_expiry(registry: Registry, clock: Clock) -> None:
    session = registry.issue_resume_token("chess", "alice").session
    for _ in range(3):
        clock.advance(800)
        before = registry.get_session(session.session_id)
        beaten = registry.heartbeat(session.session_id)
        assert beaten.heartbeat_at > before.heartbeat_at
        assert beaten.expires_at > before.expires_at
        assert beaten.state is SessionState.LIVE
    assert registry.get_session(session.session_id) == beaten


def test_a_heartbeat_never_moves_the_expiry_back(registry: Registry, conninfo: str) -> None:
    session = registry.issue_resume_token("chess", "alice").session
    rows(
        conninfo,
        "UPDATE game_session SET expires_at = expires_at + '1 day', "
        "heartbeat_at = heartbeat_at + '1 hour'",
    )
    before = registry.get_session(session.session_id)
    assert registry.heartbeat(session.session_id) == before
    assert registry.heartbeat_many([session.session_id]).alive == 1
    assert registry.get_session(session.session_id) == before


@pytest.mark.parametrize("session_id", [f"chess/{UUID(int=7)}", "chess", "", "\ud800", "x" * 5000])
def test_a_session_that_never_was_is_not_found(registry: Registry, session_id: str) -> None:
    for call in (
        registry.heartbeat,
        registry.get_session,
        registry.revoke_session,
        lambda session_id: registry.acknowledge(session_id, 0),
    ):
        with pytest.raises(SessionNotFound):
            call(session_id)
    assert registry.heartbeat_many([session_id]) == Heartbeats(0, (session_id,))


def test_thousands_of_heartbeats_say_which_sessions_are_gone(
    registry: Registry, conninfo: str, clock: Clock
) -> None:
    rows(
        conninfo,
        """
        WITH games AS (
            INSERT INTO game (game_id) SELECT 'game ' || g FROM generate_series(1, 50) AS g
            RETURNING game_id
        )
        INSERT INTO game_session
            (game_id, id, user_id, token_hash, last_acknowledged, ttl, expires_at)
        SELECT game_id, gen_random_uuid(), 'user ' || u, '', 0, '1000 s', now() + '1000 s'
        FROM games, generate_series(1, 80) AS u
        """,
    )
    keys = rows(conninfo, "SELECT game_id || '/' || id FROM game_session ORDER BY random()")
    ids = [session_id for (session_id,) in keys]
    clock.advance(900)
    for session_id in ids[:3]:
        registry.revoke_session(session_id)
    expired = ids[3:5]
    for session_id in expired:
        game_id, _, uuid = session_id.rpartition("/")
        rows(
            conninfo,
            "UPDATE game_session SET expires_at = now() WHERE game_id = %s AND id = %s",
            [game_id, uuid],
        )
    unknown = f"game 1/{uuid4()}"
    ghost = (ids[10], 7)
    items: list[str | tuple[str, int]] = [*ids[:10], ghost, *ids[11:2000]]
    items += [(session_id, 1) for session_id in ids[2000:]]
    items += [unknown, "no id at all", ids[20]]
    beats = registry.heartbeat_many(iter(items))
    assert set(beats.gone) == {*ids[:5], ghost, unknown, "no id at all"}
    assert len(beats.gone) == 8
    assert beats.alive == 4000 - 6
    clock.advance(900)  # who was beaten is alive still
    live = sum(len(registry.list_sessions(f"game {n}")) for n in range(1, 51))
    assert live == 4000 - 6


def test_nothing_to_beat_is_no_error(registry: Registry) -> None:
    assert registry.heartbeat_many([]) == Heartbeats(0, ())


def test_the_same_session_twice_in_one_call_is_one_session(registry: Registry) -> None:
    session_id = registry.issue_resume_token("chess", "alice").session.session_id
    assert registry.heartbeat_many([session_id, session_id, (session_id, 1)]) == Heartbeats(1, ())
    mixed = registry.heartbeat_many([(session_id, 2), session_id, (session_id, 1)])
    assert mixed == Heartbeats(1, ((session_id, 2),))


@pytest.mark.parametrize(
    "items", [[None], [5], [("chess/x",)], [("a", 1, 2)], [("a", "1")], [("a", 0)], [["a", 1]]]
)
def test_an_item_that_names_no_session_is_an_error_before_anything_is_beaten(
    registry: Registry, conninfo: str, items: list[object]
) -> None:
    session_id = registry.issue_resume_token("chess", "alice").session.session_id
    with nothing_changes(conninfo), pytest.raises(InvalidArgument):
        registry.heartbeat_many([session_id, *items])


def test_one_id_given_in_place_of_many_is_an_error(registry: Registry) -> None:
    session_id = registry.issue_resume_token("chess", "alice").session.session_id
    with pytest.raises(InvalidArgument):
        registry.heartbeat_many(session_id)


# Looking sessions up


def test_a_session_is_found_whatever_its_state(registry: Registry, clock: Clock) -> None:
    issued = registry.issue_resume_token("chess", "alice").session

    def states() -> list[GameSession | None]:
        return [registry.get_session(issued.session_id), registry.find_session("chess", "alice")]

    assert states() == [issued, issued]
    clock.advance(901)
    assert {session.state for session in states() if session} == {SessionState.EXPIRED}
    registry.revoke_session(issued.session_id)
    assert {session.state for session in states() if session} == {SessionState.REVOKED}
    registry.end_game("chess")
    assert registry.find_session("chess", "alice") is None
    with pytest.raises(SessionNotFound):
        registry.get_session(issued.session_id)


def test_a_player_who_never_was_there_is_none(registry: Registry) -> None:
    registry.issue_resume_token("chess", "alice")
    assert registry.find_session("chess", "bob") is None
    assert registry.find_session("go", "alice") is None


def test_the_live_sessions_of_a_game_are_listed_by_player(registry: Registry, clock: Clock) -> None:
    registry.issue_resume_token("chess", "expired", ttl=5)
    revoked = registry.issue_resume_token("chess", "revoked").session
    registry.issue_resume_token("go", "elsewhere")
    for user_id in ("zoe", "Bob", "älva", "adam"):
        registry.issue_resume_token("chess", user_id)
    registry.revoke_session(revoked.session_id)
    clock.advance(6)
    listed = registry.list_sessions("chess")
    assert [session.user_id for session in listed] == ["Bob", "adam", "zoe", "älva"]
    assert listed[0] == registry.find_session("chess", "Bob")
    assert registry.list_sessions("no such game") == []


def test_stale_sessions_are_the_live_ones_silent_for_so_long_longest_first(
    registry: Registry, clock: Clock
) -> None:
    ids = {}
    for minutes, user_id in enumerate(["first", "second", "third", "now"]):
        ids[user_id] = registry.issue_resume_token(f"game {minutes}", user_id).session.session_id
        if user_id != "now":
            clock.advance(120)

    def stale(older_than: float, **more: int) -> list[str]:
        return [session.user_id for session in registry.stale_sessions(older_than, **more)]

    assert stale(0) == ["first", "second", "third", "now"]
    assert stale(119.9) == ["first", "second", "third"]
    assert stale(239.9) == ["first", "second"]
    assert stale(3600) == []
    assert stale(0, limit=2) == ["first", "second"]
    registry.heartbeat(ids["first"])
    registry.revoke_session(ids["third"])
    assert stale(100) == ["second"]
    clock.advance(800)
    assert stale(0) == ["now", "first"]  # the second has expired


@pytest.mark.parametrize("older_than", [-1, float("nan"), float("inf"), "5", None, True])
def test_staleness_is_a_number_of_seconds(registry: Registry, older_than: object) -> None:
    with pytest.raises(InvalidArgument):
        registry.stale_sessions(older_than)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "5"])
def test_a_limit_of_stale_sessions_is_a_whole_number(registry: Registry, limit: object) -> None:
    with pytest.raises(InvalidArgument):
        registry.stale_sessions(0, limit=limit)


# revoke_session


def test_a_revoked_session_can_do_nothing_any_more(registry: Registry, conninfo: str) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    session_id = issued.session.session_id
    assert registry.revoke_session(session_id).state is SessionState.REVOKED
    with nothing_changes(conninfo):
        assert registry.revoke_session(session_id).state is SessionState.REVOKED
        for call in (
            lambda: registry.validate_resume_token(issued.token),
            lambda: registry.resume(issued.token, after=0),
            lambda: registry.heartbeat(session_id),
            lambda: registry.heartbeat(session_id, generation=1),
            lambda: registry.acknowledge(session_id, 0),
        ):
            with pytest.raises(SessionRevoked) as caught:
                call()
            assert caught.value.session_id == session_id
        assert registry.heartbeat_many([session_id]).gone == (session_id,)
    assert registry.list_sessions("chess") == []


def test_a_resume_under_way_is_refused_by_a_revocation_that_came_first(
    registry: Registry, conninfo: str
) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    with hold_session(conninfo, issued.session.session_id) as connection:
        resume = in_thread(lambda: registry.resume(issued.token, after=0))
        until_blocked(conninfo, 1, "resume")
        connection.execute("UPDATE game_session SET closed = 'revoked'")
    with pytest.raises(SessionRevoked):
        resume.result(30)
