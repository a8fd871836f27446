"""CPU time and memory of processes, the clients' and the server's."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

CpuTimes = dict[int, float]


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def cpu_times(pids: Iterable[int], *, ended: bool = False) -> CpuTimes:
    """User and system seconds of each process that is there.

    With `ended`, also what its children had used that have ended: right between two readings
    if they began in between as well.
    """
    times = {}
    for pid in pids:
        try:
            used = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        times[pid] = used.user + used.system
        if ended:
            times[pid] += used.children_user + used.children_system
    return times


def spent(before: CpuTimes, after: CpuTimes) -> float:
    """Seconds of CPU between two readings; what began in between counts whole."""
    return sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())


def resident(pid: int) -> int:
    """Bytes of memory that are the process's own (without what it shares, where known)."""
    process = psutil.Process(pid)
    try:
        return int(process.memory_full_info().uss)
    except (AttributeError, psutil.AccessDenied):
        return int(process.memory_info().rss)
