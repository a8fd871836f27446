"""A standby that replays are read from: asked once, in a bounded time, never needed.

What it says is a run of an epoch that the primary has just named, and nothing more: a standby that
lags, is paused or cannot be reached knows less, and the primary sends the rest. See
docs/replicas.md.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, takewhile
from time import monotonic
from typing import Any, Final
from uuid import UUID

import psycopg
from attrs import evolve, frozen
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from .arrays import bigint_array, text_array, uuid_array
from .breaker import Breaker
from .config import RegistryConfig
from .errors import InvalidArgument
from .lease import restore, sound
from .pool import PsycopgPool
from .preparation import Preparation
from .queries import queries
from .runs import Run
from .settings import OURS, network_settings, set_modes
from .statements import Row, answer_of

logger: Final = logging.getLogger("registry.standby")


@frozen
class Rest:
    """What is missing of a page, if the log has this epoch."""

    game_id: str
    epoch: UUID
    after: int
    most: int


class Standby:
    """Reads events from a standby. Safe to share between threads; it never raises."""

    def __init__(
        self, pool: PsycopgPool, config: RegistryConfig, own: Preparation | None = None
    ) -> None:
        """`own`: what the pool's connections are prepared with, if it is the registry's own."""
        self._pool = pool
        self._owned = own is not None
        self._preparation = own or _preparation(config, owned=False)
        self._timeout = config.standby_timeout
        self._breaker = Breaker(
            logger,
            "the standby is of no use (%s): replays come from the primary",
            "replays are read from the standby again",
        )

    @classmethod
    def of(cls, conninfo: str, config: RegistryConfig) -> Standby:
        """One with a pool of its own, not yet open."""
        preparation = _preparation(config, owned=True)
        try:
            given = conninfo_to_dict(conninfo)
            pool: PsycopgPool = ConnectionPool(
                conninfo,
                kwargs={**network_settings(config, given), "autocommit": True},
                configure=preparation.configure,
                name="registry-standby",
                min_size=0,
                max_size=config.pool_max_size,
                reconnect_timeout=config.standby_timeout,
                open=False,
            )
        except (psycopg.ProgrammingError, UnicodeEncodeError):
            # The text of the error would show the password.
            raise InvalidArgument("read_conninfo is neither a libpq string nor a URL") from None
        return cls(pool, config, preparation)

    def open(self) -> None:
        """Opens its own pool, which waits for nothing: it connects when it is first asked."""
        self._pool.open()

    @property
    def resting(self) -> bool:
        """Whether it would not be asked just now."""
        return self._breaker.resting

    def read(self, asked: Sequence[Rest]) -> list[Run | None]:
        """What it has of each, a run that goes on from there: one round trip, or none in time."""
        nothing: list[Run | None] = [None] * len(asked)
        if not self._breaker.admits():
            return nothing
        try:
            rows = self._ask(asked)
            runs = [_run(page, row) for page, row in zip(asked, rows, strict=True)]
        except Exception as error:  # also what a caller's own pool raises; its text may show rows
            self._breaker.failed(type(error).__name__)
            return nothing
        if any(runs):
            self._breaker.succeeded()
        else:
            self._breaker.failed("it has nothing of what was asked for")
        return runs

    def close(self) -> None:
        """Closes its own pool."""
        if self._owned:
            self._pool.close()

    def leave(self) -> None:
        """Lets go of its own pool, without waiting for who still uses it."""
        if self._owned:
            self._pool.close(timeout=1)

    def _ask(self, asked: Sequence[Rest]) -> Sequence[Row]:
        query = {
            "game_ids": text_array([page.game_id for page in asked]),
            "epochs": uuid_array([page.epoch for page in asked]),
            "afters": bigint_array([page.after for page in asked]),
            "limits": bigint_array([page.most for page in asked]),
        }
        statement = queries.fetch_events_standby, query
        with self._connection(monotonic() + self._timeout) as connection:
            rows = answer_of(connection, [*self._preparation.first(connection), statement])
            if not all(row[0] for row in rows):
                raise NoStandby  # it was promoted: the next connection may lead to another one
        return sorted(rows, key=lambda row: int(row[1]))

    @contextmanager
    def _connection(self, deadline: float) -> Iterator[Connection[Any]]:
        """A connection whose every wait ends with the deadline, closed if anything goes wrong."""
        while True:
            connection = self._pool.getconn(timeout=max(deadline - monotonic(), 0.001))
            if sound(connection):
                break
            self._pool.putconn(connection)
        before = connection.autocommit, connection.isolation_level
        threshold = connection.prepare_threshold
        unbounded = connection.wait

        def wait(gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            left = max(deadline - monotonic(), 0.0)
            return unbounded(gen, interval, left if timeout is None else timeout)

        connection.wait = wait  # type: ignore[method-assign]
        try:
            set_modes(connection, *OURS)
            if self._preparation.is_pooled(connection):
                connection.prepare_threshold = None
            self._preparation.settle(connection)
            yield connection
        except BaseException:
            connection.close()  # it may be in the middle of an answer
            raise
        finally:
            vars(connection).pop("wait", None)
            if not connection.closed:
                connection.prepare_threshold = threshold
                restore(connection, *before)
            self._pool.putconn(connection)


def _preparation(config: RegistryConfig, *, owned: bool) -> Preparation:
    """The server gives up when the call does."""
    config = evolve(config, statement_timeout=config.standby_timeout)
    return Preparation(config, owned=owned, lineage=False)


class NoStandby(Exception):
    """The server takes writes: it may have gone its own way."""


def _run(page: Rest, row: Row) -> Run | None:
    """The events that go on from the page without a hole, if there are any."""
    sequences, times, codecs, payloads = row[2:]
    # Those after a hole: the standby is ahead of the page, and has pruned, or is damaged.
    right = takewhile(lambda pair: pair[0] == pair[1], zip(sequences or (), count(page.after + 1)))
    found = min(sum(1 for _ in right), page.most)
    if not found:
        return None
    return Run(page.epoch, page.after, times, codecs, payloads).part(page.after, found)
