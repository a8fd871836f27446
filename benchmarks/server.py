"""The PostgreSQL that everything is measured on: an embedded one, or the one that is named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from registry import EmbeddedPostgres

from .usage import family

SETTINGS: Mapping[str, object] = {"max_connections": 500}
"""All that differs from PostgreSQL's defaults; durability is at its default, full."""


class Server:
    """A running PostgreSQL on which databases come and go."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        self._postmaster = self._find()

    def execute(self, command: str, **names: str) -> None:
        quoted = {key: sql.Identifier(name) for key, name in names.items()}
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL(command).format(**quoted))

    def show(self, setting: str) -> str:
        with psycopg.connect(self.conninfo) as connection:
            row = connection.execute("SELECT current_setting(%s, true)", [setting]).fetchone()
        return str(row[0]) if row else ""

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A new database, gone at the end; gives its conninfo."""
        name = f"benchmark_{os.getpid()}_{name}".replace("-", "_")
        self.execute("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name)
        self.execute("CREATE DATABASE {name} TEMPLATE template0", name=name)
        try:
            yield make_conninfo(self.conninfo, dbname=name)
        finally:
            self.execute("DROP DATABASE IF EXISTS {name} WITH (FORCE)", name=name)

    def checkpoint(self) -> None:
        """Begin afresh: the pages written since the last checkpoint are somebody else's."""
        self.execute("CHECKPOINT")

    def processes(self) -> list[int]:
        """Of the server, when it runs on this machine and may be looked at."""
        return family(self._postmaster) if self._postmaster else []

    def _find(self) -> int | None:
        """The process that the backends are children of."""
        with psycopg.connect(self.conninfo) as connection:
            backend = connection.info.backend_pid
            try:
                parent = psutil.Process(backend).parent()
            except psutil.Error:
                return None
            if parent is None or not psutil.Process(backend).name().startswith("postgres"):
                return None
            return int(parent.pid)


@contextmanager
def server(conninfo: str | None, settings: Mapping[str, object] = SETTINGS) -> Iterator[Server]:
    """The server that is named, or an embedded one for the while."""
    if conninfo is not None:
        yield Server(conninfo)
        return
    with EmbeddedPostgres(settings=settings) as embedded:
        yield Server(embedded.conninfo)
