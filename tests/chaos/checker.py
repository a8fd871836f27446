"""Judges a recorded history of calls, knowing nothing of the code that answered them.

A history is what clients saw: each call with its arguments, its answer, and when it began and
ended on one monotonic clock that all processes share. `violations` names every promise of the
contract that the history breaks. What overlaps in time may have happened in either order; what
ended before another began happened before it. A call whose outcome is open may have happened at
any time since it began, or never.

The kinds of call, their arguments and answers:

append    labels, [id], [expected]     sequences
read      after, [final]               events [[sequence, label], …], [head, floor, epoch]
takeover  how, user, [after]           session, generation, acknowledged, and those of a read
act       session, generation, [sequence]     acknowledged, [floor]
fork                                   refused

A session of a history lives throughout: it never expires and nobody revokes it. Clients are
honest: they present the token of the last answer they have, and ask for what follows something
that they have seen. Each event has a label of its own, whatever it takes to record it, and no
game is ever ended. An id or a label with several tries is the same event. The final reads, if
there are some, begin at the floor when all else has ended, and go on to the head.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from .history import Call

MOST_FOUND = 20
"""Findings of a rule in a game; more would say the same."""

REFUSALS = {
    "append": {"RegistryUnavailable", "OutcomeUnknown", "SequenceConflict"},
    "read": {"RegistryUnavailable", "HistoryPruned", "GameNotFound"},
    "takeover": {"RegistryUnavailable", "OutcomeUnknown"},
    "act": {"RegistryUnavailable", "SessionTakenOver"},
    "fork": set(),
}
"""What an honest client may be answered. In particular not that its token is no good."""

INTERRUPTIONS = {"KeyboardInterrupt", "Interrupted"}
"""What a caller did to its own call."""


class Log:
    """The history of one game, and what several rules need to know of it."""

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.appends = [call for call in calls if call.kind == "append"]
        self.recorded = [call for call in self.appends if call.result is not None]
        self.shows = [call for call in calls if call.result and "events" in call.result]
        self.pages = [call for call in self.shows if "head" in call.result]  # type: ignore[operator]
        self.final = [call for call in self.pages if call.args.get("final")]

    @cached_property
    def floors(self) -> list[tuple[Call, int]]:
        """Who was told what floor, in the order of the answers."""
        told = [
            (call, said["floor"])
            for call in self.calls
            for said in (call.result or call.detail,)
            if said and "floor" in said
        ]
        return sorted(told, key=lambda floor: floor[0].end)

    @cached_property
    def sessions(self) -> dict[str, list[Call]]:
        """The answered takeovers and acts of each session."""
        sessions: dict[str, list[Call]] = defaultdict(list)
        for call in self.calls:
            if call.result is not None and "acknowledged" in call.result:
                sessions[call.result.get("session", call.args.get("session"))].append(call)
        return sessions

    @cached_property
    def open(self) -> set[str]:
        """Labels of which no try was answered, and one or more may have recorded the event."""
        tried = {label for call in self.appends if is_open(call) for label in call.args["labels"]}
        return tried.difference(label for call in self.recorded for label in call.args["labels"])

    @cached_property
    def sequence_of(self) -> dict[str, int]:
        """Where each label is, as far as anybody was told."""
        known = {label: sequence for call in self.shows for sequence, label in events(call)}
        known.update(given for call in self.recorded for given in given_by(call))
        return known

    @cached_property
    def spans(self) -> list[tuple[float, float, int, str]]:
        """Of each event whose place is known: when it was begun, when it was there for sure."""
        begun: dict[str, float] = {}
        there: dict[str, float] = {}
        for call in self.appends:
            if call.result is not None or is_open(call):
                for label in call.args["labels"]:
                    begun[label] = min(call.start, begun.get(label, math.inf))
                    if call.result is not None:
                        there[label] = min(call.end, there.get(label, math.inf))
        for call in self.shows:
            for _, label in events(call):
                if call.end < there.get(label, math.inf):
                    there[label] = call.end
        return [
            (begun[label], there[label], self.sequence_of[label], label)
            for label in there
            if label in begun
        ]


Rule = Callable[[Log], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(check: Rule) -> Rule:
    RULES[check.__name__] = check
    return check


def violations(calls: Iterable[Call]) -> list[str]:
    """Every broken promise, as `rule: game: what happened`. Empty: the history is right."""
    games: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        games[call.game].append(call)
    found = []
    for game, of_game in games.items():
        log = Log(of_game)
        for name, check in RULES.items():
            for number, what in enumerate(check(log)):
                if number == MOST_FOUND:
                    found.append(f"{name}: {game}: and more of the kind")
                    break
                found.append(f"{name}: {game}: {what}")
    return found


def is_open(call: Call) -> bool:
    """Whether an append without an answer may have recorded its events, or may yet."""
    if call.result is not None or call.error == "SequenceConflict":
        return False
    # With an id it is said to be safe to repeat, not to have done nothing.
    return call.error != "RegistryUnavailable" or bool(call.args.get("id"))


@rule
def sequence_given_once(log: Log) -> Iterator[str]:
    """No two events have one sequence, and no event has two, however often it was retried."""
    label_of: dict[int, str] = {}
    sequence_of: dict[str, int] = {}
    for call in log.recorded:
        for label, sequence in given_by(call):
            if label_of.setdefault(sequence, label) != label:
                yield f"{sequence} was given to {label_of[sequence]} and to {label}"
            if sequence_of.setdefault(label, sequence) != sequence:
                yield f"{label} was given {sequence_of[label]} and {sequence}"


@rule
def sequences_without_gap(log: Log) -> Iterator[str]:
    """Below the highest sequence given, none is missing but for appends of unknown outcome."""
    given = {sequence for call in log.recorded for _, sequence in given_by(call)}
    missing = [n for n in range(1, max(given, default=0) + 1) if n not in given]
    if len(missing) > len(log.open):
        yield f"{missing[:5]}… of 1..{max(given)} were given to nobody"


@rule
def appends_in_real_time_order(log: Log) -> Iterator[str]:
    """An append that ended before another began has the lower sequence.

    An event that was tried several times was appended between the beginning of its first try
    and the end of the first that was answered, or of a read that shows it.
    """
    ended = sorted((there, sequence, label) for _, there, sequence, label in log.spans)
    highest, upto = (0, ""), 0
    for begun, _, sequence, label in sorted(log.spans):
        while upto < len(ended) and ended[upto][0] < begun:
            highest = max(highest, ended[upto][1:])
            upto += 1
        if highest[0] > sequence:
            yield f"{highest[1]} was there at {highest[0]} before {label} began and got {sequence}"


@rule
def together_and_in_order(log: Log) -> Iterator[str]:
    """Events recorded by one call have consecutive sequences in the order they were given."""
    for call in log.appends:
        if len(labels := call.args["labels"]) > 1 or call.result is not None:
            sequences = (
                [log.sequence_of[label] for label in labels if label in log.sequence_of]
                if call.result is None
                else call.result["sequences"]
            )
            if sequences and sequences != list(range(sequences[0], sequences[0] + len(sequences))):
                yield f"{labels} of one call were given {sequences}"


@rule
def read_as_recorded(log: Log) -> Iterator[str]:
    """A sequence shows one event for ever, the one it was given to, and no event shows twice."""
    label_of = {sequence: label for call in log.recorded for label, sequence in given_by(call)}
    sequence_of = {label: sequence for sequence, label in label_of.items()}
    for call in log.shows:
        for sequence, label in events(call):
            if label_of.setdefault(sequence, label) != label:
                yield f"{call.who} read {label} at {sequence}, which is {label_of[sequence]}'s"
            if sequence_of.setdefault(label, sequence) != sequence:
                yield f"{call.who} read {label} at {sequence} and {sequence_of[label]}"


@rule
def refused_is_absent(log: Log) -> Iterator[str]:
    """What was refused, in every try, is nowhere."""
    tried = {label for call in log.appends for label in call.args["labels"]}
    tried.difference_update(label for call in log.recorded for label in call.args["labels"])
    for label in sorted((tried - log.open).intersection(log.sequence_of)):
        yield f"{label} was not recorded, its caller was told, and is at {log.sequence_of[label]}"


@rule
def there_in_the_end(log: Log) -> Iterator[str]:
    """At the end there is an event at each sequence up to the head, and all that was recorded."""
    if not log.final:
        return
    head = max(page.result["head"] for page in log.final)  # type: ignore[index]
    floor = max(page.result["floor"] for page in log.final)  # type: ignore[index]
    shown = {sequence for page in log.final for sequence, _ in events(page)}
    if lost := sorted(set(range(floor + 1, head + 1)) - shown):
        yield f"{lost[:5]}… of ({floor}, {head}] are not there"
    known = set(log.sequence_of.values())
    if nobodys := [n for n in range(1, head + 1) if n not in known]:
        yield f"{nobodys[:5]}… of 1..{head} are nobody's, or were pruned before anybody read them"
    for call in log.recorded:
        for label, sequence in given_by(call):
            if sequence > head:
                yield f"{label} was recorded at {sequence}, and the log ends at {head}"
    for call in log.appends:
        labels = call.args["labels"]
        if 0 < sum(label in log.sequence_of for label in labels) < len(labels):
            yield f"only a part of {labels} was recorded"


@rule
def pages_without_hole(log: Log) -> Iterator[str]:
    """A page goes on just after its position, without a hole, and never beyond the head."""
    for call in log.shows:
        page = call.result
        assert page is not None
        sequences = [sequence for sequence, _ in page["events"]]
        begin = max(call.args["after"], page.get("floor", 0)) + 1
        if sequences != list(range(begin, begin + len(sequences))):
            yield f"{call.who} asked for what follows {call.args['after']} and got {sequences}"
        if sequences and sequences[-1] > page.get("head", math.inf):
            yield f"{call.who} got {sequences[-1]} beyond the head {page['head']}"
        if not sequences and begin <= page.get("head", 0):
            yield f"{call.who} got nothing after {begin - 1} though the head is {page['head']}"


@rule
def reads_what_was_written(log: Log) -> Iterator[str]:
    """A page's head is not below any append that ended before the page was asked for."""
    for append, page in _before(
        log.recorded,
        log.pages,
        lambda call: max(call.result["sequences"]),  # type: ignore[index]
    ):
        if append > page.result["head"]:  # type: ignore[index]
            yield f"{page.who} saw the head {page.result['head']} after {append} had been given"  # type: ignore[index]


