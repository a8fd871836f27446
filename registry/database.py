"""The way to PostgreSQL: a connection from the pool, one statement, bounded waits, typed errors."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from time import monotonic, perf_counter
from typing import Any, Final
from weakref import WeakSet

import psycopg
from psycopg import Connection, IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo, ConnStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from . import arrays
from .config import RegistryConfig
from .errors import (
    InvalidArgument,
    OutcomeUnknown,
    RegistryError,
    RegistryUnavailable,
    SchemaMismatch,
)
from .metrics import NOBODY, Observer
from .queries import queries
from .receipts import COMMITTED, RUN_AGAIN, UNKNOWN, Receipt, Receipts, tell_settled
from .retrying import Attempt, Setback, persist

logger: Final = logging.getLogger("registry.pool")

Row = tuple[Any, ...]
Params = Mapping[str, object]
Statement = tuple[bytes, Params]
Pool = ConnectionPool[Connection[Any]]

Recall = Callable[[Sequence[int]], Sequence[Row]]
"""Makes a statement's rows of the answer that it noted in its receipt."""

ATTEMPTS = 3
"""How often at most a statement is run that finds no row, or finds another's in its way."""

BREAKS: Final = 5
"""How often at most a statement is run whose connection breaks: it may be what breaks it."""

GRACE = 2.0
"""Seconds past the server's own timeout after which a silent connection is given up."""

MOST_STATEMENTS = 4
"""Statements in one transaction, with those that begin and end it."""

# Sent with the statements between them: psycopg's own would each be a round trip.
_BEGIN: Statement = (b"BEGIN ISOLATION LEVEL READ COMMITTED", {})
_COMMIT: Statement = (b"COMMIT", {})

_OURS = True, IsolationLevel.READ_COMMITTED

# They did nothing, and pass: how often they are worth another try, if not for as long as it takes.
_PASSING: Mapping[type[psycopg.Error], int | None] = {
    errors.UniqueViolation: ATTEMPTS,
    errors.SerializationFailure: None,
    errors.DeadlockDetected: None,
    errors.ReadOnlySqlTransaction: None,  # a standby, or a primary that was one until just now
}
_ABOUT_THE_DATA = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException)
_NO_SUCH_OBJECT = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)


class Refused(RegistryUnavailable):
    """The server took the statement and did not like what was in it."""


class _Broken(Setback):
    """The connection went before the answer came: what was sent may have been done."""


