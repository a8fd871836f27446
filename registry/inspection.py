"""All about one game, for the night when a player says that it is broken: `inspect`'s findings."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from attrs import frozen
from psycopg import Connection
from psycopg.types.numeric import Int8

from . import arguments, zstd
from .errors import GameNotFound, SessionNotFound
from .looking import Ask, look
from .payloads import decode
from .queries import queries
from .storage import find_schemes

CHECKED: Final = 200_000
"""The newest rows of a log that are checked for holes: more than `max_events_per_game` allows by
default."""

SESSIONS: Final = 10_000
"""The most sessions of a game that are looked at."""

HOLES: Final = 20
"""The most holes that are named."""


@frozen
class InspectedSession:
    """One player's session. Times are in seconds."""

    id: UUID
    user_id: str
    generation: int
    last_acknowledged: int
    age: float
    silent: float
    """Since its last beat."""
    expires_in: float
    """Negative when it has expired."""
    state: str
    """live, expired or revoked."""


@frozen
class InspectedEvent:
    sequence: int
    age: float
    """Seconds since it was recorded."""
    codec: int
    size: int
    """Bytes as stored."""
    payload: object = None
    """None as well if it was not asked for."""

    @property
    def encoding(self) -> str:
        """What the codec means."""
        kind = "json" if self.codec & 1 else "bytes"
        scheme = self.codec >> 1
        how = "" if scheme == 0 else ", zstd" if scheme == 1 else f", zstd dictionary {scheme - 1}"
        return kind + how


@frozen
class LogCheck:
    """Whether the rows of a log are what its head and floor say."""

    expected: int
    """Events in (floor, head]."""
    found: int
    """Of those, rows that there are, counted from the head down to `CHECKED` of them."""
    whole: bool
    """Whether all of it was checked."""
    holes: tuple[tuple[int, int], ...]
    """The first and last sequence of each hole, the highest first; no more than `HOLES`."""
    below_floor: bool
    """Whether there are rows at or below the floor, which a cleanup has still to delete."""
    beyond_head: bool
    """Whether there are rows that the head knows nothing of."""

    @property
    def sound(self) -> bool:
        return not (self.holes or self.beyond_head)


@frozen
class Inspection:
    """A game in one snapshot."""

    at: datetime
    game_id: str
    epoch: UUID
    head: int
    floor: int
    idle: float
    """Seconds since the last append."""
    oldest: float
    """No event is older, in seconds."""
    issued: int
    """Tokens issued so far."""
    log: LogCheck
    sessions: tuple[InspectedSession, ...]
    """The slowest first, the live ones before the others."""
    all_sessions: bool
    """Whether these are all that the game has."""
    events: tuple[InspectedEvent, ...]
    """The last ones, the newest first."""

    @property
    def live(self) -> tuple[InspectedSession, ...]:
        return tuple(s for s in self.sessions if s.state == "live")

    @property
    def holders(self) -> tuple[InspectedSession, ...]:
        """The live sessions of the lowest acknowledgement: they hold the floor down, unless it was
        raised over them."""
        lowest = min((s.last_acknowledged for s in self.live), default=None)
        return tuple(s for s in self.live if s.last_acknowledged == lowest)

    @property
    def held(self) -> int:
        """Events that could be pruned if the holders had acknowledged them."""
        if not self.holders:
            return 0
        holding = max(self.holders[0].last_acknowledged, self.floor)
        others = [s.last_acknowledged for s in self.live if s not in self.holders]
        return max(min(others, default=self.head) - holding, 0)

    def behind(self, session: InspectedSession) -> int:
        """Events that it has not acknowledged."""
        return self.head - session.last_acknowledged

    def missed(self, session: InspectedSession) -> int:
        """Of those, the ones that are gone, so that its replay has a gap."""
        return max(self.floor - session.last_acknowledged, 0)


def inspect_game(
    connection: Connection[Any], game_id: str, *, events: int = 10, payloads: bool = False
) -> Inspection:
    """All about a game. Raises `GameNotFound`.

    `connection` is in autocommit mode; `events` is how many of the last ones to tell of, with
    their `payloads` only if asked for.
    """
    game_id = arguments.text_id("game_id", game_id)
    with look(connection) as ask:
        return _inspect(ask, game_id, None, events, payloads)


def inspect_session(
    connection: Connection[Any], session_id: str, *, events: int = 10, payloads: bool = False
) -> tuple[InspectedSession, Inspection]:
    """A session and all about its game. Raises `SessionNotFound`; otherwise as `inspect_game`."""
    game_id, key = arguments.session_key(session_id)
    with look(connection) as ask:
        try:
            inspection = _inspect(ask, game_id, key, events, payloads)
        except GameNotFound:
            raise SessionNotFound(session_id) from None
    for session in inspection.sessions:
        if session.id == key:
            return session, inspection
    raise SessionNotFound(session_id)


def _inspect(
    ask: Ask, game_id: str, session: UUID | None, events: int, payloads: bool
) -> Inspection:
    game = ask(queries.inspect_game, {"game_id": game_id})
    if not game:
        raise GameNotFound(game_id)
    at, epoch, head, floor, idle, oldest, issued = game[0]
    params = {"game_id": game_id, "id": session, "most": Int8(SESSIONS + 1)}
    found = {row[0]: InspectedSession(*row) for row in ask(queries.inspect_sessions, params)}
    sessions = sorted(found.values(), key=lambda s: (s.state != "live", s.last_acknowledged))
    return Inspection(
        at,
        game_id,
        epoch,
        head,
        floor,
        idle,
        oldest,
        issued,
        _check_log(ask, game_id, head, floor),
        tuple(sessions),
        len(found) <= SESSIONS,
        _last_events(ask, game_id, events, payloads),
    )


def _check_log(ask: Ask, game_id: str, head: int, floor: int) -> LogCheck:
    params = {"game_id": game_id, "most": Int8(CHECKED), "holes": Int8(HOLES)}
    ((found, lowest, more, firsts, lasts, below, beyond),) = ask(queries.inspect_log, params)
    holes = list(zip(firsts, lasts, strict=True))
    # Nothing above it is missing; what is between it and the floor is, if no more rows come.
    start = head + 1 if lowest is None else lowest
    if not more and start > floor + 1:
        holes.append((floor + 1, start - 1))
    return LogCheck(head - floor, found, not more, tuple(holes[:HOLES]), below, beyond)


def _last_events(ask: Ask, game_id: str, events: int, payloads: bool) -> tuple[InspectedEvent, ...]:
    rows = ask(
        queries.inspect_events,
        {"game_id": game_id, "events": Int8(events), "payloads": payloads},
    )
    schemes = find_schemes({row[2] >> 1 for row in rows} - {0}, ask) if payloads else {}
    return tuple(
        InspectedEvent(
            sequence, age, codec, size, None if data is None else _readable(codec, data, schemes)
        )
        for sequence, age, codec, size, data in rows
    )


def _readable(codec: int, data: bytes, schemes: zstd.Schemes) -> object:
    """The payload, or why it cannot be read."""
    try:
        return decode(*zstd.expanded(codec, data, schemes))
    except (KeyError, ValueError):
        return f"<unreadable: {zstd.why_unreadable(codec, schemes)}>"
