"""A disk that takes five milliseconds to make data safe."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..compile import compiled
from ..lab import Lab
from ..measure import Contender
from ..peers import Unavailable
from ..peers.loads import Append
from ..server import server

NAME = "disk"
TITLE = "Append on a slow disk"
EXPLAINED = (
    "Servers of their own whose every `fdatasync` takes 5 ms longer, by a shim loaded before libc; "
    "both PostgreSQL and Redis make their logs safe by that call. PostgreSQL's `commit_delay` "
    "would be kinder than a disk: it delays before it decides how much to write, so that commits "
    "arriving meanwhile go along, which on a slow disk have to wait for the next turn."
)
DELAY_US = 5_000
LONG = 1.5


def run(lab: Lab) -> None:
    places = [(1, 1), (32, 1), (128, 1), (128, 1_000)]
    if lab.options.quick:
        places = [(128, 1)]
    if lab.options.threads:
        places = [(threads, 1) for threads in lab.options.threads]
    rounds = min(2 if lab.options.quick else 3, lab.options.rounds)
    lab.view.expect(len(places))
    try:
        with (
            _slow() as settings,
            server(None, settings) as slow,
            lab.peers("ours", "plain", "redis-always", server=slow) as peers,
        ):
            for threads, games in places:
                contenders: list[Contender] = [
                    lab.callers(peer, Append(peer, games), threads=threads, server=slow)
                    for peer in peers.values()
                ]
                point = {"threads": threads, "games": games}
                # A call may take as long as 128 turns of the disk.
                length = max(lab.options.slice, LONG)
                lab.measure(
                    NAME, point, contenders, seconds=length, warm=1.0, rounds=rounds, server=slow
                )
    except Unavailable as error:
        lab.results.note(TITLE, str(error))


@contextmanager
def _slow() -> Iterator[dict[str, object]]:
    """The shim is in the environment of what starts meanwhile; gives the server's settings."""
    folder = Path(tempfile.mkdtemp(prefix="slow-disk-"))
    folder.chmod(0o755)  # as root, the server is another user
    shim = folder / "slow_disk.so"
    kept = dict(os.environ)
    try:
        compiled("slow_disk", shim, "-shared", "-fPIC")
        os.environ.update({"LD_PRELOAD": str(shim), "SLOW_FDATASYNC_US": str(DELAY_US)})
        yield {"max_connections": 500, "wal_sync_method": "fdatasync"}
    finally:
        os.environ.clear()
        os.environ.update(kept)
        shutil.rmtree(folder, ignore_errors=True)
