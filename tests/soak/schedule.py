"""Many things that go on at once, on a few threads, each step at its time."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

Course = Iterator[float]
"""Does a step each time it is advanced, and yields the seconds until its next one is due."""


class Schedule:
    """Advances courses when they are due, whichever thread is free; one course on one thread.

    A step that comes late does not put off those after it: the rate is that of the clock.
    """

    def __init__(self, late: Callable[[float], None]) -> None:
        """`late` is told how many seconds after its time each step began."""
        self._late = late
        self._due: list[tuple[float, int, Course]] = []
        self._order = count()
        self._changed = threading.Condition()
        self._stopped = False

    def add(self, course: Course, delay: float = 0.0) -> None:
        self._put(time.monotonic() + delay, course)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def work(self) -> None:
        """Advances what is due until the schedule is stopped; for any number of threads."""
        while taken := self._take():
            due, course = taken
            self._late(time.monotonic() - due)
            delay = next(course, None)
            if delay is not None:
                self._put(due + delay, course)

    def _put(self, due: float, course: Course) -> None:
        with self._changed:
            heapq.heappush(self._due, (due, next(self._order), course))
            self._changed.notify()

    def _take(self) -> tuple[float, Course] | None:
        with self._changed:
            while not self._stopped:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    due, _, course = heapq.heappop(self._due)
                    return due, course
                self._changed.wait(wait)
        return None
