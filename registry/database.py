"""The way to PostgreSQL: a connection from the pool, one statement, bounded waits, typed errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from time import monotonic
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import Connection, IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from . import arrays
from .config import RegistryConfig
from .errors import (
    InvalidArgument,
    OutcomeUnknown,
    RegistryError,
    RegistryUnavailable,
    SchemaMismatch,
)
from .queries import queries

Row = tuple[Any, ...]
Params = Mapping[str, object]
Statement = tuple[bytes, Params]
Pool = ConnectionPool[Connection[Any]]

ATTEMPTS = 3
"""How often at most a statement is run that did nothing, or can be repeated without harm."""

GRACE = 2.0
"""Seconds past the server's own timeout after which a silent connection is given up."""

MOST_STATEMENTS = 4
"""Statements in one transaction, with those that begin and end it."""

# Sent with the statements between them: psycopg's own would each be a round trip.
_BEGIN: Statement = (b"BEGIN ISOLATION LEVEL READ COMMITTED", {})
_COMMIT: Statement = (b"COMMIT", {})

_OURS = True, IsolationLevel.READ_COMMITTED

_LOST_A_RACE = (errors.UniqueViolation, errors.SerializationFailure, errors.DeadlockDetected)
_ABOUT_THE_DATA = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException)
_NO_SUCH_OBJECT = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)


class Refused(RegistryUnavailable):
    """The server took the statement and did not like what was in it."""


class Database:
    """Runs the queries on connections of a pool, its own or the caller's.

    Safe to share between threads: each call has a connection to itself.
    """

    def __init__(self, pool: Pool, config: RegistryConfig, *, owned: bool) -> None:
        self.pool = pool
        self.owned = owned
        self._config = config
        # On a caller's pool the bounds travel with each statement and end with its transaction.
        self._bounds = [] if owned else [(queries.configure, settings(config, local=True))]
        self._settled: WeakSet[Connection[Any]] = WeakSet()
        self._refusal = ""

    @classmethod
    def open(cls, conninfo: str, config: RegistryConfig) -> Database:
        """Opens a pool of its own and waits for its first connections."""
        bounds = settings(config, local=False)

        def configure(connection: Connection[Any]) -> None:
            connection.execute(queries.configure, bounds)
            _set_modes(connection, *_OURS)

        try:
            given = conninfo_to_dict(conninfo)
            pool: Pool = ConnectionPool(
                conninfo,
                kwargs={**_network_bounds(config, given), "autocommit": True},
                configure=configure,
                min_size=config.pool_min_size,
                max_size=config.pool_max_size,
                timeout=config.pool_timeout,
                open=False,
            )
        except psycopg.ProgrammingError:
            # The text of the error would show the password.
            raise InvalidArgument("the conninfo is neither a libpq string nor a URL") from None
        try:
            pool.open(wait=True, timeout=config.pool_timeout)
        except BaseException as error:
            pool.close()
            if not isinstance(error, PoolTimeout):
                raise
            raise RegistryUnavailable(
                f"no connection to the database within {config.pool_timeout:g} s: "
                "check that it runs and that the conninfo is right"
            ) from None
        return cls(pool, config, owned=True)

    @property
    def conninfo(self) -> str:
        """What the pool connects with: its conninfo and those of its arguments libpq knows."""
        given, more = self.pool.conninfo, self.pool.kwargs
        known = {default.keyword.decode() for default in Conninfo.get_defaults()}
        return make_conninfo(
            given() if callable(given) else given,
            **{k: v for k, v in (more() if callable(more) else more or {}).items() if k in known},
        )

    def refuse(self, why: str) -> None:
        """Refuses further statements."""
        self._refusal = why

    def close(self) -> None:
        """Refuses further statements, and closes the pool if it is the registry's own.

        A forked child leaves it to its parent.
        """
        if not self._refusal:
            self.refuse("the registry is closed")
            if self.owned:
                self.pool.close()

    def leave(self) -> None:
        """Lets go of a pool of the registry's own, without waiting for who still uses it."""
        if self.owned and not self._refusal:
            self.pool.close(timeout=1)

    def row(self, query: bytes, params: Params, *, if_unknown: str | None = None) -> Row | None:
        """The only row of a query's answer, if there is one; see `rows`."""
        rows = self.rows(query, params, if_unknown=if_unknown)
        return rows[0] if rows else None

    def rows(self, query: bytes, params: Params, *, if_unknown: str | None = None) -> Sequence[Row]:
        """Runs one statement, in a transaction of its own, and returns its rows.

        A statement that lost a race and was rolled back is run again, and so is one whose
        connection broke, unless `if_unknown` says that doing it twice would not be the same as
        doing it once: then that is `OutcomeUnknown`, with this advice.
        """
        return self._run([(query, params)], if_unknown)

    def rows_behind_lock(
        self, lock: bytes, query: bytes, params: Params, *, if_unknown: str
    ) -> Sequence[Row]:
        """Runs a statement behind one that locks, in one transaction and one round trip.

        The second statement's snapshot is taken once the lock is held.
        """
        return self._run([(lock, params), (query, params)], if_unknown)

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """A transaction of several round trips, for the upkeep only."""
        with self.connection() as connection:
            try:
                self._settle(connection)
                with connection.transaction():
                    for statement in self._bounds:
                        execute(connection, *statement)
                    yield connection
            except psycopg.Error as error:
                raise translated(error, connection, None) from None

    def _run(self, statements: Sequence[Statement], if_unknown: str | None) -> Sequence[Row]:
        deadline = monotonic() + self._config.statement_timeout
        for attempt in count(1):
            with self.connection() as connection:
                advice = None  # nothing is open before the statements are sent
                try:
                    self._settle(connection)
                    advice = if_unknown
                    return _answer(connection, [*self._bounds, *statements])
                except psycopg.Error as error:
                    harmless = isinstance(error, _LOST_A_RACE) or (
                        broke(error, connection) and advice is None
                    )
                    if not harmless or attempt == ATTEMPTS or monotonic() > deadline:
                        raise translated(error, connection, advice) from None
        raise AssertionError  # the loop has no end of its own

    def _settle(self, connection: Connection[Any]) -> None:
        """Sees to it, once a connection, that its server's logs have epochs of their own."""
        if connection not in self._settled:
            params = {"lossless_failover": self._config.lossless_failover}
            _answer(connection, [*self._bounds, (queries.settle_lineage, params)])
            arrays.adapt(connection)
            self._settled.add(connection)

    def connection(self) -> Lease:
        """A sound connection of the pool, in autocommit for the while."""
        if self._refusal:
            raise RegistryUnavailable(f"{self._refusal}; nothing was done")
        return Lease(self.pool, self._config)


