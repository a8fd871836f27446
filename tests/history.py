"""Judges a recorded history of calls, knowing nothing of the code that answered them.

A history is what clients saw: each call with its arguments, its answer, and when it began and
ended on one monotonic clock that all processes share. `violations` names every promise of the
contract that the history breaks. What overlaps in time may have happened in either order; what
ended before another began happened before it.

The kinds of call, their arguments and answers:

append    labels                       sequences
read      after                        events [[sequence, label], …], head, floor, epoch
takeover  how, after                   session, generation, acknowledged, and those of a read
act       session, generation, [sequence]     acknowledged, [floor]

A session of a history lives throughout: it never expires and nobody revokes it. Each event has
a label of its own, and every game is ended at most never.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it."""

    kind: str
    game: str
    args: dict[str, Any]
    start: float
    end: float
    result: dict[str, Any] | None = None
    error: str | None = None
    process: int = field(default=0)
    thread: int = field(default=0)

    @property
    def who(self) -> str:
        return f"process {self.process} thread {self.thread}"


def load(paths: Iterable[Path]) -> list[Call]:
    """The calls in files of JSON lines; a last line cut off by a kill is left out."""
    calls = []
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                calls.append(Call(**json.loads(line)))
    return calls


def dump(call: Call) -> bytes:
    return json.dumps(asdict(call)).encode() + b"\n"


def violations(calls: Iterable[Call]) -> list[str]:
    """Every broken promise, as `rule: what happened`. Empty: the history is right."""
    games: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        games[call.game].append(call)
    return [
        f"{name}: {game}: {found}"
        for game, of_game in games.items()
        for name, rule in RULES.items()
        for found in rule(of_game)
    ]


