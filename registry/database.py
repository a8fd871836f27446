"""Statements on a pool's connections: bounded waits, typed errors, and what passes tried again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg import Connection, errors

from .config import RegistryConfig
from .errors import OutcomeUnknown, RegistryError, RegistryUnavailable
from .lease import Lease, TimedLease
from .metrics import NOBODY, Observer
from .pool import Pool
from .queries import queries
from .receipts import COMMITTED, RUN_AGAIN, UNKNOWN, Receipt, Receipts, tell_settled
from .retrying import Attempt, Setback, persist
from .statements import ATTEMPTS, Params, Row, Statement, answer_of, execute
from .translation import broke, translated

Recall = Callable[[Sequence[int]], Sequence[Row]]
"""Makes a statement's rows of the answer that it noted in its receipt."""

BREAKS: Final = 5
"""How often at most a statement is run whose connection breaks: it may be what breaks it."""

# They did nothing, and pass: how often they are worth another try, if not for as long as it takes.
_PASSING: Mapping[type[psycopg.Error], int | None] = {
    errors.UniqueViolation: ATTEMPTS,
    errors.SerializationFailure: None,
    errors.DeadlockDetected: None,
    errors.ReadOnlySqlTransaction: None,  # a standby, or a primary that was one until just now
}


class _Broken(Setback):
    """The connection went before the answer came: what was sent may have been done."""


class Database:
    """Runs the queries on connections of a pool.

    Safe to share between threads: each call has a connection to itself.
    """

    def __init__(self, pool: Pool, config: RegistryConfig, *, observer: Observer = NOBODY) -> None:
        self.pool = pool
        self.observer = observer
        self._config = config
        self._lease = Lease if observer is NOBODY else partial(TimedLease, observer)
        self._receipts = Receipts()

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
                self.pool.preparation.settle(connection)
                with connection.transaction():
                    for statement in self.pool.preparation.first(connection):
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
        preparation, lease = self.pool.preparation, self.connection(until)
        with lease as connection:
            sent = False
            try:
                preparation.settle(connection)
                sent = True
                return answer_of(connection, [*preparation.first(connection), *statements])
            except psycopg.Error as error:
                advice = if_unknown if sent else None
                refusal = translated(error, connection, advice)
                if broke(error, connection):
                    connection.close()
                    if lease.silent:
                        preparation.distrust_all()
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
                if self.pool.refusal:
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

    def connection(self, until: float = math.inf) -> Lease:
        """A sound connection of the pool, in autocommit for the while.

        It is waited for `pool_timeout`, and no longer than until that time, by `monotonic`.
        """
        if self.pool.refusal:
            raise RegistryUnavailable(f"{self.pool.refusal}; nothing was done")
        return self._lease(self.pool, self._config, until)


def _nothing_done() -> RegistryUnavailable:
    return RegistryUnavailable(
        "the connection to the database broke, and there was no time to try again or that did not "
        "help; nothing was done"
    )


def _statements(query: bytes, params: Params, behind: bytes | None) -> Sequence[Statement]:
    return [(query, params)] if behind is None else [(behind, params), (query, params)]
