"""Games and players as they come and go, each a course on a schedule.

A game has one writer, so every event's sequence is known beforehand; its payload says it, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import cycle
from typing import Final
from uuid import UUID

from attrs import define

from registry import (
    Continuity,
    GameEvent,
    GameSessionRegistry,
    InvalidToken,
    RegistryError,
    SessionExpired,
)

from .pace import Pace
from .schedule import Course, Schedule

STEP: Final = 1.0
"""Seconds between two calls of a player, on average."""

PLAYERS: Final = 3


@define
class Game:
    """What its writer and its players know of a game."""

    game_id: str
    silent: bool
    """Whether one of its players never acknowledges, so that its log grows."""
    head: int = 0
    over: bool = False


class Play:
    """Keeps a number of games going, with players of several kinds."""

    def __init__(
        self,
        registry: GameSessionRegistry,
        pace: Pace,
        schedule: Schedule,
        timed: Callable[[str], AbstractContextManager[None]],
        seed: str,
    ) -> None:
        self._registry = registry
        self._pace = pace
        self._schedule = schedule
        self._timed = timed
        self._chance = random.Random(seed)

    def begin(self) -> None:
        self._schedule.add(self._cleanup(), self._pace.cleanup_interval)
        self._schedule.add(self._hall())
        for number in range(self._pace.games):
            # The first games are of all ages, so that not all of them end together.
            age = self._chance.random()
            self._schedule.add(self._table(number % 6 == 0, age), self._chance.uniform(0, STEP))

    def _table(self, silent: bool, age: float) -> Course:
        """One game after the other."""
        while True:
            game = self._open(silent)
            lifetime = self._pace.retention * self._chance.uniform(0.5, 2.0) * (1 - age)
            age = 0.0
            while lifetime > 0:
                yield from self._pause(self._pace.event_interval)
                lifetime -= self._pace.event_interval
                self._record(game)
            game.over = True
            if self._chance.random() < 0.6:
                with self._timed("end_game"):
                    self._registry.end_game(game.game_id)
            # The others are left to expire.

    def _hall(self) -> Course:
        """A busy game that never ends, whose log only the cap holds down."""
        game = self._open(silent=True)
        while True:
            self._record(game)
            yield from self._pause(self._pace.hall_interval)

    def _open(self, silent: bool) -> Game:
        game = Game(f"game {self._chance.getrandbits(64):016x}", silent)
        for number in range(PLAYERS):
            acknowledges = number > 0 or not silent
            vanishes = number > 0 and self._chance.random() < 0.1
            course = self._player(game, f"player {number}", acknowledges, vanishes)
            self._schedule.add(course, self._chance.uniform(0, STEP))
        return game

    def _record(self, game: Game) -> None:
        wanted = game.head + 1
        named = self._chance.random() < 0.25
        payload = {"n": wanted, "by": f"player {wanted % PLAYERS}", "move": "Nf3", "clock": 59.25}
        with self._timed("record_event"):
            sequence = self._registry.record_event(
                game.game_id,
                payload,
                event_id=UUID(int=self._chance.getrandbits(128)) if named else None,
            )
        assert sequence == wanted, f"{game.game_id}: recorded {wanted} and got {sequence}"
        game.head = sequence

    def _player(self, game: Game, user: str, acknowledges: bool, vanishes: bool) -> Course:
        while not game.over:
            try:
                yield from self._visit(game, user, acknowledges, vanishes)
            except (RegistryError, AssertionError):
                if not game.over:
                    raise
            # One that had vanished is back when its session has expired.

    def _visit(self, game: Game, user: str, acknowledges: bool, vanishes: bool) -> Course:
        """One session, from its token to the end of the game, or until it expired."""
        with self._timed("issue_resume_token"):
            issued = self._registry.issue_resume_token(game.game_id, user)
        session, token, seen = issued.session, issued.token, issued.floor
        stays = self._chance.uniform(0.2, 1.0) * self._pace.retention
        for act in cycle(["acknowledge", "heartbeat", "acknowledge", "resume"]):
            yield from self._pause(STEP)
            if game.over:
                return
            if vanishes and (stays := stays - STEP) < 0:
                yield 1.5 * self._pace.ttl
                self._find_expired(token)
                return
            if act == "heartbeat":
                with self._timed("heartbeat"):
                    self._registry.heartbeat(session.session_id, generation=session.generation)
            elif act == "resume":
                after = max(seen, game.head - self._chance.randint(0, 10))
                known = game.head
                with self._timed("resume"):
                    back = self._registry.resume(token, after=after, epoch=issued.epoch)
                session, token = back.session, back.token
                continuous = back.continuity is Continuity.CONTINUOUS
                assert continuous or not acknowledges, f"{game.game_id}: {back.continuity}"
                begin = after if continuous else back.replay.floor
                check_whole(game.game_id, back.replay.events, begin, back.replay.head)
                assert back.replay.head >= known, f"{game.game_id}: lost what was recorded"
                seen = after
            elif acknowledges:
                seen = game.head
                with self._timed("acknowledge"):
                    self._registry.acknowledge(
                        session.session_id, seen, generation=session.generation
                    )

    def _find_expired(self, token: str) -> None:
        try:
            self._registry.validate_resume_token(token)
        except (SessionExpired, InvalidToken):  # the latter when it has been cleaned up
            return
        raise AssertionError("a session did not expire")

    def _cleanup(self) -> Course:
        """As a host would call it."""
        while True:
            with self._timed("cleanup_expired_sessions"):
                self._registry.cleanup_expired_sessions()
            yield self._pace.cleanup_interval

    def _pause(self, seconds: float) -> Course:
        yield seconds * self._chance.uniform(0.5, 1.5)


def check_whole(game_id: str, events: Iterable[GameEvent], after: int, through: int) -> None:
    """That these are all events after the one place and through the other, with their payloads."""
    expected = after
    for event in events:
        expected += 1
        assert event.sequence == expected, f"{game_id}: {event.sequence} where {expected} belongs"
        assert isinstance(event.payload, dict), f"{game_id}: {expected} came out as another thing"
        assert event.payload["n"] == expected, f"{game_id}: {expected} has another's payload"
    assert expected == through, f"{game_id}: ends at {expected} and not at {through}"
