"""Many threads' calls done together: each waits for its own answer, all share the work.

A call that comes alone is done by its own thread, at once. One that comes while others are under
way is left to a writer: a thread that takes up everything that waits, does it in one go and hands
out the answers. So nobody ever waits for company, and the more calls there are, the less each
of them costs.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from itertools import count
from time import monotonic
from typing import Final, Generic, TypeVar

from .bell import Bell
from .config import RegistryConfig
from .errors import OutcomeUnknown, RegistryUnavailable

J = TypeVar("J")
A = TypeVar("A")

MOST_WRITERS: Final = 4
"""A second one helps only while the first is stuck: behind a lock, a slow disk or network."""

MOST_BATCHES: Final = 1000
"""Full ones that may wait, where nothing else bounds what does."""

PATIENCE: Final = 0.02
"""Seconds that a call waits before it asks for another writer."""

TRIES: Final = 3
"""Times that a key is passed over before it is waited for: mostly its lock is soon free."""

UNCOUNTED: Final = 256
"""Calls that came since a writer last looked; from here on the callers weigh them themselves."""

ABREAST: Final = 2
"""Rows in which threads wake one another: while one of a row is still waking up, one of the other
runs."""

IDLE: Final = 2.0
"""Seconds without work after which a writer ends, so that it keeps no forgotten registry alive."""


class Call(Generic[J, A]):
    """One thread's call, while it waits."""

    __slots__ = (
        "answer",
        "done",
        "error",
        "follower",
        "job",
        "key",
        "left_alone",
        "turn",
        "weight",
    )

    def __init__(self, key: str, job: J, weight: int) -> None:
        self.key = key
        self.job = job
        self.weight = weight
        self.answer: A | None = None
        self.error: BaseException | None = None
        self.left_alone = False
        """Whether its own thread is to do it, after all."""
        self.done = False
        # Held until it is this call's turn to go on.
        self.turn = allocate_lock()
        self.turn.acquire()
        # Threads wake one another in rows. All at once they would queue for the interpreter,
        # and the writer with them.
        self.follower: Call[J, A] | None = None


Batch = Mapping[str, Sequence[Call[J, A]]]
"""The calls to do together, by key, in the order in which they came."""


