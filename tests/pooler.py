"""A real PgBouncer, in transaction mode, before the server of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support import APPLICATION, free_port, wait_until


def program() -> str:
    """Where PgBouncer is; without it a test is skipped, but not where nothing may be."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin"
    found = shutil.which("pgbouncer", path=places)
    if found is None:
        assert not os.environ.get("CI"), "install pgbouncer"
        pytest.skip("pgbouncer is not installed")
    return found


@contextmanager
def pgbouncer(conninfo: str, *, size: int = 2, mode: str = "transaction") -> Iterator[str]:
    """Starts one with so many server connections; gives the conninfo through it."""
    path = program()
    with psycopg.connect(conninfo) as connection:
        host, port, user = (
            connection.info.host,
            connection.info.port,
            connection.info.user,
        )
    ours = free_port()
    folder = Path(tempfile.mkdtemp(prefix="registry-pooler-", dir="/tmp"))
    process = None
    try:
        users = folder / "users"
        users.write_text("".join(f'"{name}" ""\n' for name in {user, APPLICATION or user}))
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"""
            [databases]
            * = host={host} port={port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {ours}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            pool_mode = {mode}
            default_pool_size = {size}
            max_client_conn = 200
            logfile = {folder / "log"}
            """.replace("            ", "")
        )
        command = [path, str(settings)]
        if os.geteuid() == 0:  # which PgBouncer refuses to run as
            owner = os.stat(host).st_uid if host.startswith("/") else pwd.getpwnam("nobody").pw_uid
            command[1:1] = ["-u", pwd.getpwuid(owner).pw_name]
            for each in (folder, users, settings):
                os.chown(each, owner, -1)
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )

        def listens() -> bool:
            assert process is not None
            assert process.poll() is None, (folder / "log").read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", ours), timeout=1):
                return True
            return False

        wait_until(listens)
        name = conninfo_to_dict(conninfo)["dbname"]
        yield make_conninfo(host="127.0.0.1", port=ours, user=user, dbname=name)
    finally:
        if process is not None:
            process.terminate()
            process.wait(10)
            print((folder / "log").read_text())  # for who looks why a test failed
        shutil.rmtree(folder, ignore_errors=True)
