"""The registry's side of an import: what is there, and batches that go in whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from attrs import define, field, frozen

from .. import schema
from ..config import RegistryConfig
from ..errors import RegistryError, RegistryUnavailable
from ..payloads import JSON
from ..queries import queries
from ..settings import server_settings
from ..statements import Row, execute
from ..translation import translated
from .connecting import connected
from .plan import Plan

LOCK: Final = 0x67616D65_70726973
"""The advisory lock of an import, beside those of the migrations."""

LINGERING: Final = 2.0
"""Seconds in which the server notices that an import which has just ended is gone."""

TIMEOUT: Final = 600.0
"""Seconds that a statement may take: a batch is short, counting a very long log is not."""

# The only statement that is no file: the server explains no COPY.
_COPY_EVENTS: Final = (
    b"COPY game_event (game_id, sequence, recorded_at, codec, payload) FROM STDIN (FORMAT BINARY)"
)


@frozen
class Found:
    """A game that is there, and one event of it, if it is."""

    floor: int
    head: int
    imported: bool
    sequence: int | None
    recorded_at: datetime | None
    codec: int
    payload: bytes

    @property
    def readable(self) -> bool:
        return self.codec <= JSON


@frozen
class Session:
    """A session to import."""

    game_id: str
    user_id: str
    acknowledged: int
    beat: datetime
    expiry: datetime
    created: datetime


@define
class Segment:
    """What a batch has of one game: the events (after, head], or only sessions."""

    plan: Plan
    after: int | None
    head: int
    sessions: Sequence[Session] = ()
    last: bool = False
    """Whether the log is all there with it."""

    @property
    def floor(self) -> int:
        """What the floor has to be raised to, 0 if it stays."""
        standing = self.plan.standing
        if self.after is None or (standing and 0 < standing.head >= self.plan.floor):
            return 0
        return self.plan.floor


@define
class Batch:
    """One transaction's worth."""

    segments: list[Segment] = field(factory=list)
    rows: list[tuple[str, bytes, bytes, int, bytes]] = field(factory=list)
    size: int = 0
    sessions: int = 0


class Lost(Exception):
    """Games changed since they were looked at; nothing of the batch is in."""

    def __init__(self, places: set[int]) -> None:
        super().__init__()
        self.places = places


class Target:
    """A migrated database, and the only import into it. Used by one thread."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, conninfo: str) -> Iterator[Target]:
        """Connects, and holds the lock of imports until the end of the block.

        Raises `SchemaMismatch`, `InvalidArgument`, and `RegistryUnavailable`, which is also what
        another import that is running is.
        """
        connection = connected(
            conninfo, option="--database", silent="the database did not serve", autocommit=True
        )
        with connection:
            schema.refuse_pooler(connection, conninfo)
            schema.check(connection)
            target = cls(connection)
            config = RegistryConfig(statement_timeout=TIMEOUT, lock_timeout=60.0)
            target._rows(queries.configure, server_settings(config, local=False))
            deadline = monotonic() + LINGERING
            while target._rows(queries.import_lock, {"import": LOCK}) != [(True,)]:
                if monotonic() > deadline:
                    raise RegistryUnavailable(
                        "another import into this database is running: wait for its end"
                    )
                sleep(LINGERING / 20)
            yield target

    def standing(self, game_ids: Sequence[str], heads: Sequence[int]) -> Mapping[str, Found]:
        """Which of the games are there, and where they stand."""
        rows = self._rows(queries.import_standing, {"game_ids": game_ids, "heads": heads})
        return {game_ids[place - 1]: Found(*found) for place, *found in rows}

    def pending(self, sessions: Sequence[Session]) -> list[Session]:
        """Those of the sessions that are not there, or are there and behind."""
        params = {
            "game_ids": [session.game_id for session in sessions],
            "user_ids": [session.user_id for session in sessions],
            "acknowledged": [session.acknowledged for session in sessions],
            "beats": [session.beat for session in sessions],
            "expiries": [session.expiry for session in sessions],
        }
        rows = self._rows(queries.import_pending_sessions, params) if sessions else []
        return [sessions[place - 1] for place in sorted(place for (place,) in rows)]

    def put(self, batch: Batch, ttl: float) -> None:
        """Puts a batch in. Raises `Lost` if a game of it is not as it was seen."""
        segments = batch.segments
        new = [s for s in segments if s.plan.standing is None and s.after is not None]
        with self._translated(), self._connection.transaction():
            if new:
                params = {
                    "game_ids": [segment.plan.game_id for segment in new],
                    "floors": [segment.plan.floor for segment in new],
                }
                execute(self._connection, queries.import_games, params)
            moved = execute(self._connection, queries.import_heads, _heads(segments)).fetchall()
            if len(moved) < len(segments):
                raise Lost(set(range(len(segments))) - {place - 1 for (place,) in moved})
            if batch.rows:
                self._copy(batch.rows)
            sessions = [session for segment in segments for session in segment.sessions]
            if sessions:
                execute(self._connection, queries.import_sessions, _columns(sessions, ttl))

    def check(self, game_ids: Sequence[str]) -> Mapping[str, Row]:
        """Floor, head, events, first and last sequence and fingerprint of those that are there."""
        rows = self._rows(queries.import_check, {"game_ids": game_ids})
        return {game_ids[place - 1]: tuple(log) for place, *log in rows}

    def _copy(self, rows: Sequence[tuple[str, bytes, bytes, int, bytes]]) -> None:
        codecs = [codec.to_bytes(2, "big") for codec in range(JSON + 1)]
        with self._connection.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
            for game_id, sequence, at, codec, payload in rows:
                copy.write_row((game_id, sequence, at, codecs[codec], payload))

    def _rows(self, query: bytes, params: Mapping[str, object]) -> list[Row]:
        with self._translated():
            return execute(self._connection, query, params).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            refusal: RegistryError = translated(error, self._connection, None)
            raise refusal from None


def _heads(segments: Sequence[Segment]) -> Mapping[str, object]:
    """What import_heads.sql needs."""
    copied = [segment.after is not None and segment.plan.events > 0 for segment in segments]
    games = [segment.plan.game for segment in segments]
    return {
        "game_ids": [segment.plan.game_id for segment in segments],
        "floors": [segment.floor for segment in segments],
        "afters": [segment.after for segment in segments],
        "heads": [segment.head for segment in segments],
        "head_ats": [game.newest if new else None for game, new in zip(games, copied, strict=True)],
        "oldest_ats": [
            game.oldest if new else None for game, new in zip(games, copied, strict=True)
        ],
        "sessions": [len(segment.sessions) for segment in segments],
    }


def _columns(sessions: Sequence[Session], ttl: float) -> Mapping[str, object]:
    """What import_sessions.sql needs."""
    return {
        "ttl": ttl,
        "game_ids": [session.game_id for session in sessions],
        "user_ids": [session.user_id for session in sessions],
        "acknowledged": [session.acknowledged for session in sessions],
        "created": [session.created for session in sessions],
        "beats": [session.beat for session in sessions],
        "expiries": [session.expiry for session in sessions],
    }
