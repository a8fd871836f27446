"""A PostgreSQL that is half a millisecond away, in each direction."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen
from psycopg.conninfo import conninfo_to_dict

from .compile import compiled
from .peers import Unavailable
from .server import SETTINGS, Server, server

DELAY_US = 500
CLONE_NEWNET = 0x40000000
HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\n"


@frozen
class Far:
    server: Server
    """Reached directly, to administer it."""
    host: str
    """Reached the long way."""


@contextmanager
def namespace() -> Iterator[Far]:
    """A server in a network namespace of its own, as is what starts meanwhile, with netem.

    The namespace goes with its last process.
    """
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        raise Unavailable("netem needs root and iproute2")
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    folder = Path(tempfile.mkdtemp(prefix="network-"))
    folder.chmod(0o755)  # the server is not root
    hba = folder / "pg_hba.conf"
    hba.write_text(HBA)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            raise Unavailable(f"the system gives no network namespace ({why})")
        _run("ip link set lo up")
        _run(f"tc qdisc add dev lo root netem delay {DELAY_US}us limit 100000")
        with server(
            None, {**SETTINGS, "listen_addresses": "127.0.0.1", "hba_file": str(hba)}
        ) as far:
            yield Far(far, "127.0.0.1")
    finally:
        libc.setns(outside, CLONE_NEWNET)
        os.close(outside)
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"`{command}` says {done.stderr.strip()!r}")


@contextmanager
def relay(near: Server) -> Iterator[Far]:
    """The server that is there already, through a relay between unix sockets."""
    given = conninfo_to_dict(near.conninfo)
    host, name = str(given.get("host", "")), f".s.PGSQL.{given.get('port') or 5432}"
    if not host.startswith("/"):
        raise Unavailable("not run: the relay needs a server on a unix socket")
    folder = Path(tempfile.mkdtemp(prefix="relay-"))
    try:
        program = compiled("slow_link", folder / "slow_link")
        command = [str(program), str(folder / name), f"{host}/{name}", str(DELAY_US)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:  # ends with its input
            while not (folder / name).exists():
                if process.poll() is not None:
                    raise Unavailable("not run: the relay did not start")
                time.sleep(0.01)
            try:
                yield Far(near, str(folder))
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
