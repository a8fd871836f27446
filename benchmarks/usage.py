"""CPU time and memory of processes, the clients' and the server's, and what that has served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psutil
from psycopg import Connection

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


def served(connection: Connection[Any]) -> tuple[int, int]:
    """Transactions of a database, which are statements here, and rows of events read for them."""
    row = connection.execute(
        "SELECT xact_commit, (SELECT sum(idx_tup_fetch) FROM pg_stat_user_tables "
        "WHERE relname = 'game_event') FROM pg_stat_database "
        "WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1] or 0)
