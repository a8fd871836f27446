"""The most live sessions of a game and of a player: exact, however many come at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from probes import at_once, configured, dump, empty, in_thread, rows, until_blocked, value
from psycopg_pool import ConnectionPool
from support import Clock

from registry import GameSessionRegistry, IssuedSession, LimitReached, RegistryConfig, SessionState

Registry = GameSessionRegistry
LIVE = "SELECT count(*) FROM game_session WHERE closed IS NULL AND expires_at > now()"


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def three_a_game(conninfo: str) -> Iterator[Registry]:
    with configured(conninfo, max_sessions_per_game=3) as registry:
        yield registry


@pytest.fixture
def three_a_user(conninfo: str) -> Iterator[Registry]:
    with configured(conninfo, max_sessions_per_user=3) as registry:
        yield registry


@contextmanager
def refused(conninfo: str, limit: str, most: int = 3) -> Iterator[None]:
    before = dump(conninfo)
    with pytest.raises(LimitReached, match=limit) as caught:
        yield
    assert (caught.value.limit, caught.value.most) == (limit, most)
    assert dump(conninfo) == before


def test_there_is_no_limit_unless_one_is_set(conninfo: str) -> None:
    config = RegistryConfig()
    assert (config.max_sessions_per_game, config.max_sessions_per_user) == (None, None)
    with configured(conninfo) as registry:
        for n in range(30):
            registry.issue_resume_token("chess", f"user {n}")
            registry.issue_resume_token(f"game {n}", "alice")
    assert value(conninfo, LIVE) == 60


def test_a_full_game_takes_no_further_player(three_a_game: Registry, conninfo: str) -> None:
    for player in ("alice", "bob", "carol"):
        three_a_game.issue_resume_token("chess", player)
    with refused(conninfo, "max_sessions_per_game"):
        three_a_game.issue_resume_token("chess", "dave")
    assert three_a_game.issue_resume_token("go", "dave").session.generation == 1


def test_a_player_in_enough_games_gets_into_no_further_one(
    three_a_user: Registry, conninfo: str
) -> None:
    for game in ("chess", "go", "bridge"):
        three_a_user.issue_resume_token(game, "alice")
    with refused(conninfo, "max_sessions_per_user"):
        three_a_user.issue_resume_token("a game not begun", "alice")
    three_a_user.record_event("begun", 1)
    with refused(conninfo, "max_sessions_per_user"):
        three_a_user.issue_resume_token("begun", "alice")
    assert three_a_user.issue_resume_token("chess", "bob").session.generation == 1


def test_taking_over_ones_own_live_session_is_never_refused(
    three_a_game: Registry, conninfo: str
) -> None:
    for player in ("alice", "bob", "carol"):
        three_a_game.issue_resume_token("chess", player)
    assert three_a_game.issue_resume_token("chess", "bob").session.generation == 2
    with configured(conninfo, max_sessions_per_game=1, max_sessions_per_user=1) as stricter:
        issued = stricter.issue_resume_token("chess", "bob")
        assert issued.session.generation == 3
        assert stricter.resume(issued.token, after=0).session.generation == 4
        with refused(conninfo, "max_sessions_per_game", 1):
            stricter.issue_resume_token("chess", "dave")


@pytest.mark.parametrize("ending", ["revoked", "expired", "ended"])
def test_a_session_that_is_over_leaves_its_place(
    three_a_game: Registry, three_a_user: Registry, clock: Clock, ending: str
) -> None:
    first = three_a_game.issue_resume_token("chess", "alice", ttl=60).session
    three_a_user.issue_resume_token("go", "alice")
    three_a_user.issue_resume_token("bridge", "alice")
    for player in ("bob", "carol"):
        three_a_game.issue_resume_token("chess", player)
    if ending == "revoked":
        three_a_game.revoke_session(first.session_id)
    elif ending == "expired":
        clock.advance(61)
    else:
        three_a_game.end_game("chess")
    assert three_a_user.issue_resume_token("poker", "alice").session.state is SessionState.LIVE
    for player in ("dave", "erin", "frank")[: 3 if ending == "ended" else 1]:
        three_a_game.issue_resume_token("chess", player)
    with pytest.raises(LimitReached):
        three_a_game.issue_resume_token("chess", "alice")  # somebody else has the place now


def outcomes(calls: list[Callable[[], IssuedSession]]) -> tuple[int, int]:
    """How many were let in and how many were refused; nothing else happens."""
    answers = at_once(calls)
    let_in = [answer for answer in answers if isinstance(answer, IssuedSession)]
    refused = [answer for answer in answers if isinstance(answer, LimitReached)]
    assert len(let_in) + len(refused) == len(answers), answers
    return len(let_in), len(refused)


PATIENT = {"lock_timeout": 30, "statement_timeout": 30, "pool_timeout": 30, "pool_max_size": 20}


@pytest.mark.parametrize("begun", [True, False])
def test_however_many_come_at_once_a_game_takes_as_many_as_it_may(
    conninfo: str, begun: bool
) -> None:
    limit = {**PATIENT, "max_sessions_per_game": 5}
    with configured(conninfo, **limit) as one, configured(conninfo, **limit) as other:
        for turn in range(6):
            game = f"game {turn}"
            if begun:
                one.record_event(game, 1)
            calls = [
                lambda n=n, game=game: (one, other)[n % 2].issue_resume_token(game, f"user {n}")
                for n in range(24)
            ]
            assert outcomes(calls) == (5, 19)
            assert len(one.list_sessions(game)) == 5


def test_however_many_games_a_player_enters_at_once_it_gets_into_as_many_as_it_may(
    conninfo: str,
) -> None:
    limit = {**PATIENT, "max_sessions_per_user": 5}
    with configured(conninfo, **limit) as one, configured(conninfo, **limit) as other:
        for turn in range(6):
            calls = [
                lambda n=n, turn=turn: (one, other)[n % 2].issue_resume_token(
                    f"game {turn} {n}", f"user {turn}"
                )
                for n in range(24)
            ]
            assert outcomes(calls) == (5, 19)
    assert value(conninfo, LIVE) == 30
    assert value(conninfo, "SELECT count(*) FROM game") == 30


def test_both_limits_at_once_have_no_deadlock(conninfo: str) -> None:
    limits = {**PATIENT, "max_sessions_per_user": 3, "max_sessions_per_game": 4}
    with configured(conninfo, **limits) as registry:
        calls = [
            lambda n=n: registry.issue_resume_token(f"game {n % 5}", f"user {n % 7}")
            for n in range(35)
        ]
        let_in, left_out = outcomes(calls)
    assert let_in == value(conninfo, LIVE)
    assert let_in + left_out == 35
    for column, most in (("game_id", 4), ("user_id", 3)):
        counts = rows(conninfo, f"SELECT count(*) FROM game_session GROUP BY {column}")
        assert max(count for (count,) in counts) == most
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert value(conninfo, deadlocks) == 0


def test_a_game_begun_under_the_call_is_counted_again(conninfo: str) -> None:
    """The call saw no game to lock: its count is older than what it waited for."""
    with (
        configured(conninfo, **PATIENT, max_sessions_per_game=1) as registry,
        psycopg.connect(conninfo) as other,
    ):
        other.execute("INSERT INTO game (game_id, issued) VALUES ('chess', 1)")
        other.execute(
            "INSERT INTO game_session "
            "(game_id, id, user_id, token_hash, last_acknowledged, ttl, expires_at) "
            "VALUES ('chess', gen_random_uuid(), 'bob', '', 0, '1 hour', now() + interval '1 hour')"
        )
        alice = in_thread(lambda: registry.issue_resume_token("chess", "alice"))
        until_blocked(conninfo, 1, "issue_resume_token")
        other.commit()
        with pytest.raises(LimitReached):
            alice.result(30)
    assert value(conninfo, "SELECT issued FROM game") == 1


def test_the_limits_hold_on_a_callers_pool(conninfo: str) -> None:
    config = RegistryConfig(max_sessions_per_game=1, max_sessions_per_user=1)
    with ConnectionPool(conninfo, min_size=1, max_size=1, open=True) as pool:
        registry = GameSessionRegistry(pool, config=config)
        registry.issue_resume_token("chess", "alice")
        with refused(conninfo, "max_sessions_per_game", 1):
            registry.issue_resume_token("chess", "bob")
        with refused(conninfo, "max_sessions_per_user", 1):
            registry.issue_resume_token("go", "alice")
        assert registry.issue_resume_token("chess", "alice").session.generation == 2
