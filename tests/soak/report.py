"""What a run shows while it goes on, and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .run import Outcome
from .series import KINDS


@contextmanager
def progress(seconds: float) -> Iterator[Callable[[float], None]]:
    """A bar, on a terminal."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("constant load", total=seconds)
        yield lambda gone: bar.update(task, completed=gone)


def printed(outcome: Outcome) -> None:
    """The verdict on each series, and on the run."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, 110)  # in a log, too
    table = Table("series", "of", "second quarter", "last quarter", "bound", "verdict")
    for column in table.columns[2:5]:
        column.justify = "right"
    for verdict in outcome.verdicts:
        kind = KINDS[verdict.kind]
        shown = (verdict.before, verdict.after, verdict.bound)
        word = "flat" if verdict.flat else "[bold red]NOT FLAT"
        table.add_row(kind.title, verdict.name, *(f"{v / kind.unit:,.2f}" for v in shown), word)
    console.print(table)
    calls = ", ".join(f"{number:,} {name}" for name, number in sorted(outcome.calls.items()))
    console.print(f"seed {outcome.seed}, {outcome.pace.seconds:.0f} s: {calls}")
    for trouble in outcome.trouble:
        console.print(trouble, markup=False)
    if outcome.passed:
        console.print("flat: nothing grows, no log has a hole, nothing is left in the end")
    else:
        console.print("NOT PASSED")
