"""The client processes: started, killed and replaced, spoken to, and asked how they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .worker import HOT, STACKS

SERVED = 20
"""Answers that a process must get to count as served."""

PATIENCE = 60.0
"""Seconds within which all must be served after a fault is undone."""


class ClientProcess:
    """One process of clients, which is replaced when it dies."""

    def __init__(
        self, number: int, incarnation: int, folder: Path, conninfo: str, standby: str, redis: str,
        seed: int,
    ) -> None:  # fmt: skip
        self.number = number
        self.incarnation = incarnation
        self.clock = folder / f"clock-{number}" if number % 2 else None
        """A file that says how wrong its wall clock is, for a half of the processes."""
        self.status: dict[str, Any] = {}
        """The last that it said about itself."""
        self._errors = folder / f"client-{number}.err"
        options = {
            "conninfo": conninfo,
            "standby": standby if number % 2 else None,  # for a half of the processes
            "redis": redis if number // 2 % 2 else None,  # for a half of the processes
            "history": str(history_of(folder, number, incarnation)),
            "number": number,
            "incarnation": incarnation,
            "seed": seed,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.worker", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors.open("ab"),
            text=True,
            env={**os.environ, **_faked_clock(self.clock)},
            start_new_session=True,  # Ctrl-C is the runner's affair
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                self.status = json.loads(line)

    def served(self) -> Counter[str]:
        """How many answers it has had, and how many appends to each of the hot games."""
        status = self.status
        return Counter({"any answer": status.get("answered", 0), **status.get("appended", {})})

    def clock_error(self) -> float:
        """Seconds by which its wall clock is wrong, or was when it last said so."""
        return abs(float(self.status.get("clock", 0.0)) - time.time())

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def finish(self, seconds: float) -> None:
        """Waits for its end after it was told to stop."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.send_signal(STACKS)
            time.sleep(0.2)  # in which it writes them
            raise AssertionError(
                f"client {self.number} did not finish within {seconds:g} s:\n{self.complaints()}"
            ) from None
        self._reader.join()
        assert code == 0, f"client {self.number} ended with {code}:\n{self.complaints()}"

    def alive(self) -> bool:
        return self._process.poll() is None

    def complaints(self) -> str:
        return self._errors.read_text(errors="replace")[-8000:]


class Fleet:
    """All client processes of a run."""

    def __init__(
        self, number: int, folder: Path, conninfo: str, standby: str, redis: str, seed: int
    ) -> None:
        self._folder = folder
        self._conninfo = conninfo
        self._standby = standby
        self._redis = redis
        self._seed = seed
        self._ended: list[dict[str, Any]] = []
        self._all: list[ClientProcess] = []
        self.clients = [self._start(n, 0) for n in range(number)]

    def _start(self, number: int, incarnation: int) -> ClientProcess:
        seed = self._seed + 1000 * number + incarnation
        client = ClientProcess(
            number, incarnation, self._folder, self._conninfo, self._standby, self._redis, seed
        )
        self._all.append(client)
        return client

    def replace(self, client: ClientProcess) -> None:
        """Kills a process in the middle of whatever it does, and starts one in its place."""
        client.kill()
        self.clients[client.number] = self._start(client.number, client.incarnation + 1)

    def until_served(self) -> None:
        """Waits until each process gets answers again, and in each game that all play."""
        before = {client: client.served() for client in self.clients}

        def waiting() -> list[str]:
            for client in before:
                assert client.alive(), f"client {client.number} died:\n{client.complaints()}"
            return [
                f"client {client.number}: {what}"
                for client, counts in before.items()
                for what, least in {"any answer": SERVED, **dict.fromkeys(HOT, 1)}.items()
                if client.served()[what] < counts[what] + least
            ]

        deadline = time.monotonic() + PATIENCE
        while left := waiting():
            assert time.monotonic() < deadline, f"not served within {PATIENCE:g} s: {left}"
            time.sleep(0.02)

    def stop(self) -> None:
        """Has all finish what they are doing, and waits for that."""
        for client in self.clients:
            client.tell("stop")
        for client in self.clients:
            client.finish(PATIENCE)

    def kill(self) -> None:
        for client in self._all:
            client.kill()

    def counts(self, name: str) -> dict[str, int]:
        """What all processes that ever were counted under that name, added up."""
        sums: dict[str, int] = {}
        for client in self._all:
            for key, number in client.status.get(name, {}).items():
                sums[key] = sums.get(key, 0) + number
        return sums

    def histories(self) -> list[Path]:
        return [history_of(self._folder, c.number, c.incarnation) for c in self._all]


def history_of(folder: Path, number: int, incarnation: int) -> Path:
    return folder / f"history-{number}.{incarnation}.jsonl"


def _faked_clock(file: Path | None) -> dict[str, str]:
    """The environment in which a file says how wrong the wall clock is."""
    if file is None:
        return {}
    file.write_text("+0")
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    assert library.exists(), library
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
