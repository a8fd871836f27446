"""The server under test: one PostgreSQL with a proxy before it, which a standby can replace."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from layouts import lay_out
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from replica import STANDBY, standby_of
from support import wait_until

from registry import EmbeddedPostgres, migrate

from .proxy import Proxy

SETTINGS: Final = {
    "max_connections": 60,
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "log_checkpoints": "off",
}
"""Durability is PostgreSQL's default: a commit has reached the disk."""


class Node:
    """One server and its folder."""

    def __init__(self, home: Path, server: EmbeddedPostgres | None = None) -> None:
        self.server = server or EmbeddedPostgres(home, settings=SETTINGS)
        self.home = home
        self.data = home / "cluster"
        self.log = home / "server.log"

    @property
    def socket(self) -> str:
        """The path of its socket, while it runs."""
        return f"{conninfo_to_dict(self.server.conninfo)['host']}/.s.PGSQL.5432"

    def query(self, query: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """What a statement returns, on a connection of its own and not through the proxy."""
        with psycopg.connect(self.server.conninfo, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """SIGKILL to the server and everything that belongs to it, at once."""
        server = psutil.Process(int((self.data / "postmaster.pid").read_text().split("\n")[0]))
        every = [server, *server.children(recursive=True)]
        for process in every:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(every, timeout=30)

    def answers(self) -> bool:
        try:
            self.query("SELECT")
        except (psycopg.OperationalError, psycopg.errors.CannotConnectNow):
            return False
        return True


class Cluster:
    """Servers in a folder, and the proxy through which clients reach the one that is primary."""

    def __init__(self, folder: Path, seed: int, layout: str) -> None:
        self._folder = folder
        self._layout = layout
        self._made = 1
        self.proxy = Proxy(seed)
        self.reads = Proxy(seed)
        """Leads to the standby, while there is one."""
        self.primary = Node(self._folder / f"server-{self._made}")

    def __enter__(self) -> Cluster:
        self.proxy.__enter__()
        self.reads.__enter__()
        self.start()
        migrate(self.primary.server.conninfo)
        lay_out(self.primary.server.conninfo, self._layout, every=timedelta(minutes=1))
        return self

    def __exit__(self, *_: object) -> None:
        self.reads.__exit__()
        self.proxy.__exit__()
        self.primary.server.stop()

    @property
    def conninfo(self) -> str:
        """Where clients connect to, whichever server is the primary."""
        return _through(self.proxy)

    @property
    def read_conninfo(self) -> str:
        """Where clients find the standby; the primary, if there is none."""
        return _through(self.reads)

    def backends(self) -> list[int]:
        """The server processes that serve clients through the proxy."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'game-session-registry'"
        return [pid for (pid,) in self.primary.query(query)]

    def start(self) -> None:
        """Starts the primary, if it is down, waits for its recovery, and points the proxy there."""
        self.primary.server.start()
        self.proxy.socket = self.reads.socket = self.primary.socket

    def fail_over(self, when_followed: Callable[[], None]) -> None:
        """Has the primary wait for a standby, kills it, and promotes the standby.

        So the standby has everything that any client was ever told is done.
        """
        old, new = self.primary, self._standby()
        try:
            self._wait_for(new)
            self.reads.socket = new.socket
            when_followed()
            old.kill()
            new.query("SELECT pg_promote(wait => true, wait_seconds => 30)")
        except BaseException:
            new.server.stop()
            raise
        self.primary = new
        self.start()
        old.server.stop()
        shutil.rmtree(old.home, ignore_errors=True)

    def _standby(self) -> Node:
        """A copy of the primary that follows it."""
        self._made += 1
        home = self._folder / f"server-{self._made}"
        return Node(home, standby_of(self.primary.server.conninfo, home, SETTINGS))

    def _wait_for(self, standby: Node) -> None:
        """Has each commit of the primary wait for the standby from now on."""
        self.primary.query(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
        self.primary.query("SELECT pg_reload_conf()")
        synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: self.primary.query(synchronous))
        # Commits that were under way before the primary knew that it has to wait.
        ((reached,),) = self.primary.query("SELECT pg_current_wal_flush_lsn()::text")
        received = "SELECT 1 WHERE pg_last_wal_receive_lsn() >= %s::pg_lsn"
        wait_until(lambda: standby.query(received, [reached]))


def _through(proxy: Proxy) -> str:
    return make_conninfo(host="127.0.0.1", port=proxy.port, user="postgres", dbname="postgres")
