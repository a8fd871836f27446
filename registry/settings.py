"""How a connection is set up: what bounds its waits, on the server and in the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from psycopg import Connection, IsolationLevel

from .config import RegistryConfig
from .statements import Params

GRACE = 2.0
"""Seconds past the server's own timeout after which a silent connection is given up."""

MOST_STATEMENTS = 4
"""Statements in one transaction, with those that begin and end it."""

OURS: Final = True, IsolationLevel.READ_COMMITTED
"""The modes that the registry works in."""


def server_settings(config: RegistryConfig, *, local: bool) -> Params:
    """What configure.sql needs, in milliseconds as PostgreSQL counts them, but for keepalives."""
    answer = config.statement_timeout + GRACE
    return {
        "statement_timeout": str(max(1, round(config.statement_timeout * 1000))),
        "lock_timeout": str(max(1, round(config.lock_timeout * 1000))),
        "transaction_timeout": str(round(MOST_STATEMENTS * answer * 1000)),
        "keepalives_idle": str(max(1, round(answer))),
        "local": local,
    }


def network_settings(config: RegistryConfig, given: Mapping[str, object]) -> dict[str, object]:
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


def set_modes(
    connection: Connection[Any], autocommit: bool, isolation: IsolationLevel | None
) -> None:
    """Sets what differs: psycopg's own setters take a lock each."""
    if connection.autocommit != autocommit:
        connection.autocommit = autocommit
    if connection.isolation_level != isolation:
        connection.isolation_level = isolation
