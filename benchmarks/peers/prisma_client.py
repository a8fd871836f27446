"""Prisma, from Node: the natural transaction, by so many concurrent callers in one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict

from ..measure import Sample
from ..payload import PAYLOAD
from ..usage import cpu_times, spent
from .base import POOL, Unavailable

SOURCE = Path(__file__).parent / "prisma"
SETTINGS = (
    f"Prisma 7 with its pg adapter, pool of {POOL}, in one Node process: a transaction that reads "
    "the last sequence and creates the next one, again after a conflict; `threads` are concurrent "
    "callers"
)
COMPILED_AFTER = 2.0
"""Seconds of calls before the first slice: Node compiles what runs often."""
SCHEMA = """
CREATE TABLE event (
    game_id     text NOT NULL,
    sequence    integer NOT NULL,
    recorded_at timestamp(3) NOT NULL DEFAULT now(),
    payload     jsonb NOT NULL,
    PRIMARY KEY (game_id, sequence)
)
"""


def installed() -> Path:
    """The folder with the client, made on first use: some 300 MB in the user's cache."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Unavailable("not run: install node and npm (Debian: apt-get install nodejs npm)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "game-session-registry-benchmarks" / "prisma"
    folder.mkdir(parents=True, exist_ok=True)
    current = all(
        (folder / file.name).exists() and (folder / file.name).read_bytes() == file.read_bytes()
        for file in SOURCE.iterdir()
    )
    if current and (folder / "generated" / "client.ts").exists():
        return folder
    for file in SOURCE.iterdir():
        shutil.copy(file, folder)
    # The schema engine would be downloaded, and generating the client does not need it.
    quiet = {"PRISMA_SCHEMA_ENGINE_BINARY": shutil.which("true") or "", "CHECKPOINT_DISABLE": "1"}
    for command in (
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev"],
        [node, "node_modules/prisma/build/index.js", "generate", "--schema", "schema.prisma"],
    ):
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=300,
                env={**os.environ, **quiet},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unavailable(f"not run: {command[1]} took too long") from None
        if done.returncode != 0:
            raise Unavailable(f"not run: {' '.join(command[1:3])} failed: {done.stderr[-300:]}")
    return folder


def prepare(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(SCHEMA)


@define
class Prisma:
    """A contender. `games`: how many to append to; when it reads, the length of the log."""

    conninfo: str
    what: str
    callers: int
    games: int
    server: Callable[[], list[int]]
    page: int = 0
    name: str = "prisma"
    _process: subprocess.Popen[str] | None = field(default=None, init=False)
    _compiled: bool = field(default=False, init=False)

    def open(self) -> None:
        given = conninfo_to_dict(self.conninfo)
        pool: dict[str, Any] = {
            "host": given.get("host", "localhost"),
            "port": int(given.get("port") or 5432),
            "user": given.get("user", "postgres"),
            "database": given.get("dbname"),
            "max": POOL,
        }
        if given.get("password"):
            pool["password"] = given["password"]
        folder = installed()
        self._process = subprocess.Popen(
            [
                "node", "--import", "tsx", "main.ts",
                json.dumps({"pool": pool, "payload": PAYLOAD}),
            ],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def ready(self) -> None:
        self._answer()

    def fill(self) -> None:
        """The log that is read."""
        self._ask({"what": "fill", "page": self.games})

    def slice(self, warm: float, seconds: float) -> Sample:
        assert self._process is not None
        if not self._compiled:
            self._compiled = True
            self.slice(0.0, COMPILED_AFTER)
        pids = [self._process.pid]
        clients, servers = cpu_times(pids), cpu_times(self.server())
        begun = time.monotonic()
        done = self._ask(
            {
                "what": self.what,
                "callers": self.callers,
                "games": self.games,
                "page": self.page,
                "warm": warm,
                "seconds": seconds,
            }
        )
        served = spent(servers, cpu_times(self.server()))
        # CPU is that of the whole slice, with the calls that ended late: per second it is the same.
        share = seconds / (time.monotonic() - begun)
        return Sample(
            calls=done["ended"],
            seconds=seconds,
            p50=done["p50"],
            p99=done["p99"],
            client_cpu=spent(clients, cpu_times(pids)) * share,
            server_cpu=served * share if servers else float("nan"),
        )

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, window: Mapping[str, object]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(window) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            raise RuntimeError(f"prisma: {said.strip()[-600:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
