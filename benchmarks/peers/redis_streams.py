"""Redis streams: XADD, with the append-only file synced always or every second."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from ..codec import dumps, loads
from .base import Unavailable

INSTALL = "not run: install redis-server (Debian, Ubuntu: apt-get install redis-server)"


@frozen
class Redis:
    socket: str
    server_pid: int
    appendfsync: str

    @property
    def name(self) -> str:
        return f"redis-{self.appendfsync}"

    @property
    def settings(self) -> str:
        loses = "" if self.appendfsync == "always" else " (a crash may lose the last second)"
        return (
            f"XADD through redis-py with hiredis over a unix socket, a connection for each thread; "
            f"appendonly yes, appendfsync {self.appendfsync}{loses}, no snapshots, no rewrites"
        )

    def prepare(self) -> None:
        pass

    def connect(self) -> RedisClient:
        return RedisClient(self.socket)


class RedisClient:
    def __init__(self, socket: str) -> None:
        import redis

        self._redis: Any = redis.Redis(unix_socket_path=socket, max_connections=4_096)
        self.close = self._redis.close

    def append(self, game: str, payload: object) -> object:
        return self._redis.xadd(game, {"payload": dumps(payload)})

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for sequence, payload in enumerate(payloads, 1):
            pipeline.xadd(game, {"payload": dumps(payload)}, id=f"0-{sequence}")
        pipeline.execute()

    def read(self, game: str, after: int, limit: int) -> int:
        found = self._redis.xrange(game, min=f"(0-{after}", count=limit)
        return len([loads(fields[b"payload"]) for _, fields in found])


@contextmanager
def redis_server(appendfsync: str) -> Iterator[Redis]:
    """A server of one's own, its file on the same disk as the embedded PostgreSQL's."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable(INSTALL)
    if find_spec("redis") is None:
        raise Unavailable("not run: pip install 'redis[hiredis]'")
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    socket = folder / "socket"
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "auto-aof-rewrite-percentage": "0",
        "logfile": str(folder / "log"),
    }
    command = [program]
    for name, value in settings.items():
        command += [f"--{name}", value]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable("not run: redis-server did not start")
            time.sleep(0.02)
        yield Redis(str(socket), process.pid, appendfsync)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
