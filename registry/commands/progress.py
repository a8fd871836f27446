"""How far a long command is: a bar on a terminal, or a line where the extra `cli` is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from ..progress import Advance, Progress, Silent


class Lines:
    """A line for each stage, which is written over."""

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        done, most, shown = 0, total, -1.0

        def advance(number: int, total: int | None = None) -> None:
            nonlocal done, most, shown
            done += number
            most = most if total is None else total
            if monotonic() - shown > 0.2:
                of = "" if most is None else f" of at most {most}"
                print(f"\r{name}: {done}{of} {unit}", end="", file=sys.stderr, flush=True)
                shown = monotonic()

        try:
            yield advance
        finally:
            print(file=sys.stderr)


class Bars:
    """A bar for each stage, on standard error, so that standard output can be kept."""

    def __init__(self) -> None:
        import rich  # noqa: F401

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        bars = Progress(
            TextColumn("{task.description:9}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]:6}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True, highlight=False),
            expand=True,
        )
        done = 0
        with bars:
            task = bars.add_task(name, total=total, unit=unit)

            def advance(number: int, total: int | None = None) -> None:
                nonlocal done
                done += number
                bars.update(task, advance=number, total=total)

            yield advance
            if bars.tasks[task].total is None:
                bars.update(task, total=done)


def progress() -> Progress:
    """Bars or lines if standard error is a terminal."""
    if not sys.stderr.isatty():
        return Silent()
    try:
        return Bars()
    except ModuleNotFoundError:  # the extra `cli` is not installed
        return Lines()