@rule
def nothing_from_the_future(log: Log) -> Iterator[str]:
    """A page's head is not above the number of events whose append had begun when it came."""
    first: dict[str, float] = {}
    for call in log.appends:
        if call.result is not None or is_open(call):
            for label in call.args["labels"]:
                first[label] = min(call.start, first.get(label, math.inf))
    begun = sorted(first.values())
    for page in log.pages:
        count = bisect_left(begun, page.end)
        if page.result["head"] > count:  # type: ignore[index]
            yield f"{page.who} saw the head {page.result['head']} of {count} events"  # type: ignore[index]


@rule
def one_epoch(log: Log) -> Iterator[str]:
    """A game that nobody ended keeps its epoch."""
    epochs = {call.result["epoch"] for call in log.pages}  # type: ignore[index]
    if len(epochs) > 1:
        yield f"{len(epochs)} epochs were seen"


@rule
def head_never_falls(log: Log) -> Iterator[str]:
    for earlier, later in _overtaken(log.pages, _of("head"), _of("head"), equal=True):
        yield f"{later.who} saw the head {_of('head')(later)} after {_of('head')(earlier)}"


@rule
def floor_never_falls(log: Log) -> Iterator[str]:
    told = {id(call): floor for call, floor in log.floors}

    def floor(call: Call) -> int:
        return told[id(call)]

    for earlier, later in _overtaken([c for c, _ in log.floors], floor, floor, equal=True):
        yield f"{later.who} saw the floor {floor(later)} after {floor(earlier)}"