class Lease:
    """A connection of the pool that is ours alone within the `with`, as we want it."""

    __slots__ = ("_before", "_config", "_connection", "_pool")

    def __init__(self, pool: Pool, config: RegistryConfig) -> None:
        self._pool = pool
        self._config = config

    def __enter__(self) -> Connection[Any]:
        config = self._config
        deadline = monotonic() + config.pool_timeout
        while True:
            try:
                connection = self._pool.getconn(timeout=max(deadline - monotonic(), 0.001))
            except psycopg.OperationalError as error:  # PoolTimeout, PoolClosed, TooManyRequests
                raise RegistryUnavailable(
                    f"no connection to the database within {config.pool_timeout:g} s "
                    f"({type(error).__name__}): the server is down, or the pool is closed or "
                    "too small"
                ) from None
            self._connection = connection
            self._before = connection.autocommit, connection.isolation_level
            try:
                _give_up_after(connection, config.statement_timeout + GRACE)
                if _sound(connection):
                    _set_modes(connection, *_OURS)
                    return connection
            except BaseException:
                self.__exit__()
                raise
            self.__exit__()

    def __exit__(self, *_: object) -> None:
        connection = self._connection
        try:
            if not connection.closed:
                _restore(connection, *self._before)
            del connection.wait
        finally:
            self._pool.putconn(connection)


def _restore(
    connection: Connection[Any], autocommit: bool, isolation: IsolationLevel | None
) -> None:
    """Gives a connection back as it was; one that does not answer any more, closed."""
    try:
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.rollback()
        _set_modes(connection, autocommit, isolation)
    except psycopg.Error:
        connection.close()


def _set_modes(
    connection: Connection[Any], autocommit: bool, isolation: IsolationLevel | None
) -> None:
    """Sets what differs: psycopg's own setters take a lock each."""
    if connection.autocommit != autocommit:
        connection.autocommit = autocommit
    if connection.isolation_level != isolation:
        connection.isolation_level = isolation


