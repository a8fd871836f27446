"""Any batch of appends, judged event by event: is there an order in which each answer is right?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st
from probes import configured, hold_game
from soundness import unsound

from registry import GameNotFound, GameSessionRegistry, SequenceConflict
from registry.combining import Call
from registry.payloads import encode
from registry.writer import Append, Recorded

MOST_HEAD = 4
IDS = 4
"""So few that they meet."""


@frozen
class Game:
    """A game before the batch: how many events there are, and which of them have ids."""

    head: int = 0
    named: frozenset[int] = frozenset()
    locked: bool = False

    @property
    def exists(self) -> bool:
        return self.head > 0


@frozen
class Sent:
    """A call of the batch. Its id is one of the game's own, or a new one of the batch."""

    game: int
    size: int = 1
    known: int | None = None
    fresh: int | None = None
    expected: int | None = None


@frozen
class Story:
    """What is there, and what is sent, each event with a label of its own."""

    games: list[Game]
    calls: list[Sent]
    labels: list[list[str]] = field(init=False)

    @labels.default
    def _labels(self) -> list[list[str]]:
        return [[f"{n}.{part}" for part in range(call.size)] for n, call in enumerate(self.calls)]


@st.composite
def stories(draw: st.DrawFn, conditions: bool) -> Story:
    games = []
    for _ in range(draw(st.integers(1, 3))):
        head = draw(st.integers(0, MOST_HEAD))
        named = draw(st.frozensets(st.integers(1, MOST_HEAD)))
        locked = head > 0 and draw(st.sampled_from([False, False, True]))
        games.append(Game(head, frozenset(n for n in named if n <= head), locked))
    calls = []
    for _ in range(draw(st.integers(1, 12))):
        game = draw(st.integers(0, len(games) - 1))
        kind = draw(st.sampled_from(["plain", "many", "id", "expected", "both"]))
        if not conditions:
            kind = "plain" if kind != "many" else kind
        known = fresh = expected = None
        if kind in ("id", "both"):
            names = sorted(games[game].named)
            if names and draw(st.booleans()):
                known = draw(st.sampled_from(names))
            else:
                fresh = draw(st.integers(1, IDS))
        if kind in ("expected", "both"):
            head = games[game].head
            expected = draw(st.integers(max(1, head - 1), head + 5))
        size = draw(st.integers(2, 4)) if kind == "many" else 1
        calls.append(Sent(game, size, known, fresh, expected))
    return Story(games, calls)


@pytest.fixture(scope="module")
def registry(module_conninfo: str) -> Iterator[GameSessionRegistry]:
    with configured(module_conninfo) as registry:
        yield registry


@pytest.mark.parametrize("conditions", [True, False], ids=["conditions", "plain"])
@given(data=st.data())
def test_every_answer_of_a_batch_is_right_in_some_order(
    registry: GameSessionRegistry, module_conninfo: str, conditions: bool, data: st.DataObject
) -> None:
    story = data.draw(stories(conditions))
    prefix, ids = str(uuid4()), {}
    names = [f"{prefix} {n}" for n in range(len(story.games))]
    for name, game in zip(names, story.games, strict=True):
        for sequence in range(1, game.head + 1):
            event_id = ids[name, "known", sequence] = uuid4()
            how = {"event_id": event_id} if sequence in game.named else {}
            registry.record_event(name, f"old {sequence}", **how)
        for fresh in range(1, IDS + 1):
            ids[name, "fresh", fresh] = uuid4()

    calls: list[Call[Append, Recorded]] = []
    batch: dict[str, list[Call[Append, Recorded]]] = {}
    for sent, labels in zip(story.calls, story.labels, strict=True):
        name = names[sent.game]
        event_id: UUID | None = None
        if sent.known is not None:
            event_id = ids[name, "known", sent.known]
        elif sent.fresh is not None:
            event_id = ids[name, "fresh", sent.fresh]
        codecs, payloads = zip(*(encode(label, 100) for label in labels), strict=True)
        append = Append(name, codecs, payloads, event_id, sent.expected)
        calls.append(Call(name, append, 1))
        batch.setdefault(name, []).append(calls[-1])

    together = registry._writer._together
    with ExitStack() as stack:
        for name, game in zip(names, story.games, strict=True):
            if game.locked:
                stack.enter_context(hold_game(module_conninfo, name))
        left = set(together(batch, False))
    for name, game in zip(names, story.games, strict=True):
        if name in batch and (game.locked or not game.exists):
            assert name in left
            assert events(registry, name) == old(game)
            assert all(call.answer is call.error is None for call in batch[name])
        else:
            assert name not in left
    for name in left:
        assert not together({name: batch[name]}, True)
    for call in calls:
        if call.left_alone:  # as its own thread would
            _by_itself(registry, call)

    for number, (name, game) in enumerate(zip(names, story.games, strict=True)):
        of_game = [
            (sent, labels, call)
            for sent, labels, call in zip(story.calls, story.labels, calls, strict=True)
            if sent.game == number
        ]
        _judge(game, events(registry, name), of_game)
    assert unsound(module_conninfo) == []