@rule
def acknowledged_never_falls(log: Log) -> Iterator[str]:
    for session, of_session in log.sessions.items():
        acknowledged = _of("acknowledged")
        for earlier, later in _overtaken(of_session, acknowledged, acknowledged, equal=True):
            yield f"{session} stood at {acknowledged(later)} after {acknowledged(earlier)}"
        for call in of_session:
            if acknowledged(call) < call.args.get("sequence", 0):
                yield f"{session} stood at {acknowledged(call)} after acknowledging more"


@rule
def floor_waits_for_everyone(log: Log) -> Iterator[str]:
    """No floor is above what a session that had begun before had by then acknowledged."""
    claimed: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for call in log.calls:
        if call.kind == "act" and "sequence" in call.args:
            claimed[call.args["session"]].append((call.start, call.args["sequence"]))
    for session, of_session in log.sessions.items():
        began = min(of_session, key=lambda call: call.end)
        claims = sorted([(began.start, _of("acknowledged")(began)), *claimed[session]])
        highest, upto = 0, 0
        for call, floor in log.floors:
            while upto < len(claims) and claims[upto][0] <= call.end:
                highest = max(highest, claims[upto][1])
                upto += 1
            if call.start >= began.end and floor > highest:
                yield f"{call.who} saw the floor {floor} when {session} had {highest}"