Rule = Callable[[list[Call]], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    RULES[check.__name__] = check
    return check


@rule
def sequence_given_once(calls: list[Call]) -> Iterator[str]:
    """No two events have one sequence, and no event has two, however often it was retried."""
    label_of: dict[int, str] = {}
    sequence_of: dict[str, int] = {}
    for call in _answered(calls, "append"):
        for label, sequence in _given(call):
            if label_of.setdefault(sequence, label) != label:
                yield f"{sequence} was given to {label_of[sequence]} and to {label}"
            if sequence_of.setdefault(label, sequence) != sequence:
                yield f"{label} was given {sequence_of[label]} and {sequence}"


@rule
def sequences_without_gap(calls: list[Call]) -> Iterator[str]:
    """Below the highest sequence given, none is missing but for appends of unknown outcome."""
    given = {sequence for call in _answered(calls, "append") for _, sequence in _given(call)}
    unknown = sum(
        len(call.args["labels"])
        for call in calls
        if call.kind == "append" and call.error == "OutcomeUnknown"
    )
    missing = [n for n in range(1, max(given, default=0) + 1) if n not in given]
    if len(missing) > unknown:
        yield f"{missing[:5]}… of 1..{max(given)} were given to nobody"


@rule
def appends_in_real_time_order(calls: list[Call]) -> Iterator[str]:
    """An append that ended before another began has the lower sequence.

    An event that was tried several times was appended between the beginning of its first try
    and the end of the first that was answered.
    """
    begun: dict[str, float] = {}
    first: dict[str, Call] = {}
    for call in sorted(calls, key=lambda call: call.end):
        if call.kind == "append":
            label = call.args["labels"][0]
            begun[label] = min(call.start, begun.get(label, call.start))
            if call.result is not None:
                first.setdefault(label, call)
    for earlier, later in _overtaken(
        [replace(call, start=begun[label]) for label, call in first.items()],
        lambda call: max(call.result["sequences"]),  # type: ignore[index]
        lambda call: min(call.result["sequences"]),  # type: ignore[index]
    ):
        yield f"{_given(earlier)} ended before {_given(later)} began"


@rule
def together_and_in_order(calls: list[Call]) -> Iterator[str]:
    """Events recorded by one call have consecutive sequences in the order they were given."""
    for call in _answered(calls, "append"):
        sequences = [sequence for _, sequence in _given(call)]
        if sequences != list(range(sequences[0], sequences[0] + len(sequences))):
            yield f"one call was given {sequences}"


@rule
def read_as_recorded(calls: list[Call]) -> Iterator[str]:
    """A sequence shows one event for ever, the one it was given to, and no event shows twice."""
    label_of = {
        sequence: label for call in _answered(calls, "append") for label, sequence in _given(call)
    }
    sequence_of = {label: sequence for sequence, label in label_of.items()}
    for call in _pages(calls):
        for sequence, label in call.result["events"]:  # type: ignore[index]
            if label_of.setdefault(sequence, label) != label:
                yield f"{call.who} read {label} at {sequence}, which is {label_of[sequence]}'s"
            if sequence_of.setdefault(label, sequence) != sequence:
                yield f"{call.who} read {label} at {sequence} and {sequence_of[label]}"


@rule
def pages_without_hole(calls: list[Call]) -> Iterator[str]:
    """A page goes on just after its position, without a hole, and never beyond the head."""
    for call in _pages(calls):
        page = call.result
        assert page is not None
        sequences = [sequence for sequence, _ in page["events"]]
        begin = max(call.args["after"], page["floor"]) + 1
        if sequences != list(range(begin, begin + len(sequences))):
            yield f"{call.who} asked for what follows {call.args['after']} and got {sequences}"
        if sequences and sequences[-1] > page["head"]:
            yield f"{call.who} got {sequences[-1]} beyond the head {page['head']}"
        if not sequences and begin <= page["head"]:
            yield f"{call.who} got nothing after {begin - 1} though the head is {page['head']}"


@rule
def reads_what_was_written(calls: list[Call]) -> Iterator[str]:
    """A page's head is not below any append that ended before the page was asked for."""
    for append, page in _before(
        _answered(calls, "append"),
        _pages(calls),
        lambda call: max(call.result["sequences"]),  # type: ignore[index]
    ):
        if append > page.result["head"]:  # type: ignore[index]
            yield f"{page.who} saw the head {page.result['head']} after {append} had been given"  # type: ignore[index]


@rule
def nothing_from_the_future(calls: list[Call]) -> Iterator[str]:
    """A page's head is not above the number of events whose append had begun when it came."""
    begun = sorted(
        (call.start, len(call.args["labels"])) for call in calls if call.kind == "append"
    )
    count, upto = 0, 0
    for page in sorted(_pages(calls), key=lambda call: call.end):
        while upto < len(begun) and begun[upto][0] <= page.end:
            count += begun[upto][1]
            upto += 1
        if page.result["head"] > count:  # type: ignore[index]
            yield f"{page.who} saw the head {page.result['head']} of {count} events"  # type: ignore[index]


@rule
def one_epoch(calls: list[Call]) -> Iterator[str]:
    """A game that nobody ended keeps its epoch."""
    epochs = {call.result["epoch"] for call in _pages(calls)}  # type: ignore[index]
    if len(epochs) > 1:
        yield f"{len(epochs)} epochs were seen"


@rule
def head_never_falls(calls: list[Call]) -> Iterator[str]:
    for earlier, later in _overtaken(_pages(calls), _of("head"), _of("head"), equal=True):
        yield f"{later.who} saw the head {_of('head')(later)} after {_of('head')(earlier)}"


@rule
def floor_never_falls(calls: list[Call]) -> Iterator[str]:
    seen = [call for call in calls if call.result is not None and "floor" in call.result]
    for earlier, later in _overtaken(seen, _of("floor"), _of("floor"), equal=True):
        yield f"{later.who} saw the floor {_of('floor')(later)} after {_of('floor')(earlier)}"


@rule
def acknowledged_never_falls(calls: list[Call]) -> Iterator[str]:
    for session, of_session in _by_session(calls).items():
        acknowledged = _of("acknowledged")
        for earlier, later in _overtaken(of_session, acknowledged, acknowledged, equal=True):
            yield f"{session} stood at {acknowledged(later)} after {acknowledged(earlier)}"
        for call in of_session:
            if acknowledged(call) < call.args.get("sequence", 0):
                yield f"{session} stood at {acknowledged(call)} after acknowledging more"


@rule
def floor_waits_for_everyone(calls: list[Call]) -> Iterator[str]:
    """No floor is above what a session that had begun before had by then acknowledged."""
    floors = [call for call in calls if call.result is not None and "floor" in call.result]
    for session, of_session in _by_session(calls).items():
        began = min(of_session, key=lambda call: call.end)
        claims = sorted(
            [(began.start, _of("acknowledged")(began))]
            + [
                (call.start, call.args["sequence"])
                for call in calls
                if call.kind == "act"
                and call.args["session"] == session
                and "sequence" in call.args
            ]
        )
        highest, upto = 0, 0
        for call in sorted(floors, key=lambda call: call.end):
            while upto < len(claims) and claims[upto][0] <= call.end:
                highest = max(highest, claims[upto][1])
                upto += 1
            if call.start >= began.end and _of("floor")(call) > highest:
                yield f"{call.who} saw the floor {_of('floor')(call)} when {session} had {highest}"


@rule
def one_generation_acts(calls: list[Call]) -> Iterator[str]:
    """Nothing is done for a generation once a later one's takeover has been answered."""
    for session, of_session in _by_session(calls).items():
        acts = [
            call
            for call in of_session
            if call.kind == "act" and call.args.get("generation") is not None
        ]
        takeovers = [call for call in of_session if call.kind == "takeover"]
        for newest, act in _before(takeovers, acts, _of("generation")):
            if newest > act.args["generation"]:
                generation = act.args["generation"]
                yield f"{session}: generation {generation} acted after {newest} had begun"


@rule
def generations_rise(calls: list[Call]) -> Iterator[str]:
    """Each takeover has a generation of its own, higher than those answered before it began."""
    for session, of_session in _by_session(calls).items():
        takeovers = [call for call in of_session if call.kind == "takeover"]
        numbers = [_of("generation")(call) for call in takeovers]
        if len(set(numbers)) < len(numbers):
            yield f"{session}: two takeovers have one generation of {sorted(numbers)}"
        for earlier, later in _overtaken(takeovers, _of("generation"), _of("generation")):
            yield f"{session}: {_of('generation')(later)} came after {_of('generation')(earlier)}"


def _answered(calls: Iterable[Call], kind: str) -> list[Call]:
    return [call for call in calls if call.kind == kind and call.result is not None]


def _pages(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if call.result is not None and "events" in call.result]


def _given(call: Call) -> list[tuple[str, int]]:
    assert call.result is not None
    return list(zip(call.args["labels"], call.result["sequences"], strict=True))


def _by_session(calls: Iterable[Call]) -> dict[str, list[Call]]:
    sessions: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.result is not None and "acknowledged" in call.result:
            sessions[call.result.get("session", call.args.get("session"))].append(call)
    return sessions


def _of(name: str) -> Callable[[Call], int]:
    return lambda call: call.result[name]  # type: ignore[index]


def _before(
    earlier: Iterable[Call], later: Iterable[Call], value: Callable[[Call], int]
) -> Iterator[tuple[int, Call]]:
    """Each later call with the highest value among the calls that ended before it began."""
    ended = sorted(earlier, key=lambda call: call.end)
    highest, upto = 0, 0
    for call in sorted(later, key=lambda call: call.start):
        while upto < len(ended) and ended[upto].end < call.start:
            highest = max(highest, value(ended[upto]))
            upto += 1
        yield highest, call


def _overtaken(
    calls: Iterable[Call],
    high: Callable[[Call], int],
    low: Callable[[Call], int],
    *,
    equal: bool = False,
) -> Iterator[tuple[Call, Call]]:
    """Pairs where the first ended before the second began although its value is higher.

    Values are to rise strictly, or with `equal` not to fall.
    """
    ended = sorted(calls, key=lambda call: call.end)
    best: Call | None = None
    upto = 0
    for call in sorted(ended, key=lambda call: call.start):
        while upto < len(ended) and ended[upto].end < call.start:
            if best is None or high(ended[upto]) > high(best):
                best = ended[upto]
            upto += 1
        if best is not None and (high(best) > low(call) or (not equal and high(best) == low(call))):
            yield best, call
