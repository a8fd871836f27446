"""What the server says about itself, once a second."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final

import psutil
import psycopg

from .pace import TABLES
from .series import Sample

CLIENT: Final = "game-session-registry"
WINDOW: Final = 60
"""Samples over which a share of the updates is counted: a minute, since each session is updated
twice a minute in a way that is not HOT, when the indexed shadows of its times move on."""

BACKENDS: Final = """
    SELECT pid, application_name FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
# Counted row by row: the tables are small, and estimates would hide what is looked for.
ROWS: Final = """
    SELECT name, pg_relation_size(name::regclass), tuple_count, dead_tuple_count,
           100.0 * dead_tuple_len / greatest(table_len, 1)::float
    FROM unnest(%s::text[]) AS name CROSS JOIN LATERAL pgstattuple(name::regclass)
"""
INDEXES: Final = """
    SELECT i.indexrelid::regclass::text, pg_relation_size(i.indexrelid),
           CASE WHEN leaf_pages > 0 THEN avg_leaf_density ELSE 100 END
    FROM pg_index AS i CROSS JOIN LATERAL pgstatindex(i.indexrelid::regclass)
    WHERE i.indrelid = ANY (%s::text[]::regclass[])
"""
COUNTS: Final = """
    SELECT relname, n_tup_upd, n_tup_hot_upd, autovacuum_count
    FROM pg_stat_user_tables WHERE relname = ANY (%s)
"""


class Probe:
    """A connection of its own, on which nothing stays open between two looks."""

    def __init__(self, conninfo: str) -> None:
        self._connection = psycopg.connect(conninfo, autocommit=True, application_name="probe")
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
        self._updates: dict[str, deque[tuple[int, int]]] = {
            table: deque(maxlen=WINDOW) for table in TABLES
        }

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def look(self) -> Sample:
        sample: Sample = {}
        ours = others = memory = 0
        for pid, name in self._connection.execute(BACKENDS):
            ours += name == CLIENT
            others += name != CLIENT
            memory += _private(pid) if name == CLIENT else 0
        sample["connections", "of the registries"] = ours
        sample["connections", "other"] = others
        sample["memory", "server, for the clients"] = memory
        for table, size, rows, dead, share in self._connection.execute(ROWS, [TABLES]):
            sample["table size", table] = size
            sample["rows", table] = rows
            sample["dead rows", table] = dead
            sample["dead share", table] = share
        for index, size, density in self._connection.execute(INDEXES, [TABLES]):
            sample["index size", index] = size
            sample["leaf density", index] = density
        for table, updated, hot, vacuums in self._connection.execute(COUNTS, [TABLES]):
            sample["autovacuum", table] = vacuums
            counts = self._updates[table]
            counts.append((updated, hot))
            if (more := updated - counts[0][0]) > 0:
                sample["HOT share", table] = 100 * (hot - counts[0][1]) / more
        return sample


def _private(pid: int) -> int:
    """Bytes of a process that it shares with none: the server's buffers do not count."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - memory.shared)
