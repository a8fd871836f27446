"""The contract in memory: what each call has to answer, for one caller at a time.

Every method takes the arguments of the registry's and returns the essence of its answer, or
raises the same error. Time stands still but for `now`, which the test moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from registry import (
    AheadOfLog,
    Continuity,
    EpochMismatch,
    GameNotFound,
    HistoryPruned,
    InvalidToken,
    SequenceConflict,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionTakenOver,
    TokenReused,
)  # fmt: skip

TTL, RETENTION, CAP, KEPT_HASHES = 1_000, 10_000, 12, 8


@dataclass
class Session:
    id: str
    user: str
    ttl: float
    expires: float
    acknowledged: int
    generation: int = 1
    revoked: bool = False
    newest: str = ""
    issued: bool = True
    """Whether the newest token was issued, so that a resume cannot hand it out again."""
    previous: str | None = None
    retired: list[str] = field(default_factory=list)
    """Their successor was used."""
    displaced: list[str] = field(default_factory=list)
    """An issue put them out of force before that."""

    def rotate(self, token: str, *, issued: bool) -> None:
        if self.previous is not None:
            last = self.displaced if issued else self.retired
            last[:] = [self.previous, *last][:KEPT_HASHES]
        self.previous, self.newest, self.issued = self.newest, token, issued


@dataclass
class Game:
    begun: float
    head: int = 0
    floor: int = 0
    epoch: UUID | None = None  # unknown until it is seen
    payloads: list[object] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    ids: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.oldest = self.written = self.begun


class Reference:
    def __init__(self) -> None:
        self.now = 0.0
        self.games: dict[str, Game] = {}

    # sessions

    def issue(self, game_id: str, user: str, ttl: float) -> Session:
        """The token is not known yet: the caller rotates it in."""
        game = self.games.setdefault(game_id, Game(self.now))
        session = next((s for s in game.sessions.values() if s.user == user), None)
        if session is not None and self.is_live(session):
            session.generation += 1
            session.ttl, session.expires = ttl, self.now + ttl
            return session
        if session is not None:
            del game.sessions[session.id]
        return Session("", user, ttl, self.now + ttl, game.floor)

    def validate(self, token: str) -> Session:
        session = self._live(self._holder(token))
        if token in session.retired + session.displaced:
            raise TokenReused(session.id, revoked=False)
        return session

    def resume(
        self, token: str, after: int, epoch: UUID | None
    ) -> tuple[Session, Game, Continuity, int]:
        """Leaves the rotation to the caller."""
        session = self._live(self._holder(token))
        if token in session.retired:
            session.revoked = True
            raise TokenReused(session.id, revoked=True)
        if token in session.displaced:
            raise TokenReused(session.id, revoked=False)
        session.generation += 1
        session.expires = max(session.expires, self.now + session.ttl)
        game = self.games[session.id.rpartition("/")[0]]
        if after > game.head or epoch not in (None, game.epoch):
            return session, game, Continuity.RESET, game.floor
        if after < game.floor:
            return session, game, Continuity.GAP, game.floor
        return session, game, Continuity.CONTINUOUS, after

    def heartbeat(self, session_id: str, generation: int | None) -> Session:
        session = self._acting(session_id, generation)
        session.expires = max(session.expires, self.now + session.ttl)
        return session

    def revoke(self, session_id: str) -> None:
        self.session(session_id).revoked = True

    # the log

    def record(
        self, game_id: str, payload: object, event_id: UUID | None, expected: int | None
    ) -> int:
        game = self.games.get(game_id, Game(self.now))
        if event_id in game.ids:
            return game.ids[event_id][0]
        if expected not in (None, game.head + 1):
            raise SequenceConflict(expected or 0, game.head + 1)
        (sequence,) = self.record_many(game_id, [payload])
        if event_id is not None:
            self.games[game_id].ids[event_id] = sequence, self.now
        return sequence

    def record_many(self, game_id: str, payloads: list[object]) -> list[int]:
        if not payloads:
            return []
        game = self.games.setdefault(game_id, Game(self.now))
        given = list(range(game.head + 1, game.head + len(payloads) + 1))
        game.payloads += payloads
        game.times += [self.now] * len(payloads)
        game.head, game.written = given[-1], self.now
        if game.head - game.floor > CAP + CAP // 16:
            game.floor = game.head - CAP
        return given

    def fetch(self, game_id: str, sequence: int, epoch: UUID | None, limit: int) -> list[object]:
        game = self._game(game_id)
        if epoch not in (None, game.epoch):
            assert game.epoch is not None
            raise EpochMismatch(game.epoch)
        if sequence > game.head:
            raise AheadOfLog(game.head)
        if sequence < game.floor:
            raise HistoryPruned(game.floor, game.head)
        return game.payloads[sequence : sequence + limit]

    def acknowledge(
        self, session_id: str, sequence: int, generation: int | None
    ) -> tuple[int, int, int]:
        session = self._acting(session_id, generation)
        game = self.games[session_id.rpartition("/")[0]]
        if sequence > game.head:
            raise AheadOfLog(game.head)
        session.acknowledged = max(session.acknowledged, sequence)
        lowest = min(s.acknowledged for s in game.sessions.values() if self.is_live(s))
        before, game.floor = game.floor, max(game.floor, lowest)
        return session.acknowledged, game.floor, game.floor - before

    def prune(self, game_id: str, through: int) -> int:
        game = self._game(game_id)
        if through > game.head:
            raise AheadOfLog(game.head)
        before, game.floor = game.floor, max(game.floor, through)
        return game.floor - before

    def end(self, game_id: str) -> None:
        self._game(game_id)
        del self.games[game_id]

    def cleanup(self) -> tuple[int, int, int]:
        sessions = events = games = 0
        aged = self.now - RETENTION
        for game_id, game in list(self.games.items()):
            over = [s for s in game.sessions.values() if s.expires <= self.now]
            for session in over:
                del game.sessions[session.id]
            sessions += len(over)
            game.ids = {key: kept for key, kept in game.ids.items() if kept[1] >= aged}
            if game.oldest >= aged:
                continue
            while game.floor < game.head and game.times[game.floor] < aged:
                game.floor += 1
                events += 1
            empty = game.floor == game.head
            if empty and game.written < aged and not game.sessions:
                del self.games[game_id]
                games += 1
            game.oldest = self.now if empty else game.times[game.floor]
        return sessions, events, games

    # what they share

    def is_live(self, session: Session) -> bool:
        return not session.revoked and session.expires > self.now

    def session(self, session_id: str) -> Session:
        game = self.games.get(session_id.rpartition("/")[0])
        if game is None or session_id not in game.sessions:
            raise SessionNotFound(session_id)
        return game.sessions[session_id]

    def _game(self, game_id: str) -> Game:
        if game_id not in self.games:
            raise GameNotFound(game_id)
        return self.games[game_id]

    def _tokens(self, session: Session) -> list[str | None]:
        return [session.newest, session.previous, *session.retired, *session.displaced]

    def _holder(self, token: str) -> Session:
        for game in self.games.values():
            for session in game.sessions.values():
                if token in self._tokens(session):
                    return session
        raise InvalidToken

    def _live(self, session: Session) -> Session:
        if session.revoked:
            raise SessionRevoked(session.id)
        if not self.is_live(session):
            raise SessionExpired(session.id)
        return session

    def _acting(self, session_id: str, generation: int | None) -> Session:
        session = self._live(self.session(session_id))
        if generation not in (None, session.generation):
            raise SessionTakenOver(session_id)
        return session
