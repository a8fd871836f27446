"""What memory knows of logs, against a model that keeps all there ever was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from probes import at_once

from registry import RegistryConfig
from registry.recent import OVERHEAD, Recent, size
from registry.runs import Run

EPOCHS = [UUID(int=1), UUID(int=2)]
GAMES = ["alpha", "beta", "gamma"]
EVENT = OVERHEAD + 50
"""Bytes that one takes."""


def payload(epoch: UUID, sequence: int) -> bytes:
    return f"{epoch.int}/{sequence}".encode().ljust(50, b".")


def run_of(epoch: UUID, begin: int, end: int) -> Run:
    events = range(begin + 1, end + 1)
    times = b"".join(sequence.to_bytes(8, "big") for sequence in events)
    payloads = [payload(epoch, sequence) for sequence in events]
    return Run(epoch, begin, times, [1] * len(events), payloads)


def recent(events: int = 1_000, *, room: int = 10_000) -> Recent:
    """With room for so many events of all games together."""
    return Recent(RegistryConfig(cache_events=events, cache_bytes=EVENT * room))


def known(memory: Recent, game_id: str) -> tuple[int, int] | None:
    whole = memory.whole(game_id)
    return whole and (whole.begin, whole.end)


def is_sound(run: Run) -> bool:
    """Every event is the one there can be."""
    return (run.times, list(run.payloads)) == (
        run_of(run.epoch, run.begin, run.end).times,
        [payload(run.epoch, sequence) for sequence in range(run.begin + 1, run.end + 1)],
    )


def taken(memory: Recent) -> int:
    return sum(size(run) for game in GAMES if (run := memory.whole(game)))


# what is found


def test_what_was_learned_is_found_from_any_place_in_it() -> None:
    memory = recent()
    memory.learn("alpha", 9, run_of(EPOCHS[0], 2, 9))
    for after, most in [(2, 100), (2, 7), (5, 2), (8, 1)]:
        run = memory.find({"alpha": (after, most)})["alpha"]
        assert (run.begin, run.end) == (after, min(9, after + most))
        assert is_sound(run)


def test_nothing_is_found_before_or_behind_it_or_of_another_game() -> None:
    memory = recent()
    memory.learn("alpha", 9, run_of(EPOCHS[0], 2, 9))
    for after in (0, 1, 9, 10):
        assert memory.find({"alpha": (after, 10)}) == {}
    assert memory.find({"beta": (5, 10)}) == {}


def test_what_follows_is_added_and_a_hole_is_none() -> None:
    memory = recent()
    for begin, end in [(0, 3), (3, 5), (4, 8), (1, 2)]:
        memory.learn("alpha", 8, run_of(EPOCHS[0], begin, end))
    assert known(memory, "alpha") == (0, 8)
    memory.learn("alpha", 12, run_of(EPOCHS[0], 9, 12))
    assert known(memory, "alpha") == (9, 12)
    memory.learn("alpha", 12, run_of(EPOCHS[0], 3, 6))  # older, with a hole between
    assert known(memory, "alpha") == (9, 12)
    memory.learn("alpha", 12, run_of(EPOCHS[0], 5, 10))
    assert known(memory, "alpha") == (5, 12)


def test_another_epoch_takes_the_place_of_the_one_before() -> None:
    memory = recent()
    memory.learn("alpha", 9, run_of(EPOCHS[0], 0, 9))
    memory.learn("alpha", 3, run_of(EPOCHS[1], 1, 3))
    whole = memory.whole("alpha")
    assert whole is not None
    assert (whole.epoch, whole.begin, whole.end) == (EPOCHS[1], 1, 3)
    assert is_sound(whole)


def test_of_a_game_only_the_newest_events_are_kept() -> None:
    memory = recent(events=8)
    memory.learn("alpha", 100, run_of(EPOCHS[0], 80, 92))
    assert known(memory, "alpha") is None  # none of them is one of the newest eight
    memory.learn("alpha", 100, run_of(EPOCHS[0], 90, 96))
    assert known(memory, "alpha") == (92, 96)
    for end in range(97, 130):
        memory.learn("alpha", end, run_of(EPOCHS[0], end - 1, end))
        begin, last = known(memory, "alpha") or (0, 0)
        assert (last == end and end - begin >= 8) or begin == 92
        assert end - begin <= 8 + 8 // 4


# what is forgotten


def test_the_game_that_was_read_longest_ago_gives_way() -> None:
    memory = recent(room=10)
    for game in GAMES[:2]:
        memory.learn(game, 4, run_of(EPOCHS[0], 0, 4))
    memory.learn("alpha", 5, run_of(EPOCHS[0], 4, 5))
    memory.learn("gamma", 4, run_of(EPOCHS[0], 0, 4))
    assert [game for game in GAMES if memory.whole(game)] == ["alpha", "gamma"]


def test_a_game_that_is_read_again_stays_though_nothing_new_has_happened_in_it() -> None:
    memory = recent(room=10)
    for game in GAMES[:2]:
        memory.learn(game, 4, run_of(EPOCHS[0], 0, 4))
    memory.learn("alpha", 4, run_of(EPOCHS[0], 4, 4))
    memory.learn("gamma", 4, run_of(EPOCHS[0], 0, 4))
    assert [game for game in GAMES if memory.whole(game)] == ["alpha", "gamma"]


def test_what_alone_is_too_much_is_not_kept() -> None:
    memory = recent(room=10)
    memory.learn("alpha", 11, run_of(EPOCHS[0], 0, 11))
    assert taken(memory) == 0
    nothing = Recent(RegistryConfig(cache_bytes=0))
    nothing.learn("alpha", 1, run_of(EPOCHS[0], 0, 1))
    assert nothing.whole("alpha") is None


def test_a_forgotten_game_makes_room_and_so_does_the_end() -> None:
    memory = recent(room=10)
    for game in GAMES[:2]:
        memory.learn(game, 5, run_of(EPOCHS[0], 0, 5))
    memory.forget("alpha")
    memory.forget("alpha")
    memory.forget("nobody")
    memory.learn("gamma", 5, run_of(EPOCHS[0], 0, 5))
    assert [game for game in GAMES if memory.whole(game)] == ["beta", "gamma"]
    memory.close()
    memory.learn("alpha", 10, run_of(EPOCHS[0], 0, 10))
    assert [game for game in GAMES if memory.whole(game)] == ["alpha"]


steps = st.lists(
    st.tuples(
        st.sampled_from(GAMES),
        st.sampled_from([0, 0, 0, 1]),
        st.integers(0, 25),
        st.integers(0, 8),
        st.sampled_from(["learn", "learn", "learn", "learn", "forget"]),
    ),
    max_size=40,
)


@given(steps, st.integers(0, 30), st.integers(1, 12))
def test_whatever_happens_it_is_bounded_and_says_only_what_it_was_told(
    happened: list[tuple[str, int, int, int, str]], room: int, most: int
) -> None:
    memory = recent(most, room=room)
    told: dict[str, set[tuple[UUID, int]]] = {game: set() for game in GAMES}
    heads = dict.fromkeys([(game, epoch) for game in GAMES for epoch in EPOCHS], 0)
    for game, which, begin, length, what in happened:
        epoch = EPOCHS[which]
        if what == "forget":
            memory.forget(game)
            told[game].clear()
            assert memory.whole(game) is None
        else:
            end = begin + length
            heads[game, epoch] = max(heads[game, epoch], end)
            memory.learn(game, heads[game, epoch], run_of(epoch, begin, end))
            told[game] |= {(epoch, sequence) for sequence in range(begin + 1, end + 1)}
        assert memory._bytes == taken(memory) <= EVENT * room
        for each in GAMES:
            if run := memory.whole(each):
                assert is_sound(run)
                assert {(run.epoch, run.begin + n) for n in range(1, len(run.payloads) + 1)} <= (
                    told[each]
                )
                for after in range(30):
                    part = memory.find({each: (after, 3)}).get(each)
                    inside = run.begin <= after < run.end
                    assert (part is not None) == inside
                    if part:
                        assert (part.begin, part.end) == (after, min(run.end, after + 3))
                        assert is_sound(part)


def test_threads_that_learn_forget_and_find_at_once_agree_on_the_bytes() -> None:
    memory = recent(20, room=60)
    stop = threading.Event()
    wrong: list[object] = []

    def teller(game: str) -> Callable[[], None]:
        def tell() -> None:
            for end in range(1, 300):
                memory.learn(game, end, run_of(EPOCHS[0], max(0, end - 5), end))
                if end % 50 == 0:
                    memory.forget(game)

        return tell

    def reader() -> None:
        while not stop.is_set():
            for game in GAMES:
                for after in (0, 100, 200, 250):
                    run = memory.find({game: (after, 5)}).get(game)
                    if run is not None and not (run.begin == after and is_sound(run)):
                        wrong.append((game, after, run))

    tellers = [teller(game) for game in GAMES * 2]

    def all_tell() -> None:
        try:
            assert at_once(tellers) == [None] * len(tellers)
        finally:
            stop.set()

    assert at_once([all_tell, reader, reader]) == [None] * 3
    assert not wrong
    assert memory._bytes == taken(memory)
