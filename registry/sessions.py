"""Sessions: issued, resumed, kept alive, looked up, revoked."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg.types.numeric import Int8

from . import arguments
from .arrays import Array, bigint_array, text_array, uuid_array
from .core import (
    SESSION_COLUMNS,
    Core,
    optional_int8,
    require_live,
    session_from,
)
from .errors import (
    InvalidToken,
    LimitReached,
    RegistryUnavailable,
    SessionNotFound,
    TokenReused,
)
from .gathering import Gathering, Job
from .model import GameSession, Heartbeats, IssuedSession, Resumption
from .queries import queries
from .replay import replay_of
from .resuming import Resumptions, Takeover
from .statements import ATTEMPTS, Params, Row
from .tokens import ResumeToken, new_secret

logger: Final = logging.getLogger("registry.sessions")

MOST_BEATS: Final = 1000
"""In one statement."""


class Sessions(Core):
    """The part of the registry that knows who is connected."""

    _beats: Gathering
    _resumptions: Resumptions

    def _gather_sessions(self) -> None:
        """Lets calls of many threads share statements."""
        self._beats = Gathering(
            self._database,
            self.config,
            name="registry-beats",
            alone=self._beat,
            query=queries.heartbeat_batch,
            columns=_beats,
            most=MOST_BEATS,
        )
        self._resumptions = Resumptions(
            self._database, self.config, self._reads, insist=self._insist_on_resuming
        )

    def issue_resume_token(
        self, game_id: str, user_id: str, *, ttl: float | None = None
    ) -> IssuedSession:
        """Begins a player's session in a game, or takes over the live one, with a new token.

        Call it for a player you have authenticated. The game is created if it is new. A live
        session keeps its id and acknowledgement and its generation rises by one; the token it
        had stays valid until the new one is first used. A session that has expired or was
        revoked is begun anew, with a new id.

        Args:
            game_id: 1 to 200 characters.
            user_id: 1 to 200 characters.
            ttl: seconds the session lives after each heartbeat; `config.session_ttl` if None.

        Raises:
            InvalidArgument: an argument is out of range.
            LimitReached: another session would be more than `config.max_sessions_per_game` or
                `config.max_sessions_per_user`; nothing was done.
            OutcomeUnknown: the connection broke; issuing again is right.
            RegistryUnavailable: nothing was done.

        Concurrency: safe from any number of threads and processes; of two calls for the same
        player at once, both tokens are valid until the later one is used. The limits are exact
        however many issue at once, among registries that set them. Locks the game's row, then the
        session's; with `max_sessions_per_user` before them the player, for other such issues. One
        round trip.
        """
        token = ResumeToken(arguments.text_id("game_id", game_id), uuid4(), new_secret())
        row = self._issue(
            {
                "game_id": token.game_id,
                "user_id": arguments.text_id("user_id", user_id),
                "id": token.session_uuid,
                "token_hash": token.hash,
                "ttl": self.config.session_ttl if ttl is None else arguments.seconds("ttl", ttl),
                "most_per_game": optional_int8(self.config.max_sessions_per_game),
                "most_per_user": optional_int8(self.config.max_sessions_per_user),
            }
        )
        # The session may be one that was there: the token names that one.
        issued = ResumeToken(token.game_id, row[0], token.secret)
        epoch, head, floor = row[SESSION_COLUMNS:]
        return IssuedSession(session_from(row[:SESSION_COLUMNS]), issued.text, epoch, head, floor)

    def _issue(self, params: Params) -> Row:
        """Begins a session or takes it over, within the limits if there are any."""
        config, query = self.config, queries.issue_resume_token
        advice = "issue a token again and use that one"
        unlimited = config.max_sessions_per_game is config.max_sessions_per_user is None
        lock = None if unlimited else queries.lock_issue
        for _ in range(ATTEMPTS):
            rows = self._database.rows(query, params, if_unknown=advice, behind=lock)
            ((exceeded, *row),) = rows
            if exceeded is not None:
                raise LimitReached(exceeded, getattr(config, exceeded))
            if row[0] is not None:
                return tuple(row)
        raise RegistryUnavailable("the game kept ending under the call; nothing was done")

    def validate_resume_token(self, token: str) -> GameSession:
        """The live session that a token opens. Changes nothing.

        Raises:
            InvalidToken: unknown, malformed or forged.
            TokenReused: valid once, but retired; nothing is revoked for it here.
            SessionExpired, SessionRevoked: it opens a session that is over.
            RegistryUnavailable: the database did not answer in time.

        Concurrency: takes no lock; what it says can change as soon as it returns. One round
        trip.
        """
        session, standing = self._standing(ResumeToken.parse(token))
        require_live(session)
        if standing != "valid":
            raise _reused(session, standing, revoked=False)
        return session

    def resume(
        self, token: str, *, after: int, epoch: UUID | None = None, limit: int | None = None
    ) -> Resumption:
        """Takes a session over for a client that came back, and begins its replay.

        Validates the token, raises the generation (so that the old connection can act no
        more), beats, rotates the token and reads the first page of events after `after`: all
        or nothing, in one snapshot. History that is gone is an answer, not an error, since
        the new token must reach the client: see `Resumption.continuity`.

        The token presented stays valid until the new one is first used, and repeating the
        call with it, because the reply was lost or in a second window, gives the same new
        token again. (After `issue_resume_token` it is the presented token that is returned:
        the issued one cannot be had twice.) An older token is `TokenReused`.

        Args:
            token: what `issue_resume_token` or the last `resume` returned.
            after: the last sequence the client saw, 0 if none.
            epoch: the epoch of the log it saw that in; None takes the present one for granted.
            limit: most events in the page; at most, and by default, `config.replay_limit`.

        Raises:
            InvalidArgument: `after`, `epoch` or `limit` is out of range.
            InvalidToken: unknown, malformed or forged.
            TokenReused: valid once, but no more. If its successor has been used, the session
                is revoked, by `config.on_token_reuse`; if an issue came in between, not.
            SessionExpired, SessionRevoked: it opens a session that is over.
            LogCorrupted: the log's rows were changed by hand. The generation has risen, and the
                token presented stays valid.
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: several calls at once with one token all succeed, one after another; the
        last one's generation is the one that can act. A refused call leaves the session as it
        was, but for the revocation above. Locks the session's row. One round trip, and one more at
        the first sight of a compression dictionary; with a standby, for more than
        `config.standby_after` events, one to that after it, as in `fetch_events_since`.
        """
        presented = ResumeToken.parse(token)
        most = self._page_limit(limit)
        after = arguments.whole("after", after)
        epoch = arguments.optional_uuid("epoch", epoch)
        salt = secrets.token_bytes(32)
        successor = presented.successor(salt)
        job = Takeover(presented, salt, successor.hash, after, epoch, most)
        row, found = self._resumptions.take_over(job)
        session = session_from(row[:SESSION_COLUMNS])
        salt_in_force = row[SESSION_COLUMNS]
        continuity, _, missed = job.begins(found.epoch, found.head, found.floor)
        if salt_in_force is None:
            successor = presented
        elif salt_in_force != salt:  # repeated: the token that was given before
            successor = presented.successor(salt_in_force)
        replay = replay_of(session.game_id, found, self._payloads.schemes)
        return Resumption(session, successor.text, continuity, missed, replay)

    def heartbeat(self, session_id: str, *, generation: int | None = None) -> GameSession:
        """Says that a session's client is still there; extends its expiry by its time to live.

        Args:
            session_id: of the session.
            generation: of the connection that beats; None beats for whichever holds it.

        Raises:
            InvalidArgument: an argument is of the wrong type or out of range.
            SessionNotFound, SessionExpired, SessionRevoked: the session is over.
            SessionTakenOver: the generation is not the newest.
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: the times only move forward. Locks the session's row. One round trip.
        """
        game_id, uuid = arguments.session_key(session_id)
        generation = arguments.optional_whole("generation", generation, 1)
        job = {"game_id": game_id, "id": uuid, "generation": optional_int8(generation)}
        return session_from(self._beats.row(str.__str__(session_id), job))

    def heartbeat_many(self, sessions: Iterable[str | tuple[str, int]]) -> Heartbeats:
        """Beats any number of sessions in one statement and says which of them are gone.

        Args:
            sessions: session ids, each alone or with the generation of its connection.

        Raises:
            InvalidArgument: an item is neither a str nor a (str, int).
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: rows are locked in the order of game and player, so that calls never
        deadlock.
        One round trip.
        """
        items: dict[Beat | str, str | tuple[str, int]] = {}
        for item in arguments.many("sessions", sessions):
            items.setdefault(_beat(item), item)
        sent = [beat for beat in items if isinstance(beat, tuple)]
        alive: dict[tuple[str, UUID], int] = {}
        if sent:
            rows = self._database.rows(
                queries.heartbeat_many,
                {
                    "game_ids": text_array([game_id for game_id, _, _ in sent]),
                    "ids": uuid_array([uuid for _, uuid, _ in sent]),
                    "generations": bigint_array([generation for _, _, generation in sent]),
                },
            )
            alive = {(game_id, uuid): generation for game_id, uuid, generation in rows}

        gone = []
        for beat, item in items.items():
            current = alive.get(beat[:2]) if isinstance(beat, tuple) else None
            if current is None or beat[2] not in (None, current):
                gone.append(item)
        return Heartbeats(len(alive), tuple(gone))

    def get_session(self, session_id: str) -> GameSession:
        """A session by its id, whatever its state.

        Raises:
            InvalidArgument: the id is not a str.
            SessionNotFound: never was, was cleaned up, or its game has ended.
            RegistryUnavailable: the database did not answer in time.

        Concurrency: takes no lock. One round trip.
        """
        return self._session(session_id)

    def find_session(self, game_id: str, user_id: str) -> GameSession | None:
        """The session of a player in a game, whatever its state, or None.

        Raises:
            InvalidArgument: an id is not 1 to 200 characters of text.
            RegistryUnavailable: the database did not answer in time.

        Concurrency: takes no lock. One round trip.
        """
        row = self._database.row(
            queries.find_session,
            {
                "game_id": arguments.text_id("game_id", game_id),
                "user_id": arguments.text_id("user_id", user_id),
            },
        )
        return None if row is None else session_from(row)

    def list_sessions(self, game_id: str) -> list[GameSession]:
        """The live sessions of a game, ordered by player; none if there is no such game.

        Raises:
            InvalidArgument: the id is not 1 to 200 characters of text.
            RegistryUnavailable: the database did not answer in time.

        Concurrency: takes no lock; one snapshot. One round trip.
        """
        rows = self._database.rows(
            queries.list_sessions, {"game_id": arguments.text_id("game_id", game_id)}
        )
        return [session_from(row) for row in rows]

    def stale_sessions(self, older_than: float, *, limit: int = 1_000) -> list[GameSession]:
        """Live sessions of all games without a heartbeat for a while, the longest silent first.

        Args:
            older_than: seconds since the last heartbeat, by the database's clock.
            limit: most sessions to return; which ones are left out is exact to the minute.

        Raises:
            InvalidArgument: an argument is out of range.
            RegistryUnavailable: the database did not answer in time.

        Concurrency: takes no lock; one snapshot. One round trip.
        """
        rows = self._database.rows(
            queries.stale_sessions,
            {
                "older_than": arguments.seconds("older_than", older_than, least=0),
                "limit": Int8(arguments.whole("limit", limit, 1)),
            },
        )
        return sorted(map(session_from, rows), key=lambda session: session.heartbeat_at)

    def revoke_session(self, session_id: str) -> GameSession:
        """Ends a session for good: none of its tokens opens anything any more.

        It stops holding the floor at once. Revoking again changes nothing; the player gets a
        new session by `issue_resume_token`.

        Raises:
            InvalidArgument: the id is not a str.
            SessionNotFound: never was, was cleaned up, or its game has ended.
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: a call of the session under way finishes first or is refused. Locks the
        session's row. One round trip.
        """
        game_id, uuid = arguments.session_key(session_id)
        revoked = self._revoke(game_id, uuid, None)
        if revoked is None:
            raise SessionNotFound(f"{game_id}/{uuid}")
        return revoked

    def _revoke(self, game_id: str, uuid: UUID, generation: int | None) -> GameSession | None:
        row = self._database.row(
            queries.revoke_session,
            {"game_id": game_id, "id": uuid, "generation": optional_int8(generation)},
        )
        return None if row is None else session_from(row)

    def _beat(self, job: Job) -> Row:
        """Beats one session, and waits for it."""
        session_id = f"{job['game_id']}/{job['id']}"
        explain = partial(self._check_acting, session_id, job["generation"])
        return self._insist(queries.heartbeat, job, explain)

    def _insist_on_resuming(self, params: Params, presented: ResumeToken) -> Row:
        return self._insist(queries.resume, params, partial(self._refuse, presented))

    def _standing(self, token: ResumeToken) -> tuple[GameSession, str]:
        """A token's session and whether it is 'valid', 'retired' or 'displaced' there.

        Raises `InvalidToken` for any other.
        """
        proof = token.prove()
        row = self._database.row(
            queries.validate_resume_token,
            {
                "game_id": token.game_id,
                "id": token.session_uuid,
                "nonce": proof.nonce,
                "blinded": proof.blinded,
            },
        )
        if row is None or row[SESSION_COLUMNS] is None:
            raise InvalidToken
        return session_from(row[:SESSION_COLUMNS]), row[SESSION_COLUMNS]

    def _refuse(self, token: ResumeToken) -> None:
        """Raises why a token did not resume its session, unless by now it would."""
        session, standing = self._standing(token)
        require_live(session)
        if standing == "valid":
            return
        revoked = None
        if standing == "retired" and self.config.on_token_reuse == "revoke":
            # Not if somebody has just authenticated, or come back with a token that is good.
            revoked = self._revoke(token.game_id, token.session_uuid, session.generation)
        raise _reused(session, standing, revoked=revoked is not None)


def _reused(session: GameSession, standing: str, *, revoked: bool) -> TokenReused:
    """What to raise for a token that is valid no more, once it is logged; never the token itself.

    A displaced one may be an honest client's, whose reply was lost: that is no warning.
    """
    logger.log(
        logging.WARNING if standing == "retired" else logging.INFO,
        "a %s token of session %r was presented: %s",
        standing,
        session.session_id,
        "the session was revoked" if revoked else "the call was refused",
        extra={"session_id": session.session_id, "standing": standing, "revoked": revoked},
    )
    return TokenReused(session.session_id, revoked=revoked)


Beat = tuple[str, UUID, int | None]
"""Game, UUID and generation of one item of `heartbeat_many`."""


def _beat(item: Any) -> Beat | str:
    """What an item of `heartbeat_many` names; as a text if that is no session."""
    session_id, generation = item, None
    if issubclass(type(item), tuple):
        parts = tuple.__getitem__(item, slice(None))
        if len(parts) == 2:
            session_id, generation = parts
    generation = arguments.optional_whole("generation", generation, 1)
    try:
        return (*arguments.session_key(session_id), generation)
    except SessionNotFound:
        return f"{arguments.plain_text(session_id)} {generation}"


def _beats(jobs: Sequence[Job]) -> dict[str, Array]:
    """What heartbeat_batch.sql needs."""
    return {
        "game_ids": text_array([job["game_id"] for job in jobs]),
        "ids": uuid_array([job["id"] for job in jobs]),
        "generations": bigint_array([job["generation"] for job in jobs]),
    }
