"""The client processes: started, listened to, looked at, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil
from attrs import asdict

from .pace import Pace

TESTS: Final = Path(__file__).parent.parent
PATIENCE: Final = 30.0
"""Seconds within which a process must come to its end."""


class Clients:
    """All client processes of a run; killed when the `with` is left, if they did not end before."""

    def __init__(self, pace: Pace, conninfo: str, seed: int, folder: Path) -> None:
        self._guard = threading.Lock()
        self._times: dict[str, list[int]] = defaultdict(list)
        self._complaints = folder / "clients.err"
        self._processes = []
        for number in range(pace.processes):
            options = {
                "pace": asdict(pace),
                "conninfo": conninfo,
                "seed": f"{seed}/{number}",
            }
            with self._complaints.open("ab") as complaints:
                process = subprocess.Popen(
                    [sys.executable, "-m", "soak.worker", json.dumps(options)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(TESTS)},
                    start_new_session=True,  # Ctrl-C is the runner's affair
                )
            self._processes.append(process)
        self._looked_at = [psutil.Process(process.pid) for process in self._processes]
        self._readers = [
            threading.Thread(target=self._read, args=[process], daemon=True)
            for process in self._processes
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Clients:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process, reader in zip(self._processes, self._readers, strict=True):
            process.kill()
            process.wait()
            reader.join()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self._guard:
                for name, times in json.loads(line).items():
                    self._times[name] += times

    def take(self) -> dict[str, list[int]]:
        """How long the calls took, in microseconds, that were reported since the last time."""
        for process in self._processes:
            assert process.poll() is None, f"a client process died:\n{self._said()}"
        with self._guard:
            times, self._times = self._times, defaultdict(list)
        return times

    def memory(self) -> list[int]:
        """Bytes that each process has in memory."""
        return [process.memory_info().rss for process in self._looked_at]

    def stop(self) -> None:
        """Has them finish the calls under way, and waits for that."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process, reader in zip(self._processes, self._readers, strict=True):
            code = process.wait(PATIENCE)
            reader.join()
            assert code == 0, f"a client process ended with {code}:\n{self._said()}"

    def _said(self) -> str:
        return self._complaints.read_text(errors="replace")[-4000:]
