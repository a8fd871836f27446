"""What a fault works on, and how long it lasts."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

from redis_server import RedisServer

from .cluster import Cluster
from .fleet import ClientProcess, Fleet


@dataclass
class World:
    """The servers, the Redis of half of the clients, the clients, and the dice of a run."""

    cluster: Cluster
    redis: RedisServer
    fleet: Fleet
    chance: random.Random
    _never: threading.Event = field(default_factory=threading.Event)

    def last(self, least: float, most: float) -> None:
        """How long a fault goes on, in seconds, at random between the two."""
        self._never.wait(self.chance.uniform(least, most))

    def a_client(self) -> ClientProcess:
        return self.chance.choice(self.fleet.clients)
