"""Many threads' calls done together: who does what, in which order, and what of the rest."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from types import CodeType, FrameType
from typing import Any

import pytest
from probes import PATIENCE as LONG
from probes import in_thread, queued, until_writers_rest, waiting
from support import wait_until

from registry import OutcomeUnknown, RegistryConfig, RegistryUnavailable, combining
from registry.combining import MOST_WRITERS, Batch, Call, Combiner

QUICK = 5.0
"""Seconds within which a busy machine does what takes no time at all."""

ROOMY = RegistryConfig(pool_timeout=LONG)
HASTY = RegistryConfig(pool_timeout=0.5, statement_timeout=1.0)
FLEETING = RegistryConfig(pool_timeout=0.5, statement_timeout=0.1)


class Desk:
    """Does what a combiner gives it, notes it, and holds up what a test wants held up."""

    def __init__(self) -> None:
        self.alone: list[str] = []
        self.batches: list[tuple[dict[str, list[str]], bool]] = []
        self.threads: dict[str, threading.Thread] = {}
        self.errors: dict[str, BaseException] = {}
        self.left_alone: set[str] = set()
        self.overlaps: list[str] = []
        self._active: Counter[str] = Counter()
        self._gates: dict[str, threading.Event] = {}
        self._begun: dict[str, threading.Event] = {}
        self._locks: dict[str, threading.Event] = {}

    @contextmanager
    def held(self, job: str) -> Iterator[None]:
        """Within this, the job is begun and not done."""
        self._begun[job], self._gates[job] = threading.Event(), threading.Event()
        try:
            yield
        finally:
            self._gates[job].set()

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Within this, somebody else has the key."""
        self._locks[key] = threading.Event()
        try:
            yield
        finally:
            self._locks[key].set()

    def until_begun(self, job: str) -> None:
        assert self._begun[job].wait(LONG)

    def do_alone(self, job: str) -> str:
        self.alone.append(job)
        self._do(job)
        return answer(job)

    def do_together(self, batch: Batch[str, str], patient: bool) -> Collection[str]:
        again = set()
        self.batches.append(
            ({key: [call.job for call in calls] for key, calls in batch.items()}, patient)
        )
        for key in batch:
            self._active[key] += 1
            if self._active[key] > 1:
                self.overlaps.append(key)
        for key, calls in batch.items():
            lock = self._locks.get(key)
            if lock is not None and patient:
                assert lock.wait(LONG)
            if lock is not None and not lock.is_set():
                again.add(key)
                continue
            for call in calls:
                if call.job in self.left_alone:
                    call.left_alone = True
                    continue
                self._do(call.job)
                call.answer = answer(call.job)
        for key in batch:
            self._active[key] -= 1
        return again

    def jobs(self) -> list[str]:
        """All that was done in batches, in order; what was passed over comes again."""
        return [job for batch, _ in self.batches for jobs in batch.values() for job in jobs]

    def _do(self, job: str) -> None:
        self.threads[job] = threading.current_thread()
        if job in self._gates:
            self._begun[job].set()
            assert self._gates[job].wait(LONG)
        if job in self.errors:
            raise self.errors[job]


def answer(job: str) -> str:
    return f"answer to {job}"


@pytest.fixture
def desk() -> Desk:
    return Desk()


@contextmanager
def combiner_of(
    desk: Desk, *, most_waiting: int = 10**6, most_weight: int = 10**6, config: Any = ROOMY
) -> Iterator[Combiner[str, str]]:
    combiner = Combiner(
        desk.do_alone,
        desk.do_together,
        name="test-writer",
        most_waiting=most_waiting,
        most_weight=most_weight,
        config=config,
    )
    try:
        yield combiner
    finally:
        combiner.close()


@pytest.fixture
def combiner(desk: Desk) -> Iterator[Combiner[str, str]]:
    with combiner_of(desk) as combiner:
        yield combiner


