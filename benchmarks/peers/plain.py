"""Plain psycopg 3 with a pool: one statement for each thing there is to do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from attrs import frozen
from psycopg import Connection
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from ..codec import dumps
from .base import POOL, pool_of

SCHEMA = Path(__file__).with_suffix(".sql")

APPEND = """
WITH log AS (
    INSERT INTO game AS g (game_id, head) VALUES (%(game)s, 1)
    ON CONFLICT (game_id) DO UPDATE SET head = g.head + 1
    RETURNING head
)
INSERT INTO event (game_id, sequence, payload)
SELECT %(game)s, head, %(payload)s FROM log
RETURNING sequence
"""
APPEND_MANY = """
WITH log AS (
    INSERT INTO game AS g (game_id, head) VALUES (%(game)s, cardinality(%(payloads)s::{type}[]))
    ON CONFLICT (game_id) DO UPDATE SET head = g.head + excluded.head
    RETURNING head
)
INSERT INTO {table} (game_id, sequence, payload)
SELECT %(game)s, head - cardinality(%(payloads)s::{type}[]) + place, payload
FROM log, unnest(%(payloads)s::{type}[]) WITH ORDINALITY AS new (payload, place)
"""
READ = """
SELECT sequence, recorded_at, payload FROM {table}
WHERE game_id = %s AND sequence > %s ORDER BY sequence LIMIT %s
"""
ISSUE = """
INSERT INTO session (game_id, user_id, token_hash, expires_at)
VALUES (%s, %s, %s, now() + interval '15 minutes')
ON CONFLICT (game_id, user_id) DO UPDATE
    SET token_hash = excluded.token_hash, expires_at = excluded.expires_at
RETURNING id
"""
VALIDATE = "SELECT id, game_id FROM session WHERE token_hash = %s AND expires_at > now()"
BEAT = """
UPDATE session SET heartbeat_at = now(), expires_at = now() + interval '15 minutes'
WHERE id = %s AND expires_at > now() RETURNING id
"""
BEAT_MANY = BEAT.replace("id = %s", "id = ANY(%s)", 1)
ACKNOWLEDGE = """
UPDATE session SET acknowledged = greatest(acknowledged, %s) WHERE id = %s RETURNING acknowledged
"""
PRUNE = """
DELETE FROM event WHERE game_id = %(game)s
AND sequence <= (SELECT min(acknowledged) FROM session
                 WHERE game_id = %(game)s AND expires_at > now())
"""


@frozen
class Plain:
    conninfo: str
    raw: bool = False
    name: str = "plain"
    settings: str = (
        f"psycopg 3, psycopg_pool of {POOL}, autocommit, one statement an event (upsert of the "
        "head and insert), prepared at once, binary results, jsonb"
    )
    server_pid: int | None = None

    def prepare(self) -> None:
        with psycopg.connect(self.conninfo) as connection:
            connection.execute(SCHEMA.read_bytes())

    def connect(self) -> PlainClient:
        return PlainClient(pool_of(self.conninfo), self.raw)


class PlainClient:
    def __init__(self, pool: ConnectionPool[Connection[Any]], raw: bool) -> None:
        self._pool = pool
        self.close = pool.close
        table, type_ = ("raw_event", "bytea") if raw else ("event", "jsonb")
        self._read = READ.format(table=table).encode()
        self._append_many = APPEND_MANY.format(table=table, type=type_).encode()
        self._encode = dumps if raw else Jsonb

    def append(self, game: str, payload: object) -> object:
        with self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            return cursor.execute(APPEND, {"game": game, "payload": Jsonb(payload)}).fetchone()

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        encoded = [self._encode(payload) for payload in payloads]
        with self._pool.connection() as connection:
            connection.execute(self._append_many, {"game": game, "payloads": encoded})

    def read(self, game: str, after: int, limit: int) -> int:
        """Decodes what is jsonb; bytes stay bytes."""
        with self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            return len(cursor.execute(self._read, [game, after, limit]).fetchall())

    def issue(self, game: str, user: str, token: str) -> UUID:
        with self._pool.connection() as connection:
            row = connection.execute(ISSUE, [game, user, _hash(token)]).fetchone()
        assert row is not None  # an upsert returns its row
        return UUID(str(row[0]))

    def resume(self, token: str, after: int, limit: int) -> int:
        """Validate, beat, read: one call after the other, as one would write it."""
        with self._pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            row = cursor.execute(VALIDATE, [_hash(token)]).fetchone()
            assert row is not None
            session, game = row
            cursor.execute(BEAT, [session])
            return len(cursor.execute(self._read, [game, after, limit]).fetchall())

    def beat(self, session: UUID) -> None:
        with self._pool.connection() as connection:
            connection.execute(BEAT, [session])

    def beat_many(self, sessions: list[UUID]) -> None:
        with self._pool.connection() as connection:
            connection.execute(BEAT_MANY, [sessions])

    def acknowledge(self, game: str, session: UUID, sequence: int) -> None:
        with self._pool.connection() as connection:
            connection.execute(ACKNOWLEDGE, [sequence, session])
            connection.execute(PRUNE, {"game": game})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