@rule
def one_generation_acts(log: Log) -> Iterator[str]:
    """Nothing is done for a generation once a later one's takeover has been answered."""
    for session, of_session in log.sessions.items():
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
def generations_rise(log: Log) -> Iterator[str]:
    """Each takeover has a generation of its own, higher than those answered before it began."""
    for session, of_session in log.sessions.items():
        takeovers = [call for call in of_session if call.kind == "takeover"]
        counted = Counter(map(_of("generation"), takeovers))
        for generation, times in counted.items():
            if times > 1:
                yield f"{session}: {times} takeovers have the generation {generation}"
        for earlier, later in _overtaken(takeovers, _of("generation"), _of("generation")):
            yield f"{session}: {_of('generation')(later)} came after {_of('generation')(earlier)}"


@rule
def sessions_live_on(log: Log) -> Iterator[str]:
    """A player who comes back has the session that was there before."""
    sessions_of: dict[str, set[str]] = defaultdict(set)
    for call in log.calls:
        if call.kind == "takeover" and call.result is not None and "user" in call.args:
            sessions_of[call.args["user"]].add(call.result["session"])
    for user, sessions in sessions_of.items():
        if len(sessions) > 1:
            yield f"{user} has the sessions {', '.join(sorted(sessions))}"


@rule
def honest_clients_are_served(log: Log) -> Iterator[str]:
    """Refusals are of a kind that an honest client can meet, and have their reason."""
    began = min(
        (call.end for call in log.calls if call.kind in ("append", "takeover") and call.result),
        default=math.inf,
    )
    displacing: dict[str, float] = {}
    for call in log.calls:
        if call.kind == "takeover" and call.args["how"] == "issue" and call.result is None:
            user = call.args["user"]
            displacing[user] = min(call.start, displacing.get(user, math.inf))
    for call in log.calls:
        if call.error is None or call.error in INTERRUPTIONS:
            continue
        told = call.detail or {}
        if call.error == "TokenReused" and displacing.get(call.args["user"], math.inf) < call.end:
            continue  # an issue whose answer was lost came in between: it displaces what was lost
        if call.error not in REFUSALS[call.kind]:
            yield f"{call.who} was answered {call.error} to {call.kind} {call.args}"
        elif call.error == "GameNotFound" and began < call.start:
            yield f"{call.who} was told that there is no such game"
        elif call.error == "HistoryPruned" and call.args["after"] >= told.get("floor", math.inf):
            yield f"{call.who} was refused what follows {call.args['after']}, floor {told['floor']}"
        elif call.error == "SequenceConflict" and told.get("actual") == call.args.get("expected"):
            yield f"{call.who} was refused the sequence {told.get('actual')} that it expected"


@rule
def forked_child_is_refused(log: Log) -> Iterator[str]:
    """A child forked after the registry was opened is told so, and never shares a connection."""
    for call in log.calls:
        if call.kind == "fork" and call.result is not None and not call.result["refused"]:
            yield f"a child of {call.who} was not refused: {call.result}"


def events(call: Call) -> list[tuple[int, str]]:
    assert call.result is not None
    return call.result["events"]  # type: ignore[no-any-return]


def given_by(call: Call) -> Iterator[tuple[str, int]]:
    assert call.result is not None
    return zip(call.args["labels"], call.result["sequences"], strict=True)


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
