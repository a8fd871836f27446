"""What the tests call: databases that come and go, a clock to move, a wait with a deadline."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import psycopg
from layouts import LAYOUT, PLAIN, lay_out
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool

import registry
from registry import schema

APPLICATION = os.environ.get("REGISTRY_TEST_ROLE", "")
"""The role that registries connect as, if not as the tests themselves: see `confine`."""

RUN = f"{os.getpid()}_{secrets.token_hex(3)}"
"""In the names of what belongs to the whole server, which several runs may share."""

KEPT = ["game", "game_session", "game_event", "game_event_id", "payload_dictionary"]
"""The tables of what callers gave."""

TABLES = [*KEPT, "statement_receipt"]


class Server:
    """A running PostgreSQL on which databases come and go."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self._names = (f"registry_test_{RUN}_{n}" for n in count())
        self._template: str | None = None

    def execute(self, command: str, **names: str) -> None:
        quoted = {key: sql.Identifier(name) for key, name in names.items()}
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(**quoted))

    def create_blank(self) -> str:
        """A new database with nothing in it; returns its conninfo."""
        return self._create("template0")

    def create_migrated(self) -> str:
        """A new database with the schema in it; returns its conninfo."""
        if self._template is None:
            self._template = self.create_blank()
            registry.migrate(self._template)
        return self._create(name_of(self._template))

    def _create(self, template: str) -> str:
        name = next(self._names)
        self.execute("CREATE DATABASE {name} TEMPLATE {template}", name=name, template=template)
        return make_conninfo(self.conninfo, dbname=name)

    def drop(self, conninfo: str) -> None:
        self.execute("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name_of(conninfo))

    def close(self) -> None:
        if self._template is not None:
            self.drop(self._template)


class Clock:
    """Moves time on, by moving every stored time back."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo

    def advance(self, seconds: float) -> None:
        query = """
            SELECT table_name, string_agg(format('%%1$I = %%1$I - $1', column_name), ', ')
            FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name = ANY(%s)
              AND data_type = 'timestamp with time zone' AND is_generated = 'NEVER'
            GROUP BY table_name ORDER BY table_name
        """
        with psycopg.connect(self._conninfo) as connection:
            for table, changes in connection.execute(query, [TABLES]).fetchall():
                shift = f"UPDATE {table} SET {changes}".replace("$1", "make_interval(secs => %s)")
                connection.execute(shift.encode(), [seconds] * changes.count("$1"))


def confine() -> None:
    """Has all pools, and so all registries, of this process connect as `APPLICATION`.

    The tests themselves stay who they are, and so does who migrates: after each migration the
    role gets what `python -m registry grant` gives.
    """
    opens, migrates = ConnectionPool.__init__, schema.migrate

    def confined(self: ConnectionPool, conninfo: str = "", **settings: object) -> None:
        opens(self, make_conninfo(conninfo, user=APPLICATION), **settings)

    def migrate(conninfo: str, **settings: object) -> list[str]:
        done = migrates(conninfo, **settings)
        if not done:  # it has what it needs since the one that did something
            return done
        create = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(APPLICATION))
        there = psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation
        with suppress(*there), psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(create)
        schema.grant(conninfo, APPLICATION)
        return done

    ConnectionPool.__init__ = confined  # type: ignore[method-assign]
    registry.migrate = schema.migrate = migrate


def partition() -> None:
    """Has game_event brought into `LAYOUT` wherever this process migrates and it is new."""
    migrates = schema.migrate

    def migrate(conninfo: str, **settings: object) -> list[str]:
        done = migrates(conninfo, **settings)
        if "0001_registry_tables" in done:
            lay_out(conninfo)
        return done

    registry.migrate = schema.migrate = migrate


if LAYOUT != PLAIN:
    partition()
if APPLICATION:
    confine()


def name_of(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["dbname"])


def free_port() -> int:
    """A port of the loopback that a server can be told to listen on.

    None of those that the system gives to whoever connects: one of them could be gone again before
    the server is there.
    """
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", 20_000 + secrets.randbelow(12_000)))
            return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, timeout: float = 30.0) -> None:
    """Wait until the condition holds; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s in vain"
        time.sleep(0.01)
