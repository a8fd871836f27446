"""The newest events of the games that were read last, kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from .config import RegistryConfig
from .runs import Position, Run

OVERHEAD: Final = 100
"""Bytes of memory that an event takes beside its payload, about."""

_NOTHING: Final[tuple[Run | None, int]] = None, 0


class Recent:
    """What is known of logs without asking for it. Safe to share between threads.

    In a storm of clients that come back to the same games each event is sent by the database once,
    not once for each of them.
    """

    def __init__(self, config: RegistryConfig) -> None:
        self._most_events = config.cache_events
        self._most_bytes = config.cache_bytes
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, tuple[Run, int]] = OrderedDict()  # the last read last
        self._bytes = 0

    def find(self, wanted: Mapping[str, Position]) -> dict[str, Run]:
        """Of each game the next events after a sequence, as far as they are known."""
        found = {}
        for game_id, (after, most) in wanted.items():
            run, _ = self._runs.get(game_id, _NOTHING)
            if run and run.begin <= after < run.end:
                found[game_id] = run.part(after, most)
        return found

    def whole(self, game_id: str) -> Run | None:
        """All that is known of a game."""
        return self._runs.get(game_id, _NOTHING)[0]

    def learn(self, game_id: str, head: int, run: Run) -> None:
        """Takes note of events that the database sent, if they are among the newest."""
        run = run.newest(self._most_events, head)
        if not run.payloads:
            with suppress(KeyError):
                self._runs.move_to_end(game_id)  # it was read, though there was nothing new
            return
        with self._lock:
            known, known_size = self._runs.pop(game_id, _NOTHING)
            self._bytes -= known_size
            if known and known.epoch == run.epoch and known.begin <= run.begin <= known.end:
                whole, whole_size = self._longer(known, known_size, run)
            else:
                whole = run.beside(known) if known else run
                whole_size = size(whole)
            self._runs[game_id] = whole, whole_size
            self._bytes += whole_size
            while self._runs and self._bytes > self._most_bytes:
                _, (_, oldest_size) = self._runs.popitem(last=False)
                self._bytes -= oldest_size
            if not self._runs:
                self._bytes = 0  # whatever an interrupted call has left

    def _longer(self, known: Run, known_size: int, run: Run) -> tuple[Run, int]:
        """What is known and a run that goes on from within it, at a cost of the new events."""
        if run.end <= known.end:
            return known, known_size
        added = run.part(known.end, len(run.payloads))
        whole, whole_size = known.then(added), known_size + size(added)
        excess = len(whole.payloads) - self._most_events
        if excess > self._most_events // 4:  # in strides, since each copies the rest
            whole_size -= size(whole.part(whole.begin, excess))
            whole = whole.newest(self._most_events)
        return whole, whole_size

    def recorded(self, game_id: str) -> None:
        """Takes note that a game has new events."""

    def pruned(self, game_id: str, floor: int) -> None:
        """Takes note that a game's events up to a sequence are no more."""

    def forget(self, game_id: str) -> None:
        """Takes note that a game has ended, or that its epoch is another one now."""
        with self._lock:
            self._bytes -= self._runs.pop(game_id, _NOTHING)[1]

    def disown(self) -> None:
        """In a forked child: whoever held the lock is not here."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Knows nothing any more."""
        with self._lock:
            self._runs.clear()
            self._bytes = 0


def size(run: Run) -> int:
    """The bytes of memory that a run takes, about."""
    return OVERHEAD * len(run.payloads) + sum(map(len, run.payloads))
