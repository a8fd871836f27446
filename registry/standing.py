"""How a registry's database and pool stand at the moment, for who exports it when asked."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic
from typing import Final

from attrs import frozen
from psycopg.types.numeric import Int8

from .api import GameSessionRegistry
from .errors import RegistryError
from .queries import queries
from .statements import execute

MOST_SESSIONS: Final = 100_000
PATIENCE: Final = 1.0
"""Seconds to wait for a connection: whoever asks for metrics does not wait long for the answer."""


@frozen
class Standing:
    """How the database stands. It is the same for all registries on it: take the maximum."""

    live_sessions: int
    """At most `MOST_SESSIONS`: as many are counted."""
    oldest_unacknowledged: float
    """For how many seconds the oldest event has been there that a live session has not
    acknowledged, 0 if all have everything. Of more than `MOST_SESSIONS`, those are looked at that
    have been silent longest."""


class Standings:
    """Asks a registry's database how it stands, at most once in a while. Safe from any thread."""

    def __init__(self, registry: GameSessionRegistry, every: float) -> None:
        """`every`: seconds for which an answer is good."""
        self._database = registry._database
        self._every = every
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._answer: Standing | None = None

    def now(self) -> Standing | None:
        """None if the database does not answer. One query, bounded in what it reads."""
        with self._lock:
            if monotonic() >= self._asked + self._every:
                self._answer = self._ask()
                self._asked = monotonic()
            return self._answer

    def _ask(self) -> Standing | None:
        params = {"sessions": Int8(MOST_SESSIONS)}
        try:
            with self._database.transaction(monotonic() + PATIENCE) as connection:
                row = execute(connection, queries.standing, params).fetchone()
        except RegistryError:
            return None
        assert row is not None  # a row of aggregates
        return Standing(*row)


def pool_stats(registry: GameSessionRegistry) -> Mapping[str, int]:
    """The statistics of the registry's pool, as `psycopg_pool` counts them.

    On a pool that the registry shares with others, of all who use it. They begin anew with a pool
    that takes the place of a lost one.
    """
    return registry._database.pool.current.get_stats()
