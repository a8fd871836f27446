"""The harness: contenders take turns in short slices, and each slice becomes a sample."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from time import perf_counter_ns
from typing import Any, Protocol

from attrs import field, frozen

from .usage import cpu_times, spent
from .worker import Calls, Load, Prepare, Window, answer, serve

PATIENCE = 90.0
"""Seconds to wait for a process that calls: longer than any time-out of what is measured."""

# A process that has imported everything once is forked for each that calls: that saves seconds at
# every point.
_prepared = multiprocessing.get_context("forkserver")
_prepared.set_forkserver_preload(
    [
        "benchmarks.__main__",
        "sqlalchemy.dialects.postgresql",
        "eventsourcing.postgres",
        "redis",
        "hiredis",
    ]
)
_fresh = multiprocessing.get_context("spawn")


@frozen
class Sample:
    """What one contender did in one slice."""

    calls: int
    seconds: float
    p50: float
    """Seconds that a call took, the median; p99 is what 1 in 100 exceeded."""
    p99: float
    client_cpu: float
    """Seconds of CPU of all calling processes; NaN where it is not known."""
    server_cpu: float

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


@frozen
class Spread:
    """The median of the rounds, and how far they were apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


class Contender(Protocol):
    """Something that can be measured for a while, again and again."""

    @property
    def name(self) -> str: ...

    def open(self) -> None:
        """Begins to; all of them do at once."""

    def ready(self) -> None:
        """Waits until it is open."""

    def slice(self, warm: float, seconds: float) -> Sample: ...

    def close(self) -> None: ...


@frozen
class Callers:
    """A contender made of Python processes with threads in them."""

    name: str
    load: Load
    threads: int
    processes: int = 1
    server: Callable[[], list[int]] = list
    """The processes that serve the calls, for the CPU they use."""
    fresh: bool = False
    """Whether the processes must be this one's own children, to be where it is."""
    keep: bool = True
    """Whether each process keeps to one core."""
    _running: list[tuple[BaseProcess, Connection]] = field(factory=list, init=False)

    def open(self) -> None:
        context: Any = _fresh if self.fresh else _prepared
        for number in range(self.processes):
            pipe, theirs = context.Pipe()
            process = context.Process(
                target=serve, args=(theirs, self.load, number, self.keep), daemon=True
            )
            process.start()
            theirs.close()
            self._running.append((process, pipe))

    def ready(self) -> None:
        for _, pipe in self._running:
            answer(pipe, PATIENCE)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process, _ in self._running if process.pid is not None]

    def slice(self, warm: float, seconds: float) -> Sample:
        pipes = [pipe for _, pipe in self._running]
        for pipe in pipes:
            pipe.send(Prepare(self.threads))
        for pipe in pipes:
            answer(pipe, PATIENCE)
        counted = perf_counter_ns() + round(warm * 1e9)
        window = Window(counted, counted + round(seconds * 1e9))
        for pipe in pipes:
            pipe.send(window)
        _sleep_until(window.counted)
        clients, servers = cpu_times(self.pids), cpu_times(self.server())
        _sleep_until(window.end)
        client_cpu = spent(clients, cpu_times(self.pids))
        server_cpu = spent(servers, cpu_times(self.server())) if servers else float("nan")
        durations, calls = array("q"), 0
        for pipe in pipes:
            done: Calls = answer(pipe, PATIENCE)
            durations.frombytes(done.durations)
            calls += done.ended
        ordered = sorted(durations)
        return Sample(
            calls=calls,
            seconds=seconds,
            p50=_quantile(ordered, 0.50),
            p99=_quantile(ordered, 0.99),
            client_cpu=client_cpu,
            server_cpu=server_cpu,
        )

    def close(self) -> None:
        for process, pipe in self._running:
            try:
                pipe.send(None)
                answer(pipe, PATIENCE)
            except (OSError, EOFError, RuntimeError):
                pass
            finally:
                pipe.close()
                process.join(10)
                process.kill()
        self._running.clear()


Failed = Callable[[str, Exception], None]


@contextmanager
def opened(contenders: Sequence[Contender], failed: Failed) -> Iterator[list[Contender]]:
    """Opens all before the first slice, and closes all, whatever happens.

    Gives those that opened; the others are said to have failed.
    """
    ready = list(contenders)
    try:
        for step in ("open", "ready"):
            for contender in list(ready):
                try:
                    getattr(contender, step)()
                except Exception as error:
                    failed(contender.name, error)
                    ready.remove(contender)
        yield ready
    finally:
        for contender in contenders:
            contender.close()


def interleave(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    warm: float,
    seconds: float,
    tick: Callable[[int, str], None],
    failed: Failed,
) -> dict[str, list[Sample]]:
    """Lets the opened contenders take turns, each time in another order.

    What disturbs the machine for a while thus disturbs all alike. A first round is not kept:
    it fills the pools, the caches and the prepared statements. Who fails drops out.
    """
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    taking_part = list(contenders)
    for number in range(-1, rounds):
        first = number % max(1, len(taking_part))
        for contender in [*taking_part[first:], *taking_part[:first]]:
            tick(number, contender.name)
            try:
                sample = contender.slice(warm, seconds if number >= 0 else warm)
            except Exception as error:
                failed(contender.name, error)
                taking_part.remove(contender)
                continue
            if number >= 0:
                samples[contender.name].append(sample)
    return samples


def _sleep_until(instant: int) -> None:
    time.sleep(max(0.0, (instant - perf_counter_ns()) / 1e9))


def _quantile(ordered: Sequence[int], share: float) -> float:
    """Seconds; NaN if nothing was done."""
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e9
