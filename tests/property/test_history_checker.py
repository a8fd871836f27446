"""The judge is judged: each forged history breaks one promise, and the checker must name it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from history import RULES, Call, dump, load, violations


def append(start: float, end: float, *given: tuple[str, int], error: str | None = None) -> Call:
    labels = [label for label, _ in given]
    result = None if error else {"sequences": [sequence for _, sequence in given]}
    return Call("append", "g", {"labels": labels}, start, end, result, error)


def read(
    start: float, end: float, after: int, *labels: str, head: int, floor: int = 0, epoch: str = "e"
) -> Call:
    first = max(after, floor) + 1
    events = [[first + n, label] for n, label in enumerate(labels)]
    result = {"events": events, "head": head, "floor": floor, "epoch": epoch}
    return Call("read", "g", {"after": after}, start, end, result)


def issue(start: float, end: float, generation: int, acknowledged: int = 0) -> Call:
    result = {"session": "g/s", "generation": generation, "acknowledged": acknowledged}
    return Call("takeover", "g", {"how": "issue"}, start, end, result)


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
        [A1, append(1, 5, ("x", 0), error="OutcomeUnknown"), append(2, 3, ("b", 4))]),
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
    unknown = append(1, 5, ("x", 0), error="OutcomeUnknown")
    assert violations([A1, unknown, append(2, 3, ("b", 3))]) == []


def test_a_file_survives_the_kill_of_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(dump(A1) + dump(B2)[:-9])
    assert load([path]) == [A1]
