"""A real Redis for the tests, which can be killed, frozen, emptied, filled up and locked."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from support import free_port, wait_until

from registry.runs import Run, joined, unpack

PASSWORD = "hunter2-of-the-cache"


class RedisServer:
    """A redis-server of one's own, on a unix socket and a port of the loopback.

    What it holds survives a restart only if it was saved.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self._folder / "socket"
        self.port = free_port()
        self.url = f"unix://{self._socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.client: Any = redis.Redis(unix_socket_path=str(self._socket), socket_timeout=10)
        """Of the test's own. What it does shows in the server's counters, too."""

    def start(self) -> RedisServer:
        program = shutil.which("redis-server")
        if program is None:
            assert not os.environ.get("CI"), "install redis-server: apt-get install redis-server"
            pytest.skip("needs redis-server (Debian, Ubuntu: apt-get install redis-server)")
        self._socket.unlink(missing_ok=True)
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self._socket),
            "dir": str(self._folder),
            "save": "",
            "logfile": str(self._folder / "log"),
        }
        command = [program, *(part for name in settings for part in (f"--{name}", settings[name]))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, timeout=10)
        return self

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """As a crash would: nobody is told."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """It takes connections and says nothing any more."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self._folder)

    def fill_up(self) -> None:
        """From now on there is no room for anything more."""
        self.client.config_set("maxmemory-policy", "noeviction")
        self.client.config_set("maxmemory", 1)

    def make_room(self) -> None:
        self.client.config_set("maxmemory", 0)

    def lock_out(self, rights: str = "-@all") -> str:
        """The URL of a user who may nothing, or what the rights say."""
        self.client.execute_command(
            "ACL", "SETUSER", "guest", "reset", "on", f">{PASSWORD}", "~*", *rights.split()
        )
        return f"redis://guest:{PASSWORD}@127.0.0.1:{self.port}"

    def calls(self, command: str) -> int:
        """How often it was asked this, since it was started."""
        statistics = self.client.info("commandstats")
        return int(statistics.get(f"cmdstat_{command.lower()}", {"calls": 0})["calls"])

    def connections_received(self) -> int:
        return int(self.client.info("stats")["total_connections_received"])

    # what the cache has written

    def runs(self, game_id: str) -> list[Run]:
        """The runs of a game's log, each of which has to be sound."""
        runs = []
        for packed in self.client.lrange(f"registry:{game_id}", 0, -1):
            run = unpack(packed)
            assert run is not None
            runs.append(run)
        return runs

    def holds(self, game_id: str) -> tuple[int, int] | None:
        """The sequence before the first event that it has of a game, and the last one."""
        whole = joined(self.runs(game_id))
        return whole and (whole.begin, whole.end)


@contextmanager
def running() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server.start()
    finally:
        server.close()
