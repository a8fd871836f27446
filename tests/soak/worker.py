"""One process of clients, run as a program until its standard input ends.

Its options are one JSON argument. Each second it writes a line of JSON: how long each call took
since the line before, in microseconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from registry import GameSessionRegistry

from .pace import Pace
from .play import Play
from .schedule import Schedule

LATENESS: Final = "lateness"
"""The name under which stands how late the calls began."""


class Timings:
    """How long calls took since they were last asked for."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._times: dict[str, list[int]] = defaultdict(list)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.note(name, time.perf_counter() - begin)

    def late(self, seconds: float) -> None:
        self.note(LATENESS, max(seconds, 0.0))

    def note(self, name: str, seconds: float) -> None:
        with self._guard:
            self._times[name].append(round(1e6 * seconds))

    def take(self) -> dict[str, list[int]]:
        with self._guard:
            times, self._times = self._times, defaultdict(list)
        return times


def main() -> None:
    options: dict[str, Any] = json.loads(sys.argv[1])
    pace = Pace(**options["pace"])
    timings = Timings()
    schedule = Schedule(timings.late)
    ended = threading.Event()

    def work() -> None:
        try:
            schedule.work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    with GameSessionRegistry.connect(options["conninfo"], config=pace.config()) as registry:
        Play(registry, pace, schedule, timings.timed, options["seed"]).begin()
        threads = [threading.Thread(target=work) for _ in range(pace.threads)]
        threading.Thread(target=wait_for_the_end, daemon=True).start()
        for thread in threads:
            thread.start()
        while not ended.wait(1.0):
            print(json.dumps(timings.take()), flush=True)
        schedule.stop()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
