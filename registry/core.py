"""What the parts of the registry share: the database, the settings, rows to records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from psycopg.types.numeric import Int8

from . import arguments
from .config import RegistryConfig
from .database import Database
from .errors import (
    RegistryUnavailable,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionTakenOver,
)
from .model import GameSession, SessionState
from .queries import queries
from .reading import Reads
from .statements import ATTEMPTS, Params, Row
from .storage import Payloads

SESSION_COLUMNS = 9
"""How many columns of a row make a session, in every query that returns one."""

_STATES: Final = {state.value: state for state in SessionState}


class Core:
    """The base of `Sessions`, `Log` and `Upkeep`."""

    config: RegistryConfig
    _database: Database
    _payloads: Payloads
    _reads: Reads

    def _session(self, session_id: str) -> GameSession:
        """A session whatever its state, or `SessionNotFound`."""
        game_id, uuid = arguments.session_key(session_id)
        row = self._database.row(queries.get_session, {"game_id": game_id, "id": uuid})
        if row is None:
            raise SessionNotFound(f"{game_id}/{uuid}")
        return session_from(row)

    def _check_acting(self, session_id: str, generation: int | None) -> None:
        """Raises why a connection of this generation may not act for a session, if it may not."""
        session = self._session(session_id)
        require_live(session)
        if generation is not None and generation != session.generation:
            raise SessionTakenOver(session.session_id)

    def _insist(self, query: bytes, params: Params, explain: Callable[[], None]) -> Row:
        """The row of a statement which, when there is none, `explain` raises the reason for.

        If it finds none, the statement would succeed by now and is run again.
        """
        for _ in range(ATTEMPTS):
            row = self._database.row(query, params)
            if row is not None:
                return row
            explain()
        raise RegistryUnavailable("the session kept changing under the call; nothing was done")

    def _page_limit(self, limit: int | None) -> int:
        most = self.config.replay_limit
        return most if limit is None else min(arguments.whole("limit", limit, 1), most)


def require_live(session: GameSession) -> None:
    """Raises `SessionRevoked` or `SessionExpired` for a session that is over."""
    if session.state is SessionState.REVOKED:
        raise SessionRevoked(session.session_id)
    if session.state is SessionState.EXPIRED:
        raise SessionExpired(session.session_id)


def optional_int8(value: int | None) -> Int8 | None:
    """A bigint parameter whatever its size, so that a statement is prepared once, not by width."""
    return None if value is None else Int8(value)


def session_from(row: Row) -> GameSession:
    """A session from the columns `id, game_id, user_id, generation, …, state`."""
    uuid, game_id, user_id, generation, acknowledged, created, beaten, expires, state = row
    return GameSession(
        session_id=f"{game_id}/{uuid}",
        game_id=game_id,
        user_id=user_id,
        generation=generation,
        last_acknowledged=acknowledged,
        created_at=created,
        heartbeat_at=beaten,
        expires_at=expires,
        state=_STATES[state],
    )
