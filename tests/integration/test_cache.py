"""The replay cache in a real Redis: what it is given, what it gives, and what it never does.

What is in Redis may be anything at all: answers come out the same as without it.
"""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from probes import as_just_opened, at_once, empty, in_thread, rows
from redis_server import PASSWORD, RedisServer
from support import wait_until

from registry import (
    AheadOfLog,
    Continuity,
    EpochMismatch,
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    InvalidArgument,
    InvalidToken,
    RegistryConfig,
    Replay,
)
from registry.cache import RedisReplayCache
from registry.keeping import PART
from registry.runs import Run, joined, pack, unpack

pytestmark = pytest.mark.usefixtures("patient_keeper")

Registry = GameSessionRegistry
SECRET = "the-queen-is-in-the-cellar"
PATIENT = 5.0
"""A cache timeout that no busy machine exceeds."""


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@contextmanager
def opened(conninfo: str, redis: RedisServer, **given: object) -> Iterator[Registry]:
    """A registry with a cache of its own, as that of another process."""
    config = RegistryConfig(**{"pool_min_size": 1, "cache_timeout": PATIENT, **given})  # type: ignore[arg-type]
    with (
        RedisReplayCache(redis.url) as cache,
        Registry.connect(conninfo, config=config, cache=cache) as registry,
    ):
        yield registry


@pytest.fixture
def registry(conninfo: str, redis: RedisServer) -> Iterator[Registry]:
    with opened(conninfo, redis) as registry:
        yield registry


def payloads(replay: Replay) -> list[object]:
    return [event.payload for event in replay.events]


def until_holds(redis: RedisServer, game_id: str, begin: int, end: int) -> None:
    wait_until(lambda: redis.holds(game_id) == (begin, end), timeout=10)


def filled(registry: Registry, redis: RedisServer, game_id: str, events: Sequence[object]) -> None:
    """Records and reads a game, and waits until Redis has it."""
    head = registry.record_events(game_id, events)[-1]
    as_just_opened(registry)
    registry._reads.known._given.clear()  # type: ignore[attr-defined]
    registry.fetch_events_since(game_id, 0)
    until_holds(redis, game_id, 0, head)


def run_of(epoch: UUID, begin: int, events: Sequence[bytes]) -> Run:
    return Run(epoch, begin, b"\0\0\0\0\0\0\0\1" * len(events), [1] * len(events), events)


def put(redis: RedisServer, game_id: str, *runs: bytes | Run) -> None:
    """Has Redis hold this, whatever it held."""
    key = f"registry:{game_id}"
    redis.client.delete(key)
    redis.client.rpush(key, *(pack(run) if isinstance(run, Run) else run for run in runs))


def lost(redis: RedisServer, game_id: str) -> None:
    wait_until(lambda: not redis.client.exists(f"registry:{game_id}"), timeout=10)


# what it is given


def test_what_was_read_is_in_redis_as_it_was_read(registry: Registry, redis: RedisServer) -> None:
    registry.record_events("game", range(300))
    page = registry.fetch_events_since("game", 100, limit=150)
    until_holds(redis, "game", 100, 250)
    run = joined(redis.runs("game"))
    assert run is not None
    assert run.epoch == page.epoch
    assert all(len(part.payloads) <= PART for part in redis.runs("game"))
    with opened(registry._database.pool.conninfo, redis) as other:
        again = other.fetch_events_since("game", 100, limit=150)
    assert again == page
    assert (again.source, page.source) == ("cache", "database")


def test_a_committed_append_follows_once_the_game_was_read(
    registry: Registry, redis: RedisServer
) -> None:
    registry.record_event("game", 0)
    registry.fetch_events_since("game", 0)
    until_holds(redis, "game", 0, 1)
    registry.record_event("game", 1)
    until_holds(redis, "game", 0, 2)
    registry.record_events("game", [2, 3])
    until_holds(redis, "game", 0, 4)


