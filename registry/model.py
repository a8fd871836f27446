"""What the public methods return: small immutable records.

Secrets stay out of every repr: tokens and payloads are never shown.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from uuid import UUID

from attrs import field, frozen

from .replay import Replay


class SessionState(Enum):
    """Where a session stands, by the database's clock at the time of the call."""

    LIVE = "live"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Continuity(Enum):
    """How a resumed client's position fits the log.

    `CONTINUOUS`: the replay goes on just after it. `GAP`: history after it is gone and the
    replay begins at floor + 1. `RESET`: it belongs to another log (another epoch, or ahead of
    this one) and the replay begins at floor + 1 of the present log.
    """

    CONTINUOUS = "continuous"
    GAP = "gap"
    RESET = "reset"


@frozen
class GameSession:
    """One player in one game, as the database saw it at the time of the call."""

    session_id: str
    """`<game_id>/<uuid>`. A new session of the same player gets a new one."""
    game_id: str
    user_id: str
    generation: int
    """Counts the connections: each issue or resume raises it; pass it on to act for this one."""
    last_acknowledged: int
    """The last sequence the player said it had; 0 or the floor before the first time."""
    created_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    state: SessionState


@frozen
class IssuedSession:
    """A session with the resume token for its client."""

    session: GameSession
    token: str = field(repr=False)
    """Give it to the client over a safe channel; it cannot be had a second time."""
    epoch: UUID
    """Which log the game's sequences belong to; the client keeps it beside its position."""
    head: int
    floor: int
    """What can be replayed now is (floor, head]."""


@frozen
class Resumption:
    """A session taken over by a returning client, with the first page of what it missed."""

    session: GameSession
    token: str = field(repr=False)
    """The token for next time; the one presented stays valid until this one is first used."""
    continuity: Continuity
    missed: int
    """Events between the client's position and the replay that are gone for good; for `RESET`,
    those of the present log that are gone. 0 when `CONTINUOUS`."""
    replay: Replay


@frozen
class Acknowledgement:
    """Where a session and its game's log stand after an acknowledgement."""

    sequence: int
    """The session's last acknowledged sequence: never lower than before."""
    floor: int
    pruned: int
    """Events that this call deleted because every live session had acknowledged them."""


@frozen
class Heartbeats:
    """The outcome of `heartbeat_many`."""

    alive: int
    """Sessions that were beaten and extended."""
    gone: tuple[str | tuple[str, int], ...]
    """The items, as they were given, whose session is unknown, expired, revoked or taken over."""


@frozen
class Cleanup:
    """What one `cleanup_expired_sessions` removed."""

    sessions: int
    events: int
    games: int

    def plus(self, other: Cleanup) -> Cleanup:
        """Both together."""
        return Cleanup(
            self.sessions + other.sessions, self.events + other.events, self.games + other.games
        )
