"""The lease on a connection: taken from the pool as we want it, and given back as it was."""

from __future__ import annotations

from time import monotonic, perf_counter
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from .config import RegistryConfig
from .errors import RegistryUnavailable
from .metrics import Observer
from .pool import Pool
from .retrying import Setback
from .settings import GRACE, OURS, set_modes


class Lease:
    """A connection of the pool that is ours alone within the `with`, as we want it."""

    __slots__ = (
        "_before", "_config", "_connection", "_pool", "_taken_from", "_threshold", "_until",
        "silent",
    )  # fmt: skip

    def __init__(self, pool: Pool, config: RegistryConfig, until: float) -> None:
        self._pool = pool
        self._taken_from = pool.current
        self._config = config
        self._until = until
        self._before: tuple[bool, IsolationLevel | None] | None = None
        self._threshold: int | None = None
        self.silent = False
        """Whether the server did not answer within the time that it had."""

    def __enter__(self) -> Connection[Any]:
        config, preparation = self._config, self._pool.preparation
        deadline = min(monotonic() + config.pool_timeout, self._until)
        while True:
            try:
                connection = self._taken_from.getconn(timeout=max(deadline - monotonic(), 0.001))
            except psycopg.OperationalError as error:
                refusal = RegistryUnavailable(
                    f"no connection to the database within {config.pool_timeout:g} s "
                    f"({type(error).__name__}): the server is down, or the pool is closed or "
                    "too small"
                )
                if isinstance(error, PoolTimeout):
                    self._pool.renew(self._taken_from)
                final = isinstance(error, (PoolTimeout, PoolClosed, TooManyRequests))
                if final and self._taken_from is self._pool.current:
                    raise refusal from None
                # A pool that keeps no connections has tried only once.
                raise Setback(refusal, reason=type(error).__name__) from None
            except BaseException:
                self._pool.interrupted(self._taken_from)
                raise
            self._connection = connection
            try:
                self._threshold = connection.prepare_threshold
                self._before = connection.autocommit, connection.isolation_level
                if preparation.is_pooled(connection):
                    connection.prepare_threshold = None
                if preparation.distrusts(connection):
                    connection.close()
                self._bound_waits()
                if sound(connection):
                    set_modes(connection, *OURS)
                    return connection
            except BaseException as error:
                self.__exit__(type(error))
                raise
            self.__exit__()

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        connection = self._connection
        if kind is not None and not issubclass(kind, Exception):
            self._pool.interrupted(self._taken_from)
        try:
            if self._before and not connection.closed:
                restore(connection, *self._before)
                if connection.prepare_threshold != self._threshold:
                    connection.prepare_threshold = self._threshold
            vars(connection).pop("wait", None)
        finally:
            self._taken_from.putconn(connection)

    def _patience(self) -> float:
        """Seconds for which a wait for the server may last that begins now: it may be past timing
        out a statement by itself."""
        return self._config.statement_timeout + GRACE

    def _bound_waits(self) -> None:
        """Bounds each wait for the server.

        The connection is ours alone for the while, so its `wait` can be stood in for, until it is
        deleted; a class of connections would do for a pool of our own, but not for a caller's.
        """
        connection = self._connection
        unbounded, patience = connection.wait, self._patience

        def wait(gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return unbounded(gen, interval, patience() if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if error.sqlstate is None:  # in the middle of an answer: of no more use to anybody
                    self.silent = connection.pgconn.status == ConnStatus.OK
                    connection.pgconn.finish()
                raise

        connection.wait = wait  # type: ignore[method-assign]


class TimedLease(Lease):
    """Tells the observer how long it took to get a connection."""

    __slots__ = ("_observer",)

    def __init__(
        self, observer: Observer, pool: Pool, config: RegistryConfig, until: float
    ) -> None:
        super().__init__(pool, config, until)
        self._observer = observer

    def __enter__(self) -> Connection[Any]:
        began = perf_counter()
        try:
            return super().__enter__()
        finally:
            self._tell(perf_counter() - began)

    def _tell(self, seconds: float) -> None:
        try:
            self._observer.connected(seconds)
        except BaseException:  # the thread was interrupted, and the connection is nobody's
            self._pool.interrupted(self._taken_from)
            raise


def restore(
    connection: Connection[Any], autocommit: bool, isolation: IsolationLevel | None
) -> None:
    """Gives a connection back as it was; one that does not answer any more, closed."""
    try:
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.rollback()
        set_modes(connection, autocommit, isolation)
    except psycopg.Error:
        connection.close()


def sound(connection: Connection[Any]) -> bool:
    """Whether a connection from the pool still seems to be one.

    A server says good-bye before it closes: that is looked for, so that a statement is not sent
    into a connection that is known to be dead.
    """
    if connection.closed:
        return False
    try:
        # The first may read the good-bye, the second finds the end behind it. Unlike a poll,
        # neither lets go of the interpreter, which the many that wait would not give back soon.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
    except psycopg.Error:
        connection.close()
        return False
    return True
