"""How far a long command is: a bar on a terminal, where the extra `cli` is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where a command says how far it is. Used by one thread."""

    def stage(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """A part of the work; what it yields is told how much more of it is done."""


class Silent:
    """Says nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda number: None


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

            def advance(number: int) -> None:
                nonlocal done
                done += number
                bars.advance(task, number)

            yield advance
            bars.update(task, total=done, completed=done)


def progress() -> Progress:
    """Bars if standard error is a terminal and rich is installed."""
    if not sys.stderr.isatty():
        return Silent()
    try:
        return Bars()
    except ModuleNotFoundError:  # the extra `cli` is not installed
        return Silent()
