"""The process that calls: its threads begin at one instant, and each call is timed."""

from __future__ import annotations

import os
import threading
import traceback
from array import array
from collections.abc import Callable
from multiprocessing.connection import Connection
from time import perf_counter_ns
from typing import Any, Protocol

from attrs import frozen

Call = Callable[[], object]


@frozen
class Uncounted:
    """A call that is part of the load but not of what is measured."""

    call: Call


class Opened(Protocol):
    """A load inside its process."""

    def caller(self, thread: int) -> Call | Uncounted:
        """What the thread calls again and again. Asked for once a thread, before any window."""

    def close(self) -> None: ...


class Load(Protocol):
    """What a process does. Travels to it, so it has to be picklable."""

    def open(self, process: int) -> Opened: ...


@frozen
class Window:
    """When to call: from `begin` on, counted from `counted` to `end`, in perf_counter_ns.

    That clock is the machine's monotonic one, the same in every process.
    """

    counted: int
    end: int


@frozen
class Prepare:
    """Have so many threads ready to begin."""

    threads: int


def serve(pipe: Connection, load: Load, process: int, keep: bool) -> None:
    """The life of the process: open the load, call in windows as told, close it."""
    try:
        if keep:
            _keep_to_one_core(process)
        opened = load.open(process)
        callers: list[Call | Uncounted] = []
        pipe.send(None)
        while isinstance(order := pipe.recv(), Prepare):
            while len(callers) < order.threads:
                callers.append(opened.caller(len(callers)))
            pipe.send(_window(pipe, callers[: order.threads]))
        opened.close()
        pipe.send(None)
    except EOFError:  # the parent has gone
        pass
    except BaseException:
        pipe.send(RuntimeError(traceback.format_exc()))


def _keep_to_one_core(process: int) -> None:
    """The interpreter's lock lets its threads use no more, and to hop between two costs."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0), reverse=True)
        os.sched_setaffinity(0, {cores[process % len(cores)]})


@frozen
class Calls:
    """What the threads of one process did in a window."""

    ended: int
    """Inside the window."""
    durations: bytes
    """An array of nanoseconds: of those, and of the calls under way at the end, however long they
    took, so that a thread which got no turn is not forgotten."""


def _window(pipe: Connection, callers: list[Call | Uncounted]) -> Calls:
    go = threading.Event()
    ready = threading.Barrier(len(callers) + 1)
    window: list[Window] = []
    failures: list[str] = []
    durations = [array("q") for _ in callers]

    def run(call: Call, mine: array[int]) -> None:
        ready.wait()
        go.wait()
        try:
            _repeat(call, window[0], mine)
        except BaseException:
            failures.append(traceback.format_exc())

    calls = [one.call if isinstance(one, Uncounted) else one for one in callers]
    threads = [
        threading.Thread(target=run, args=pair, daemon=True)
        for pair in zip(calls, durations, strict=True)
    ]
    for thread in threads:
        thread.start()
    ready.wait()
    pipe.send(None)
    window.append(pipe.recv())
    go.set()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} callers failed, the first with\n{failures[0]}")
    counted = [
        mine for mine, one in zip(durations, callers, strict=True) if not isinstance(one, Uncounted)
    ]
    # Each thread's last one was under way at the end.
    ended = sum(len(mine) - 1 for mine in counted)
    return Calls(ended, b"".join(mine.tobytes() for mine in counted))


def _repeat(call: Call, window: Window, durations: array[int]) -> None:
    clock, note = perf_counter_ns, durations.append
    counted, end = window.counted, window.end
    begin = clock()
    while True:
        call()
        now = clock()
        if now >= counted:
            note(now - begin)
            if now > end:
                return
        begin = now


def answer(pipe: Connection, within: float) -> Any:
    """What the process says next; its failure is raised here."""
    if not pipe.poll(within):
        raise TimeoutError(f"a calling process said nothing for {within:g} s")
    said = pipe.recv()
    if isinstance(said, Exception):
        raise said
    return said
