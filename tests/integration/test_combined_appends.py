"""Appends of many threads in one statement: each as good as if it had come alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from chaos.checker import violations
from chaos.client import Client
from chaos.history import Recorder, load
from probes import (
    PATIENCE,
    PATIENT,
    at_once,
    blocked,
    configured,
    empty,
    end_backend,
    held,
    hold_game,
    in_thread,
    queued,
    rows,
    sequences,
    until_blocked,
    value,
)
from soundness import unsound
from support import wait_until
from workload import Plan, Storm, in_threads, write

from registry import (
    GameSessionRegistry,
    RegistryError,
    RegistryUnavailable,
    SequenceConflict,
    combining,
)

Registry = GameSessionRegistry


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def registry(conninfo: str) -> Iterator[Registry]:
    with configured(conninfo, **PATIENT) as registry:
        yield registry


@contextmanager
def writer_busy(registry: Registry, conninfo: str) -> Iterator[None]:
    """Within this the writer waits for a game of its own; then it takes all that came up to then.

    Two events are recorded, in the game "gate".
    """
    registry.record_event("gate", "open")
    with hold_game(conninfo, "gate"):
        alone = in_thread(lambda: registry.record_event("gate", "alone"))
        until_blocked(conninfo, 1, "record_event")
        patient = in_thread(lambda: registry.record_event("gate", "patient"))
        until_blocked(conninfo, 1, "record_events")
        yield
    assert {alone.result(PATIENCE), patient.result(PATIENCE)} == {2, 3}


def send(registry: Registry, game: str, payload: object, **how: Any) -> Future[int]:
    """An append of another thread, which waits for the writer by the time that this returns."""
    return queued(registry._writer.combiner, lambda: registry.record_event(game, payload, **how))


def send_many(registry: Registry, game: str, payloads: list[object]) -> Future[range]:
    return queued(registry._writer.combiner, lambda: registry.record_events(game, payloads))


def log(registry: Registry, game: str) -> dict[int, object]:
    return {event.sequence: event.payload for event in registry.iter_events_since(game, 0)}


def transactions(conninfo: str, *games: str) -> int:
    """How many transactions recorded the events of these games."""
    query = "SELECT count(DISTINCT xmin::text) FROM game_event WHERE game_id = ANY(%s)"
    return int(value(conninfo, query, [list(games)]))


def end_of(call: Future[int]) -> int | RegistryError:
    """What an append returned, or the library's error that it raised."""
    try:
        return call.result(PATIENCE)
    except RegistryError as error:
        return error


# one batch


@pytest.mark.usefixtures("one_writer")
def test_appends_of_a_batch_are_one_transaction_and_each_gets_its_own_events_sequence(
    registry: Registry, conninfo: str
) -> None:
    games = [f"game {n}" for n in range(5)]
    for game in games:
        registry.record_event(game, "first")
    with writer_busy(registry, conninfo):
        calls = {(game, n): send(registry, game, f"{game} {n}") for n in range(8) for game in games}
    given = {call: future.result(PATIENCE) for call, future in calls.items()}
    for game in games:
        recorded = log(registry, game)
        # In the order in which they came, and nobody has another one's.
        assert [given[game, n] for n in range(8)] == list(range(2, 10))
        assert [recorded[given[game, n]] for n in range(8)] == [f"{game} {n}" for n in range(8)]
    assert transactions(conninfo, *games) == len(games) + 1
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
def test_appends_of_every_kind_share_a_batch(registry: Registry, conninfo: str) -> None:
    old, new = uuid4(), uuid4()
    registry.record_event("a", "old", event_id=old)
    registry.record_event("b", "first")
    with writer_busy(registry, conninfo):
        calls = {
            "plain": send(registry, "a", "plain"),
            "known": send(registry, "a", "known", event_id=old),
            "new": send(registry, "a", "new", event_id=new),
            "again": send(registry, "a", "again", event_id=new),
            "hole": send(registry, "a", "hole", expected_sequence=9),
            "past": send(registry, "a", "past", expected_sequence=1),
            "next": send(registry, "b", "next", expected_sequence=2),
            "loser": send(registry, "b", "loser", expected_sequence=2),
            "after": send(registry, "b", "after", expected_sequence=3, event_id=uuid4()),
            "there": send(registry, "b", "there", event_id=old),
        }
        many = send_many(registry, "b", ["m 1", "m 2", "m 3"])
    ends = {name: end_of(call) for name, call in calls.items()}
    a, b = log(registry, "a"), log(registry, "b")
    assert ends["known"] == 1
    assert ends["new"] == ends["again"]
    assert {a[ends["plain"]], a[ends["new"]]} == {"plain", "new"}
    assert len(a) == 3
    for name in ("hole", "past"):
        assert isinstance(ends[name], SequenceConflict)
        assert (ends[name].expected, ends[name].actual) == ({"hole": 9, "past": 1}[name], 2)
    assert (ends["next"], ends["after"]) == (2, 3)
    assert (ends["loser"].expected, ends["loser"].actual) == (2, 3)
    assert b[ends["there"]] == "there"
    assert [b[sequence] for sequence in many.result(PATIENCE)] == ["m 1", "m 2", "m 3"]
    assert [b[n] for n in (1, 2, 3)] == ["first", "next", "after"]
    assert len(b) == 7
    assert transactions(conninfo, "a", "b") == 3
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
def test_blocks_of_a_batch_do_not_mingle(registry: Registry, conninfo: str) -> None:
    registry.record_event("a", 0)
    with writer_busy(registry, conninfo):
        calls, single = [], []
        for n in range(6):
            calls.append((send_many(registry, "a", [f"{n}.{k}" for k in range(n + 1)]), n))
            single.append(send(registry, "a", f"single {n}"))
    blocks = [(call.result(PATIENCE), n) for call, n in calls]
    singles = [call.result(PATIENCE) for call in single]
    recorded = log(registry, "a")
    for block, n in blocks:
        assert [recorded[sequence] for sequence in block] == [f"{n}.{k}" for k in range(n + 1)]
    assert [recorded[sequence] for sequence in singles] == [f"single {n}" for n in range(6)]
    assert list(recorded) == list(range(1, 1 + 1 + 6 + 21))
    assert transactions(conninfo, "a") == 2


