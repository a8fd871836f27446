"""Upkeep by itself: a thread that cleans up now and then, one of all servers at a time."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from enum import Enum
from math import inf
from time import monotonic
from types import TracebackType
from typing import Final

from attrs import frozen

from . import arguments
from .api import GameSessionRegistry
from .cleaning import AnotherCleans
from .errors import InvalidArgument, RegistryError
from .model import Cleanup

JITTER: Final = 0.25
"""By how much of itself a pause is longer or shorter, so that servers do not come together."""

BATCH_SIZE: Final = 200
"""Rows, few: while a batch is under way, the players have less of the processors and the disk."""

SHARE: Final = 0.25
"""Of the time of a run, what it is at work; the rest is the players'."""

LONGEST_PAUSE: Final = 1.0
"""Seconds between two batches at most: a transaction is open for as long."""

FIRST_RETRY: Final = 5.0
"""Seconds until another try after one that failed; twice as long each time, up to the interval."""

log = logging.getLogger("registry.maintenance")


class _Enough(Exception):
    """A run is to begin no further batch."""


class Outcome(Enum):
    """How a run ended."""

    DONE = "done"
    """Nothing that was due when it began is left, but what others held just then."""
    TIME_UP = "time up"
    """It was to end before it was done; another run goes on from there."""
    ANOTHER_AT_WORK = "another at work"
    """Another process cleans up the same database: the rest was left to it."""


@frozen
class Run:
    """What one run did."""

    outcome: Outcome
    cleanup: Cleanup
    seconds: float


class Maintenance:
    """Runs `cleanup_expired_sessions` every so often, in a daemon thread of its own.

        with GameSessionRegistry.connect(conninfo) as registry, Maintenance(registry):
            ...

    Start it in every server: of all that run on one database only one works at a time, the others
    leave it to that one at once. It never raises into the host: what fails is logged by
    `registry.maintenance` and tried again. It ends by itself when the registry is closed.
    """

    def __init__(
        self,
        registry: GameSessionRegistry,
        interval: float = 60.0,
        *,
        batch_size: int = BATCH_SIZE,
        max_seconds: float | None = None,
        share: float = SHARE,
    ) -> None:
        """Nothing is started yet.

        Args:
            registry: to be closed after `stop`.
            interval: seconds between the end of a run and the next one, a quarter more or less.
                The first comes within the first interval.
            batch_size: most rows deleted by one statement.
            max_seconds: after which a run begins no further batch; None for no limit.
            share: of the time of a run, what it is at work; in between it pauses. At 1 it takes
                all that the database gives.

        Raises:
            InvalidArgument: an argument is of the wrong type or out of range.
        """
        if not isinstance(registry, GameSessionRegistry):
            raise InvalidArgument("registry must be a GameSessionRegistry")
        self._registry = registry
        self._interval = arguments.seconds("interval", interval, most=threading.TIMEOUT_MAX / 2)
        self._batch_size = arguments.whole("batch_size", batch_size, 1, 2**31 - 1)
        self._share = arguments.share("share", share)
        self._max_seconds = (
            None if max_seconds is None else arguments.seconds("max_seconds", max_seconds)
        )
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def start(self) -> None:
        """Starts the thread, if it does not run. Safe from any thread."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._end = threading.Event()
                self._thread = threading.Thread(
                    target=self._work, args=[self._end], name="registry-maintenance", daemon=True
                )
                self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Ends the thread, after the batch that is under way, and says whether it has ended.

        Safe from any thread, and without a thread.

        Args:
            timeout: seconds to wait for it; None waits as long as a batch may take, which the
                registry's time limits bound.
        """
        with self._lock:
            thread = self._thread
            self._end.set()
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def end(self) -> None:
        """Has a run begin no further batch, and the thread end; waits for nothing.

        May be called by a signal handler.
        """
        self._end.set()

    def run_once(self, progress: Callable[[Cleanup, int | None], object] | None = None) -> Run:
        """Cleans up once, in this thread, unless another process is at it.

        Args:
            progress: called after each batch with what the run has deleted so far, and with about
                how many sessions and events are due in all (None: too many to count), which costs
                a statement more.

        Raises:
            RegistryUnavailable: the database did not answer in time; what was cleaned up before
                stays so. Safe to retry.

        Concurrency: as `cleanup_expired_sessions`, but only one run of all processes works at a
        time; four or five round trips a batch. `end` ends it early.
        """
        return self._run(self._end, progress)

    def __enter__(self) -> Maintenance:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(
        self,
        end: threading.Event,
        progress: Callable[[Cleanup, int | None], object] | None = None,
    ) -> Run:
        began = monotonic()
        until = inf if self._max_seconds is None else began + self._max_seconds

        def pause(took: float) -> None:
            seconds = min(took * (1 / self._share - 1), LONGEST_PAUSE)
            if monotonic() + seconds > until or end.wait(seconds):
                raise _Enough

        cleaning = self._registry._cleaning(self._batch_size, pause)
        due = cleaning.due() if progress else None
        deleted, outcome = Cleanup(0, 0, 0), Outcome.DONE
        try:
            for batch in cleaning.batches():
                deleted = deleted.plus(batch)
                if progress:
                    progress(deleted, due)
        except _Enough:
            outcome = Outcome.TIME_UP
        except AnotherCleans:
            outcome = Outcome.ANOTHER_AT_WORK
        return Run(outcome, deleted, monotonic() - began)

    def _work(self, end: threading.Event) -> None:
        pause, failures = random.uniform(0, self._interval), 0
        while not end.wait(pause) and not self._registry.closed:
            try:
                _report(self._run(end))
                wanted, failures = self._interval, 0
            except Exception as error:
                if self._registry.closed:
                    break
                # Of any other error only the kind: it could quote a row.
                said = str(error) if isinstance(error, RegistryError) else type(error).__name__
                log.warning("the cleanup failed and will be tried again: %s", said)
                wanted = min(self._interval, FIRST_RETRY * 2 ** min(failures, 20))
                failures += 1
            pause = wanted * random.uniform(1 - JITTER, 1 + JITTER)


def _report(run: Run) -> None:
    deleted = run.cleanup
    log.log(
        logging.INFO if deleted != Cleanup(0, 0, 0) else logging.DEBUG,
        "cleanup: %s after %.3f s; %d sessions, %d events, %d games deleted",
        run.outcome.value,
        run.seconds,
        deleted.sessions,
        deleted.events,
        deleted.games,
        extra={
            "outcome": run.outcome.value,
            "seconds": run.seconds,
            "sessions": deleted.sessions,
            "events": deleted.events,
            "games": deleted.games,
        },
    )
