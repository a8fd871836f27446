"""The library's errors for the driver's."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection, errors

from .errors import OutcomeUnknown, RegistryError, RegistryUnavailable, SchemaMismatch

_ABOUT_THE_DATA = (psycopg.DataError, psycopg.IntegrityError, errors.RaiseException)
_NO_SUCH_OBJECT = (errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction)


class Refused(RegistryUnavailable):
    """The server took the statement and did not like what was in it."""


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