def _by_itself(registry: GameSessionRegistry, call: Call[Append, Recorded]) -> None:
    assert call.answer is call.error is None
    try:
        call.answer = registry._writer._alone(call.job)
    except SequenceConflict as error:
        call.error = error


def events(registry: GameSessionRegistry, name: str) -> list[str]:
    try:
        return [str(event.payload) for event in registry.iter_events_since(name, 0)]
    except GameNotFound:
        return []


def old(game: Game) -> list[str]:
    return [f"old {sequence}" for sequence in range(1, game.head + 1)]


def _judge(
    game: Game, log: list[str], calls: list[tuple[Sent, list[str], Call[Append, Recorded]]]
) -> None:
    assert log[: game.head] == old(game)
    at = {label: sequence for sequence, label in enumerate(log, 1)}
    assert len(at) == len(log), "an event was recorded twice"
    winners: dict[int, int] = {}
    ends = {game.head}
    recorded_labels = 0
    for sent, labels, call in calls:
        recorded = labels[0] in at
        if recorded:
            assert call.answer is not None
            last = at[labels[-1]]
            # Together, in order, and where its caller was told.
            assert [at[label] for label in labels] == list(range(last - len(labels) + 1, last + 1))
            assert call.answer[0] == last
            assert sent.expected in (None, last)
            assert sent.known is None
            if sent.fresh is not None:
                assert sent.fresh not in winners, "one id, two events"
                winners[sent.fresh] = last
            ends.add(last)
            recorded_labels += len(labels)
        else:
            assert not set(labels) & set(at)
    assert recorded_labels == len(log) - game.head, "an event that nobody sent"
    for sent, labels, call in calls:
        if labels[0] in at:
            continue
        if call.error is None:
            assert call.answer is not None
            first = sent.known if sent.known is not None else winners.get(sent.fresh or 0)
            assert call.answer[0] == first, "the sequence of another event"
        else:
            error = call.error
            assert isinstance(error, SequenceConflict)
            assert sent.known is None
            assert error.expected == sent.expected != error.actual
            assert error.actual - 1 in ends, "the log never stood there"
    if game.exists:  # a game that is not there is begun by one call after another
        _judge_runs(game, log, [(sent, labels) for sent, labels, _ in calls])


def _judge_runs(game: Game, log: list[str], calls: list[tuple[Sent, list[str]]]) -> None:
    """Who expects the next sequence gets it, and who expects the one after that, and so on."""
    fresh = Counter(sent.fresh for sent, _ in calls if sent.fresh is not None)
    expecting = Counter(sent.expected for sent, _ in calls)
    sequence = game.head + 1
    while expecting[sequence] == 1:
        ((sent, labels),) = [pair for pair in calls if pair[0].expected == sequence]
        if sent.known is not None or (sent.fresh is not None and fresh[sent.fresh] > 1):
            break
        assert log[sequence - 1] == labels[0]
        sequence += 1