def _give_up_after(connection: Connection[Any], seconds: float) -> None:
    """Bounds each wait for the server: it may be past timing out a statement by itself.

    The connection is ours alone for the while, so its `wait` can be stood in for, until it is
    deleted; a class of connections would do for a pool of our own, but not for a caller's.
    """
    unbounded = connection.wait

    def wait(gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return unbounded(gen, interval, timeout=seconds if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:  # in the middle of an answer: of no more use to anybody
                connection.pgconn.finish()
            raise

    connection.wait = wait  # type: ignore[method-assign]


def settings(config: RegistryConfig, *, local: bool) -> Params:
    """What configure.sql needs, in milliseconds as PostgreSQL counts them, but for keepalives."""
    answer = config.statement_timeout + GRACE
    return {
        "statement_timeout": str(max(1, round(config.statement_timeout * 1000))),
        "lock_timeout": str(max(1, round(config.lock_timeout * 1000))),
        "transaction_timeout": str(round(MOST_STATEMENTS * answer * 1000)),
        "keepalives_idle": str(max(1, round(answer))),
        "local": local,
    }


def broke(error: psycopg.Error, connection: Connection[Any]) -> bool:
    """Whether the connection went before the answer came, so that the outcome is open."""
    silent = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    return connection.closed or silent


def translated(
    error: psycopg.Error, connection: Connection[Any], if_unknown: str | None
) -> RegistryError:
    """The library's error for one of the driver's.

    It carries the server's first line only: the details can quote rows, and so payloads.
    """
    if broke(error, connection):
        if if_unknown is not None:
            return OutcomeUnknown(
                "the connection to the database broke before the answer came, so this may or "
                f"may not have been done: {if_unknown}"
            )
        return RegistryUnavailable(
            "the connection to the database broke before the answer came, and there was no time "
            "to try again or that did not help; trying later is safe"
        )
    if isinstance(error, _NO_SUCH_OBJECT):
        return SchemaMismatch(
            f"the database lacks what this version works with ({error.diag.message_primary}): "
            "run `python -m registry migrate`"
        )
    if isinstance(error, errors.LockNotAvailable):
        why = "another transaction held a row for longer than lock_timeout"
    elif isinstance(error, errors.QueryCanceled):
        why = "the statement was cancelled or ran for longer than statement_timeout"
    else:
        said = error.diag.message_primary or type(error).__name__
        why = f"the database refused: {said} (SQLSTATE {error.sqlstate})"
        if isinstance(error, _ABOUT_THE_DATA):
            return Refused(f"{why}; nothing was done")
    return RegistryUnavailable(f"{why}; nothing was done")


def _answer(connection: Connection[Any], statements: Sequence[Statement]) -> Sequence[Row]:
    """The last statement's rows; several go out as one transaction in one round trip."""
    if len(statements) == 1:
        return execute(connection, *statements[0]).fetchall()
    with connection.pipeline():
        _, *answers, _ = [
            execute(connection, *statement) for statement in [_BEGIN, *statements, _COMMIT]
        ]
    return answers[-1].fetchall()


def execute(connection: Connection[Any], query: bytes, params: Params) -> psycopg.Cursor[Row]:
    """Runs a query on a plain cursor with tuples for rows, whatever the connection's own are."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    try:
        return cursor.execute(query, params, binary=True)
    except UnicodeEncodeError:
        raise InvalidArgument(
            "the client_encoding of the connection cannot hold this text: make it UTF8"
        ) from None


def _sound(connection: Connection[Any]) -> bool:
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


def _network_bounds(config: RegistryConfig, given: Mapping[str, object]) -> dict[str, object]:
    """libpq's own limits for a network that went silent, where the conninfo sets none."""
    answer = config.statement_timeout + GRACE
    wanted = {
        "connect_timeout": max(2, round(config.pool_timeout)),
        "tcp_user_timeout": round(answer * 1000),
        "keepalives_idle": max(1, round(answer)),
        "keepalives_interval": 1,
        "keepalives_count": 3,
        "application_name": "game-session-registry",
        "client_encoding": "UTF8",
    }
    return {name: value for name, value in wanted.items() if given.get(name) is None}


def row_within(
    connection: Connection[Any], query: bytes, params: Params, *, savepoint: bool
) -> Row | None:
    """The only row of a statement run in the caller's transaction.

    With `savepoint`, a statement that lost a race is run again without harm to what the
    caller did before.
    """
    if not isinstance(connection, Connection):
        raise InvalidArgument("connection must be a psycopg.Connection")
    for attempt in count(1):
        try:
            with _savepoint(connection) if savepoint else nullcontext():
                return execute(connection, query, params).fetchone()
        except psycopg.Error as error:
            if not (savepoint and isinstance(error, errors.UniqueViolation)) or attempt == ATTEMPTS:
                hint = "it is as the transaction it was part of"
                raise translated(error, connection, hint) from None
    raise AssertionError  # the loop has no end of its own


@contextmanager
def _savepoint(connection: Connection[Any]) -> Iterator[None]:
    """Something to go back to, within the caller's transaction."""
    idle = connection.info.transaction_status == TransactionStatus.IDLE
    if idle and not connection.autocommit:
        # The transaction begins with its first statement; psycopg would otherwise take this one
        # for the whole of it, and commit.
        execute(connection, queries.clock, {})
    with connection.transaction():
        yield
