"""A threaded game server: how `GameSessionRegistry` is meant to be used.

Each connection has a thread. The server keeps nothing of a game but who is connected just now:
sessions and events are in the registry, so it may stop at any moment and be started again.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread, current_thread
from uuid import UUID

from ..api import GameSessionRegistry
from ..errors import (
    HistoryPruned,
    RegistryError,
    RegistryUnavailable,
    SequenceConflict,
    SessionTakenOver,
    TokenReused,
)
from ..model import GameSession, Resumption
from .room import PAGE, Guest, Room, as_message
from .tally import Count, Tally
from .wire import Connection, Cut, Message, Seat

ARBITER = "arbiter"
BEAT_ARBITERS = 5.0
"""Seconds between two heartbeats for the arbiters' sessions."""

PARITY = {"white": 1, "black": 0}
"""White plays the odd sequences of a game, black the even ones."""


class AccessDenied(Exception):
    """Not a matter of the registry: who one is and whose turn it is, the server knows itself."""


class GameServer:
    """Serves any number of games. Its methods are safe from any thread."""

    def __init__(
        self,
        registry: GameSessionRegistry,
        tally: Tally,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self.registry = registry
        self.tally = tally
        self._on_failure = on_failure
        self._rooms: dict[str, Room] = {}
        self._passwords: dict[tuple[str, str], str] = {}
        self._arbiters: dict[str, str] = {}
        self._visits: set[Thread] = set()
        self._lock = Lock()
        self._closing = Event()
        self._beating = Thread(target=self._beat_arbiters, name="arbiters", daemon=True)
        self._beating.start()

    def open_game(self, game_id: str) -> int:
        """Opens a game, new or left half-played, and returns how many events it has.

        The arbiter's session is the server's own. It acknowledges nothing while the game is
        on, so that whoever comes back without a memory finds the log whole; only
        `close_game` lets it be pruned. A game whose closing was interrupted begins anew.
        """
        arbiter = self.registry.issue_resume_token(game_id, ARBITER)
        try:
            head = self.registry.fetch_events_since(game_id, 0, limit=1).head
        except HistoryPruned:
            self.registry.end_game(game_id)
            return self.open_game(game_id)
        with self._lock:
            self._rooms[game_id] = Room(self.registry, game_id)
            self._arbiters[game_id] = arbiter.session.session_id
        return head

    def enroll(self, game_id: str, user_id: str) -> Seat:
        """Gives somebody a seat in an open game."""
        seat = Seat(game_id, user_id, secrets.token_urlsafe(16))
        with self._lock:
            self._passwords[game_id, user_id] = seat.password
        return seat

    def close_game(self, game_id: str) -> int:
        """Ends a game that everybody has seen to its end; returns how many events it pruned."""
        with self._lock:
            arbiter = self._arbiters.pop(game_id)
            del self._rooms[game_id]
        head = self.registry.fetch_events_since(game_id, 0, limit=1).head
        pruned = self.registry.acknowledge(arbiter, head).pruned
        self.registry.end_game(game_id)
        return pruned

    def accept(self, connection: Connection) -> None:
        """Serves a connection, in a thread of its own, until it breaks."""
        thread = Thread(target=self._serve, args=(connection,), name="visit", daemon=True)
        with self._lock:
            self._visits.add(thread)
        thread.start()

    def close(self) -> None:
        """Waits for the end of all visits; their connections are to be cut before."""
        self._closing.set()
        self._beating.join()
        with self._lock:
            visits = list(self._visits)
        for thread in visits:
            thread.join()

    def room(self, game_id: str) -> Room:
        with self._lock:
            return self._rooms[game_id]

    def knows(self, game_id: str, user_id: str, password: str) -> bool:
        with self._lock:
            right = self._passwords.get((game_id, user_id))
        return right is not None and hmac.compare_digest(right, password)

    def _serve(self, connection: Connection) -> None:
        try:
            Visit(self, connection).serve()
        except Cut:
            pass  # the client will be back
        except BaseException as error:
            self._on_failure(error)
        finally:
            connection.close()
            with self._lock:
                self._visits.discard(current_thread())

    def _beat_arbiters(self) -> None:
        """One statement for all of them: what `heartbeat_many` is for."""
        while not self._closing.wait(BEAT_ARBITERS):
            with self._lock:
                arbiters = list(self._arbiters.values())
            with suppress(RegistryUnavailable):  # the next beat will do
                self.registry.heartbeat_many(arbiters)


class Visit:
    """One connection: its requests, one after another."""

    def __init__(self, server: GameServer, connection: Connection) -> None:
        self._server = server
        self._registry = server.registry
        self._connection = connection
        self._resumption: Resumption | None = None
        self._room: Room | None = None
        self._guest: Guest | None = None

    def serve(self) -> None:
        """Answers requests until the connection breaks, which is a `Cut`, or is not wanted."""
        handlers = {
            "authenticate": self._authenticate,
            "resume": self._resume,
            "move": self._move,
            "acknowledge": self._acknowledge,
            "beat": self._beat,
        }
        try:
            while (request := self._connection.receive()) is not None:
                try:
                    handlers[request["do"]](request)
                except (RegistryError, AccessDenied) as error:
                    if isinstance(error, TokenReused) and error.revoked:
                        game_id, _, _ = error.session_id.rpartition("/")
                        self._server.room(game_id).expel(error.session_id)
                    self._reply(request, refused=type(error).__name__, why=str(error))
                    if isinstance(error, SessionTakenOver):
                        return  # a ghost; the session's newer connection is served elsewhere
        finally:
            if self._room is not None and self._guest is not None:
                self._room.leave(self._guest)

    def _authenticate(self, request: Message) -> None:
        """Somebody new, or who has lost the session: a token, to resume with."""
        game_id, user_id = request["game_id"], request["user_id"]
        if not self._server.knows(game_id, user_id, request["password"]):
            raise AccessDenied("wrong name or password")
        issued = self._registry.issue_resume_token(game_id, user_id)
        self._reply(request, token=issued.token)

    def _resume(self, request: Message) -> None:
        """Somebody is back: what was missed, and the token for next time."""
        epoch = request["epoch"]
        resumption = self._registry.resume(
            request["token"],
            after=request["after"],
            epoch=None if epoch is None else UUID(epoch),
            limit=PAGE,
        )
        session, replay = resumption.session, resumption.replay
        self._server.tally.add(Count.CACHED, replay.source == "cache")
        self._resumption = resumption
        self._reply(
            request,
            session_id=session.session_id,
            generation=session.generation,
            token=resumption.token,
            continuity=resumption.continuity.value,
            missed=resumption.missed,
            epoch=str(replay.epoch),
            head=replay.head,
            events=[as_message(event) for event in replay.events],
        )
        reached = replay.events[-1].sequence if replay.events else replay.head
        self._guest = Guest(self._connection, session.session_id, reached)
        self._room = self._server.room(session.game_id)
        try:
            self._room.enter(self._guest, replay.epoch)
        except RegistryError:
            raise Cut from None  # the reply is out already: hang up, the client will be back

    def _move(self, request: Message) -> None:
        """A player's move: recorded once however often it is sent, and sent to everybody."""
        session, expected = self._session, request["expected"]
        room = self._server.room(session.game_id)
        if PARITY.get(session.user_id) != expected % 2:
            raise AccessDenied("it is not your turn")
        self._registry.heartbeat(session.session_id, generation=session.generation)
        try:
            sequence = self._registry.record_event(
                session.game_id,
                request["event"],
                event_id=UUID(request["event_id"]),
                expected_sequence=expected,
            )
        except SequenceConflict as conflict:  # the player has not seen the latest events
            room.deliver(conflict.actual - 1)
            raise
        room.deliver(sequence)
        self._reply(request, sequence=sequence)

    def _acknowledge(self, request: Message) -> None:
        session = self._session
        acknowledged = self._registry.acknowledge(
            session.session_id, request["sequence"], generation=session.generation
        )
        self._reply(request, sequence=acknowledged.sequence)

    def _beat(self, request: Message) -> None:
        session = self._session
        self._registry.heartbeat(session.session_id, generation=session.generation)
        self._reply(request)

    def _reply(self, request: Message, **fields: object) -> None:
        self._connection.send({"id": request["id"], **fields})

    @property
    def _session(self) -> GameSession:
        if self._resumption is None:
            raise AccessDenied("resume first")
        return self._resumption.session