@pytest.fixture
def nobody_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call asks for a second writer, so that all that comes behind the first one waits."""
    monkeypatch.setattr(combining, "PATIENCE", 2 * LONG)
    monkeypatch.setattr(combining, "IDLE", 2 * LONG)


def send(combiner: Combiner[str, str], key: str, job: str, weight: int = 1) -> Future[str]:
    return queued(combiner, lambda: combiner.call(key, job, weight))


@contextmanager
def busy(desk: Desk, combiner: Combiner[str, str], key: str = "busy") -> Iterator[None]:
    """Within this one thread does a call alone and a writer is busy with another one."""
    until_writers_rest(combiner)
    with ExitStack() as stack:
        stack.enter_context(desk.held("first"))
        first = in_thread(lambda: combiner.call("first", "first", 1))
        desk.until_begun("first")
        stack.enter_context(desk.held("second"))
        second = in_thread(lambda: combiner.call(key, "second", 1))
        desk.until_begun("second")
        yield
    assert first.result(LONG) == answer("first")
    assert second.result(LONG) == answer("second")


def answered(calls: dict[str, Future[str]], seconds: float = LONG) -> None:
    assert {job: call.result(seconds) for job, call in calls.items()} == {
        job: answer(job) for job in calls
    }


# alone and together


def test_a_call_that_comes_alone_is_done_by_its_own_thread(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    for job in ("one", "two"):
        assert combiner.call("key", job, 1) == answer(job)
        assert desk.threads[job] is threading.current_thread()
    assert desk.batches == []
    assert not combiner._writers


def test_an_error_of_a_call_that_came_alone_is_its_own(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    desk.errors["one"] = error = RegistryUnavailable("no")
    with pytest.raises(RegistryUnavailable) as caught:
        combiner.call("key", "one", 1)
    assert caught.value is error
    assert combiner.call("key", "two", 1) == answer("two")
    assert desk.alone == ["one", "two"]


@pytest.mark.usefixtures("nobody_hurries")
def test_calls_behind_a_busy_one_are_done_together_and_each_has_its_own_answer(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    with busy(desk, combiner):
        calls = {f"job {n}": send(combiner, f"key {n % 4}", f"job {n}") for n in range(9)}
        assert waiting(combiner) == 9
    answered(calls)
    assert [batch for batch, _ in desk.batches] == [
        {"busy": ["second"]},
        {
            "key 0": ["job 0", "job 4", "job 8"],
            "key 1": ["job 1", "job 5"],
            "key 2": ["job 2", "job 6"],
            "key 3": ["job 3", "job 7"],
        },
    ]
    assert len({desk.threads[job] for job in calls}) == 1


def test_calls_of_a_key_are_done_in_the_order_in_which_they_came(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    jobs = [f"job {n}" for n in range(20)]
    with busy(desk, combiner, "key"):
        calls = {job: send(combiner, "key", job) for job in jobs}
    answered(calls)
    assert desk.jobs() == ["second", *jobs]


def test_a_key_is_never_in_two_batches_at_once(desk: Desk, combiner: Combiner[str, str]) -> None:
    with busy(desk, combiner, "key"):
        same = send(combiner, "key", "same")
        other = send(combiner, "other", "other")
        # Another writer has come, and taken what it may.
        assert other.result(LONG) == answer("other")
        assert waiting(combiner) == 1
    assert same.result(LONG) == answer("same")
    assert desk.overlaps == []


def test_no_key_is_in_two_batches_at_once_whatever_comes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "PATIENCE", 0.0001)  # all the writers there can be

    with combiner_of(desk, most_weight=3) as combiner:

        def client(number: int) -> None:
            for n in range(50):
                job = f"{number}.{n}"
                assert combiner.call(f"key {(number + n) % 5}", job, 1) == answer(job)

        clients = [in_thread(lambda number=number: client(number)) for number in range(12)]
        for each in clients:
            each.result(LONG)
    assert desk.overlaps == []
    assert sorted([*desk.alone, *desk.jobs()]) == sorted(
        f"{number}.{n}" for number in range(12) for n in range(50)
    )


@pytest.mark.usefixtures("nobody_hurries")
def test_a_call_left_alone_by_its_batch_is_done_by_its_own_thread(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    desk.left_alone = {"job 1", "job 3"}
    with busy(desk, combiner):
        calls = {f"job {n}": send(combiner, f"key {n % 2}", f"job {n}") for n in range(5)}
    answered(calls)
    assert sorted(desk.alone) == ["first", "job 1", "job 3"]
    assert len({desk.threads[job] for job in ("job 0", "job 2", "job 4")}) == 1
    assert len({desk.threads[job] for job in calls}) == 3


# keys that somebody else has


@pytest.mark.usefixtures("nobody_hurries")
def test_a_key_passed_over_delays_no_other_and_comes_again_at_last_alone_and_patient(
    desk: Desk, combiner: Combiner[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "UNCOUNTED", 1)
    with desk.locked("stuck"):
        with desk.held("free 3"):
            with busy(desk, combiner):
                stuck = {f"stuck {n}": send(combiner, "stuck", f"stuck {n}") for n in range(4)}
                free = {f"free {n}": send(combiner, f"free {n}", f"free {n}") for n in range(4)}
            desk.until_begun("free 3")
            # The others of its key have been passed over by now.
            for job in ("late", "later"):
                stuck[job] = send(combiner, "stuck", job)
        answered(free)
        wait_until(lambda: desk.batches[-1] == ({"stuck": list(stuck)}, True))
        assert not any(call.done() for call in stuck.values())
    answered(stuck)
    assert list(desk.batches[1][0]) == ["stuck", *free]
    assert desk.overlaps == []


def test_writers_behind_locks_are_never_all_of_them(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    keys = [f"stuck {n}" for n in range(2 * MOST_WRITERS)]
    most = 0
    with ExitStack() as stack:
        for key in keys:
            stack.enter_context(desk.locked(key))
        with busy(desk, combiner):
            stuck = {key: in_thread(lambda key=key: combiner.call(key, key, 1)) for key in keys}
            wait_until(lambda: combiner._behind_locks == MOST_WRITERS - 1)
            for n in range(20):
                free = f"free {n}"
                assert combiner.call(free, free, 1) == answer(free)
                most = max(most, len(combiner._writers))
        wait_until(lambda: combiner._behind_locks == MOST_WRITERS - 1)
        assert not any(call.done() for call in stuck.values())
    answered(stuck)
    assert most == MOST_WRITERS
    assert desk.overlaps == []


# bounds


@pytest.mark.usefixtures("nobody_hurries")
def test_a_flood_of_one_key_does_not_drown_another(desk: Desk) -> None:
    with combiner_of(desk, most_weight=10) as combiner:
        with busy(desk, combiner):
            flood = {f"flood {n}": send(combiner, "flood", f"flood {n}") for n in range(60)}
            small = {f"small {n}": send(combiner, f"key {n}", f"small {n}") for n in range(4)}
        answered({**flood, **small})
    first, *_, last = (batch for batch, _ in desk.batches[1:])
    assert {job for jobs in first.values() for job in jobs} >= set(small)
    assert list(last) == ["flood"]
    assert [job for job in desk.jobs() if job in flood] == list(flood)


@pytest.mark.usefixtures("nobody_hurries")
def test_keys_that_had_no_turn_come_first_in_the_next_batch(desk: Desk) -> None:
    with combiner_of(desk, most_weight=4) as combiner:
        with busy(desk, combiner):
            calls = {
                job: send(combiner, key, job)
                for key in "abcdef"
                for job in (f"{key} 0", f"{key} 1")
            }
        answered(calls)
    assert [list(batch) for batch, _ in desk.batches[1:3]] == [list("abcd"), list("efab")]


@pytest.mark.usefixtures("nobody_hurries")
@pytest.mark.parametrize("weight", [1, 3, 10, 50])
def test_a_batch_is_no_heavier_than_the_bound_and_one_call_more(desk: Desk, weight: int) -> None:
    with combiner_of(desk, most_weight=10) as combiner:
        with busy(desk, combiner):
            calls = {
                f"job {n}": send(combiner, f"key {n % 7}", f"job {n}", weight) for n in range(30)
            }
        answered(calls)
    sizes = [sum(map(len, batch.values())) for batch, _ in desk.batches[1:]]
    assert sum(sizes) == 30
    for size in sizes:
        assert (size - 1) * weight < 10
    # Nor is it any lighter than it has to be.
    assert len(sizes) == -(-30 // max(sizes))


@pytest.mark.usefixtures("nobody_hurries")
def test_who_finds_no_room_is_refused_at_its_deadline_and_never_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "UNCOUNTED", 0)
    with combiner_of(desk, most_waiting=10, config=HASTY) as combiner:
        with busy(desk, combiner):
            held = [send(combiner, "busy", f"held {n}", 5) for n in range(2)]
            with pytest.raises(RegistryUnavailable, match="no room"):
                combiner.call("other", "too much", 1)
        for call in held:
            assert isinstance(call.exception(LONG), RegistryUnavailable | None)
    assert "too much" not in [*desk.jobs(), *desk.alone]


@pytest.mark.usefixtures("nobody_hurries")
def test_who_waits_for_room_goes_on_as_soon_as_there_is_some(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "UNCOUNTED", 0)
    with combiner_of(desk, most_waiting=10) as combiner:
        with busy(desk, combiner):
            held = {f"held {n}": send(combiner, "busy", f"held {n}", 5) for n in range(2)}
            crowd = {
                job: in_thread(lambda job=job: combiner.call("other", job, 5))
                for job in ("crowd 0", "crowd 1", "crowd 2")
            }
            wait_until(lambda: combiner._crowd == 3)
            assert waiting(combiner) == 2
        answered({**held, **crowd})


def test_a_call_withdrawn_at_its_deadline_is_never_done(desk: Desk) -> None:
    with combiner_of(desk, config=HASTY) as combiner:
        with busy(desk, combiner, "key"):
            with pytest.raises(RegistryUnavailable, match="was not begun; nothing was done"):
                combiner.call("key", "late", 1)
            assert waiting(combiner) == 0
        assert combiner.call("key", "next", 1) == answer("next")
    assert "late" not in [*desk.jobs(), *desk.alone]


def test_a_call_begun_before_its_deadline_gets_its_answer_after_it(desk: Desk) -> None:
    with (
        combiner_of(desk, config=HASTY) as combiner,
        busy(desk, combiner, "key"),
        pytest.raises(RegistryUnavailable),
    ):
        combiner.call("key", "late", 1)  # whose deadline is after that of `second`
    assert desk.jobs() == ["second"]


# errors


@pytest.mark.usefixtures("nobody_hurries")
@pytest.mark.parametrize(
    "error", [RegistryUnavailable("broken"), KeyError("broken"), SystemExit("broken")], ids=repr
)
def test_what_fails_a_batch_fails_each_of_its_calls_with_an_error_of_its_own(
    desk: Desk, combiner: Combiner[str, str], error: BaseException
) -> None:
    desk.errors["job 0"] = error
    with busy(desk, combiner):
        calls = [send(combiner, f"key {n % 3}", f"job {n}") for n in range(6)]
        writers = combiner._writers.copy()
    raised = [call.exception(LONG) for call in calls]
    assert {type(each) for each in raised} == {type(error)}
    assert len({id(each) for each in raised}) == len(raised)
    with busy(desk, combiner):
        after = {"after": send(combiner, "key", "after")}
    answered(after)
    assert combiner._writers == writers, "the writer did not survive it"


class Awkward(Exception):
    """An error that cannot be copied."""

    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} {two}")


@pytest.mark.usefixtures("nobody_hurries")
def test_an_error_that_cannot_be_copied_fails_its_calls_too(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    desk.errors["job 0"] = Awkward(1, 2)
    with busy(desk, combiner):
        calls = [send(combiner, f"key {n % 3}", f"job {n}") for n in range(6)]
        writers = combiner._writers.copy()
    for call in calls:
        assert call.exception(LONG) is not None
    with busy(desk, combiner):
        after = {"after": send(combiner, "key", "after")}
    answered(after)
    assert combiner._writers == writers, "the writer did not survive it"


@pytest.mark.usefixtures("nobody_hurries")
def test_an_answer_given_before_its_batch_failed_stands() -> None:
    desk = Desk()

    def halfway(batch: Batch[str, str], patient: bool) -> Collection[str]:
        if "one" not in batch:
            return desk.do_together(batch, patient)
        batch["one"][0].answer = "done"
        batch["two"][0].error = RegistryUnavailable("refused")
        raise KeyError

    combiner = Combiner(
        desk.do_alone, halfway, name="test-writer",
        most_waiting=100, most_weight=100, config=ROOMY,
    )  # fmt: skip
    with busy(desk, combiner):
        one, two, three = (send(combiner, key, key) for key in ("one", "two", "three"))
    assert one.result(LONG) == "done"
    assert isinstance(two.exception(LONG), RegistryUnavailable)
    assert isinstance(three.exception(LONG), KeyError)
    combiner.close()


# interruptions


class Interrupted(BaseException):
    """What a thread of a test is interrupted with."""


class Caller(threading.Thread):
    """A thread that calls, and can be interrupted while it waits."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.raised = error

    def send_interruption(self) -> None:
        assert self.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(self.ident), ctypes.py_object(Interrupted)
        )

    def until_interrupted(self) -> None:
        self.join(QUICK)
        assert isinstance(self.raised, Interrupted)

    def interrupt(self) -> None:
        self.send_interruption()
        self.until_interrupted()

    def is_inside(self, function: str) -> bool:
        assert self.ident is not None
        stack = traceback.extract_stack(sys._current_frames()[self.ident])
        return function in [frame.name for frame in stack]


