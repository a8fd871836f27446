"""What the demonstration shows: bars and a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Protocol

from attrs import frozen
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from .tally import Count, Tally

Advance = Callable[[int], None]

LINE_EVERY = 2.0
"""Seconds between two plain lines of one stage."""


@frozen
class Row:
    """One line of the final table. `good` says whether it is as it should be, if it matters."""

    name: str
    value: str
    good: bool | None = None


class View(Protocol):
    """Where the demonstration speaks. Used by one thread."""

    def __enter__(self) -> View: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def say(self, text: str) -> None: ...

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Advance]: ...

    def table(self, title: str, rows: Sequence[Row]) -> None: ...


def make_view(tally: Tally) -> View:
    """A screen when standard output is a terminal, else plain lines."""
    console = Console(highlight=False)
    return Screen(console, tally) if console.is_terminal else Lines(tally)


class Screen:
    """A terminal: a bar for each stage, the counters below."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:8}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]:6}"),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._live = Live(Group(self._bars, Counters(tally)), console=console, refresh_per_second=8)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        task = self._bars.add_task(name, total=total, unit=unit)
        yield lambda more: self._bars.advance(task, more)
        self._bars.update(task, completed=total)

    def table(self, title: str, rows: Sequence[Row]) -> None:
        self._live.stop()
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column()
        table.add_column(justify="right")
        for row in rows:
            style = {True: "green", False: "bold red", None: ""}[row.good]
            table.add_row(row.name, row.value, style=style)
        self._console.print(table)


class Counters:
    """The live lines."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __rich__(self) -> Text:
        return Text(live(self._tally), style="cyan")


class Lines:
    """No terminal: a line now and then."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        print(text, flush=True)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Advance]:
        begun = spoken = time.monotonic()
        done = 0

        def advance(more: int) -> None:
            nonlocal done, spoken
            done += more
            if time.monotonic() - spoken >= LINE_EVERY:
                spoken = time.monotonic()
                self.say(f"{name}: {done}/{total} {unit}; {live(self._tally)}")

        yield advance
        self.say(f"{name}: {total} {unit} in {time.monotonic() - begun:.1f} s")

    def table(self, title: str, rows: Sequence[Row]) -> None:
        self.say(title)
        width = max(len(row.name) for row in rows)
        for row in rows:
            mark = "  <-- WRONG" if row.good is False else ""
            self.say(f"  {row.name:{width}}  {row.value}{mark}")


def live(tally: Tally) -> str:
    """The counters that move while games are played."""
    return (
        f"events {tally[Count.RECEIVED]} · replayed {tally[Count.REPLAYED]} · "
        f"drops {tally[Count.DROPS]} · resumes {tally[Count.RESUMES]} · "
        f"twins {tally[Count.TWINS]} · thefts {tally[Count.THEFTS]} · "
        f"forgeries {tally[Count.FORGERIES]} · ghosts {tally[Count.GHOSTS]}"
    )
