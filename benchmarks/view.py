"""What the terminal shows while it runs. It redraws between slices only: not while one runs."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class View:
    def __init__(self, console: Console, cases: int) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.fields[name]:12}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[now]}"),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._all = self._bars.add_task("", total=cases, name="cases", now="")
        self._case: TaskID | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> View:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def case(self, name: str) -> None:
        self._begun = time.monotonic()
        self._case = self._bars.add_task("", total=0, name=name, now="")
        self._bars.refresh()

    def case_done(self, name: str) -> None:
        self.say(f"{name}: {time.monotonic() - self._begun:.0f} s")
        if self._case is not None:
            self._bars.remove_task(self._case)
            self._case = None
        self._bars.advance(self._all)
        self._bars.refresh()

    def expect(self, points: int) -> None:
        """The case has so many more points to measure."""
        if self._case is not None:
            total = self._bars.tasks[self._bars.task_ids.index(self._case)].total or 0
            self._bars.update(self._case, total=total + points)

    def now(self, text: str) -> None:
        if self._case is not None:
            self._bars.update(self._case, now=text)
            self._bars.refresh()

    def point_done(self) -> None:
        if self._case is not None:
            self._bars.advance(self._case)
            self._bars.refresh()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)