def caller(combiner: Combiner[str, str], key: str, job: str) -> Caller:
    before = waiting(combiner)
    thread = Caller(lambda: combiner.call(key, job, 1))
    wait_until(lambda: waiting(combiner) > before)
    return thread


@pytest.mark.parametrize("place", [0, 2, 4], ids=["first", "middle", "last"])
def test_an_interrupted_waiter_delays_those_behind_it_by_no_more_than_a_moment(
    desk: Desk, combiner: Combiner[str, str], place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "PATIENCE", 0.0001)  # all of them have waited for longer
    calls: dict[str, Future[str]] = {}
    with desk.held("job 0"):
        with busy(desk, combiner, "key"):
            for n in range(5):
                if n == place:
                    interrupted = caller(combiner, "key", f"job {n}")
                else:
                    calls[f"job {n}"] = send(combiner, "key", f"job {n}")
        desk.until_begun("job 0")  # so that it can be withdrawn no more
        interrupted.interrupt()
    answered(calls, QUICK)
    assert desk.jobs() == ["second", *(f"job {n}" for n in range(5))]


def test_a_waiter_interrupted_before_it_was_begun_never_is(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    with busy(desk, combiner, "key"):
        before = {"before": send(combiner, "key", "before")}
        interrupted = caller(combiner, "key", "interrupted")
        after = {"after": send(combiner, "key", "after")}
        interrupted.interrupt()
    answered({**before, **after}, QUICK)
    assert desk.jobs() == ["second", "before", "after"]


def is_interrupted(call: Callable[[], object], code: Collection[CodeType], point: int) -> bool:
    """Calls, interrupted before instruction number `point` of the code; False if it has fewer."""
    left = point

    def step(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        left -= event == "opcode"
        if not left:
            raise Interrupted
        return step

    def enter(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in code:
            return None
        frame.f_trace = step  # Python 3.13 heeds the next line only behind this one
        frame.f_trace_opcodes = True
        return step

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # from Python 3.12 on, settrace looks whether any has
    sys.settrace(enter)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.usefixtures("nobody_hurries")
@pytest.mark.parametrize("key", ["key", "another key"])
def test_wherever_a_thread_is_interrupted_it_loses_nobody_elses_call(key: str) -> None:
    code = {Combiner._collect.__code__, Combiner._remove.__code__}
    for point in count(1):
        desk = Desk()
        with combiner_of(desk) as combiner:
            with busy(desk, combiner):
                calls = {"one": send(combiner, "key", "one"), "two": send(combiner, "two", "two")}
                mine: Call[str, str] = Call(key, "mine", 1)
                combiner._inbox.append(mine)
                calls["three"] = send(combiner, "key", "three")
                interrupted = is_interrupted(partial(combiner._withdraw, mine), code, point)
                if interrupted:
                    combiner._withdraw(mine)  # as whoever called it does
                assert all(combiner._waiting.values())
                assert combiner._held <= waiting(combiner)
            answered(calls, QUICK)
            assert desk.jobs() == ["second", "one", "three", "two"]
            assert combiner._held == 0
        if not interrupted:
            break
    assert point > 50


def test_who_is_interrupted_again_at_the_lock_does_not_keep_it(
    desk: Desk, combiner: Combiner[str, str]
) -> None:
    with busy(desk, combiner, "key"):
        interrupted = caller(combiner, "key", "interrupted")
        with combiner._lock:
            interrupted.send_interruption()
            wait_until(lambda: interrupted.is_inside("_withdraw"))
            interrupted.send_interruption()
        interrupted.until_interrupted()
        assert combiner._lock.acquire(timeout=QUICK)
        combiner._lock.release()
        after = {"after": send(combiner, "key", "after")}
    answered(after, QUICK)


# the end


def test_closing_waits_for_the_answers_and_refuses_whoever_comes_later(desk: Desk) -> None:
    with combiner_of(desk) as combiner:
        with busy(desk, combiner):
            calls = {f"job {n}": send(combiner, "busy", f"job {n}") for n in range(5)}
            closing = in_thread(combiner.close)
            wait_until(lambda: combiner._closed)
            with pytest.raises(RegistryUnavailable, match="the registry is closed"):
                combiner.call("other", "late", 1)
            assert not closing.done()
        answered(calls)
        closing.result(LONG)
        combiner.close()
        assert not combiner._writers
        with pytest.raises(RegistryUnavailable, match="the registry is closed"):
            combiner.call("other", "later", 1)
    assert not {"late", "later"} & {*desk.jobs(), *desk.alone}


def test_closing_lets_go_of_those_who_wait_for_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "UNCOUNTED", 0)
    with combiner_of(desk, most_waiting=1) as combiner, busy(desk, combiner):
        inside = {"inside": send(combiner, "busy", "inside")}
        outside = in_thread(lambda: combiner.call("other", "outside", 1))
        wait_until(lambda: combiner._crowd)
        closing = in_thread(combiner.close)
        assert isinstance(outside.exception(QUICK), RegistryUnavailable)
    answered(inside)
    closing.result(LONG)
    assert "outside" not in desk.jobs()


def test_a_writer_that_is_stuck_for_ever_is_given_up_by_its_callers_and_by_the_close(
    desk: Desk,
) -> None:
    with combiner_of(desk, config=FLEETING) as combiner, desk.held("first"), desk.held("second"):
        first = in_thread(lambda: combiner.call("first", "first", 1))
        desk.until_begun("first")
        begun = in_thread(lambda: combiner.call("key", "second", 1))
        desk.until_begun("second")
        left = send(combiner, "key", "left")
        in_thread(combiner.close).result(LONG)
        assert isinstance(left.exception(LONG), RegistryUnavailable)
        assert isinstance(begun.exception(LONG), OutcomeUnknown)
    assert first.result(LONG) == answer("first")
    assert "left" not in desk.jobs()


def test_writers_that_rest_do_not_hold_up_the_close(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "IDLE", 2 * LONG)
    with combiner_of(desk) as combiner:
        with ExitStack() as stack:
            for n in range(3):
                stack.enter_context(desk.locked(f"stuck {n}"))
            stack.enter_context(busy(desk, combiner))
            keys = "stuck 0", "stuck 1", "stuck 2"
            stuck = {key: in_thread(lambda key=key: combiner.call(key, key, 1)) for key in keys}
            wait_until(lambda: len(combiner._writers) == MOST_WRITERS)
        answered(stuck)
        wait_until(lambda: combiner._resting == MOST_WRITERS)
        in_thread(combiner.close).result(QUICK)
    assert not combiner._writers


def test_a_writer_without_work_ends_and_another_begins_when_there_is_some(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "IDLE", 0.05)
    with combiner_of(desk) as combiner:
        for _ in range(3):
            with busy(desk, combiner):
                (writer,) = combiner._writers
            wait_until(lambda: not combiner._writers)
            writer.join(LONG)
            assert not writer.is_alive()
            assert combiner.call("key", "alone", 1) == answer("alone")
    assert desk.alone.count("alone") == 3


def test_a_combiner_that_was_forgotten_goes_with_its_writers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "IDLE", 0.05)
    combiner = Combiner(
        desk.do_alone, desk.do_together, name="test-writer",
        most_waiting=100, most_weight=100, config=ROOMY,
    )  # fmt: skip
    with busy(desk, combiner):
        pass
    forgotten = weakref.ref(combiner)
    del combiner

    def gone() -> bool:
        gc.collect()
        return forgotten() is None

    wait_until(gone)


def test_a_call_that_comes_as_its_writer_ends_is_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "IDLE", 0.0)  # it ends as soon as there is nothing to do
    monkeypatch.setattr(combining, "PATIENCE", 0.001)
    with combiner_of(desk) as combiner:

        def client(number: int) -> None:
            for n in range(100):
                job = f"{number}.{n}"
                assert combiner.call(f"key {number}", job, 1) == answer(job)

        clients = [in_thread(lambda number=number: client(number)) for number in range(4)]
        for each in clients:
            each.result(LONG)
    assert len(desk.alone) + len(desk.jobs()) == 400


def test_where_no_thread_can_be_begun_each_does_its_own(
    desk: Desk, combiner: Combiner[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("test-writer"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with desk.held("first"):
        first = in_thread(lambda: combiner.call("first", "first", 1))
        desk.until_begun("first")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert combiner.call("key", "own", 1) == answer("own")
            assert desk.threads["own"] is threading.current_thread()
        with desk.held("together"):
            together = in_thread(lambda: combiner.call("key", "together", 1))
            desk.until_begun("together")
    assert first.result(LONG) == answer("first")
    assert together.result(LONG) == answer("together")
    assert desk.jobs() == ["together"]


def test_a_writer_that_is_stuck_is_reinforced_only_while_it_is(
    desk: Desk, combiner: Combiner[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combining, "PATIENCE", 0.5)  # within which a writer is back at its work
    with busy(desk, combiner):
        assert len(combiner._writers) == 1
        assert combiner.call("other", "other", 1) == answer("other")
        assert len(combiner._writers) == 2
        (helper,) = {desk.threads["other"]}
        for n in range(5):
            assert combiner.call("other", f"more {n}", 1) == answer(f"more {n}")
            assert desk.threads[f"more {n}"] is helper
        assert len(combiner._writers) == 2
