"""How a conversion gets its locks: never in the way for long, and again until it has them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
import tenacity
from attrs import define, field, frozen
from psycopg import Connection

from ..errors import RegistryUnavailable
from .conversion import LOCK
from .layouts import EVENTS, ask
from .queries import Statement, queries, setting
from .statements import NEXT

T = TypeVar("T")

LINGERING: Final = 2.0
"""Seconds in which the server notices that a conversion which has just ended is gone."""

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
"""Seconds, at most, before a lock is asked for again, and between two batches."""

GO_ON: Final = "what was done stays; the same command goes on from there"


@frozen(kw_only=True)
class Pace:
    """How much a conversion gets in the way. Times are in seconds."""

    lock_timeout: float = 0.1
    """How long it may keep writers waiting while it waits for a lock of the whole table."""
    patience: float = 60.0
    """How long it tries again to get one, or the lock of one game."""
    hold: float = 0.01
    """How long a batch should hold the games that it copies."""
    share: float = 0.5
    """Of the time, what it is at work; in between it pauses."""
    max_seconds: float | None = None
    """After which it begins no further batch."""

    def timeout(self) -> Statement:
        """Has the rest of a transaction wait for no lock for longer."""
        return setting("lock_timeout", f"{round(self.lock_timeout * 1000)}ms")


class Enough(Exception):
    """It is to begin nothing further."""


def in_the_way(pids: Iterable[int]) -> str:
    """The end of an error: whose transactions are in the way, and what to do."""
    named = [str(pid) for pid in pids]
    processes = f" (PostgreSQL's process {', '.join(named)})" if named else ""
    or_end = f", or end it by pg_terminate_backend({named[0]})" if named else ""
    return f"{processes}: let that end{or_end}. {GO_ON.capitalize()}"


@define
class Locking:
    """The turns and the locks of one conversion. Used by one thread, but for `end`."""

    connection: Connection[Any]
    pace: Pace
    _until: float = inf
    _end: threading.Event = field(factory=threading.Event)

    def begin(self) -> None:
        """From here on `Pace.max_seconds` count."""
        if self.pace.max_seconds is not None:
            self._until = monotonic() + self.pace.max_seconds

    def end(self) -> None:
        """Has `sleep` and `pause` raise `Enough`; may be called by a signal handler."""
        self._end.set()

    def patiently(self, make: Callable[[], Iterable[Statement]]) -> None:
        """A transaction that never keeps others waiting for longer than `Pace.lock_timeout`, tried
        again until it gets its locks."""

        def once() -> None:
            with self.connection.transaction(), self.connection.pipeline():
                ask(self.connection, self.pace.timeout())
                for statement in make():
                    ask(self.connection, statement)

        self.again(once)

    def again(self, once: Callable[[], T]) -> T:
        """Does something until it gets its locks. Raises `RegistryUnavailable` when that takes
        longer than `Pace.patience`."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(
                (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
            ),
            wait=tenacity.wait_random_exponential(FIRST_PAUSE, LONGEST_PAUSE),
            stop=tenacity.stop_after_delay(self.pace.patience),
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(once)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            raise RegistryUnavailable(self._refusal()) from None

    def _refusal(self) -> str:
        users = ask(self.connection, queries.users, {"names": [EVENTS, NEXT, "game"]}).fetchall()
        said = f"for --patience {self.pace.patience:g} seconds others were using the tables"
        if any(vacuum for _, vacuum in users):
            said += ", vacuum among them, which --lock-timeout 2 has the server interrupt"
        return f"{said}{in_the_way(pid for pid, _ in users)}"

    def pause(self, took: float) -> None:
        """Behind so many seconds of work, as `Pace.share` has it."""
        self.sleep(min(took * (1 / self.pace.share - 1), LONGEST_PAUSE))

    def sleep(self, seconds: float) -> None:
        """Raises `Enough` when it is to end before."""
        if monotonic() + seconds > self._until or self._end.wait(seconds):
            raise Enough

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only conversion of this database."""
        deadline = monotonic() + LINGERING
        while ask(self.connection, queries.take_turn, {"lock": LOCK}).fetchone() != (True,):
            if monotonic() > deadline:
                raise RegistryUnavailable(
                    "another process is converting this database: wait for its end"
                )
            # However short its own time is, it is told that another one converts.
            if self._end.wait(LINGERING / 20):
                raise Enough
        try:
            yield
        finally:
            if not self.connection.closed and not self.connection.broken:
                ask(self.connection, queries.leave_turn, {"lock": LOCK})