def test_a_game_that_nobody_reads_is_not_brought_in(registry: Registry, redis: RedisServer) -> None:
    registry.record_event("read", 0)
    registry.fetch_events_since("read", 0)
    registry.record_events("unread", range(5))
    registry.record_event("read", 1)
    until_holds(redis, "read", 0, 2)
    assert redis.client.keys() == [b"registry:read"]


def test_an_append_in_a_callers_transaction_is_never_there_before_it_commits(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    filled(registry, redis, "game", [0])
    with psycopg.connect(conninfo) as own:
        registry.record_event("game", "rolled back", connection=own)
        registry.fetch_events_since("game", 0)
        own.rollback()
    registry.record_event("game", 1)
    until_holds(redis, "game", 0, 2)
    assert joined(redis.runs("game")).payloads == [b"0", b"1"]  # type: ignore[union-attr]


def test_only_the_newest_events_are_kept_and_not_for_ever(
    conninfo: str, redis: RedisServer
) -> None:
    with opened(conninfo, redis, cache_events=50, replay_retention=1000.5) as registry:
        registry.record_events("game", range(200))
        registry.fetch_events_since("game", 0)  # up to the head: the newest fifty of it
        until_holds(redis, "game", 150, 200)
        assert 0 < redis.client.ttl("registry:game") <= 1001
        for head in range(210, 401, 10):
            registry.record_events("game", range(10))
            wait_until(lambda head=head: (redis.holds("game") or (0, 0))[1] == head, timeout=10)
        begin, _ = redis.holds("game") or (0, 0)
        assert 50 <= 400 - begin <= 50 + PART
        redis.client.persist("registry:game")
        registry.record_event("game", 400)
        wait_until(lambda: (redis.holds("game") or (0, 0))[1] == 401, timeout=10)
        assert 990 <= redis.client.ttl("registry:game") <= 1001  # anew with each change


def test_pages_that_are_not_among_the_newest_are_not_kept(
    conninfo: str, redis: RedisServer
) -> None:
    with opened(conninfo, redis, cache_events=50) as registry:
        registry.record_events("game", range(200))
        registry.fetch_events_since("game", 0, limit=100)
        registry.record_event("other", 0)
        registry.fetch_events_since("other", 0)
        until_holds(redis, "other", 0, 1)
        assert redis.holds("game") is None


# what is taken away


def test_what_was_pruned_is_trimmed(registry: Registry, redis: RedisServer) -> None:
    filled(registry, redis, "game", range(3 * PART))
    registry.prune_events("game", PART + 5)  # the second part is pruned in part
    until_holds(redis, "game", PART, 3 * PART)
    registry.prune_events("game", 3 * PART)
    lost(redis, "game")


def test_what_all_have_acknowledged_is_trimmed(registry: Registry, redis: RedisServer) -> None:
    session = registry.issue_resume_token("game", "player").session
    filled(registry, redis, "game", range(2 * PART))
    registry.acknowledge(session.session_id, PART)
    until_holds(redis, "game", PART, 2 * PART)


def test_an_ended_game_is_dropped_and_the_next_one_is_another(
    registry: Registry, redis: RedisServer
) -> None:
    filled(registry, redis, "game", ["old"] * 5)
    registry.end_game("game")
    lost(redis, "game")
    with pytest.raises(GameNotFound):
        registry.fetch_events_since("game", 0)
    filled(registry, redis, "game", ["new"] * 3)
    assert payloads(registry.fetch_events_since("game", 0)) == ["new"] * 3


def test_a_game_ended_elsewhere_is_dropped_when_it_is_next_read(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    filled(registry, redis, "game", ["old"] * 5)
    with Registry.connect(conninfo) as elsewhere:  # without a cache: nobody tells Redis
        elsewhere.end_game("game")
        epoch = elsewhere.issue_resume_token("game", "player")
        elsewhere.record_events("game", ["new"] * 7)
    assert redis.holds("game") == (0, 5)
    replay = registry.fetch_events_since("game", 0)
    assert payloads(replay) == ["new"] * 7
    assert replay.source == "database"
    until_holds(redis, "game", 0, 7)
    assert {run.epoch for run in redis.runs("game")} == {replay.epoch}
    assert registry.resume(epoch.token, after=0).replay.events == replay.events


def test_renewed_epochs_drop_it(registry: Registry, redis: RedisServer) -> None:
    filled(registry, redis, "game", range(5))
    before = registry.fetch_events_since("game", 0)
    registry.renew_epochs()
    with pytest.raises(EpochMismatch):
        registry.fetch_events_since("game", 0, epoch=before.epoch)
    after = registry.fetch_events_since("game", 0)
    assert after.epoch != before.epoch
    assert after.events == before.events
    wait_until(lambda: {run.epoch for run in redis.runs("game")} == {after.epoch}, timeout=10)


# where an answer came from


def test_the_source_is_the_cache_only_where_events_came_from_it(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    filled(registry, redis, "game", range(10))
    with opened(conninfo, redis) as other:
        for after, limit, source in [
            (0, None, "cache"),
            (0, 3, "cache"),
            (9, None, "cache"),
            (10, None, "database"),
        ]:
            as_just_opened(other)
            page = other.fetch_events_since("game", after, limit=limit)
            assert (payloads(page), page.source) == (
                list(range(10))[after:][: limit or 10],
                source,
            )
        rows(conninfo, "UPDATE game_event SET payload = convert_to('99', 'UTF8')")
        as_just_opened(other)
        other.record_event("game", 10)
        page = other.fetch_events_since("game", 0)
        assert payloads(page) == list(range(11))  # so they did come from there
        as_just_opened(other)
        redis.client.flushall()
        page = other.fetch_events_since("game", 0)
        assert payloads(page) == [99] * 10 + [10]
        assert page.source == "database"


def test_of_one_shared_page_each_call_is_told_where_its_own_events_came_from(
    registry: Registry, redis: RedisServer
) -> None:
    filled(registry, redis, "game", range(10))
    with opened(registry._database.pool.conninfo, redis) as elsewhere:
        elsewhere.record_events("game", range(10, 20))
    reads = registry._reads
    found = reads.read("game", (0, 100), reads.known.find({"game": (0, 100)}).get("game"))
    assert found is not None
    assert (found.source, found.run.begin, found.run.end) == ("cache", 0, 20)
    assert found.part(9, 5).source == "cache"
    assert found.part(10, 5).source == "database"
    assert found.part(20, 5).source == "database"


def test_resuming_reads_from_the_cache_and_asks_the_database_for_the_rest(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    issued = registry.issue_resume_token("game", "player")
    filled(registry, redis, "game", range(10))
    rows(conninfo, "UPDATE game_event SET payload = convert_to('99', 'UTF8')")
    with opened(conninfo, redis) as other:
        other.record_event("game", 10)
        resumed = other.resume(issued.token, after=4)
        assert payloads(resumed.replay) == list(range(4, 11))
        assert resumed.replay.source == "cache"
        assert resumed.continuity is Continuity.CONTINUOUS
        other.prune_events("game", 7)
        resumed = other.resume(resumed.token, after=4)
        assert (resumed.continuity, resumed.missed) == (Continuity.GAP, 3)
        assert payloads(resumed.replay) == [7, 8, 9, 10]
        assert resumed.replay.source == "cache"
        with pytest.raises(HistoryPruned):
            other.fetch_events_since("game", 6)
        resumed = other.resume(resumed.token, after=11, epoch=uuid4())
        assert resumed.continuity is Continuity.RESET
        assert payloads(resumed.replay) == [99, 99, 99, 10]
        with pytest.raises(AheadOfLog):
            other.fetch_events_since("game", 12)


def test_a_gap_is_answered_by_a_whole_page(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    """What is known from before the floor takes no room from what comes after it."""
    issued = registry.issue_resume_token("game", "player")
    filled(registry, redis, "game", range(20))
    with Registry.connect(conninfo) as elsewhere:
        elsewhere.prune_events("game", 5)
    resumed = registry.resume(issued.token, after=2, limit=6)
    assert resumed.continuity is Continuity.GAP
    assert payloads(resumed.replay) == [5, 6, 7, 8, 9, 10]


# what a storm of writers and readers leaves behind


def test_many_threads_and_two_caches_never_leave_a_hole(conninfo: str, redis: RedisServer) -> None:
    games = ["alpha", "beta"]
    stop = False

    def look() -> int:
        """Each state that Redis is ever in is one run, and read by anyone as what it is."""
        seen = 0
        while not stop:
            for game in games:
                runs = redis.runs(game)
                for before, after in pairwise(runs):
                    assert after.epoch == before.epoch
                    assert after.begin <= before.end
                seen += len(runs)
        return seen

    with (
        opened(conninfo, redis, cache_events=40) as one,
        opened(conninfo, redis, cache_events=40) as other,
    ):
        looked = in_thread(look)

        def play(registry: Registry, number: int) -> None:
            chance = random.Random(number)
            for n in range(25):
                game = chance.choice(games)
                registry.record_events(game, [[number, n]] * chance.randint(1, 4))
                head = registry.fetch_events_since(game, 0, limit=1).head
                after = max(0, head - chance.randint(0, 60))
                page = registry.fetch_events_since(game, after, limit=chance.choice([None, 7]))
                sequences = [event.sequence for event in page.events]
                assert sequences == list(range(after + 1, after + 1 + len(sequences)))

        plays = [
            lambda registry=registry, number=number: play(registry, number)
            for number, registry in enumerate([one, other] * 6)
        ]
        outcomes = at_once(plays)
        stop = True
        assert outcomes == [None] * len(plays)
        assert looked.result(30) > 0
        for game in games:
            with Registry.connect(conninfo) as plain:
                truth = plain.fetch_events_since(game, 0)
            for registry in (one, other):
                as_just_opened(registry)
                assert registry.fetch_events_since(game, 0).events == truth.events
                assert (
                    registry.fetch_events_since(game, truth.head - 20).events
                    == truth.events[truth.head - 20 :]
                )


EPOCHS = [UUID(int=1), UUID(int=2)]


def event(epoch: UUID, sequence: int) -> bytes:
    return f"{epoch.int}/{sequence}".encode()


fills = st.tuples(
    st.just("fill"), st.sampled_from([0, 0, 0, 1]), st.integers(0, 40), st.integers(1, 12)
)
trims = st.tuples(st.just("trim"), st.integers(0, 45))
reads = st.tuples(st.just("read"), st.integers(0, 45), st.integers(1, 20))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(fills | fills | fills | trims | reads, max_size=25), st.integers(1, 25))
def test_no_order_of_fills_and_trims_leaves_a_hole(
    redis: RedisServer, steps: list[tuple[Any, ...]], keep: int
) -> None:
    redis.client.delete("registry:game")
    given: dict[UUID, set[int]] = {epoch: set() for epoch in EPOCHS}
    with RedisReplayCache(redis.url) as cache:
        for step in [*steps, ("read", 0, 99)]:
            before = joined(redis.runs("game"))
            if step[0] == "fill":
                epoch, begin, end = EPOCHS[step[1]], step[2], step[2] + step[3]
                events = [event(epoch, sequence) for sequence in range(begin + 1, end + 1)]
                given[epoch] |= set(range(begin + 1, end + 1))
                fill = [("game", run_of(epoch, begin, events))]
                assert change(cache, fills=fill, keep=keep)
                after = joined(redis.runs("game"))
                assert after is not None
                assert redis.client.ttl("registry:game") > 0
                if before is None or before.epoch != epoch or begin > before.end:
                    assert (after.epoch, after.begin, after.end) == (epoch, begin, end)
                else:
                    assert (after.epoch, after.end) == (epoch, max(before.end, end))
                    if end > before.end - keep and end >= before.begin:
                        whole = min(before.begin, begin)
                        assert after.begin == whole or after.end - after.begin >= keep
                    else:
                        assert after.begin == before.begin
            elif step[0] == "trim":
                assert change(cache, trims={"game": step[1]})
                after = joined(redis.runs("game"))
                if before is not None and before.end > step[1]:
                    assert after is not None
                    assert before.begin <= after.begin <= max(before.begin, step[1])
                    assert after.end == before.end
                else:
                    assert after is None
            else:
                _, wanted, most = step
                found = cache.read({"game": (wanted, most)}, PATIENT).get("game")
                covered = before is not None and before.begin <= wanted < before.end
                if found is not None and found.begin <= wanted < found.end:
                    assert before is not None
                    assert found.epoch == before.epoch
                    assert found.end >= min(before.end, wanted + most)
                    assert sound(found)
                assert found is not None or not covered
            runs = redis.runs("game")
            assert all(map(sound, runs))
            assert len({run.epoch for run in runs}) <= 1
            assert all(b.begin <= a.end for a, b in pairwise(runs))
            if runs:
                whole_run = joined(runs)
                assert whole_run is not None
                present = set(range(whole_run.begin + 1, whole_run.end + 1))
                assert present <= given[whole_run.epoch]


def sound(run: Run) -> bool:
    return list(run.payloads) == [event(run.epoch, n) for n in range(run.begin + 1, run.end + 1)]


def change(cache: RedisReplayCache, **what: Any) -> bool:
    quiet = {"gone": [], "fills": [], "trims": {}, "keep": 1000, "seconds": 1000, "timeout": 5.0}
    return cache.change(**{**quiet, **what})


def test_a_run_behind_a_hole_takes_the_place_of_what_was_there(redis: RedisServer) -> None:
    with RedisReplayCache(redis.url) as cache:
        for begin, end in [(0, 3), (4, 6)]:
            events = [event(EPOCHS[0], n) for n in range(begin + 1, end + 1)]
            assert change(cache, fills=[("game", run_of(EPOCHS[0], begin, events))])
    assert [(run.begin, run.end) for run in redis.runs("game")] == [(4, 6)]


def test_a_trim_takes_whole_runs_and_none_that_is_needed(redis: RedisServer) -> None:
    with RedisReplayCache(redis.url) as cache:
        for begin in (0, 3):
            events = [event(EPOCHS[0], n) for n in range(begin + 1, begin + 4)]
            assert change(cache, fills=[("game", run_of(EPOCHS[0], begin, events))])
        for floor, left in [(2, (0, 6)), (3, (3, 6)), (5, (3, 6)), (6, None)]:
            assert change(cache, trims={"game": floor})
            assert redis.holds("game") == left


def test_the_oldest_runs_go_when_there_are_too_many_and_the_newest_stay(redis: RedisServer) -> None:
    with RedisReplayCache(redis.url) as cache:
        for begin in range(0, 100, 5):
            events = [event(EPOCHS[0], n) for n in range(begin + 1, begin + 6)]
            assert change(cache, fills=[("game", run_of(EPOCHS[0], begin, events))], keep=12)
    assert redis.holds("game") == (85, 100)  # the twelve newest, and the rest of their run


# odd names


ODD = ["{hash}tag", "a b\r\nFLUSHALL\r\n", "*", "a/b:c", "日本語", "x" * 200, '"\\', "*3\r\n$3"]


def test_odd_game_ids_are_each_a_game_of_their_own(conninfo: str, redis: RedisServer) -> None:
    with opened(conninfo, redis) as registry:
        for number, game in enumerate(ODD):
            registry.record_events(game, [number] * (number + 1))
            registry.fetch_events_since(game, 0)
        for number, game in enumerate(ODD):
            until_holds(redis, game, 0, number + 1)
    assert sorted(redis.client.keys()) == sorted(f"registry:{game}".encode() for game in ODD)
    with opened(conninfo, redis) as registry:
        for number, game in enumerate(ODD):
            replay = registry.fetch_events_since(game, 0)
            assert payloads(replay) == [number] * (number + 1)
            assert replay.source == "cache"
        registry.end_game("*")
        lost(redis, "*")
    assert len(redis.client.keys()) == len(ODD) - 1


def test_odd_game_ids_are_fine_with_a_client_of_another_encoding(
    conninfo: str, redis: RedisServer
) -> None:
    settings = {"encoding": "latin-1", "decode_responses": True}
    client = redis_py.Redis(host="127.0.0.1", port=redis.port, **settings)  # type: ignore[call-overload]
    config = RegistryConfig(cache_timeout=PATIENT, pool_min_size=1)
    with (
        client,
        RedisReplayCache(client) as cache,
        Registry.connect(conninfo, config=config, cache=cache) as registry,
    ):
        registry.record_event("日本語", 1)
        assert payloads(registry.fetch_events_since("日本語", 0)) == [1]
        until_holds(redis, "日本語", 0, 1)


def test_databases_of_different_prefixes_share_a_redis(redis: RedisServer) -> None:
    with (
        RedisReplayCache(redis.url, prefix="one") as one,
        RedisReplayCache(redis.url, prefix="two") as two,
    ):
        change(one, fills=[("game", run_of(EPOCHS[0], 0, [b"1"]))])
        assert two.read({"game": (0, 10)}, PATIENT) == {}
        assert list(one.read({"game": (0, 10)}, PATIENT)) == ["game"]
        assert redis.client.keys() == [b"one:game"]


# garbage


def flipped(packed: bytes, place: int) -> bytes:
    return packed[:place] + bytes([packed[place] ^ 1]) + packed[place + 1 :]


GARBAGE = {
    "another type": lambda client, good: client.set("registry:game", "text"),
    "a hash": lambda client, good: client.hset("registry:game", "field", "text"),
    "an empty run": lambda client, good: client.rpush("registry:game", b""),
    "a short run": lambda client, good: client.rpush("registry:game", pack(good)[:40]),
    "a run without its end": lambda client, good: client.rpush("registry:game", pack(good)[:-1]),
    "a wrong checksum": lambda client, good: client.rpush("registry:game", flipped(pack(good), -1)),
    "a flipped bit": lambda client, good: client.rpush("registry:game", flipped(pack(good), 45)),
    "a flipped bit of the payload": lambda client, good: client.rpush(
        "registry:game", flipped(pack(good), -10)
    ),
    "a damaged one behind a good one": lambda client, good: client.rpush(
        "registry:game", pack(good.part(0, 3)), flipped(pack(good.part(3, 9)), -10)
    ),
    "text": lambda client, good: client.rpush("registry:game", b"text" * 20),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_answered_rightly_and_dropped(
    registry: Registry, redis: RedisServer, kind: str
) -> None:
    issued = registry.issue_resume_token("game", "player")
    filled(registry, redis, "game", range(8))
    good = joined(redis.runs("game"))
    assert good is not None
    redis.client.delete("registry:game")
    GARBAGE[kind](redis.client, good)
    held = redis.client.dump("registry:game")
    with opened(registry._database.pool.conninfo, redis) as other:
        assert payloads(other.fetch_events_since("game", 0)) == list(range(8))
        wait_until(lambda: redis.client.dump("registry:game") != held, timeout=10)
        until_holds(redis, "game", 0, 8)  # filled anew
        redis.client.delete("registry:game")
        GARBAGE[kind](redis.client, good)
        as_just_opened(other)
        assert payloads(other.resume(issued.token, after=2).replay) == list(range(2, 8))


WRONG = {
    "of another epoch": lambda epoch: [run_of(uuid4(), 0, [b"66"] * 8)],
    "of another epoch and longer": lambda epoch: [run_of(uuid4(), 0, [b"66"] * 20)],
    "of two epochs": lambda epoch: [
        run_of(epoch, 0, [b"0", b"1"]),
        run_of(uuid4(), 2, [b"66"] * 6),
    ],
    "behind a hole": lambda epoch: [
        run_of(epoch, 0, [b"0", b"1"]),
        run_of(epoch, 5, [b"5", b"6", b"7"]),
    ],
    "before a hole": lambda epoch: [run_of(epoch, 4, [b"4", b"5"])],
    "out of order": lambda epoch: [
        run_of(epoch, 5, [b"5", b"6", b"7"]),
        run_of(epoch, 0, [b"0", b"1"]),
    ],
    "past the head": lambda epoch: [run_of(epoch, 0, [str(n).encode() for n in range(20)])],
    "ahead of the head": lambda epoch: [run_of(epoch, 12, [b"66"] * 8)],
    "empty": lambda epoch: [run_of(epoch, 3, [])],
    "empty between": lambda epoch: [
        run_of(epoch, 0, [b"0", b"1"]),
        run_of(epoch, 2, []),
        run_of(epoch, 2, [b"2"]),
    ],
}
"""Sound runs of a log of eight events, in which they should not be; no payload of them is 66."""


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("together", [False, True])
def test_a_run_that_does_not_belong_there_is_never_answered(
    registry: Registry, redis: RedisServer, kind: str, together: bool
) -> None:
    tokens = [registry.issue_resume_token("game", f"{n}").token for n in range(10)]
    registry.record_events("game", range(8))
    epoch = registry.fetch_events_since("game", 0).epoch
    for after in range(9):
        for limit in (None, 2):
            as_just_opened(registry)
            wait_until(lambda: redis.client.delete("registry:game") == 0, timeout=10)
            put(redis, "game", *WRONG[kind](epoch))
            expected = list(range(8))[after:][: limit or 8]

            def read(after: int = after, limit: int | None = limit) -> Replay:
                return registry.fetch_events_since("game", after, limit=limit)

            pages = at_once([read] * 4) if together else [read()]
            for page in pages:
                assert isinstance(page, Replay), page
                assert payloads(page) == expected
                assert (page.head, page.floor, page.epoch) == (8, 0, epoch)
                assert page.more == (after + len(expected) < 8)
            as_just_opened(registry)
            put(redis, "game", *WRONG[kind](epoch))
            number = after + (limit is None)

            def resume(number: int = number, after: int = after, limit: Any = limit) -> Any:
                return registry.resume(tokens[number], after=after, limit=limit)

            resumed = resume()
            tokens[number] = resumed.token
            assert resumed.continuity is Continuity.CONTINUOUS
            assert payloads(resumed.replay) == expected
            assert resumed.replay.more == (after + len(expected) < 8)


def test_what_is_below_the_floor_is_never_answered(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    filled(registry, redis, "game", range(8))
    issued = registry.issue_resume_token("game", "player")
    with Registry.connect(conninfo) as elsewhere:  # tells neither Redis nor the other's memory
        elsewhere.prune_events("game", 5)
    assert redis.holds("game") == (0, 8)
    for after in range(5):
        with pytest.raises(HistoryPruned) as refused:
            registry.fetch_events_since("game", after)
        assert (refused.value.floor, refused.value.head) == (5, 8)
    assert payloads(registry.fetch_events_since("game", 5)) == [5, 6, 7]
    resumed = registry.resume(issued.token, after=1)
    assert (resumed.continuity, resumed.missed) == (Continuity.GAP, 4)
    assert payloads(resumed.replay) == [5, 6, 7]


def test_what_is_known_is_not_joined_to_what_comes_behind_a_pruned_part(
    registry: Registry, redis: RedisServer, conninfo: str
) -> None:
    filled(registry, redis, "game", range(8))
    issued = registry.issue_resume_token("game", "player")
    with Registry.connect(conninfo) as elsewhere:
        elsewhere.record_events("game", range(8, 16))
        elsewhere.prune_events("game", 12)
    resumed = registry.resume(issued.token, after=5)
    assert (resumed.continuity, resumed.missed) == (Continuity.GAP, 7)
    assert payloads(resumed.replay) == [12, 13, 14, 15]


def test_no_token_and_no_session_goes_to_redis(registry: Registry, redis: RedisServer) -> None:
    issued = registry.issue_resume_token("game", "player")
    filled(registry, redis, "game", range(3))
    resumed = registry.resume(issued.token, after=0)
    registry.heartbeat(issued.session.session_id)
    registry.acknowledge(issued.session.session_id, 2)
    registry.record_event("game", "last")
    until_holds(redis, "game", 0, 4)
    (key,) = redis.client.keys()
    said = redis.client.lrange(key, 0, -1)
    secrets = [issued.token, resumed.token, issued.session.session_id, "player"]
    assert not any(secret.encode() in run for secret in secrets for run in said)
    with pytest.raises(InvalidToken):
        registry.resume("no token", after=0)


# what it says


def test_no_payload_and_no_password_is_in_a_log_an_error_or_a_repr(
    conninfo: str, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    config = RegistryConfig(cache_timeout=0.3, pool_min_size=1)
    said = []
    with (
        RedisReplayCache(own_redis.lock_out("+@all")) as cache,
        Registry.connect(conninfo, config=config, cache=cache) as registry,
    ):
        filled(registry, own_redis, "game", [SECRET] * 3)
        said += [repr(cache), str(cache), repr(registry), repr(own_redis.runs("game"))]
        own_redis.client.execute_command("ACL", "SETUSER", "guest", "-@all")
        as_just_opened(registry)
        assert payloads(registry.fetch_events_since("game", 0)) == [SECRET] * 3
        own_redis.client.execute_command("ACL", "DELUSER", "guest")
        for _ in range(5):
            as_just_opened(registry)
            assert payloads(registry.fetch_events_since("game", 0)) == [SECRET] * 3
        own_redis.kill()
        for _ in range(5):
            as_just_opened(registry)
            assert payloads(registry.fetch_events_since("game", 0)) == [SECRET] * 3
    assert any(record.name == "registry.cache" for record in caplog.records)
    said += [record.getMessage() for record in caplog.records if record.name != "redis_server"]
    said += ["".join(traceback.format_exception(*record.exc_info))
             for record in caplog.records if record.exc_info and record.exc_info[0]]  # fmt: skip
    assert not [text for text in said if SECRET in text or PASSWORD in text]


NONSENSE = [
    None,
    7,
    "",
    "nonsense",
    "http://127.0.0.1",
    f"redis://user:{PASSWORD}@127.0.0.1:port/0",
    f"redis://user:{PASSWORD}@127.0.0.1/0?socket_timeout=soon",
    f"redis://user:{PASSWORD}@127.0.0.1/0?nonsense=1",
    f"rediss://user:{PASSWORD}@127.0.0.1/0?ssl_cert_reqs=nonsense",
    f"amqp://user:{PASSWORD}@127.0.0.1",
    f"redis://user:{PASSWORD}@[::1/0",
    b"redis://127.0.0.1",
    redis_py.ConnectionPool,
]


@pytest.mark.parametrize("server", NONSENSE, ids=lambda server: str(server).replace(PASSWORD, ""))
def test_a_cache_of_nonsense_is_refused_without_its_password(server: Any) -> None:
    with pytest.raises(InvalidArgument, match="cache's server") as refused:
        RedisReplayCache(server)
    error: BaseException | None = refused.value
    for _ in count():
        if error is None:
            break
        assert PASSWORD not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("prefix", ["", None, 7, b"x", "\ud800"])
def test_a_prefix_is_text(prefix: Any) -> None:
    with pytest.raises(InvalidArgument, match="prefix"):
        RedisReplayCache("redis://127.0.0.1", prefix=prefix)


@pytest.mark.parametrize("way", ["url", "tcp", "client", "resp3", "decoding"])
def test_each_way_to_name_the_server_works(conninfo: str, redis: RedisServer, way: str) -> None:
    given: dict[str, Any] = {
        "url": redis.url,
        "tcp": redis.tcp_url,
        "client": redis_py.Redis(port=redis.port),
        "resp3": redis_py.Redis(port=redis.port, protocol=3),
        "decoding": redis_py.Redis(port=redis.port, decode_responses=True),
    }
    with (
        RedisReplayCache(given[way]) as cache,
        Registry.connect(
            conninfo, config=RegistryConfig(cache_timeout=PATIENT), cache=cache
        ) as registry,
    ):
        filled(registry, redis, "game", range(4))
        as_just_opened(registry)
        replay = registry.fetch_events_since("game", 0)
        assert (payloads(replay), replay.source) == ([0, 1, 2, 3], "cache")
    assert unpack(redis.client.lindex("registry:game", 0)) is not None