class Combiner(Generic[J, A]):
    """Does calls of one kind, alone or together. Safe to share between threads.

    Calls with the same key are done in the order in which they came, and never by two writers
    at once.

    Args:
        alone: does one job in the calling thread.
        together: gives each call of a batch its `answer` or its `error`, or leaves it to its own
            thread (`left_alone`), which then does it alone. It returns the keys
            that it could not do without waiting for somebody else's lock: they come again, and
            in the end by themselves and with the second argument True: then it has to wait.
        most_weight: weight of one batch, and a call more.
        most_waiting: weight of all that may wait at once; that of `MOST_BATCHES` if None.
        config: a call waits for `pool_timeout` to be taken up.
    """

    def __init__(
        self,
        alone: Callable[[J], A],
        together: Callable[[Batch[J, A], bool], Collection[str]],
        *,
        name: str,
        most_weight: int,
        most_waiting: int | None = None,
        config: RegistryConfig,
    ) -> None:
        self._do_alone = alone
        self._do_together = together
        self._name = name
        self._most_waiting = MOST_BATCHES * most_weight if most_waiting is None else most_waiting
        self._most_weight = most_weight
        self.tell_combined: Callable[[int], object] = ignore
        """Is called with how many calls are about to be done together."""
        self._timeout = config.pool_timeout
        # More than `together` can take: its own waits are bounded by the same settings.
        self._grace = 5 * (config.pool_timeout + config.statement_timeout)
        self._alone = allocate_lock()
        # Appended to by the callers and emptied by the writers, without a lock: deques are safe.
        self._inbox: deque[Call[J, A]] = deque()
        self._bell = Bell()  # rung when there is work
        # What follows is the writers' own, under this lock.
        # A lock itself, not the condition's: only a lock's `with` cannot be interrupted half-way.
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting: dict[str, list[Call[J, A]]] = {}
        self._held = 0  # the weight of _waiting
        self._writing: set[str] = set()
        self._passed_over: dict[str, int] = {}  # how often in a row
        self._contended: set[str] = set()  # too often
        self._writers: set[threading.Thread] = set()
        self._resting = 0
        self._behind_locks = 0
        self._crowd = 0  # callers that wait for room
        self._closed = ""  # why, once it is

    def call(self, key: str, job: J, weight: int) -> A:
        """Does one job and returns its answer, or raises its error."""
        if (
            self._resting == len(self._writers)
            and not self._inbox
            and not self._closed
            and self._alone.acquire(False)
        ):
            try:
                return self._do_alone(job)
            finally:
                self._alone.release()
        if self._closed:
            raise self._refusal()
        deadline = monotonic() + self._timeout
        if len(self._inbox) >= UNCOUNTED:
            with self._lock:
                self._collect()
        if self._held >= self._most_waiting:
            self._wait_for_room(deadline)
        call: Call[J, A] = Call(key, job, weight)
        try:
            self._inbox.append(call)
            if self._closed and self._withdraw(call):
                raise self._refusal()
            if not self._ring() and self._withdraw(call):
                return self._do_alone(job)  # no thread can be begun any more
            if not call.turn.acquire(True, PATIENCE):
                self._wait(call, deadline)
        except BaseException:  # interrupted: if it was not begun, it never is
            self._withdraw(call)
            raise
        finally:
            if call.follower is not None:
                call.follower.turn.release()
        if call.left_alone:
            return self._do_alone(job)
        if call.error is not None:
            raise call.error
        return call.answer  # type: ignore[return-value]

    def refuse(self, why: str) -> None:
        """Refuses further calls."""
        self._closed = why

    def close(self) -> None:
        """Refuses further calls, and returns when those that wait have their answers."""
        if self._closed:  # or a forked child, in which a writer may seem to hold the lock for ever
            return
        self.refuse("the registry is closed")
        with self._lock:
            self._room.notify_all()
            writers = list(self._writers)
        until = monotonic() + self._timeout + self._grace
        for writer in writers:
            self._bell.ring()
            writer.join(max(0.0, until - monotonic()))
        with self._lock:
            self._collect()
            left = [call for calls in self._waiting.values() for call in calls]
            self._waiting.clear()
        for call in left:
            call.error = self._refusal()
            call.done = True
            call.turn.release()

    def _refusal(self) -> RegistryUnavailable:
        return RegistryUnavailable(f"{self._closed}; nothing was done")

    def _ring(self) -> bool:
        """Sees to it that a writer looks for work; False if there is none and can be none."""
        if not self._writers and not self._hire(1):
            return False
        self._bell.ring()
        return True

    def _hire(self, most: int) -> bool:
        """Begins a writer if there are fewer than that; False if there is none at all."""
        with self._lock:
            if len(self._writers) < most:
                writer = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._writers.add(writer)
                try:
                    writer.start()
                except BaseException as error:
                    if not writer.is_alive():
                        self._writers.discard(writer)
                    # Out of threads, or the interpreter is going down.
                    if isinstance(error, RuntimeError):
                        return bool(self._writers)
                    raise  # interrupted
            return True

    def _wait(self, call: Call[J, A], deadline: float) -> None:
        """Waits longer, and asks for another writer."""
        pause = PATIENCE
        while not call.done:
            left = deadline - monotonic()
            if left <= 0 and self._withdraw(call):
                raise RegistryUnavailable(
                    f"the call waited {self._timeout:g} s behind others and was not begun; "
                    "nothing was done"
                )
            if left <= -self._grace:
                raise OutcomeUnknown(
                    "the answer did not come in time: this may or may not have been done"
                )
            if call.key not in self._writing:
                if self._resting:
                    self._ring()
                else:
                    self._hire(MOST_WRITERS)
            # Doubled, so that many that wait long cost little; to be woken ends it at once.
            pause = min(2 * pause, 0.2)
            call.turn.acquire(True, min(pause, max(left, PATIENCE)))

    def _withdraw(self, call: Call[J, A]) -> bool:
        """Takes a call back; False if it has been taken up."""
        with self._lock:
            self._collect()
            return self._remove(call)

    def _remove(self, call: Call[J, A]) -> bool:
        calls = self._waiting.get(call.key, [])
        rest = [other for other in calls if other is not call]
        if len(rest) == len(calls):
            return False
        # Who is interrupted here leaves it too low, until the next batch: too high, and callers
        # could wait for room that nothing takes up.
        self._held -= call.weight
        if rest:
            self._waiting[call.key] = rest
        else:
            del self._waiting[call.key]
        return True

    def _wait_for_room(self, deadline: float) -> None:
        with self._lock:
            self._crowd += 1
            try:
                while self._held >= self._most_waiting and not self._closed:
                    left = deadline - monotonic()
                    if left <= 0:
                        raise RegistryUnavailable(
                            "too many calls are waiting already, and there was no room for one "
                            f"more within {self._timeout:g} s; nothing was done"
                        )
                    self._room.wait(left)
            finally:
                self._crowd -= 1

    # What a writer does.

    def _serve(self) -> None:
        while True:
            batch, patient = self._take()
            if batch:
                self._do(batch, patient)
            elif not self._rest():
                return

    def _take(self) -> tuple[dict[str, list[Call[J, A]]], bool]:
        """What is to be done next, and whether it may wait for locks."""
        with self._lock:
            self._collect()
            # One writer is always left for those that need not wait.
            may_wait = self._behind_locks < MOST_WRITERS - 1
            if self._writing or self._contended or self._held > self._most_weight:
                batch = self._draw(may_wait)
            else:
                batch, self._waiting, self._held = self._waiting, {}, 0
            patient = may_wait and len(batch) == 1
            self._writing.update(batch)
            self._behind_locks += patient
            if self._crowd:
                self._room.notify_all()
            return batch, patient

    def _collect(self) -> None:
        inbox, waiting = self._inbox, self._waiting
        for _ in range(len(inbox)):
            # It leaves the inbox last: a thread that is interrupted here loses nobody's call, and
            # the next one finds the first of the inbox among those that wait already.
            call = inbox[0]
            calls = waiting.get(call.key)
            if calls is None:
                waiting[call.key] = [call]
            elif calls[-1] is not call:
                calls.append(call)
            inbox.popleft()
            self._held += call.weight

    def _draw(self, may_wait: bool) -> dict[str, list[Call[J, A]]]:
        """A part of what waits: a key that has to be waited for, or a fair share of the others."""
        free = [key for key in self._waiting if key not in self._writing]
        stuck = [key for key in free if key in self._contended]
        if stuck and may_wait:
            free = stuck[:1]
        elif stuck:
            free = [key for key in free if key not in self._contended]
        batch: dict[str, list[Call[J, A]]] = {}
        room = self._most_weight
        # One call of each key in turn, so that a flood of one drowns no other.
        for depth in count():
            deep = [key for key in free if len(self._waiting[key]) > depth]
            for key in deep:
                if room > 0:
                    call = self._waiting[key][depth]
                    batch.setdefault(key, []).append(call)
                    room -= call.weight
            if not deep or room <= 0:
                break
        for key, calls in batch.items():
            self._held -= sum(call.weight for call in calls)
            rest = self._waiting.pop(key)[len(calls) :]
            if rest:  # behind those that had no turn
                self._waiting[key] = rest
        return batch

    def _do(self, batch: dict[str, list[Call[J, A]]], patient: bool) -> None:
        again: Collection[str] = ()
        try:
            self.tell_combined(sum(map(len, batch.values())))
            again = self._do_together(batch, patient)
        except BaseException as error:
            for calls in batch.values():
                for call in calls:
                    if call.answer is None and call.error is None and not call.left_alone:
                        call.error = own(error)
        finally:
            self._finish(batch, patient, again)

    def _finish(
        self, batch: dict[str, list[Call[J, A]]], patient: bool, again: Collection[str]
    ) -> None:
        done = [call for key, calls in batch.items() if key not in again for call in calls]
        for call, follower in zip(done, done[ABREAST:], strict=False):
            call.follower = follower
        for call in done:
            call.done = True
        with self._lock:
            self._behind_locks -= patient
            self._writing.difference_update(batch)
            self._contended.difference_update(batch)
            if self._passed_over:
                for key in batch:
                    if key not in again:
                        self._passed_over.pop(key, None)
            for key in again:
                times = self._passed_over[key] = self._passed_over.get(key, 0) + 1
                if times >= TRIES:
                    self._contended.add(key)
                self._held += sum(call.weight for call in batch[key])
                self._waiting[key] = batch[key] + self._waiting.get(key, [])
        for call in done[:ABREAST]:
            call.turn.release()

    def _rest(self) -> bool:
        """Waits for the bell; False when it is time to end."""
        with self._lock:
            self._resting += 1
        rung = not self._closed and self._bell.heard(IDLE)
        with self._lock:
            self._resting -= 1
            if not rung and not self._inbox:
                self._writers.discard(threading.current_thread())
                if self._closed:
                    self._bell.ring()  # for the next that rests
                return False
            return True


def ignore(_: object) -> None:
    """Does nothing about it."""


def own(error: BaseException) -> BaseException:
    """A copy of an error for one of the threads that it is raised in, if it can be copied."""
    try:
        return copy(error)
    except Exception:
        return error