@pytest.mark.usefixtures("one_writer")
def test_a_batch_begins_the_games_that_are_not_there(registry: Registry, conninfo: str) -> None:
    event_id = uuid4()
    with writer_busy(registry, conninfo):
        plain = [send(registry, f"plain {n % 3}", n) for n in range(9)]
        first = send(registry, "checked", "first", event_id=event_id)
        again = send(registry, "checked", "again", event_id=event_id)
        early = send(registry, "other", "early", expected_sequence=2)
        right = send(registry, "other", "right", expected_sequence=1)
        many = send_many(registry, "block", [1, 2, 3])
    assert sorted(call.result(PATIENCE) for call in plain) == sorted([1, 2, 3] * 3)
    assert (first.result(PATIENCE), again.result(PATIENCE)) == (1, 1)
    # Whichever of the two came first, each was answered in accordance with it.
    ends = end_of(early), end_of(right)
    assert ends[1] == 1
    assert ends[0] == 2 or (ends[0].expected, ends[0].actual) == (2, 1)
    assert many.result(PATIENCE) == range(1, 4)
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
def test_an_id_used_elsewhere_since_the_statements_snapshot_is_known(
    registry: Registry, conninfo: str
) -> None:
    """The batch waits for a game in which somebody else records the same event meanwhile."""
    event_id = uuid4()
    for game in ("a", "b"):
        registry.record_event(game, "first")
    with psycopg.connect(conninfo) as other:
        registry.record_event("a", "theirs", event_id=event_id, connection=other)
        with writer_busy(registry, conninfo):
            mine = send(registry, "a", "mine", event_id=event_id)
            beside = send(registry, "a", "beside")
            free = send(registry, "b", "free", event_id=event_id)
        assert free.result(PATIENCE) == 2
        until_blocked(conninfo, 1)
    assert mine.result(PATIENCE) == 2
    assert beside.result(PATIENCE) == 3
    assert log(registry, "a") == {1: "first", 2: "theirs", 3: "beside"}


