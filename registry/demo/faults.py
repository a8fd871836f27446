"""The trouble: connections that break, clients that come back twice or without good-bye."""

from __future__ import annotations

import random

from .wire import Fate


class Faults:
    """One client's misfortunes, drawn from a seed of its own.

    `rate` is how probably a message breaks its connection.
    """

    def __init__(self, seed: str, rate: float) -> None:
        self._seed = seed
        self._rate = rate
        self._connections = 0
        self._random = random.Random(seed)

    def next_connection(self) -> tuple[Fate, Fate]:
        """The fates of the requests and of the replies on one more connection.

        Both break before a message or in its middle, replies after it too. (That a request gets
        through and the client never hears of it is the fate of the reply.)
        """
        self._connections += 1
        name = f"{self._seed}/{self._connections}"
        return self._fate(f"{name}/requests", 0), self._fate(f"{name}/replies", 1)

    def _fate(self, seed: str, whole: int) -> Fate:
        draw = random.Random(seed)

        def fate(size: int) -> int | None:
            if draw.random() >= self._rate:
                return None
            return draw.choice((0, draw.randrange(1, size), size)[: 2 + whole])

        return fate

    def falls_silent(self) -> bool:
        """Whether the client leaves a connection behind that the server takes for alive."""
        return self._random.random() < self._rate / 2

    def comes_twice(self) -> bool:
        """Whether the client resumes on two connections at the same moment."""
        return self._random.random() < 0.2

    def beats_late(self) -> bool:
        """Whether a connection left behind beats once more; else it acknowledges."""
        return self._random.random() < 0.5

    def is_robbed(self) -> bool:
        """Whether somebody presents a token that the client has used up."""
        return self._random.random() < 0.1

    def is_imitated(self) -> bool:
        """Whether somebody presents a token forged for the client's session."""
        return self._random.random() < 0.1
