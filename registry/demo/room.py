"""The guests of one game at one server: who gets which events."""

from __future__ import annotations

from threading import Lock
from uuid import UUID

from attrs import define

from ..api import GameSessionRegistry
from ..replay import GameEvent
from .wire import Connection, Cut, Message

PAGE = 25
"""Events in one message, so that a long replay takes several."""


@define(eq=False)
class Guest:
    """A connection that follows the game, and how far it got."""

    connection: Connection
    session_id: str
    reached: int


class Room:
    """Sends each guest the events of a game's log, each once and in order.

    What is sent is read from the log, never taken from the request that caused it: so other
    processes may write to the game too, and a guest that comes back misses nothing. Safe from
    any thread.
    """

    def __init__(self, registry: GameSessionRegistry, game_id: str) -> None:
        self._registry = registry
        self._game_id = game_id
        self._epoch: UUID | None = None
        self._guests: list[Guest] = []
        self._lock = Lock()

    def enter(self, guest: Guest, epoch: UUID) -> None:
        """Lets a guest in, and sends it what happened since the position it `reached`."""
        with self._lock:
            self._epoch = epoch
            self._guests.append(guest)
            self._deliver()

    def leave(self, guest: Guest) -> None:
        with self._lock:
            if guest in self._guests:
                self._guests.remove(guest)

    def expel(self, session_id: str) -> None:
        """Cuts a session's connections: it is over."""
        with self._lock:
            for guest in self._guests:
                if guest.session_id == session_id:
                    guest.connection.cut()

    def deliver(self, through: int) -> None:
        """Sends every guest what it lacks, up to a sequence at least."""
        with self._lock:
            if any(guest.reached < through for guest in self._guests):
                self._deliver()

    def _deliver(self) -> None:
        """One read of the log for all guests."""
        more = True
        while more and self._guests:
            after = min(guest.reached for guest in self._guests)
            page = self._registry.fetch_events_since(
                self._game_id, after, epoch=self._epoch, limit=PAGE
            )
            for guest in list(self._guests):
                fresh = [event for event in page.events if event.sequence > guest.reached]
                if not fresh:
                    continue
                try:
                    guest.connection.send({"events": [as_message(event) for event in fresh]})
                    guest.reached = fresh[-1].sequence
                except Cut:
                    self._guests.remove(guest)
            more = page.more


def as_message(event: GameEvent) -> Message:
    return {"sequence": event.sequence, "payload": event.payload}
