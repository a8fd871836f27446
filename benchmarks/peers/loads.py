"""What the callers of any peer do: append, read."""

from __future__ import annotations

import random
from functools import partial
from itertools import cycle

from attrs import frozen

from ..payload import PAYLOAD, game_names
from ..worker import Call
from .base import Client, Peer


@frozen
class Append:
    """Each call one event; with several games, each thread goes through them in its own order."""

    peer: Peer
    games: int

    def open(self, process: int) -> AppendOpened:
        return AppendOpened(self.peer.connect(), game_names(self.games), process)


class AppendOpened:
    def __init__(self, client: Client, games: list[str], process: int) -> None:
        self._client = client
        self._games = games
        self._process = process
        self.close = client.close

    def caller(self, thread: int) -> Call:
        append = self._client.append
        if len(self._games) == 1:
            return partial(append, self._games[0], PAYLOAD)
        order = random.Random(self._process * 10_000 + thread).sample(self._games, len(self._games))
        after = cycle(order).__next__
        return lambda: append(after(), PAYLOAD)
