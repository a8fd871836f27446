"""The judge is judged: each forged history breaks one promise, and the checker must name it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from chaos.checker import RULES, violations
from chaos.history import Call, Recorder, load
from registry import SequenceConflict


def append(start: float, end: float, *given: tuple[str, int], **args: object) -> Call:
    labels = [label for label, _ in given]
    result = {"sequences": [sequence for _, sequence in given]}
    return Call("append", "g", {"labels": labels, **args}, start, end, result)


def refused(call: Call, error: str, **detail: int) -> Call:
    return replace(call, result=None, error=error, detail=detail)


def unanswered(call: Call) -> Call:
    return replace(call, result=None, end=math.inf)


def read(
    start: float,
    end: float,
    after: int,
    *labels: str,
    head: int,
    floor: int = 0,
    epoch: str = "e",
    **args: object,
) -> Call:
    first = max(after, floor) + 1
    events = [[first + n, label] for n, label in enumerate(labels)]
    result = {"events": events, "head": head, "floor": floor, "epoch": epoch}
    return Call("read", "g", {"after": after, **args}, start, end, result)


def issue(
    start: float, end: float, generation: int, acknowledged: int = 0, session: str = "g/s"
) -> Call:
    result = {"session": session, "generation": generation, "acknowledged": acknowledged}
    return Call("takeover", "g", {"how": "issue", "user": "ann"}, start, end, result)


def resume(start: float, end: float, generation: int, acknowledged: int = 0) -> Call:
    result = {"session": "g/s", "generation": generation, "acknowledged": acknowledged}
    return Call("takeover", "g", {"how": "resume", "user": "ann", "after": 0}, start, end, result)


def fork(refused: bool) -> Call:
    return Call("fork", "g", {}, 0, 1, {"refused": refused})


def acknowledge(
    start: float, end: float, generation: int, sequence: int, reached: int, floor: int = 0
) -> Call:
    args = {"session": "g/s", "generation": generation, "sequence": sequence}
    return Call("act", "g", args, start, end, {"acknowledged": reached, "floor": floor})


def beat(start: float, end: float, generation: int, acknowledged: int) -> Call:
    args = {"session": "g/s", "generation": generation}
    return Call("act", "g", args, start, end, {"acknowledged": acknowledged})


A1, B2 = append(0, 1, ("a", 1)), append(2, 3, ("b", 2))

RIGHT = [
    A1,
    append(1.5, 4, ("b", 2), ("c", 3)),
    append(3, 4.5, ("d", 4)),
    append(5, 6, ("a", 1)),  # a retry
    issue(0, 1, 1),
    read(1.5, 2, 0, "a", head=1),
    read(1.2, 4, 0, "a", "b", "c", head=3),
    read(6, 7, 0, "a", "b", head=4),
    acknowledge(7, 8, 1, 2, 2, floor=2),
    acknowledge(8.5, 9, 1, 1, 2, floor=2),
    read(10, 11, 2, "c", "d", head=4, floor=2),
    issue(12, 13, 2, acknowledged=2),
    beat(12.5, 14, 1, 2),  # under way when the takeover was
    beat(14, 15, 2, 2),
    refused(beat(15, 16, 1, 2), "SessionTakenOver"),
    refused(read(15, 16, 1, head=4), "HistoryPruned", floor=2, head=4),
    refused(append(15, 16, ("e", 0), expected=4), "SequenceConflict", expected=4, actual=5),
    refused(append(15, 16, ("f", 0)), "RegistryUnavailable"),
    append(17, 18, ("f", 5)),  # after a try that did nothing
    unanswered(append(19, 19, ("g", 0), ("h", 0))),
    refused(append(19, 20, ("i", 0), id=True), "RegistryUnavailable"),
    refused(append(19, 21, ("j", 0)), "OutcomeUnknown"),
    refused(append(19, 21, ("k", 0)), "KeyboardInterrupt"),
    refused(resume(16, 17, 0), "RegistryUnavailable"),
    resume(18, 19, 3, acknowledged=2),
    read(22, 23, 5, "g", "h", head=7, floor=2),
    read(24, 25, 2, "c", "d", "f", "g", "h", "j", head=8, floor=2, final=True),
    fork(refused=True),
]

FORGED = {
    "two events got one sequence": (
        "sequence_given_once", [A1, append(0, 1, ("b", 1))]),
    "a retry got another sequence": (
        "sequence_given_once", [A1, B2, append(4, 5, ("a", 3))]),
    "a sequence was skipped": (
        "sequences_without_gap", [A1, append(2, 3, ("b", 3))]),
    "fewer unknown outcomes than missing sequences": (
        "sequences_without_gap",
        [A1, refused(append(1, 5, ("x", 0)), "OutcomeUnknown"), append(2, 3, ("b", 4))]),
    "a later append got the lower sequence": (
        "appends_in_real_time_order", [append(0, 1, ("a", 2)), append(2, 3, ("b", 1))]),
    "events of one call were torn apart": (
        "together_and_in_order", [append(0, 1, ("a", 1), ("b", 3)), append(0, 1, ("c", 2))]),
    "events of one call were shuffled": (
        "together_and_in_order", [append(0, 1, ("a", 2), ("b", 1))]),
    "an event changed": (
        "read_as_recorded", [A1, read(2, 3, 0, "z", head=1)]),
    "an event was inserted behind a reader": (
        "read_as_recorded",
        [append(0, 9, ("a", 1)), append(0, 9, ("b", 2)), append(0, 9, ("c", 3)),
         read(1, 2, 0, "a", "c", head=2), read(3, 4, 0, "a", "b", "c", head=3)]),
    "an event shows twice": (
        "read_as_recorded", [A1, B2, read(4, 5, 0, "a", "a", head=2)]),
    "a page has a hole": (
        "pages_without_hole",
        [A1, B2, replace(read(4, 5, 0, head=2), result={
            "events": [[2, "b"]], "head": 2, "floor": 0, "epoch": "e"})]),
    "a page is empty before the head": (
        "pages_without_hole", [A1, B2, read(4, 5, 1, head=2)]),
    "a page goes beyond its head": (
        "pages_without_hole", [A1, B2, read(2.5, 5, 0, "a", "b", head=1)]),
    "an append was not seen by a later read": (
        "reads_what_was_written", [A1, B2, read(4, 5, 0, "a", head=1)]),
    "a page shows what nobody had begun to append": (
        "nothing_from_the_future", [A1, read(1, 1.5, 0, "a", "b", head=2), B2]),
    "the log was begun anew": (
        "one_epoch", [A1, read(2, 3, 0, "a", head=1), read(4, 5, 0, "a", head=1, epoch="f")]),
    "the head fell": (
        "head_never_falls",
        [append(0, 9, ("a", 1)), append(0, 9, ("b", 2)),
         read(2, 3, 0, "a", "b", head=2), read(4, 5, 0, "a", head=1)]),
    "the floor fell": (
        "floor_never_falls",
        [A1, B2, read(4, 5, 1, "b", head=2, floor=1), read(6, 7, 0, "a", "b", head=2)]),
    "an acknowledgement fell": (
        "acknowledged_never_falls",
        [A1, B2, issue(0, 1, 1), acknowledge(4, 5, 1, 2, 2), beat(6, 7, 1, 1)]),
    "a takeover lost the acknowledgement": (
        "acknowledged_never_falls",
        [A1, B2, issue(0, 1, 1), acknowledge(4, 5, 1, 2, 2), issue(6, 7, 2, acknowledged=0)]),
    "an acknowledgement did not count": (
        "acknowledged_never_falls", [A1, issue(0, 1, 1), acknowledge(4, 5, 1, 1, 0)]),
    "events were pruned that a session had not seen": (
        "floor_waits_for_everyone",
        [A1, B2, issue(0, 1, 1), acknowledge(4, 5, 1, 1, 1),
         read(6, 7, 2, head=2, floor=2)]),
    "a ghost connection acted": (
        "one_generation_acts", [issue(0, 1, 1), issue(2, 3, 2), beat(4, 5, 1, 0)]),
    "a ghost connection acknowledged": (
        "one_generation_acts", [A1, issue(0, 1, 1), issue(2, 3, 2), acknowledge(4, 5, 1, 1, 1)]),
    "two connections share a generation": (
        "generations_rise", [issue(0, 1, 1), issue(0, 1, 1)]),
    "a later takeover has the lower generation": (
        "generations_rise", [issue(0, 1, 2), issue(2, 3, 1)]),
    "an event of unknown outcome overtook one that had ended before": (
        "appends_in_real_time_order",
        [append(0, 1, ("a", 2)), unanswered(append(2, 2, ("b", 0))),
         read(3, 4, 0, "b", "a", head=2)]),
    "an event was begun after a read had shown it behind another": (
        "appends_in_real_time_order",
        [unanswered(append(0, 0, ("a", 0))), unanswered(append(0, 0, ("b", 0))),
         read(1, 2, 0, "a", "b", head=2), append(3, 4, ("c", 1))]),
    "events of a killed call were torn apart": (
        "together_and_in_order",
        [append(0, 1, ("a", 2)), unanswered(append(0, 0, ("b", 0), ("c", 0))),
         read(2, 3, 0, "b", "a", "c", head=3)]),
    "an event was recorded twice, by a retry": (
        "read_as_recorded",
        [unanswered(append(0, 0, ("a", 0))), read(2, 3, 0, "a", "a", head=2)]),
    "an event is there of which its caller was told that nothing was done": (
        "refused_is_absent",
        [refused(append(0, 1, ("a", 0)), "RegistryUnavailable"), read(2, 3, 0, "a", head=1)]),
    "an event is there that came too late for its sequence": (
        "refused_is_absent",
        [refused(append(0, 1, ("a", 0), id=True, expected=2), "SequenceConflict"),
         read(2, 3, 0, "a", head=1)]),
    "an event was lost at the end of the log": (
        "there_in_the_end", [A1, B2, read(4, 5, 0, "a", head=1, final=True)]),
    "an event was lost within the log": (
        "there_in_the_end",
        [A1, B2, read(4, 5, 1, "b", head=2, final=True)]),
    "an event was pruned that nobody had read": (
        "there_in_the_end",
        [unanswered(A1), B2, read(4, 5, 1, "b", head=2, floor=1, final=True)]),
    "a half of a killed call was recorded": (
        "there_in_the_end",
        [unanswered(append(0, 0, ("a", 0), ("b", 0))), read(4, 5, 0, "a", head=1, final=True)]),
    "a floor was told with a refusal, and fell": (
        "floor_never_falls",
        [A1, B2, refused(read(4, 5, 0, head=2), "HistoryPruned", floor=2, head=2),
         read(6, 7, 1, "b", head=2, floor=1)]),
    "a player lost the session": (
        "sessions_live_on", [issue(0, 1, 1), issue(2, 3, 1, session="g/t")]),
    "an honest client was taken for a thief": (
        "honest_clients_are_served", [issue(0, 1, 1), refused(resume(2, 3, 0), "TokenReused")]),
    "an honest client's token was not known": (
        "honest_clients_are_served",
        [refused(issue(0, 1, 1), "OutcomeUnknown"), issue(2, 3, 1),
         refused(resume(2, 3, 0), "InvalidToken")]),
    "a reader was told that what it has seen is ahead of the log": (
        "honest_clients_are_served", [A1, refused(read(2, 3, 1, head=0), "AheadOfLog", head=0)]),
    "a game was gone": (
        "honest_clients_are_served", [A1, refused(read(2, 3, 0, head=0), "GameNotFound")]),
    "history was refused that is there": (
        "honest_clients_are_served",
        [A1, refused(read(2, 3, 1, head=1), "HistoryPruned", floor=1, head=1)]),
    "the expected sequence was refused": (
        "honest_clients_are_served",
        [refused(append(0, 1, ("a", 0), expected=1), "SequenceConflict", expected=1, actual=1)]),
    "an error of another library came through": (
        "honest_clients_are_served", [refused(append(0, 1, ("a", 0)), "OperationalError")]),
    "a forked child was served": (
        "forked_child_is_refused", [fork(refused=False)]),
}  # fmt: skip


def test_a_right_history_is_accepted() -> None:
    assert violations(RIGHT) == []


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_history_is_rejected_by_the_rule_it_breaks(name: str) -> None:
    rule, calls = FORGED[name]
    assert rule in {found.partition(":")[0] for found in violations(calls)}


def test_every_rule_has_a_forged_history_that_breaks_it() -> None:
    assert {rule for rule, _ in FORGED.values()} == set(RULES)


def test_games_are_judged_apart() -> None:
    assert violations([*RIGHT, *(replace(call, game="h") for call in RIGHT)]) == []


def test_an_unknown_outcome_excuses_one_missing_sequence() -> None:
    unknown = refused(append(1, 5, ("x", 0)), "OutcomeUnknown")
    assert violations([A1, unknown, append(2, 3, ("b", 3))]) == []


def test_a_token_may_be_displaced_by_an_issue_whose_answer_was_lost() -> None:
    lost = refused(issue(2, 3, 0), "OutcomeUnknown")
    assert violations([issue(0, 1, 1), lost, refused(resume(4, 5, 0), "TokenReused")]) == []


def test_calls_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "history", 7)

    def conflict() -> dict[str, object]:
        raise SequenceConflict(1, 2)

    recorder.call(3, "append", "g", {"labels": ["a"]}, lambda: {"sequences": [1]})
    with pytest.raises(SequenceConflict):
        recorder.call(4, "append", "g", {"labels": ["b"]}, conflict)
    done, failed = load([recorder.path])
    assert (done.process, done.connection, done.args) == (7, 3, {"labels": ["a"]})
    assert done.result == {"sequences": [1]}
    assert 0 < done.start <= done.end <= failed.start
    assert (failed.error, failed.detail) == ("SequenceConflict", {"expected": 1, "actual": 2})


def test_a_file_survives_the_kill_of_its_writer_and_shows_what_was_under_way(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history"
    recorder = Recorder(path, 0)
    recorder.call(0, "append", "g", {"labels": ["a"]}, lambda: {"sequences": [1]})
    recorder.call(0, "append", "g", {"labels": ["b"]}, lambda: {"sequences": [2]})
    path.write_bytes(path.read_bytes()[:-9])
    Recorder(path, 0).call(0, "append", "g", {"labels": ["c"]}, lambda: {"sequences": [3]})
    calls = {call.args["labels"][0]: call for call in load([path])}
    assert calls["a"].result == {"sequences": [1]}
    assert calls["b"].result is None
    assert calls["b"].end == math.inf
    assert calls["c"].result == {"sequences": [3]}
