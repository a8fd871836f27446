"""A network that takes a millisecond for each round trip."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from psycopg.conninfo import make_conninfo

from ..lab import Lab
from ..measure import Contender
from ..peers import Ours, Peer, Plain, Unavailable
from ..peers.loads import Append
from ..server import server
from . import resume

NAME = "network"
TITLE = "A millisecond away"
EXPLAINED = (
    "A server and callers in a network namespace of their own, over TCP, with netem delaying each "
    "packet by half a millisecond: round trips show. Appends to one game, and resumes with 100 "
    "missed events."
)
DELAY_US = 500
CLONE_NEWNET = 0x40000000
HBA = "local all all trust\nhost all all 127.0.0.1/32 trust\n"


def run(lab: Lab) -> None:
    numbers = lab.options.threads or (1, 32, 128)
    lab.view.expect(2 * len(numbers))
    try:
        with (
            _namespace(),
            _settings() as settings,
            server(None, settings) as far,
            lab.peers("ours", "plain", server=far) as near,
        ):
            peers = {name: _over_tcp(peer) for name, peer in near.items()}
            for threads in numbers:
                contenders: list[Contender] = [
                    lab.callers(peer, Append(peer, 1), threads=threads, server=far)
                    for peer in peers.values()
                ]
                point: dict[str, int | str] = {"call": "append", "threads": threads}
                lab.measure(NAME, point, contenders, unit="calls", server=far)
            for threads in numbers:
                contenders = [
                    lab.callers(peers[name], load, threads=threads, server=far)
                    for name, load in resume.loads({**peers}).items()
                ]
                point = {"call": "resume", "threads": threads}
                lab.measure(NAME, point, contenders, unit="calls", server=far)
    except Unavailable as error:
        lab.results.note(TITLE, str(error))


def _over_tcp(peer: Peer) -> Peer:
    assert isinstance(peer, (Ours, Plain))
    return attrs.evolve(peer, conninfo=make_conninfo(peer.conninfo, host="127.0.0.1"))


@contextmanager
def _settings() -> Iterator[dict[str, object]]:
    """The server listens, and lets in whoever is in the namespace."""
    folder = Path(tempfile.mkdtemp(prefix="network-"))
    folder.chmod(0o755)  # as root, the server is another user
    hba = folder / "pg_hba.conf"
    hba.write_text(HBA)
    try:
        yield {"max_connections": 500, "listen_addresses": "127.0.0.1", "hba_file": str(hba)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _namespace() -> Iterator[None]:
    """What starts meanwhile has a network of its own, which goes with its last process."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        raise Unavailable("not run: needs root and iproute2 (Debian: apt-get install iproute2)")
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            why = os.strerror(ctypes.get_errno())
            raise Unavailable(f"not run: the system gives no network namespace ({why})")
        try:
            for command in (
                "ip link set lo up",
                f"tc qdisc add dev lo root netem delay {DELAY_US}us limit 100000",
            ):
                done = subprocess.run(command.split(), capture_output=True, text=True)
                if done.returncode != 0:
                    raise Unavailable(
                        f"not run: `{command}` says {done.stderr.strip()!r} (netem needs the "
                        "kernel's sch_netem)"
                    )
            yield
        finally:
            libc.setns(outside, CLONE_NEWNET)
    finally:
        os.close(outside)
