"""message-db's way of writing: a function under a lock a category. See the SQL beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from attrs import frozen
from psycopg import Connection
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from .base import POOL, pool_of

SCHEMA = Path(__file__).with_suffix(".sql")
WRITE = "SELECT write_message(%s, %s, 'Moved', %s)"
READ = """
SELECT position, time, type, data FROM messages
WHERE stream_name = %s AND position >= %s ORDER BY position LIMIT %s
"""


@frozen
class MessageDb:
    conninfo: str
    name: str = "message-db"
    settings: str = (
        "an equivalent of its write_message, written for this comparison: advisory lock on "
        f"the category, version check, position in the stream and of all, its three indexes; "
        f"psycopg 3 with a pool of {POOL}, autocommit, prepared"
    )
    server_pid: int | None = None

    def prepare(self) -> None:
        with psycopg.connect(self.conninfo) as connection:
            connection.execute(SCHEMA.read_bytes())

    def connect(self) -> MessageDbClient:
        return MessageDbClient(pool_of(self.conninfo))


class MessageDbClient:
    def __init__(self, pool: ConnectionPool[Connection[Any]]) -> None:
        self._pool = pool
        self.close = pool.close

    def append(self, game: str, payload: object) -> object:
        with self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            return cursor.execute(WRITE, [uuid4(), game, Jsonb(payload)]).fetchone()

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        with self._pool.connection() as connection, connection.transaction():
            connection.cursor().executemany(
                WRITE, [(uuid4(), game, Jsonb(payload)) for payload in payloads]
            )

    def read(self, game: str, after: int, limit: int) -> int:
        with self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            return len(cursor.execute(READ, [game, after, limit]).fetchall())
