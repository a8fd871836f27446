"""What a run shows while it goes on, and at its end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .run import Outcome

MOST_SHOWN = 4
"""Findings of one rule."""


@contextmanager
def progress(seconds: float) -> Iterator[Callable[[str], None]]:
    """Something to say what is going on: a bar on a terminal, else lines."""
    console = Console(highlight=False)
    begin = time.monotonic()
    if not console.is_terminal:
        yield lambda text: print(f"{time.monotonic() - begin:6.1f} s  {text}", flush=True)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=seconds)

        def say(text: str) -> None:
            bar.update(task, description=text, completed=time.monotonic() - begin)

        yield say


def printed(outcome: Outcome) -> None:
    """The whole of a run in one screen, and what the checker found."""
    console = Console(highlight=False, soft_wrap=True)
    answers = Table("call", "answer", "times", title="what clients were answered")
    for (kind, answer), times in sorted(outcome.calls.items()):
        answers.add_row(kind, answer, f"{times:,}")
    faults = Table("fault", "times", title="faults")
    for name, times in sorted(outcome.faults.items()):
        faults.add_row(name, str(times))
    console.print(answers)
    console.print(faults)
    unknown = outcome.calls["append", "OutcomeUnknown"]
    settled = sum(outcome.settled.values())
    console.print(f"commits without an answer: {settled} settled, {unknown} left unknown")
    for how, times in sorted(outcome.settled.items()):
        console.print(f"    {times:6,} {how}")
    calls = sum(outcome.calls.values())
    console.print(
        f"seed {outcome.seed}: {calls:,} calls in {outcome.seconds:.0f} s,"
        f" {sum(outcome.faults.values())} faults; judged in {outcome.judged_in:.1f} s"
    )
    by_rule: dict[str, list[str]] = defaultdict(list)
    for found in outcome.found:
        by_rule[found.partition(":")[0]].append(found)
    for of_rule in by_rule.values():
        for found in of_rule[:MOST_SHOWN]:
            console.print(f"  {found}", markup=False)
        if len(of_rule) > MOST_SHOWN:
            console.print(f"  … and {len(of_rule) - MOST_SHOWN} more of the kind")
    if outcome.trouble:
        console.print(f"the run did not come to its end: {outcome.trouble}", markup=False)
    if outcome.passed:
        console.print("accepted: the contract explains everything that the clients saw")
    else:
        console.print(f"REJECTED. The history and the servers' logs are in {outcome.folder}")
