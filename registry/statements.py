"""Statements on a connection that one has: alone, several in one round trip, or the caller's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import psycopg
from psycopg import Connection, errors, generators
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from .errors import InvalidArgument
from .queries import queries
from .translation import translated

Row = tuple[Any, ...]
Params = Mapping[str, object]
Statement = tuple[bytes, Params]

ATTEMPTS = 3
"""How often at most a statement is run that finds no row, or finds another's in its way."""

# Sent with the statements between them: psycopg's own would each be a round trip.
_BEGIN: Statement = (b"BEGIN ISOLATION LEVEL READ COMMITTED", {})
_COMMIT: Statement = (b"COMMIT", {})


def execute(connection: Connection[Any], query: bytes, params: Params) -> psycopg.Cursor[Row]:
    """Runs a query on a plain cursor with tuples for rows, whatever the connection's own are."""
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    try:
        return cursor.execute(query, params, binary=True)
    except UnicodeEncodeError:
        raise InvalidArgument(
            "the client_encoding of the connection cannot hold this text: make it UTF8"
        ) from None


def answer_of(connection: Connection[Any], statements: Sequence[Statement]) -> Sequence[Row]:
    """The last statement's rows; several go out as one transaction in one round trip."""
    if len(statements) == 1:
        return execute(connection, *statements[0]).fetchall()
    with connection.pipeline() as pipeline:
        pipeline.__class__ = _Pipeline
        _, *answers, _ = [
            execute(connection, *statement) for statement in [_BEGIN, *statements, _COMMIT]
        ]
    return answers[-1].fetchall()


class _Pipeline(psycopg.Pipeline):
    """Sends nothing behind the Sync at its end.

    psycopg's own sends a Flush if the answers are not there yet. Behind a pooler that can come
    after the transaction: it gets a server connection then and keeps it, as nothing answers it.
    """

    def _fetch_gen(self, *, flush: bool) -> PQGen[None]:
        yield from generators.send(self.pgconn)  # what the network has not taken yet
        yield from super()._fetch_gen(flush=False)


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
