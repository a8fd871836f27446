"""Connections to either side of an import."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from ..errors import InvalidArgument, RegistryUnavailable


def connected(conninfo: str, *, option: str, silent: str, **more: Any) -> psycopg.Connection[Any]:
    """A connection to what an option of the command names.

    Raises `InvalidArgument` if that is no connection string, `RegistryUnavailable` if nobody
    answers there, which begins with the words of `silent`.
    """
    try:
        return psycopg.connect(
            conninfo, row_factory=tuple_row, client_encoding="UTF8",
            application_name="game-session-registry import", **more,
        )  # fmt: skip
    except psycopg.OperationalError as error:
        raise RegistryUnavailable(f"{silent}: {error}") from None
    except (psycopg.ProgrammingError, UnicodeEncodeError):  # its message may quote a password
        raise InvalidArgument(
            f"{option} is not a PostgreSQL connection string: "
            "write postgresql://user@host/database or host=... dbname=..."
        ) from None
