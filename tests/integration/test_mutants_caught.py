"""Guarantees that a deliberate break of the code (tests/mutants.py) showed to be untested."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from probes import dump, hold_game, hold_session, in_thread, rows, sequences, until_blocked, value
from psycopg_pool import ConnectionPool
from support import name_of

from registry import (
    Acknowledgement,
    EmbeddedPostgres,
    GameSession,
    GameSessionRegistry,
    SessionState,
    migrate,
)
from registry.queries import queries
from registry.statements import Row, execute

# A trigger that notes, for each event, how durable its commit is going to be.
WATCH = """
CREATE TABLE seen (synchronous_commit text);
GRANT INSERT ON seen TO PUBLIC;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO seen VALUES (current_setting('synchronous_commit'));
    RETURN NEW;
END $$;
CREATE TRIGGER look BEFORE INSERT ON game_event FOR EACH ROW EXECUTE FUNCTION look();
"""


@pytest.fixture
def players(registry: GameSessionRegistry, conninfo: str) -> list[GameSession]:
    """Sessions of one game by player, which is the order neither of their rows nor of their ids."""
    for user_id in ("carol", "alice", "bob"):
        registry.issue_resume_token("game", user_id)
    ids = {"carol": uuid.UUID(int=1), "bob": uuid.UUID(int=2), "alice": uuid.UUID(int=3)}
    for user_id, session_id in ids.items():
        rows(conninfo, "UPDATE game_session SET id = %s WHERE user_id = %s", [session_id, user_id])
    return registry.list_sessions("game")


def held_by(conninfo: str, pid: int) -> set[str]:
    """The players whose sessions another connection cannot lock, while that backend waits."""
    free = "SELECT user_id FROM game_session FOR UPDATE SKIP LOCKED"
    everyone = rows(conninfo, "SELECT user_id FROM game_session")
    with psycopg.connect(conninfo) as other:
        available = other.execute(free).fetchall()
        other.rollback()
    assert value(conninfo, "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted", [pid])
    return {user for (user,) in everyone} - {user for (user,) in available}


@pytest.mark.parametrize("owned", [True, False])
def test_a_commit_is_durable_whatever_the_database_defaults_to(conninfo: str, owned: bool) -> None:
    rows(conninfo, WATCH)
    rows(conninfo, f'ALTER DATABASE "{name_of(conninfo)}" SET synchronous_commit = off')
    if owned:
        with GameSessionRegistry.connect(conninfo) as registry:
            registry.record_event("game", "move")
    else:
        with ConnectionPool(conninfo, min_size=1, open=True) as pool:
            GameSessionRegistry(pool).record_event("game", "move")
            with pool.connection() as connection:  # the caller's own statements keep theirs
                assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    assert rows(conninfo, "SELECT * FROM seen") == [("on",)]


def test_what_was_returned_is_there_after_a_crash_of_the_server(
    own_server: EmbeddedPostgres,
) -> None:
    migrate(own_server.conninfo)
    with GameSessionRegistry.connect(own_server.conninfo) as registry:
        issued = registry.issue_resume_token("game", "player")
        assert [registry.record_event("game", n) for n in range(5)] == [1, 2, 3, 4, 5]
        registry.acknowledge(issued.session.session_id, 2)
        own_server.crash()
        own_server.start()
        resumed = registry.resume(issued.token, after=2)
    assert [event.payload for event in resumed.replay.events] == [2, 3, 4]
    assert resumed.session.last_acknowledged == 2


def test_of_two_acknowledgements_that_wait_the_higher_one_stays(
    registry: GameSessionRegistry, players: list[GameSession], conninfo: str
) -> None:
    registry.record_events("game", range(9))
    session_id = players[0].session_id
    with hold_session(conninfo, players[0].session_id):
        higher = in_thread(lambda: registry.acknowledge(session_id, 8))
        until_blocked(conninfo, 1, "acknowledge")
        lower = in_thread(lambda: registry.acknowledge(session_id, 5))
        until_blocked(conninfo, 2, "acknowledge")
    assert higher.result(30) == Acknowledgement(8, 0, 0)
    assert lower.result(30).sequence >= 5
    assert registry.get_session(session_id).last_acknowledged == 8


def test_beats_of_many_lock_in_the_order_of_the_players(
    registry: GameSessionRegistry, players: list[GameSession], conninfo: str
) -> None:
    """Who waits for the first session holds no later one, so that two of them never deadlock."""
    with hold_session(conninfo, players[0].session_id):
        backwards = [session.session_id for session in reversed(players)]
        beats = in_thread(lambda: registry.heartbeat_many(backwards))
        (pid,) = until_blocked(conninfo, 1, "heartbeat_many")
        assert held_by(conninfo, pid) == {players[0].user_id}
    assert beats.result(30).alive == 3


def test_the_end_of_a_game_locks_its_sessions_in_the_order_of_the_players(
    registry: GameSessionRegistry, players: list[GameSession], conninfo: str
) -> None:
    with hold_session(conninfo, players[0].session_id):
        end = in_thread(lambda: registry.end_game("game"))
        (pid,) = until_blocked(conninfo, 1, "end_game")
        assert held_by(conninfo, pid) == {players[0].user_id}
    end.result(30)
    assert registry.find_session("game", players[0].user_id) is None


def test_an_acknowledgement_that_prunes_locks_the_game_before_the_session(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    registry.record_events("game", range(3))
    session_id = registry.issue_resume_token("game", "player").session.session_id
    with hold_game(conninfo, "game"):
        acknowledged = in_thread(lambda: registry.acknowledge(session_id, 3))
        (pid,) = until_blocked(conninfo, 1, "acknowledge")
        assert held_by(conninfo, pid) == set()
    assert acknowledged.result(30) == Acknowledgement(3, 3, 3)
    assert registry.get_session(session_id).state is SessionState.LIVE


def test_an_append_under_way_when_all_else_is_deleted_leaves_no_orphan(
    registry: GameSessionRegistry, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.record_events("game", range(3))
    late_id = uuid.uuid4()
    delete = registry._database.rows_once

    def overtaken(*args: Any, **named: Any) -> Sequence[Row]:
        with psycopg.connect(conninfo) as late:
            registry.record_event("game", "late", event_id=late_id, connection=late)
            deleted = in_thread(lambda: delete(*args, **named))
            until_blocked(conninfo, 1)
        return deleted.result(30)

    monkeypatch.setattr(registry._database, "rows_once", overtaken)
    registry.end_game("game")
    assert not any(dump(conninfo).values())


def test_an_end_that_found_no_game_to_lock_does_not_half_end_the_next_one(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    game = {"game_id": "game", "receipt": uuid.uuid4(), "statement": 1}
    with psycopg.connect(conninfo) as ending, psycopg.connect(conninfo) as late:
        assert execute(ending, queries.lock_game, game).fetchone() is None
        registry.record_event("game", "first")
        registry.record_event("game", "second", connection=late)
        end = in_thread(lambda: execute(ending, queries.end_game, game).fetchone())
        until_blocked(conninfo, 1, "end_game")
        late.commit()
        assert end.result(30) == (0,)
    assert sequences(conninfo, "game") == [1, 2]
