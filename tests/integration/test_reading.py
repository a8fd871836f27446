"""Pages that many threads want at once: each gets its own, and what they share is read once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from probes import (
    PATIENCE,
    PATIENT,
    configured,
    empty,
    event_tables,
    held,
    in_thread,
    queued,
    rows,
    until_blocked,
    value,
)
from support import wait_until

from registry import (
    Continuity,
    GameNotFound,
    GameSessionRegistry,
    RegistryError,
    RegistryUnavailable,
    Replay,
    Resumption,
)
from registry.reading import share

Registry = GameSessionRegistry


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture(params=[0, 2**25], ids=["nothing kept", "kept in memory"])
def registry(conninfo: str, request: pytest.FixtureRequest) -> Iterator[Registry]:
    with configured(conninfo, cache_bytes=request.param, replay_limit=20, **PATIENT) as registry:
        yield registry


@contextmanager
def reader_busy(registry: Registry, conninfo: str) -> Iterator[None]:
    """Within this a writer waits; then it reads all pages that were wanted up to then."""
    registry.record_event("gate", 0)
    call = partial(registry.fetch_events_since, "gate", 0)
    with held(conninfo, "LOCK TABLE game_event IN ACCESS EXCLUSIVE MODE"):
        alone = in_thread(call)
        until_blocked(conninfo, 1, "fetch_events_since")
        with_the_writer = in_thread(call)
        until_blocked(conninfo, 1, "fetch_events_batch")
        yield
    for each in (alone, with_the_writer):
        assert sequences(each.result(PATIENCE)) == [1]


def fetch(registry: Registry, game: str, after: int, limit: int | None = None) -> Future[Replay]:
    call = partial(registry.fetch_events_since, game, after, limit=limit)
    return queued(registry._reads.combiner, call)


def sequences(replay: Replay) -> list[int]:
    return [event.sequence for event in replay.events]


def outcome(call: Callable[[], Replay]) -> Any:
    try:
        page = call()
    except RegistryError as error:
        return type(error), vars(error)
    return page, page.events


@pytest.mark.usefixtures("one_writer")
def test_each_gets_what_it_would_have_got_alone(registry: Registry, conninfo: str) -> None:
    for number in range(3):
        registry.record_events(f"game {number}", range(100))
    registry.prune_events("game 1", 40)
    registry.prune_events("game 2", 100)
    chance = random.Random(1851)
    wanted = [
        (f"game {chance.randrange(4)}", chance.randrange(105), chance.choice([None, 1, 7, 20, 99]))
        for _ in range(60)
    ]
    with reader_busy(registry, conninfo):
        calls = [fetch(registry, *each) for each in wanted]
    with configured(conninfo, cache_bytes=0, replay_limit=20) as other:
        for each, call in zip(wanted, calls, strict=True):
            game, after, limit = each
            alone = outcome(partial(other.fetch_events_since, game, after, limit=limit))
            assert outcome(partial(call.result, PATIENCE)) == alone, each
            if game == "game 3":
                assert alone[0] is GameNotFound


@pytest.mark.usefixtures("one_writer")
def test_pages_of_one_game_that_overlap_are_read_once(registry: Registry, conninfo: str) -> None:
    registry.record_events("game", range(30))
    with reader_busy(registry, conninfo):
        before = read(conninfo)
        calls = [fetch(registry, "game", after) for after in range(10, 28)]
    for after, call in zip(range(10, 28), calls, strict=True):
        assert sequences(call.result(PATIENCE)) == list(range(after + 1, 31))
    registry.close()
    # 20 for all, and a few of the gate and of connections that were closed late; one by one 207.
    wait_until(lambda: read(conninfo) - before >= 20)
    assert read(conninfo) - before < 60


def read(conninfo: str) -> int:
    """How many events have been read, once the connections that read them are closed."""
    query = "SELECT sum(idx_tup_fetch) FROM pg_stat_user_tables WHERE relname = ANY(%s)"
    return int(value(conninfo, query, [event_tables(conninfo)]) or 0)


@pytest.mark.usefixtures("one_writer")
def test_a_log_with_a_hole_fails_alone(registry: Registry, conninfo: str) -> None:
    for game in ("sound", "broken"):
        registry.record_events(game, range(9))
    rows(conninfo, "DELETE FROM game_event WHERE game_id = 'broken' AND sequence = 5")
    with reader_busy(registry, conninfo):
        sound = fetch(registry, "sound", 2)
        broken = fetch(registry, "broken", 2)
        behind = fetch(registry, "broken", 6)
    assert sequences(sound.result(PATIENCE)) == [3, 4, 5, 6, 7, 8, 9]
    assert sequences(behind.result(PATIENCE)) == [7, 8, 9]
    assert type(broken.exception(PATIENCE)).__name__ == "LogCorrupted"


@pytest.mark.usefixtures("one_writer")
def test_players_of_one_game_who_come_back_at_once_each_get_their_own_replay(
    registry: Registry, conninfo: str
) -> None:
    """Some before the floor, some ahead of the head, some in another epoch."""
    registry.record_events("game", range(60))
    registry.prune_events("game", 10)
    epoch = registry.fetch_events_since("game", 10).epoch
    wanted = [
        (after, of, limit)
        for after in (0, 9, 10, 11, 30, 45, 59, 60, 61)
        for of in (None, epoch, UUID(int=7))
        for limit in (None, 3)
    ]
    tokens = [registry.issue_resume_token("game", f"user {n}").token for n in range(len(wanted))]
    gate = registry.issue_resume_token("gate", "gate").token

    def resume(number: int) -> Resumption:
        after, of, limit = wanted[number]
        return registry.resume(tokens[number], after=after, epoch=of, limit=limit)

    with held(conninfo, "LOCK TABLE game_session IN ACCESS EXCLUSIVE MODE"):
        waiting = [in_thread(lambda: registry.resume(gate, after=0))]
        until_blocked(conninfo, 1, "resume")
        waiting.append(in_thread(lambda: registry.resume(gate, after=0)))
        until_blocked(conninfo, 1, "resume_batch")
        combiner = registry._resumptions.combiner
        calls = [queued(combiner, partial(resume, number)) for number in range(len(wanted))]
    for each in waiting:
        each.result(PATIENCE)
    for (after, of, limit), call in zip(wanted, calls, strict=True):
        back = call.result(PATIENCE)
        if after > 60 or of not in (None, epoch):
            right = Continuity.RESET, 10
        elif after < 10:
            right = Continuity.GAP, 10
        else:
            right = Continuity.CONTINUOUS, after
        begin = right[1]
        assert back.continuity is right[0]
        assert sequences(back.replay) == list(range(begin + 1, min(60, begin + (limit or 20)) + 1))
        assert back.replay.more is (begin + (limit or 20) < 60)
        assert back.session.generation == 2


def test_pages_are_shared_where_they_overlap_and_only_up_to_a_length() -> None:
    positions = [(0, 10), (5, 10), (15, 10), (26, 10), (40, 1), (30, 10)]
    pages = share(positions, lambda _: "game", lambda position: position, 25)
    assert [(page.after, page.most, page.members) for page in pages] == [
        (0, 25, [(0, 10), (5, 10), (15, 10)]),
        (26, 15, [(26, 10), (30, 10), (40, 1)]),
    ]
    apart = share(positions, lambda position: position[0] % 2, lambda position: position, 25)
    assert [(page.key, page.after, page.most) for page in apart] == [
        (0, 0, 10), (0, 26, 15), (1, 5, 20),
    ]  # fmt: skip


@pytest.mark.usefixtures("one_writer")
def test_what_fails_for_all_is_not_tried_again_by_each(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or an outage would be one attempt for each client that waits."""
    with configured(conninfo, cache_bytes=0, lock_timeout=5.0, statement_timeout=30.0) as registry:
        registry.record_event("game", 0)
        combiner = registry._reads.combiner
        alone: list[object] = []
        do_alone = combiner._do_alone

        def counted(job: Any) -> Any:
            alone.append(job)
            return do_alone(job)

        monkeypatch.setattr(combiner, "_do_alone", counted)
        with held(conninfo, "LOCK TABLE game_event IN ACCESS EXCLUSIVE MODE"):
            first = in_thread(partial(registry.fetch_events_since, "game", 0))
            until_blocked(conninfo, 1, "fetch_events_since")
            calls = [in_thread(partial(registry.fetch_events_since, "game", 0)) for _ in range(9)]
            for call in (first, *calls):
                assert isinstance(call.exception(PATIENCE), RegistryUnavailable)
        assert len(alone) == 1
