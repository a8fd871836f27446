"""What `python -m registry top` shows: the busiest games and the server, by looking every second.

There may be very many games, and no index says which were appended to last. So each look reads a
bounded number of them: those that led at the last look, those that began last, and a stretch of
all games in the order of their ids, which goes on where the last one ended. A game is met for the
first time at the latest when the stretches have gone round; its rate is known from the look after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from attrs import evolve, frozen
from psycopg import Connection
from psycopg.types.numeric import Int8

from .looking import Ask, look
from .queries import queries
from .statements import Row

STRETCH: Final = 5_000
"""Games that a look goes on by. With no more than that every look sees all of them."""

WATCHED: Final = 500
"""Games that led at the last look, and as many that began last."""

RECENT: Final = 60.0
"""Seconds after its last append for which a game that was met is looked at once more."""

RANKED: Final = 100
"""Of how many games that lead the sessions are looked at, at least."""

SESSIONS_OF_A_GAME: Final = 1_000
SESSIONS: Final = 20_000
"""Sessions are counted this far, of a game and in all."""

LOOKS: Final = 6
"""Rates are those of so many looks back, so that they do not jump."""


@frozen
class Activity:
    """A game as of one look."""

    game_id: str
    head: int
    floor: int
    idle: float
    """Seconds since its last append."""
    rate: float | None
    """Events a second; None at the first look."""
    live: int = 0
    stale: int = 0
    """Live sessions that were silent for longer than asked."""
    capped: bool = False
    """Whether it has sessions that were not counted."""
    lowest: int | None = None
    """The lowest acknowledgement of its live sessions; None if there is none."""

    @property
    def log(self) -> int:
        """Events that can be replayed."""
        return self.head - self.floor

    @property
    def lag(self) -> int | None:
        """Events that the slowest live session has not acknowledged."""
        return None if self.lowest is None else self.head - self.lowest


@frozen
class Server:
    """The database as of one look."""

    at: datetime
    live: int
    stale: int
    capped: bool
    """Whether there are perhaps more live sessions than were counted."""
    connections: int
    max_connections: int
    active: int
    idle_in_transaction: int
    blocked: int
    """Statements of this database that wait for a lock, and how long the first has, in seconds."""
    blocked_for: float | None
    oldest_transaction: float | None
    sees_all: bool
    """Whether the role sees what connections of other roles do."""
    recorded: int
    deleted: int
    appends: int
    """Since the statistics began: events recorded, events deleted, statements that appended."""
    games: int
    """About as many as there are, by the statistics."""
    game_bytes: int
    session_bytes: int
    event_bytes: int


@frozen
class View:
    """What one look shows."""

    server: Server
    games: tuple[Activity, ...]
    """Those that lead, the first one first."""
    seen: int
    """Games that this look met."""
    of: int
    """Games that there are, more or less."""
    record_rate: float | None
    """Events a second of all games. Like the two below it is the server's own count, which lags a
    second behind, unless every game was met: then it is exact."""
    delete_rate: float | None
    append_rate: float | None
    """Statements that recorded events, a second."""
    batch: float | None
    """Events of such a statement, on the average."""

    @property
    def complete(self) -> bool:
        """Whether this look met every game."""
        return self.seen == self.of


SORTS: Final[Mapping[str, Callable[[Activity], tuple[float, ...]]]] = {
    "rate": lambda game: (game.rate or 0.0, -game.idle),
    "lag": lambda game: (-1.0 if game.lag is None else game.lag, game.log),
    "log": lambda game: (game.log, game.rate or 0.0),
}
"""What the games can be sorted by, the highest first."""


@frozen
class _Sample:
    """What a look leaves for the rates of those to come."""

    at: datetime
    heads: Mapping[str, tuple[UUID, int]]
    server: Server


class Watch:
    """Looks again and again at one database. For one thread."""

    def __init__(self, *, sort: str = "rate", limit: int = 20, stale: float = 60.0) -> None:
        """`stale`: seconds of silence after which a live session counts as stale."""
        self._order = SORTS[sort]
        # Before its sessions are looked at, a log is as long as its lag can be.
        self._promise = SORTS["log" if sort == "lag" else sort]
        self._limit = limit
        self._stale = stale
        self._samples: deque[_Sample] = deque(maxlen=LOOKS)
        self._watched: list[str] = []
        self._after = ""

    def look(self, connection: Connection[Any]) -> View:
        """One more look: three statements in one snapshot."""
        with look(connection) as ask:
            limits = {"most": Int8(SESSIONS), "stale": self._stale}
            server = Server(*ask(queries.top_server, limits)[0])
            rows, complete = self._meet(ask)
            games = [self._activity(server.at, row) for row in rows.values()]
            games.sort(key=self._promise, reverse=True)
            leading = self._with_sessions(ask, games[: max(RANKED, self._limit)])
        leading.sort(key=self._order, reverse=True)
        view = self._view(server, games, complete, leading)
        heads = {name: (row[1], row[2]) for name, row in rows.items()}
        self._samples.append(_Sample(server.at, heads, server))
        if not complete:
            self._watched += [game.game_id for game in games[:WATCHED]]
        return view

    def _meet(self, ask: Ask) -> tuple[dict[str, Row], bool]:
        """The games of this look by id, and whether they are all that there are."""
        after = self._after
        rows = ask(
            queries.top_games,
            {
                "watched": self._watched,
                "newest": Int8(WATCHED),
                "after": after,
                "next": Int8(STRETCH),
            },
        )
        stretch = [row[0] for row in rows if row[-1]]
        ended = len(stretch) < STRETCH
        complete = ended and after == ""
        # The rate of those that go on is known when they are looked at once more.
        busy = [row[0] for row in rows if row[-1] and row[-2] < RECENT]
        self._watched = [] if complete else busy
        self._after = "" if ended else stretch[-1]
        return {row[0]: row for row in rows}, complete

    def _activity(self, at: datetime, row: Row) -> Activity:
        game_id, epoch, head, floor, idle, _ = row
        for sample in self._samples:  # the oldest first
            known = sample.heads.get(game_id)
            if known is not None and known[0] == epoch:
                return Activity(game_id, head, floor, idle, _rate(head, known[1], at, sample.at))
        return Activity(game_id, head, floor, idle, None)

    def _with_sessions(self, ask: Ask, games: Sequence[Activity]) -> list[Activity]:
        rows = ask(
            queries.top_sessions,
            {
                "game_ids": [game.game_id for game in games],
                "most": Int8(SESSIONS_OF_A_GAME),
                "stale": self._stale,
            },
        )
        found = {
            game_id: {"live": live, "stale": stale, "lowest": lowest, "capped": capped}
            for game_id, live, stale, lowest, capped in rows
        }
        return [evolve(game, **found[game.game_id]) for game in games]

    def _view(
        self, now: Server, games: Sequence[Activity], complete: bool, leading: Sequence[Activity]
    ) -> View:
        recorded = deleted = appends = None
        if self._samples:
            then = self._samples[0].server
            recorded = _rate(now.recorded, then.recorded, now.at, then.at)
            deleted = _rate(now.deleted, then.deleted, now.at, then.at)
            appends = _rate(now.appends, then.appends, now.at, then.at)
        exact = sum(game.rate or 0.0 for game in games) if complete and self._samples else recorded
        return View(
            server=now,
            games=tuple(leading[: self._limit]),
            seen=len(games),
            of=len(games) if complete else max(now.games, len(games) + 1),
            record_rate=exact,
            delete_rate=deleted,
            append_rate=appends,
            batch=recorded / appends if recorded is not None and appends else None,
        )


def _rate(now: int, then: int, at: datetime, before: datetime) -> float | None:
    """How much a second; None when the count began anew."""
    seconds = (at - before).total_seconds()
    return (now - then) / seconds if seconds > 0 and now >= then else None