@pytest.mark.usefixtures("one_writer")
@pytest.mark.parametrize("checked", [False, True], ids=["plain", "with ids"])
@pytest.mark.parametrize(
    "refuse",
    [
        "ALTER TABLE game_event ADD CONSTRAINT mean CHECK (payload <> '\"bad\"'::bytea) NOT VALID",
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.payload = '"bad"'::bytea THEN RAISE 'not this one'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER mean BEFORE INSERT ON game_event FOR EACH ROW EXECUTE FUNCTION refuse()
        """,
    ],
    ids=["constraint", "trigger"],
)
def test_an_event_that_the_server_refuses_fails_alone(
    conninfo: str, registry: Registry, checked: bool, refuse: str
) -> None:
    registry.record_event("a", "first")
    rows(conninfo, refuse)
    try:
        with writer_busy(registry, conninfo):
            calls = []
            for n in range(9):
                how = {"event_id": uuid4()} if checked and n % 2 else {}
                payload = "bad" if n in (3, 4) else f"good {n}"
                calls.append(send(registry, "a" if n % 3 else f"b {n}", payload, **how))
        ends = [end_of(call) for call in calls]
    finally:
        rows(
            conninfo,
            "ALTER TABLE game_event DROP CONSTRAINT IF EXISTS mean;"
            " DROP TRIGGER IF EXISTS mean ON game_event; DROP FUNCTION IF EXISTS refuse",
        )
    for n, end in enumerate(ends):
        if n in (3, 4):
            assert isinstance(end, RegistryUnavailable)
            assert "nothing was done" in str(end)
        else:
            assert log(registry, "a" if n % 3 else f"b {n}")[end] == f"good {n}"
    assert "bad" not in log(registry, "a").values()
    assert unsound(conninfo) == []


# many threads


def test_what_many_threads_of_one_registry_see_of_a_hot_game_and_many_others_is_consistent(
    registry: Registry, conninfo: str, tmp_path: Path
) -> None:
    plan = Plan(["hot", *(f"cold {n}" for n in range(8))], writers=16, events=40, processes=1)
    recorder = Recorder(tmp_path / "history", 0)
    clients = [Client(registry, recorder, thread) for thread in range(16)]
    jobs = [
        partial(write, client, plan.game(0 if thread % 2 else thread), plan)
        for thread, client in enumerate(clients)
    ]
    assert in_threads(jobs) == []
    assert violations(load([recorder.path])) == []
    assert unsound(conninfo) == []
    games = {plan.game(0 if thread % 2 else thread) for thread in range(16)}
    labels = [label for game in games for label in log(registry, game).values()]
    assert sorted(labels) == sorted(f"0.{thread}.{n}" for thread in range(16) for n in range(40))


def test_of_all_who_expect_a_sequence_one_gets_it_and_the_others_learn_where_the_log_stands(
    registry: Registry, conninfo: str
) -> None:
    registry.record_event("a", "first")
    won: list[tuple[int, str]] = []

    def insist(thread: int) -> None:
        expected = 2
        for n in range(12):
            payload = f"{thread}.{n}"
            how = {"event_id": uuid4()} if n % 3 == 0 else {}
            conflict = True
            while conflict:
                append = partial(registry.record_event, "a", payload, **how)
                expected, conflict = attempt(append, expected)
            won.append((expected - 1, payload))

    def attempt(append: Callable[..., int], expected: int) -> tuple[int, bool]:
        """The sequence to expect next, and whether this one was somebody else's."""
        try:
            got = append(expected_sequence=expected)
        except SequenceConflict as conflict:
            # The log only grows, and it had stood there before.
            if not conflict.expected == expected < conflict.actual:
                raise AssertionError("a conflict that is none") from conflict
            return conflict.actual, True
        assert got == expected
        return got + 1, False

    assert in_threads([partial(insist, thread) for thread in range(10)]) == []
    assert dict(won) == {n: payload for n, payload in log(registry, "a").items() if n > 1}
    assert sorted(sequence for sequence, _ in won) == list(range(2, 122))


def test_an_id_used_by_many_threads_again_and_again_is_one_event(registry: Registry) -> None:
    ids = [uuid4() for _ in range(30)]
    seen: list[tuple[UUID, int]] = []

    def retry(thread: int) -> None:
        for n in range(len(ids)):
            event_id = ids[(n + thread) % 3 + n // 3 * 3]
            seen.append((event_id, registry.record_event("a", str(event_id), event_id=event_id)))

    assert in_threads([partial(retry, thread) for thread in range(9)]) == []
    assert len(set(seen)) == len(ids)
    assert {sequence: str(event_id) for event_id, sequence in seen} == log(registry, "a")
    assert list(log(registry, "a")) == list(range(1, len(ids) + 1))


def test_games_that_are_not_there_begin_with_one_from_many_threads_at_once(
    registry: Registry, conninfo: str
) -> None:
    games, threads = [f"game {n}" for n in range(20)], 12
    given: list[tuple[str, int]] = []

    def begin(thread: int) -> None:
        for game in games:
            how = {"event_id": uuid4()} if thread % 3 == 0 else {}
            given.append((game, registry.record_event(game, thread, **how)))

    assert in_threads([partial(begin, thread) for thread in range(threads)]) == []
    assert sorted(given) == sorted((game, n) for game in games for n in range(1, threads + 1))
    for game in games:
        assert sorted(log(registry, game).values()) == list(range(threads))
    assert unsound(conninfo) == []


def test_processes_of_many_threads_on_one_game_and_on_many_never_deadlock(
    conninfo: str, tmp_path: Path
) -> None:
    """The games are locked in any order by any of them, and most are there for all."""
    games = ["hot", "hot", *(f"cold {n}" for n in range(10))]
    before = value(conninfo, DEADLOCKS)
    plan = Plan(games, writers=12, events=30, processes=3)
    calls = Storm(conninfo, tmp_path, plan).run()
    assert violations(calls) == []
    assert unsound(conninfo) == []
    for game, head in [("hot", 2 * 3 * 30), *((game, 3 * 30) for game in games[2:])]:
        assert sequences(conninfo, game) == list(range(1, head + 1))
    # The counts of a server process are there once it has ended, and all of them have.
    wait_until(lambda: value(conninfo, OTHERS) == 0)
    assert value(conninfo, DEADLOCKS) == before


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
OTHERS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
    AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


# games that somebody else has


def test_a_locked_game_delays_no_other_game_of_the_process(
    registry: Registry, conninfo: str
) -> None:
    for game in ("locked", *(f"game {n}" for n in range(5))):
        registry.record_event(game, "first")
    with hold_game(conninfo, "locked"):
        stuck = [
            in_thread(lambda n=n: registry.record_event("locked", n, event_id=uuid4()))
            for n in range(5)
        ]
        until_blocked(conninfo, 2)  # one in its own thread, the others with the writer
        free = [
            partial(registry.record_event, f"game {n % 5}", n, event_id=uuid4())
            if n % 2
            else partial(registry.record_event, f"game {n % 5}", n)
            for n in range(20)
        ]
        new = [partial(registry.record_event, f"new {n}", n) for n in range(3)]
        ends = at_once([*free, *new])
        assert not [end for end in ends if not isinstance(end, int)]
        assert blocked(conninfo)  # it all came while the lock was held
        assert not any(call.done() for call in stuck)
    assert sorted(call.result(PATIENCE) for call in stuck) == [2, 3, 4, 5, 6]
    assert unsound(conninfo) == []


@pytest.mark.usefixtures("one_writer")
@pytest.mark.parametrize("checked", [False, True], ids=["plain", "with ids"])
def test_a_locked_game_delays_nothing_of_its_batch(
    registry: Registry, conninfo: str, checked: bool
) -> None:
    for game in ("locked", "a", "b"):
        registry.record_event(game, "first")
    with hold_game(conninfo, "locked"):
        with writer_busy(registry, conninfo):
            calls = {
                (game, n): send(registry, game, n, event_id=uuid4() if checked else None)
                for n in range(3)
                for game in ("locked", "a", "b")
            }
        for n in range(3):
            assert calls["a", n].result(PATIENCE) == calls["b", n].result(PATIENCE) == 2 + n
        until_blocked(conninfo, 1)
        assert not any(calls["locked", n].done() for n in range(3))
    assert [calls["locked", n].result(PATIENCE) for n in range(3)] == [2, 3, 4]
    # What was passed over is recorded together as well.
    assert transactions(conninfo, "locked") == 2


def test_more_locked_games_than_there_are_writers_delay_no_other_either(
    registry: Registry, conninfo: str
) -> None:
    locked = [f"locked {n}" for n in range(2 * combining.MOST_WRITERS)]
    for game in (*locked, "free"):
        registry.record_event(game, "first")
    with held(conninfo, "SELECT FROM game WHERE game_id ~ '^locked' FOR UPDATE"):
        stuck = [in_thread(lambda game=game: registry.record_event(game, 1)) for game in locked]
        until_blocked(conninfo, combining.MOST_WRITERS)
        for n in range(2, 12):
            assert registry.record_event("free", n) == n
        assert not any(call.done() for call in stuck)
    assert [call.result(PATIENCE) for call in stuck] == [2] * len(locked)


def test_a_locked_games_own_appends_are_unavailable_after_lock_timeout(conninfo: str) -> None:
    with configured(conninfo, **{**PATIENT, "lock_timeout": 0.3}) as registry:
        for game in ("locked", "free"):
            registry.record_event(game, "first")
        with hold_game(conninfo, "locked"):
            appends = [partial(registry.record_event, "locked", n) for n in range(4)]
            appends += [
                partial(registry.record_event, "locked", n, event_id=uuid4()) for n in range(4)
            ]
            for end in at_once(appends):
                assert isinstance(end, RegistryUnavailable)
                assert "lock_timeout" in str(end)
            assert registry.record_event("free", 2) == 2
        assert registry.record_event("locked", "again") == 2


def test_a_locked_games_appends_wait_no_longer_than_pool_timeout_to_be_begun(
    conninfo: str,
) -> None:
    with configured(conninfo, **{**PATIENT, "pool_timeout": 2.0}) as registry:
        registry.record_event("locked", "first")
        with hold_game(conninfo, "locked"):
            begun = [in_thread(lambda n=n: registry.record_event("locked", n)) for n in range(2)]
            until_blocked(conninfo, 2)
            with pytest.raises(RegistryUnavailable, match="not begun; nothing was done"):
                registry.record_event("locked", "late")
        assert {call.result(PATIENCE) for call in begun} == {2, 3}
        assert "late" not in log(registry, "locked").values()


# broken connections

# The batch stops in the middle, as long as somebody holds this lock.
STOP = """
CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.game_id <> 'gate' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER stop AFTER INSERT ON game_event FOR EACH ROW EXECUTE FUNCTION stop();
"""


@pytest.mark.usefixtures("one_writer")
@pytest.mark.parametrize("games", [1, 4], ids=["one game", "many games"])
def test_a_batch_whose_connection_broke_is_recorded_exactly_once(
    registry: Registry, conninfo: str, games: int
) -> None:
    for n in range(games):
        registry.record_event(f"game {n}", "first")
    rows(conninfo, STOP)
    try:
        with held(conninfo, "SELECT pg_advisory_xact_lock(1)"):
            with writer_busy(registry, conninfo):
                plain = [send(registry, f"game {n % games}", f"plain {n}") for n in range(8)]
                named = [
                    send(registry, f"game {n % games}", f"named {n}", event_id=uuid4())
                    for n in range(8)
                ]
            (pid,) = until_blocked(conninfo, 1, "record_batch_checked")
            end_backend(conninfo, pid)
            until_blocked(conninfo, 1, "record_batch_checked")  # it is tried again
        given = [call.result(PATIENCE) for call in named]
        numbers = [call.result(PATIENCE) for call in plain]
    finally:
        rows(conninfo, "DROP TRIGGER stop ON game_event; DROP FUNCTION stop")
    recorded = [(game, *event) for game in range(games) for event in log_items(registry, game)]
    assert sorted(recorded) == sorted(
        [(game, 1, "first") for game in range(games)]
        + [(n % games, given[n], f"named {n}") for n in range(8)]
        + [(n % games, numbers[n], f"plain {n}") for n in range(8)]
    )
    assert registry.record_event("game 0", "after") > 1
    assert unsound(conninfo) == []


def log_items(registry: Registry, game: int) -> list[tuple[int, object]]:
    return list(log(registry, f"game {game}").items())


# the end


@pytest.mark.usefixtures("one_writer")
def test_closing_a_registry_records_what_waits_and_refuses_what_comes(
    registry: Registry, conninfo: str
) -> None:
    with writer_busy(registry, conninfo):
        calls = [send(registry, f"game {n % 3}", n) for n in range(9)]
        closing = in_thread(registry.close)
        wait_until(lambda: registry._writer.combiner._closed)
        with pytest.raises(RegistryUnavailable, match="the registry is closed"):
            registry.record_event("game 0", "late")
        assert not closing.done()
    assert sorted(call.result(PATIENCE) for call in calls) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    closing.result(PATIENCE)
    assert not registry._writer.combiner._writers
    assert [sequences(conninfo, f"game {n}") for n in range(3)] == [[1, 2, 3]] * 3


# the cap


@pytest.mark.usefixtures("one_writer")
@pytest.mark.parametrize("checked", [False, True], ids=["plain", "with ids"])
def test_a_batch_keeps_the_cap(conninfo: str, checked: bool) -> None:
    with configured(conninfo, max_events_per_game=10, batch_size=4, **PATIENT) as registry:
        registry.record_event("game", "first")
        with writer_busy(registry, conninfo):
            calls = [
                send(registry, "game", n, event_id=uuid4() if checked else None) for n in range(40)
            ]
        assert sorted(call.result(PATIENCE) for call in calls) == list(range(2, 42))
        assert len(sequences(conninfo, "game")) <= 10
        assert registry.fetch_events_since("game", 41).floor >= 31
    assert unsound(conninfo) == []


def test_many_threads_keep_the_cap_though_they_prune_in_small_batches(conninfo: str) -> None:
    with configured(conninfo, max_events_per_game=16, batch_size=1, **PATIENT) as registry:

        def append(thread: int) -> None:
            for n in range(40):
                registry.record_event("game", f"{thread}.{n}")

        assert in_threads([partial(append, thread) for thread in range(12)]) == []
        assert len(sequences(conninfo, "game")) <= 17 + 12  # an append each that was under way
        assert registry.fetch_events_since("game", 480 - 16).head == 480
    assert unsound(conninfo) == []
