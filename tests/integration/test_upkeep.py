"""What time leaves behind goes away: in small batches, from many at once, in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from probes import (
    PATIENT,
    at_once,
    configured,
    dump,
    empty,
    end_backend,
    held,
    hold_game,
    hold_session,
    in_thread,
    rows,
    sequences,
    until_blocked,
    value,
)
from support import Clock

import registry as library
from registry import (
    Cleanup,
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    InvalidArgument,
    InvalidToken,
    Maintenance,
    RegistryConfig,
    RegistryUnavailable,
    SessionNotFound,
)
from registry.database import execute
from registry.inspection import inspect_game
from registry.queries import queries
from registry.standing import Standings

Registry = GameSessionRegistry
DAY = 86_400


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


def fill(conninfo: str, games: int, sessions: int, events: int, age: str) -> None:
    """So many games with so many sessions and events each, all as old as `age`, all expired."""
    rows(
        conninfo,
        """
        WITH games AS (
            INSERT INTO game (game_id, head, head_at, oldest_at)
            SELECT 'game ' || g, %(events)s, now() - %(age)s::interval, now() - %(age)s::interval
            FROM generate_series(1, %(games)s) AS g
            RETURNING game_id
        ),
        players AS (
            INSERT INTO game_session
                (game_id, id, user_id, token_hash, last_acknowledged, ttl, created_at,
                 heartbeat_at, expires_at)
            SELECT game_id, gen_random_uuid(), 'user ' || u, '', 0, '1 minute',
                   now() - %(age)s::interval, now() - %(age)s::interval, now() - '1 ms'::interval
            FROM games, generate_series(1, %(sessions)s) AS u
        ),
        log AS (
            INSERT INTO game_event
            SELECT game_id, n, now() - %(age)s::interval, 1, '1'
            FROM games, generate_series(1, %(events)s) AS n
        )
        INSERT INTO game_event_id
        SELECT game_id, gen_random_uuid(), n, now() - %(age)s::interval
        FROM games, generate_series(1, %(events)s) AS n
        """,
        {"games": games, "sessions": sessions, "events": events, "age": age},
    )


@contextmanager
def deletes(conninfo: str, *tables: str) -> Iterator[Callable[[], list[tuple[str, int]]]]:
    """Notes how many rows each statement deletes from these tables."""
    rows(
        conninfo,
        """
        CREATE TABLE deletes (name text, n bigint);
        GRANT INSERT ON deletes TO PUBLIC;
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO deletes SELECT TG_TABLE_NAME, count(*) FROM gone;
                RETURN NULL;
            END $$
        """,
    )
    try:
        for table in tables:
            rows(
                conninfo,
                f"CREATE TRIGGER note AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone "
                "FOR EACH STATEMENT EXECUTE FUNCTION note()",
            )
        yield lambda: [(name, n) for name, n in rows(conninfo, "SELECT name, n FROM deletes")]
    finally:
        rows(conninfo, "DROP FUNCTION note CASCADE; DROP TABLE deletes")


def test_nothing_is_due_in_a_running_game(registry: Registry, conninfo: str) -> None:
    registry.record_event("chess", 1, event_id=uuid4())
    registry.issue_resume_token("chess", "alice")
    registry.issue_resume_token("quiet", "bob")
    before = dump(conninfo)
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 0)
    assert dump(conninfo) == before


def test_nothing_at_all_is_no_error(registry: Registry) -> None:
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 0)


def test_expired_sessions_go_and_live_and_young_ones_stay(registry: Registry, clock: Clock) -> None:
    gone = registry.issue_resume_token("chess", "gone", ttl=60)
    clock.advance(50)
    stays = registry.issue_resume_token("chess", "stays", ttl=60)
    revoked = registry.issue_resume_token("chess", "revoked", ttl=60).session
    registry.revoke_session(revoked.session_id)
    clock.advance(11)
    assert registry.cleanup_expired_sessions() == Cleanup(1, 0, 0)
    with pytest.raises(SessionNotFound):
        registry.get_session(gone.session.session_id)
    with pytest.raises(InvalidToken):
        registry.resume(gone.token, after=0)
    assert registry.validate_resume_token(stays.token).user_id == "stays"
    clock.advance(60)
    assert registry.cleanup_expired_sessions() == Cleanup(2, 0, 0)


@pytest.mark.usefixtures("cleaned_by_rows")
def test_events_past_the_retention_go_acknowledged_or_not(
    registry: Registry, clock: Clock, conninfo: str
) -> None:
    registry.record_events("chess", range(3))
    clock.advance(DAY - 100)
    registry.record_events("chess", range(2))
    token = registry.issue_resume_token("chess", "alice", ttl=2 * DAY).token
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 0)
    clock.advance(101)
    assert registry.cleanup_expired_sessions() == Cleanup(0, 3, 0)
    assert sequences(conninfo, "chess") == [4, 5]
    with pytest.raises(HistoryPruned) as caught:
        registry.fetch_events_since("chess", 0)
    assert (caught.value.floor, caught.value.head) == (3, 5)
    assert registry.resume(token, after=0).missed == 3
    clock.advance(DAY)
    assert registry.cleanup_expired_sessions().events == 2
    assert registry.record_event("chess", "next") == 6


def test_only_a_prefix_goes_though_the_clock_went_back(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(6))
    rows(
        conninfo,
        """
        UPDATE game_event SET recorded_at = now() - '2 days'::interval
        WHERE sequence IN (1, 2, 4, 6);
        UPDATE game SET oldest_at = now() - '2 days'::interval
        """,
    )
    assert registry.cleanup_expired_sessions() == Cleanup(0, 2, 0)
    assert sequences(conninfo, "chess") == [3, 4, 5, 6]
    assert registry.fetch_events_since("chess", 2).floor == 2
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 0)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
def test_small_batches_clean_up_the_same(
    registry: Registry, conninfo: str, batch_size: int
) -> None:
    fill(conninfo, games=3, sessions=4, events=5, age="2 days")
    registry.record_event("game 1", "young")
    registry.issue_resume_token("game 2", "live")
    assert registry.cleanup_expired_sessions(batch_size=batch_size) == Cleanup(12, 15, 1)
    assert value(conninfo, "SELECT count(*) FROM game_event_id") == 0
    assert sequences(conninfo, "game 1") == [6]
    assert rows(conninfo, "SELECT game_id, head, floor FROM game ORDER BY 1") == [
        ("game 1", 6, 5),
        ("game 2", 5, 5),
    ]


def test_no_statement_of_a_cleanup_deletes_more_than_a_batch(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=5, sessions=5, events=20, age="2 days")
    tables = {"game": 5, "game_session": 25, "game_event": 100, "game_event_id": 100}
    with deletes(conninfo, *tables) as noted:
        assert registry.cleanup_expired_sessions(batch_size=4) == Cleanup(25, 100, 5)
        for table, total in tables.items():
            numbers = [number for name, number in noted() if name == table]
            assert (sum(numbers), max(numbers) <= 4) == (total, True)


def test_an_event_id_is_forgotten_with_the_retention_and_not_before(
    registry: Registry, clock: Clock
) -> None:
    event_id = uuid4()
    registry.issue_resume_token("chess", "alice", ttl=3 * DAY)
    registry.record_event("chess", 1, event_id=event_id)
    clock.advance(DAY - 60)
    registry.cleanup_expired_sessions()
    assert registry.record_event("chess", 1, event_id=event_id) == 1
    clock.advance(61)
    registry.cleanup_expired_sessions()
    assert registry.record_event("chess", 1, event_id=event_id) == 2


@pytest.mark.usefixtures("cleaned_by_rows")
def test_a_game_with_nothing_left_goes_when_idle_for_the_retention(
    registry: Registry, clock: Clock, conninfo: str
) -> None:
    registry.record_events("pruned", range(3))
    registry.prune_events("pruned", 3)
    registry.issue_resume_token("sessions only", "alice", ttl=60)
    clock.advance(DAY - 60)
    assert registry.cleanup_expired_sessions() == Cleanup(1, 0, 0)
    assert registry.record_event("pruned", 4) == 4  # its numbering goes on
    registry.prune_events("pruned", 4)
    clock.advance(61)
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 1)
    assert rows(conninfo, "SELECT game_id FROM game") == [("pruned",)]
    clock.advance(2 * DAY)
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 1)
    with pytest.raises(GameNotFound):
        registry.fetch_events_since("pruned", 4)
    assert registry.record_event("pruned", "again") == 1


def test_a_game_with_a_live_session_stays_however_idle(registry: Registry, clock: Clock) -> None:
    token = registry.issue_resume_token("chess", "alice", ttl=30 * DAY).token
    registry.record_events("chess", range(3))
    for _ in range(3):
        clock.advance(2 * DAY)
        registry.cleanup_expired_sessions()
    resumed = registry.resume(token, after=3)
    assert (resumed.missed, resumed.replay.head, resumed.replay.floor) == (0, 3, 3)


@pytest.mark.parametrize("retention", [0.001, 0.01])
def test_a_cleanup_ends_though_everything_is_always_due(conninfo: str, retention: float) -> None:
    with configured(conninfo, replay_retention=retention, batch_size=2) as registry:
        registry.issue_resume_token("live", "alice")
        for n in range(30):
            registry.record_event(f"game {n % 7}", n, event_id=uuid4())
        writer = in_thread(lambda: [registry.record_event("live", n) for n in range(100)])
        cleanup = in_thread(registry.cleanup_expired_sessions)
        assert cleanup.result(30).events >= 0
        writer.result(30)
        rest = registry.cleanup_expired_sessions()
        assert rest.sessions == 0
        head = registry.fetch_events_since("live", 100).head
    assert head == 100


def test_a_session_that_another_transaction_holds_is_passed_over(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=2, sessions=3, events=0, age="1 hour")
    ((busy,),) = rows(conninfo, "SELECT game_id || '/' || id FROM game_session LIMIT 1")
    with hold_session(conninfo, busy):
        assert in_thread(registry.cleanup_expired_sessions).result(30).sessions == 5
    assert registry.cleanup_expired_sessions().sessions == 1


def test_a_game_that_another_transaction_holds_is_passed_over(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=3, sessions=0, events=4, age="2 days")
    with hold_game(conninfo, "game 2"):
        assert in_thread(registry.cleanup_expired_sessions).result(30) == Cleanup(0, 8, 2)
    assert sequences(conninfo, "game 2") == [1, 2, 3, 4]
    assert registry.cleanup_expired_sessions() == Cleanup(0, 4, 1)


def test_an_event_id_that_another_transaction_holds_is_passed_over(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=4, age="2 days")
    with held(conninfo, "SELECT FROM game_event_id WHERE sequence = 2 FOR UPDATE"):
        in_thread(registry.cleanup_expired_sessions).result(30)
        assert rows(conninfo, "SELECT sequence FROM game_event_id") == [(2,)]


def raised(registry: Registry, batch_size: int | None = None) -> None:
    """The first half of a cleanup: floors raised, no row deleted."""
    list(registry._cleaning(batch_size).raise_floors())


def test_an_append_to_a_game_that_is_being_swept_does_not_wait(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=3, age="2 days")
    player = registry.issue_resume_token("game 1", "alice").session.session_id
    with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
        cleanup = in_thread(registry.cleanup_expired_sessions)
        until_blocked(conninfo, 1, "sweep_events")
        play = in_thread(
            lambda: (
                registry.record_event("game 1", "next"),
                registry.record_events("game 1", range(2)),
                registry.record_event("game 1", "last", event_id=uuid4()),
                registry.issue_resume_token("game 1", "bob").session.generation,
                registry.acknowledge(player, 4).pruned,
                registry.prune_events("game 1", 5),
                registry.fetch_events_since("game 1", 5).floor,
            )
        )
        assert play.result(30) == (4, range(5, 7), 7, 1, 0, 2, 5)
    assert cleanup.result(30) == Cleanup(0, 3, 0)
    assert sequences(conninfo, "game 1") == [6, 7]


def test_an_end_waits_for_the_sweep_of_its_game_and_leaves_nothing(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=3, age="2 days")
    rows(conninfo, "UPDATE game SET head_at = now()")  # or the cleanup could end it first
    with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
        cleanup = in_thread(registry.cleanup_expired_sessions)
        until_blocked(conninfo, 1, "sweep_events")
        end = in_thread(lambda: registry.end_game("game 1"))
        until_blocked(conninfo, 1, "lock_game")
    end.result(30)
    assert cleanup.result(30) == Cleanup(0, 3, 0)
    assert not any(dump(conninfo).values())
    assert registry.record_event("game 1", "anew") == 1


@pytest.mark.usefixtures("cleaned_by_rows")
def test_below_a_raised_floor_nothing_is_there_for_any_reader(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(5))
    token = registry.issue_resume_token("chess", "alice").token
    rows(
        conninfo,
        """
        UPDATE game_event SET recorded_at = now() - '2 days'::interval WHERE sequence <= 3;
        UPDATE game SET oldest_at = now() - '2 days'::interval
        """,
    )
    raised(registry)
    assert sequences(conninfo, "chess") == [1, 2, 3, 4, 5]
    with pytest.raises(HistoryPruned) as caught:
        registry.fetch_events_since("chess", 2)
    assert (caught.value.floor, caught.value.head) == (3, 5)
    resumed = registry.resume(token, after=1)
    assert (resumed.missed, [e.sequence for e in resumed.replay.events]) == (2, [4, 5])
    assert [event.sequence for event in registry.iter_events_since("chess", 3)] == [4, 5]
    assert Standings(registry, 0).now().oldest_unacknowledged < 3600
    with psycopg.connect(conninfo) as connection:
        found = inspect_game(connection, "chess", events=10)
    assert found is not None
    assert [event.sequence for event in found.events] == [5, 4]
    assert (found.log.sound, found.log.below_floor, found.log.found) == (True, True, 2)
    assert registry.acknowledge(resumed.session.session_id, 4).pruned == 1
    assert registry.prune_events("chess", 5) == 1
    assert sequences(conninfo, "chess") == [1, 2, 3]
    assert registry.cleanup_expired_sessions() == Cleanup(0, 3, 0)
    assert value(conninfo, "SELECT oldest_at > now() - '1 hour'::interval FROM game")


@pytest.mark.usefixtures("cleaned_by_rows")
def test_floors_are_raised_until_none_can_be_and_no_row_is_deleted(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=25, sessions=0, events=20, age="2 days")
    registry.record_event("game 7", "young")
    batches = in_thread(lambda: list(registry._cleaning(4).raise_floors())).result(30)
    assert 25 <= len(batches) <= 60
    assert value(conninfo, "SELECT array_agg(DISTINCT floor) FROM game") == [20]
    assert value(conninfo, "SELECT count(*) FROM game_event") == 501
    raised(registry)  # again: nothing changes, and it ends
    assert registry.cleanup_expired_sessions(batch_size=4) == Cleanup(0, 500, 24)
    assert sequences(conninfo, "game 7") == [21]


def test_a_cleanup_that_died_in_a_sweep_leaves_no_hole_and_the_next_goes_on(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=2, sessions=0, events=10, age="2 days")
    registry.record_event("game 1", "young")
    with (
        configured(conninfo) as another,
        held(conninfo, "SELECT FROM game_event WHERE sequence = 7 FOR UPDATE"),
    ):
        run = in_thread(Maintenance(another, batch_size=4).run_once)
        (pid,) = until_blocked(conninfo, 1, "sweep_events")
        end_backend(conninfo, pid)
        with pytest.raises(RegistryUnavailable):
            run.result(30)
    floor = registry.fetch_events_since("game 1", 11).floor
    there = sequences(conninfo, "game 1")
    assert floor == 10
    assert there == list(range(min(there), 12))
    assert there[0] < floor
    assert registry.cleanup_expired_sessions().games == 1
    assert sequences(conninfo, "game 1") == [11]


@pytest.mark.usefixtures("cleaned_by_rows")
def test_a_game_does_not_end_before_its_rows_are_gone(registry: Registry, conninfo: str) -> None:
    fill(conninfo, games=1, sessions=0, events=3, age="2 days")
    rows(conninfo, "DELETE FROM game_event_id")
    raised(registry)
    assert rows(conninfo, "SELECT head, floor FROM game") == [(3, 3)]
    assert registry.cleanup_expired_sessions() == Cleanup(0, 3, 1)
    assert registry.record_event("game 1", "anew") == 1


def test_a_game_ended_and_begun_again_behind_a_raised_floor_loses_nothing(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=5, age="2 days")
    raised(registry)
    registry.end_game("game 1")
    assert not any(dump(conninfo).values())
    assert registry.record_events("game 1", range(7)) == range(1, 8)
    assert registry.cleanup_expired_sessions() == Cleanup(0, 0, 0)
    assert sequences(conninfo, "game 1") == [1, 2, 3, 4, 5, 6, 7]


def test_a_sweep_for_an_ended_log_leaves_the_next_one_alone(
    registry: Registry, conninfo: str
) -> None:
    """What a cleanup knows of a log is no longer true of the next one of the same id."""
    registry.record_events("chess", range(5))
    rows(conninfo, "UPDATE game SET floor = 2")
    with psycopg.connect(conninfo) as connection:
        for epoch, left in ((uuid4(), [1, 2, 3, 4, 5]), (None, [3, 4, 5])):
            params = {"game_ids": ["chess"], "epochs": [epoch], "afters": [0], "batch_size": 9}
            found = execute(connection, queries.sweep_events, params).fetchall()
            connection.commit()
            assert sequences(conninfo, "chess") == left
    assert found == [("chess", 2, True, 2)]


def test_what_another_raised_the_floor_over_meanwhile_is_swept_too(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=5, age="2 days")
    registry.issue_resume_token("game 1", "alice")
    cleanup = registry._cleaning(100).batches()
    for batch in cleanup:
        if batch.events:
            break
    registry.record_events("game 1", range(3))
    rows(conninfo, "UPDATE game SET floor = 7")  # the rows are left to whoever raises a floor
    assert sum(batch.events for batch in cleanup) == 2
    assert sequences(conninfo, "game 1") == [8]


def test_a_sweep_that_another_has_is_left_to_it(registry: Registry, conninfo: str) -> None:
    fill(conninfo, games=2, sessions=0, events=3, age="2 days")
    lock = "SELECT pg_advisory_xact_lock(hashtextextended('game 1', 'game'::regclass::oid::bigint))"
    with held(conninfo, lock):
        assert in_thread(registry.cleanup_expired_sessions).result(30) == Cleanup(0, 3, 1)
    assert sequences(conninfo, "game 1") == [1, 2, 3]
    assert registry.cleanup_expired_sessions() == Cleanup(0, 3, 1)


def test_a_long_log_keeps_no_short_one_waiting(registry: Registry, conninfo: str) -> None:
    fill(conninfo, games=1, sessions=0, events=2000, age="3 days")
    rows(conninfo, "UPDATE game SET game_id = 'long'; UPDATE game_event SET game_id = 'long'")
    rows(conninfo, "DELETE FROM game_event_id")
    fill(conninfo, games=20, sessions=0, events=10, age="2 days")
    for _ in registry._cleaning(30).batches():
        if not value(conninfo, "SELECT count(*) FROM game_event WHERE game_id <> 'long'"):
            break
    assert value(conninfo, "SELECT count(*) FROM game_event") > 500


def test_it_ends_though_the_first_young_event_is_just_young_enough(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=3, age="2 days")
    cleaning = registry._cleaning(None)
    rows(
        conninfo,
        "UPDATE game_event SET recorded_at = %s::timestamptz - '1 day'::interval "
        "WHERE sequence > 1",
        [cleaning._as_of],
    )
    batches = in_thread(lambda: list(cleaning.batches())).result(30)
    assert sum(batch.events for batch in batches) == 1
    assert sequences(conninfo, "game 1") == [2, 3]


def test_an_end_deletes_what_was_not_swept_in_batches(conninfo: str) -> None:
    fill(conninfo, games=1, sessions=0, events=30, age="2 days")
    with configured(conninfo, batch_size=7) as registry, deletes(conninfo, "game_event") as noted:
        raised(registry)
        registry.end_game("game 1")
        assert max(number for _, number in noted()) == 7
        assert sum(number for _, number in noted()) == 30


def test_a_cleanup_at_work_keeps_no_reader_and_no_writer_waiting(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=1, events=3, age="2 days")
    with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
        cleanup = in_thread(registry.cleanup_expired_sessions)
        until_blocked(conninfo, 1, "sweep_events")
        assert registry.fetch_events_since("game 1", 3).head == 3
        assert registry.record_event("another", 1, event_id=uuid4()) == 1
        assert registry.issue_resume_token("another", "alice").session.generation == 1
    assert cleanup.result(30) == Cleanup(1, 3, 1)


def test_an_append_that_waited_for_the_end_of_an_idle_game_begins_it_anew(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=0, events=0, age="2 days")
    old = registry.fetch_events_since("game 1", 0).epoch
    with held(conninfo, "DELETE FROM game WHERE game_id = 'game 1'"):
        append = in_thread(lambda: registry.record_event("game 1", "anew"))
        until_blocked(conninfo, 1, "record_event")
    assert append.result(30) == 1
    assert registry.fetch_events_since("game 1", 0).epoch != old


def test_threads_that_clean_up_at_once_share_the_work(registry: Registry, conninfo: str) -> None:
    fill(conninfo, games=20, sessions=10, events=10, age="2 days")
    outcomes = at_once([lambda: registry.cleanup_expired_sessions(batch_size=7)] * 6)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    last = registry.cleanup_expired_sessions()
    total = [*outcomes, last]
    assert sum(cleanup.sessions for cleanup in total) == 200
    assert sum(cleanup.events for cleanup in total) == 200
    assert sum(cleanup.games for cleanup in total) == 20
    assert not any(dump(conninfo).values())


def test_processes_that_clean_up_at_once_share_the_work(conninfo: str) -> None:
    fill(conninfo, games=20, sessions=10, events=10, age="2 days")
    script = (
        "import sys; from registry import GameSessionRegistry as R\n"
        "with R.connect(sys.argv[1]) as r:\n"
        "    sys.stdin.readline(); c = r.cleanup_expired_sessions(batch_size=5)\n"
        "print(c.sessions, c.events, c.games)"
    )
    folder = str(Path(library.__file__).parent.parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, conninfo],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = []
    for process in processes:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        counts.append([int(word) for word in said.split()])
    with configured(conninfo) as registry:
        last = registry.cleanup_expired_sessions()
    counts.append([last.sessions, last.events, last.games])
    assert [sum(column) for column in zip(*counts, strict=True)] == [200, 200, 20]
    assert not any(dump(conninfo).values())


def test_players_go_on_while_several_clean_up(registry: Registry, conninfo: str) -> None:
    fill(conninfo, games=10, sessions=5, events=20, age="2 days")

    def play(n: int) -> int:
        player = registry.issue_resume_token(f"game {n}", "player").session.session_id
        for turn in range(15):
            sequence = registry.record_event(f"game {n}", turn)
            registry.heartbeat(player)
            registry.acknowledge(player, sequence)
        return sequence

    outcomes = at_once(
        [
            *[lambda n=n: play(n) for n in range(1, 5)],
            *[lambda: registry.cleanup_expired_sessions(batch_size=3)] * 2,
        ]
    )
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    for n, last in enumerate(outcomes[:4], 1):
        assert registry.fetch_events_since(f"game {n}", last).head == last
        assert [s.user_id for s in registry.list_sessions(f"game {n}")] == ["player"]


@pytest.mark.parametrize("batch_size", [0, -1, 2**31, 1.5, True, "5"])
def test_a_batch_is_a_whole_number_of_rows(registry: Registry, batch_size: object) -> None:
    with pytest.raises(InvalidArgument):
        registry.cleanup_expired_sessions(batch_size=batch_size)


def test_a_cleanup_under_an_older_snapshot_is_not_held_up(
    registry: Registry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=2, events=3, age="2 days")
    with psycopg.connect(conninfo) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert reader.execute("SELECT count(*) FROM game_event").fetchone() == (3,)
        assert registry.cleanup_expired_sessions() == Cleanup(2, 3, 1)
        assert reader.execute("SELECT count(*) FROM game_event").fetchone() == (3,)
