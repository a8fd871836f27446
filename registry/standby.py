"""A standby that replays are read from: asked once, in a bounded time, never needed.

What it says is a run of an epoch that the primary has just named, and nothing more: a standby that
lags, is paused or cannot be reached knows less, and the primary sends the rest. See
docs/replicas.md.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count, takewhile
from time import monotonic
from typing import Final
from uuid import UUID

import psycopg
from attrs import evolve, frozen
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from .arrays import bigint_array, text_array, uuid_array
from .breaker import Breaker
from .config import RegistryConfig
from .errors import InvalidArgument, RegistryError
from .lease import Lease
from .pool import OwnPool, Pool, PsycopgPool
from .preparation import Preparation
from .queries import queries
from .runs import Run
from .settings import network_settings
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

    def __init__(self, pool: Pool, config: RegistryConfig) -> None:
        self._pool = pool
        self._config = _brief(config)
        self._breaker = Breaker(
            logger,
            "replays come from the primary alone: the standby is of no use: %s",
            "replays are read from the standby again",
        )

    @classmethod
    def on(cls, pool: PsycopgPool, config: RegistryConfig) -> Standby:
        """One on a caller's pool."""
        return cls(Pool(pool, _preparation(config, owned=False)), config)

    @classmethod
    def of(cls, conninfo: str, config: RegistryConfig) -> Standby:
        """One with a pool of its own, not yet open."""
        preparation = _preparation(config, owned=True)

        def make() -> PsycopgPool:
            return ConnectionPool(
                conninfo,
                kwargs=kwargs,
                configure=preparation.configure,
                name="registry-standby",
                min_size=0,
                max_size=config.pool_max_size,
                reconnect_timeout=config.standby_timeout,
                open=False,
            )

        try:
            kwargs = {**network_settings(config, conninfo_to_dict(conninfo)), "autocommit": True}
            return cls(OwnPool(make, preparation), config)
        except (psycopg.ProgrammingError, UnicodeEncodeError):
            # The text of the error would show the password.
            raise InvalidArgument("read_conninfo is neither a libpq string nor a URL") from None

    def open(self) -> None:
        """Opens its own pool, which waits for nothing: it connects when it is first asked."""
        self._pool.current.open()

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
            ours = isinstance(error, RegistryError)
            self._breaker.failed(str(error) if ours else type(error).__name__)
            return nothing
        if any(runs):
            self._breaker.succeeded()
        else:
            self._breaker.failed("it has nothing of what was asked for")
        return runs

    def close(self) -> None:
        """Closes its own pool."""
        self._pool.close()

    def leave(self) -> None:
        """Lets go of its own pool, without waiting for who still uses it."""
        self._pool.leave()

    def _ask(self, asked: Sequence[Rest]) -> Sequence[Row]:
        query = {
            "game_ids": text_array([page.game_id for page in asked]),
            "epochs": uuid_array([page.epoch for page in asked]),
            "afters": bigint_array([page.after for page in asked]),
            "limits": bigint_array([page.most for page in asked]),
        }
        statement = queries.fetch_events_standby, query
        until = monotonic() + self._config.standby_timeout
        with BriefLease(self._pool, self._config, until) as connection:
            self._pool.preparation.settle(connection)
            first = self._pool.preparation.first(connection)
            rows = answer_of(connection, [*first, statement])
            if not all(row[0] for row in rows):
                raise NoStandby  # it was promoted: the next connection may lead to another one
        return sorted(rows, key=lambda row: int(row[1]))


class BriefLease(Lease):
    """All its waits together end when it does, and nobody gets what was left in the middle."""

    __slots__ = ()

    def _patience(self) -> float:
        return max(self._until - monotonic(), 0.0)

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if kind is not None:
            self._connection.close()
        super().__exit__(kind)


def _brief(config: RegistryConfig) -> RegistryConfig:
    """The server gives up when the call does, and so does the pool."""
    return evolve(
        config, statement_timeout=config.standby_timeout, pool_timeout=config.standby_timeout
    )


def _preparation(config: RegistryConfig, *, owned: bool) -> Preparation:
    return Preparation(_brief(config), owned=owned, lineage=False)


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