class Database:
    """Runs the queries on connections of a pool, its own or the caller's.

    Safe to share between threads: each call has a connection to itself.
    """

    def __init__(
        self,
        pool: Pool,
        config: RegistryConfig,
        *,
        observer: Observer = NOBODY,
        remake: Callable[[], Pool] | None = None,
        pooled: WeakSet[Connection[Any]] | None = None,
    ) -> None:
        """`remake` makes another pool, not yet open: for a pool of the registry's own.

        `pooled`: those of its connections that lead to a pooler.
        """
        self.pool = pool
        self.observer = observer
        self._lease = Lease if observer is NOBODY else TimedLease
        self.owned = owned = remake is not None
        self._remake = remake
        self._losing: Pool | None = None  # the pool that an interrupted call may have lost one of
        self._config = config
        # On a caller's pool the bounds travel with each statement and end with its transaction.
        self._bounds = [] if owned else [(queries.configure, settings(config, local=True))]
        # Behind a pooler each transaction may be on another server connection, or another server:
        # nothing may be left to the session, not even whether its server is the one it was.
        self._anew = [
            (queries.configure, settings(config, local=True)),
            (queries.settle_lineage, {"lossless_failover": config.lossless_failover}),
        ]
        self._pooled: WeakSet[Connection[Any]] = WeakSet() if pooled is None else pooled
        self._lock = threading.Lock()  # for who goes through the first of these sets
        self._settled: WeakSet[Connection[Any]] = WeakSet()
        # They were there when one of them fell silent, and may be as dead.
        self._distrusted: WeakSet[Connection[Any]] = WeakSet()
        self._receipts = Receipts()
        self._refusal = ""

    @classmethod
    def open(
        cls, conninfo: str, config: RegistryConfig, *, observer: Observer = NOBODY
    ) -> Database:
        """Opens a pool of its own and waits for its first connections."""
        bounds = settings(config, local=False)

        pooled: WeakSet[Connection[Any]] = WeakSet()

        def configure(connection: Connection[Any]) -> None:
            if _behind_pooler(connection):
                pooled.add(connection)
            else:
                connection.execute(queries.configure, bounds)
            _set_modes(connection, *_OURS)

        def make() -> Pool:
            return ConnectionPool(
                conninfo,
                kwargs=kwargs,
                configure=configure,
                min_size=config.pool_min_size,
                max_size=config.pool_max_size,
                timeout=config.pool_timeout,
                # Its pauses between two tries double for as long; a call that waits for a
                # connection then has it try again at once.
                reconnect_timeout=config.pool_timeout,
                open=False,
            )

        try:
            kwargs = {**_network_bounds(config, conninfo_to_dict(conninfo)), "autocommit": True}
            pool = make()
        except (psycopg.ProgrammingError, UnicodeEncodeError):
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
        return cls(pool, config, observer=observer, remake=make, pooled=pooled)

    @property
    def conninfo(self) -> str:
        """What the pool connects with: its conninfo and those of its arguments libpq knows."""
        given, more = self.pool.conninfo, self.pool.kwargs
        known = {default.keyword.decode() for default in Conninfo.get_defaults()}
        return make_conninfo(
            given() if callable(given) else given,
            **{k: v for k, v in (more() if callable(more) else more or {}).items() if k in known},
        )

    @property
    def refusing(self) -> bool:
        """Whether it refuses all statements."""
        return bool(self._refusal)

    def refuse(self, why: str) -> None:
        """Refuses further statements."""
        self._refusal = why

    def close(self) -> None:
        """Refuses further statements, and closes the pool if it is the registry's own.

        A forked child leaves it to its parent.
        """
        if self._refusal:
            return
        with self._lock:  # or a pool that is just being replaced would stay open
            self.refuse("the registry is closed")
            pool = self.pool
        if self.owned:
            pool.close()

    def leave(self) -> None:
        """Lets go of a pool of the registry's own, without waiting for who still uses it."""
        if self.owned and not self._refusal:
            self.pool.close(timeout=1)

    def row(self, query: bytes, params: Params, *, if_unknown: str | None = None) -> Row | None:
        """The only row of a query's answer, if there is one; see `rows`."""
        rows = self.rows(query, params, if_unknown=if_unknown)
        return rows[0] if rows else None

    def rows(
        self,
        query: bytes,
        params: Params,
        *,
        if_unknown: str | None = None,
        behind: bytes | None = None,
    ) -> Sequence[Row]:
        """Runs one statement, in a transaction of its own, and returns its rows.

        A statement that lost a race and was rolled back is run again, and so is one whose
        connection broke, unless `if_unknown` says that doing it twice would not be the same as
        doing it once: then that is `OutcomeUnknown`, with this advice.

        Args:
            behind: a statement that locks, to run before it in the same transaction and round
                trip: the second one's snapshot is taken once the lock is held.
        """
        return self._run(partial(self._try, _statements(query, params, behind), if_unknown))

    def rows_once(
        self,
        query: bytes,
        params: Params,
        recall: Recall,
        *,
        if_unknown: str,
        behind: bytes | None = None,
    ) -> Sequence[Row]:
        """As `rows`, for a statement that must not be done twice and notes itself in a receipt.

        If the connection breaks, the receipt says whether it was done; then `recall` makes its
        rows, or it is run again. `OutcomeUnknown` is left for when the server does not come back
        to be asked.

        Args:
            behind: as for `rows`.
        """
        receipt = self._receipts.take()

        def attempt(until: float) -> Sequence[Row]:
            statements = _statements(query, {**params, **receipt.next()}, behind)
            try:
                return self._try(statements, None, until)
            except _Broken as broken:
                answer = self._ask(query, receipt, until, if_unknown)
                if answer is None:
                    raise Setback(_nothing_done(), broken.tries, broken.reason) from None
                return recall(answer)

        try:
            rows = self._run(attempt)
        except RegistryError as error:
            if not isinstance(error, OutcomeUnknown):
                self._receipts.give_back(receipt)
            raise
        self._receipts.give_back(receipt)
        return rows

    @contextmanager
    def transaction(self, until: float = math.inf) -> Iterator[Connection[Any]]:
        """A transaction of several round trips, for the upkeep only; `until` as in `connection`."""
        with self.connection(until) as connection:
            try:
                self._settle(connection)
                with connection.transaction():
                    for statement in self._first(connection):
                        execute(connection, *statement)
                    yield connection
            except psycopg.Error as error:
                raise translated(error, connection, None) from None

    def _run(self, attempt: Attempt[Sequence[Row]]) -> Sequence[Row]:
        """Tries once, and goes on after a setback until the call's time is up."""
        deadline = monotonic() + self._config.pool_timeout + self._config.statement_timeout
        try:
            return attempt(deadline)
        except Setback as setback:
            return persist(attempt, setback, deadline, self.observer)

    def _try(
        self, statements: Sequence[Statement], if_unknown: str | None, until: float
    ) -> Sequence[Row]:
        """Runs statements once. Raises `Setback` if another try may help."""
        lease = self.connection(until)
        with lease as connection:
            sent = False
            try:
                self._settle(connection)
                sent = True
                return _answer(connection, [*self._first(connection), *statements])
            except psycopg.Error as error:
                advice = if_unknown if sent else None
                refusal = translated(error, connection, advice)
                if broke(error, connection):
                    connection.close()
                    if lease.silent:
                        with self._lock:
                            self._distrusted.update(self._settled)
                    if isinstance(refusal, RegistryUnavailable):
                        kind = _Broken if sent else Setback
                        raise kind(refusal, BREAKS, type(error).__name__) from None
                elif type(error) in _PASSING and isinstance(refusal, RegistryUnavailable):
                    if isinstance(error, errors.ReadOnlySqlTransaction):
                        connection.close()  # the next one may lead to the primary
                    raise Setback(refusal, _PASSING[type(error)], type(error).__name__) from None
                raise refusal from None

    def _ask(
        self, query: bytes, receipt: Receipt, until: float, if_unknown: str
    ) -> Sequence[int] | None:
        """What a statement answered whose connection broke; None if it never was and will be done.

        There is `pool_timeout` at least to find out.
        """
        broke_at = monotonic()
        until = max(until, broke_at + self._config.pool_timeout)
        question = [(queries.settle_statement, receipt.same())]

        def attempt(until: float) -> Sequence[Row]:
            try:
                return self._try(question, None, until)
            except RegistryError:  # whatever it is, it may pass
                if self._refusal:
                    raise
                raise Setback(_nothing_done()) from None

        try:
            ((answer,),) = persist(attempt, Setback(_nothing_done()), until, self.observer)
        except RegistryError:
            tell_settled(query, UNKNOWN, broke_at, self.observer)
            raise OutcomeUnknown(
                "the connection to the database broke before the answer came, and it could not be "
                f"asked within the time limit whether this was done: {if_unknown}"
            ) from None
        tell_settled(query, RUN_AGAIN if answer is None else COMMITTED, broke_at, self.observer)
        found: Sequence[int] | None = answer
        return found

    def _settle(self, connection: Connection[Any]) -> None:
        """Sees to it, once a connection, that its server's logs have epochs of their own.

        If it leads to a pooler, that is left to each transaction.
        """
        if connection not in self._settled:
            if not self.owned and _behind_pooler(connection):
                with self._lock:
                    self._pooled.add(connection)
                connection.prepare_threshold = None  # the lease gives it back as it was
            if connection not in self._pooled:
                _answer(connection, [*self._bounds, self._anew[-1]])
            arrays.adapt(connection)
            with self._lock:
                self._settled.add(connection)

    def _first(self, connection: Connection[Any]) -> Sequence[Statement]:
        """What each transaction begins with."""
        return self._anew if self.is_pooled(connection) else self._bounds

    def is_pooled(self, connection: Connection[Any]) -> bool:
        """Whether a connection that was in use before leads to a pooler."""
        return bool(self._pooled) and connection in self._pooled

    def connection(self, until: float = math.inf) -> Lease:
        """A sound connection of the pool, in autocommit for the while.

        It is waited for `pool_timeout`, and no longer than until that time, by `monotonic`.
        """
        if self._refusal:
            raise RegistryUnavailable(f"{self._refusal}; nothing was done")
        return self._lease(self, self.pool, self._config, until)

    def distrusts(self, connection: Connection[Any]) -> bool:
        """Whether a connection may be as dead as one that fell silent beside it."""
        return bool(self._distrusted) and connection in self._distrusted

    def interrupted(self, pool: Pool) -> None:
        """Notes that a call was interrupted while it had to do with the pool."""
        self._losing = pool

    def renew(self, pool: Pool) -> None:
        """Puts another pool in the place of one that has run dry, if that may have lost some.

        An interrupted call is one that psycopg's pool still hands a connection to, for nobody.
        """
        with self._lock:
            if self._remake is None or self._refusal or not (self._losing is pool is self.pool):
                return
            self._losing = None
            self.pool = self._remake()
            self.pool.open()
        logger.warning("the pool had run dry after an interrupted call and was replaced")
        pool.close(timeout=0)


