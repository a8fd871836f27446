"""Keeps a replay cache up to date, in a thread of its own: no call waits for that."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from math import ceil
from time import sleep
from typing import Final, NamedTuple, Protocol, runtime_checkable
from uuid import UUID

from .bell import Bell
from .config import RegistryConfig
from .errors import RegistryError
from .recent import Recent
from .runs import LARGEST, Position, Run

PACE: Final = 0.02
"""Seconds between two changes, in which others come together."""

PATIENCE: Final = 1.0
"""Seconds that a change may take: nobody waits for it."""

PART: Final = 128
"""Events in one part of a fill: who needs the last ones is not sent all."""

MOST_GAMES: Final = 10_000
"""Of which it is remembered what the cache was given."""

IDLE: Final = 2.0
"""Seconds without work after which the thread ends, so that it keeps no forgotten registry."""

Refresh = Callable[[Mapping[str, Position]], None]
"""Reads games from the database, and has what is new learned."""


@runtime_checkable
class ReplayCache(Protocol):
    """What a cache has to do; `registry.cache.RedisReplayCache` is one. It never raises."""

    def read(self, wanted: Mapping[str, Position], timeout: float) -> Mapping[str, Run]:
        """What it has of some games' next events after a sequence, at most so many.

        A run without a hole, of one epoch, for each that it has some of; it may begin before the
        sequence. In `timeout` seconds.
        """

    def change(
        self,
        *,
        gone: Collection[str],
        fills: Sequence[tuple[str, Run]],
        trims: Mapping[str, int],
        keep: int,
        seconds: int,
        timeout: float,
    ) -> bool:
        """Drops games, then adds events, then drops those up to the last pruned one.

        False if it could not; then what it had may be gone as well.

        Args:
            keep: how many of the newest events of a game.
            seconds: how long, after the last change.
            timeout: in seconds.
        """


class _Given(NamedTuple):
    """What a cache was given of a log."""

    epoch: UUID
    begin: int
    end: int


class Keeper(Recent):
    """What is known in memory and in a cache, and brings the one into the other.

    Safe to share between threads.
    """

    def __init__(self, cache: ReplayCache, config: RegistryConfig, refresh: Refresh) -> None:
        super().__init__(config)
        self._cache = cache
        self._config = config
        self._refresh = refresh
        # Games, written by the callers and emptied by the thread, without a lock: dicts are safe.
        self._learned: dict[str, None] = {}
        self._grown: dict[str, None] = {}
        self._gone: dict[str, None] = {}
        self._trims: dict[str, int] = {}
        self._had: dict[str, _Given] = {}
        self._bell = Bell()
        self._hiring = threading.Lock()  # for what follows
        self._thread: threading.Thread | None = None
        self._closed = False
        self._given: OrderedDict[str, _Given] = OrderedDict()  # the thread's own

    def find(self, wanted: Mapping[str, Position]) -> dict[str, Run]:
        """Of each game the next events after a sequence, as far as memory or the cache has them."""
        found = super().find(wanted)
        # What is behind the end of what is in memory, the database sends in any case.
        missing = {
            game: position
            for game, position in wanted.items()
            if game not in found and not ((run := self.whole(game)) and position[0] >= run.begin)
        }
        if missing:
            for game, run in self._cache.read(missing, self._config.cache_timeout).items():
                super().learn(game, run.end, run)
                if len(self._had) < MOST_GAMES:
                    self._had[game] = _Given(run.epoch, run.begin, run.end)
            found.update(super().find(missing))
        return found

    def learn(self, game_id: str, head: int, run: Run) -> None:
        """Takes note of events that the database sent, if they are among the newest."""
        super().learn(game_id, head, run)
        if run.payloads and run.end < LARGEST:
            self._learned[game_id] = None
            self._ring()

    def recorded(self, game_id: str) -> None:
        """Takes note that a game has new events: they are brought in if it was read lately."""
        if game_id in self._runs and game_id not in self._grown:
            self._grown[game_id] = None
            self._ring()

    def pruned(self, game_id: str, floor: int) -> None:
        """Takes note that a game's events up to a sequence are no more."""
        self._trims[game_id] = floor
        self._ring()

    def forget(self, game_id: str) -> None:
        """Takes note that a game has ended, or that its epoch is another one now."""
        super().forget(game_id)
        self._gone[game_id] = None
        self._ring()

    def disown(self) -> None:
        """In a forked child: neither the thread nor whoever held a lock is here."""
        super().disown()
        self._hiring = threading.Lock()
        self._thread = None
        self._closed = True

    def close(self) -> None:
        """Ends the thread; what waits is left out."""
        super().close()
        self._closed = True
        thread = self._thread
        self._ring()
        if thread is not None:
            thread.join(2 * PATIENCE)

    def _ring(self) -> None:
        if self._thread is None:
            self._hire()
        self._bell.ring()

    def _hire(self) -> None:
        with self._hiring:
            if self._thread is None and not self._closed:
                thread = threading.Thread(target=self._serve, name="registry-cache", daemon=True)
                with suppress(RuntimeError):  # out of threads, or the interpreter is going down
                    thread.start()
                    self._thread = thread

    def _serve(self) -> None:
        try:
            while not self._closed:
                if self._bell.heard(IDLE):
                    self._bring_in()
                    sleep(PACE)
                    continue
                with self._hiring:
                    if not self._bell.rung:
                        self._thread = None
                        return
        finally:
            if self._thread is threading.current_thread():  # and not one that has taken its place
                self._thread = None

    def _bring_in(self) -> None:
        # Each copied in one go: a caller may just be writing to what it found.
        grown, self._grown = self._grown, {}
        ends = {game: run.end for game in list(grown) if (run := self.whole(game))}
        if ends:
            limit = self._config.replay_limit
            with suppress(RegistryError):  # the next reader brings them in
                self._refresh({game: (end, limit) for game, end in ends.items()})
        gone, self._gone = self._gone, {}
        learned, self._learned = self._learned, {}
        trims, self._trims = self._trims, {}
        had, self._had = self._had, {}
        for game, given in had.copy().items():
            self._remember(game, given)
        gone = dict(gone)
        for game in gone:
            self._given.pop(game, None)
        done = self._cache.change(
            gone=gone,
            fills=[(game, part) for game in list(learned) for part in self._news(game)],
            trims=dict(trims),
            keep=self._config.cache_events,
            seconds=ceil(self._config.replay_retention),
            timeout=PATIENCE,
        )
        if not done:  # it may have lost everything
            self._given.clear()

    def _news(self, game_id: str) -> Iterator[Run]:
        """What is known of a game and was not given to the cache, in parts."""
        run = self.whole(game_id)
        if run is None:
            return
        given = self._given.pop(game_id, None)
        begin, end = run.begin, run.end
        if given and given.epoch == run.epoch and given.begin <= begin <= given.end:
            begin, end = given.begin, max(given.end, end)
            run = run.part(min(given.end, run.end), len(run.payloads))
        self._remember(game_id, _Given(run.epoch, begin, end))
        for after in range(run.begin, run.end, PART):
            yield run.part(after, PART)

    def _remember(self, game_id: str, given: _Given) -> None:
        self._given[game_id] = given
        if len(self._given) > MOST_GAMES:
            self._given.popitem(last=False)