class Lease:
    """A connection of the pool that is ours alone within the `with`, as we want it."""

    __slots__ = (
        "_before", "_config", "_connection", "_database", "_pool", "_threshold", "_until", "silent",
    )  # fmt: skip

    def __init__(
        self, database: Database, pool: Pool, config: RegistryConfig, until: float
    ) -> None:
        self._database = database
        self._pool = pool
        self._config = config
        self._until = until
        self._before: tuple[bool, IsolationLevel | None] | None = None
        self._threshold: int | None = None
        self.silent = False
        """Whether the server did not answer within the time that it had."""

    def __enter__(self) -> Connection[Any]:
        config = self._config
        deadline = min(monotonic() + config.pool_timeout, self._until)
        while True:
            try:
                connection = self._pool.getconn(timeout=max(deadline - monotonic(), 0.001))
            except psycopg.OperationalError as error:
                refusal = RegistryUnavailable(
                    f"no connection to the database within {config.pool_timeout:g} s "
                    f"({type(error).__name__}): the server is down, or the pool is closed or "
                    "too small"
                )
                if isinstance(error, PoolTimeout):
                    self._database.renew(self._pool)
                final = isinstance(error, (PoolTimeout, PoolClosed, TooManyRequests))
                if final and self._pool is self._database.pool:
                    raise refusal from None
                # A pool that keeps no connections has tried only once.
                raise Setback(refusal, reason=type(error).__name__) from None
            except BaseException:
                self._database.interrupted(self._pool)
                raise
            self._connection = connection
            try:
                self._threshold = connection.prepare_threshold
                self._before = connection.autocommit, connection.isolation_level
                if self._database.is_pooled(connection):
                    connection.prepare_threshold = None
                if self._database.distrusts(connection):
                    connection.close()
                self._give_up_after(config.statement_timeout + GRACE)
                if _sound(connection):
                    _set_modes(connection, *_OURS)
                    return connection
            except BaseException as error:
                self.__exit__(type(error))
                raise
            self.__exit__()

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        connection = self._connection
        if kind is not None and not issubclass(kind, Exception):
            self._database.interrupted(self._pool)
        try:
            if self._before and not connection.closed:
                _restore(connection, *self._before)
                if connection.prepare_threshold != self._threshold:
                    connection.prepare_threshold = self._threshold
            vars(connection).pop("wait", None)
        finally:
            self._pool.putconn(connection)

    def _give_up_after(self, seconds: float) -> None:
        """Bounds each wait for the server: it may be past timing out a statement by itself.

        The connection is ours alone for the while, so its `wait` can be stood in for, until it is
        deleted; a class of connections would do for a pool of our own, but not for a caller's.
        """
        connection = self._connection
        unbounded = connection.wait

        def wait(gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return unbounded(gen, interval, timeout=seconds if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if error.sqlstate is None:  # in the middle of an answer: of no more use to anybody
                    self.silent = connection.pgconn.status == ConnStatus.OK
                    connection.pgconn.finish()
                raise

        connection.wait = wait  # type: ignore[method-assign]


class TimedLease(Lease):
    """Tells the observer how long it took to get a connection."""

    __slots__ = ()

    def __enter__(self) -> Connection[Any]:
        began = perf_counter()
        try:
            return super().__enter__()
        finally:
            self._tell(perf_counter() - began)

    def _tell(self, seconds: float) -> None:
        try:
            self._database.observer.connected(seconds)
        except BaseException:  # the thread was interrupted, and the connection is nobody's
            self._database.interrupted(self._pool)
            raise


def _behind_pooler(connection: Connection[Any]) -> bool:
    """Whether a pooler stands between: the number of a process that it gives is not the server's.

    A statement that was prepared would be on one server connection of many, maybe under the name
    of another's. So this one is not.
    """
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    row = cursor.execute(queries.backend, prepare=False).fetchone()
    return row != (connection.pgconn.backend_pid,)


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
    if error.sqlstate is None:
        return connection.closed or isinstance(error, psycopg.OperationalError)
    # What a server says that goes down, and a pooler whose server did.
    return connection.closed or error.sqlstate.startswith(("57P", "08"))


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


def _nothing_done() -> RegistryUnavailable:
    return RegistryUnavailable(
        "the connection to the database broke, and there was no time to try again or that did not "
        "help; nothing was done"
    )


def _statements(query: bytes, params: Params, behind: bytes | None) -> Sequence[Statement]:
    return [(query, params)] if behind is None else [(behind, params), (query, params)]


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
    if not issubclass(type(connection), Connection):
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
