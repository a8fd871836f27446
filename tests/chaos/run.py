"""One run: clients at work, faults in random order, and a judgement of what the clients saw."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from registry import GameSessionRegistry, RegistryConfig

from .checker import violations
from .client import Client
from .cluster import Cluster
from .faults import FAULTS
from .fleet import Fleet
from .history import Call, Recorder, load
from .world import World

PROCESSES: Final = 4

Say = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a run."""

    seed: int
    history: Path
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind, and by what they were answered."""
    settled: dict[str, int] = field(default_factory=dict)
    trouble: str = ""
    """Why the run could not go on to its end."""
    found: list[str] = field(default_factory=list)
    """What the checker found."""
    judged_in: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.trouble and not self.found


def run(minutes: float, seed: int, names: Sequence[str], say: Say) -> Outcome:
    """Runs the clients for that long under the faults of these names."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    folder.chmod(0o755)
    outcome = Outcome(seed, folder)
    begin = time.monotonic()
    chance = random.Random(seed)
    with Cluster(folder, seed) as cluster:
        fleet = Fleet(PROCESSES, folder, cluster.conninfo, seed)
        try:
            say(f"{PROCESSES} client processes begin; seed {seed}")
            fleet.until_served()
            world = World(cluster, fleet, chance)
            deadline = begin + 60 * minutes
            for name in _in_random_order(names, chance):
                if time.monotonic() > deadline:
                    break
                started = time.monotonic()
                say(name)
                FAULTS[name](world)
                outcome.faults[name] += 1
                world.fleet.until_served()
                say(f"{name}: over, and everybody served, after {time.monotonic() - started:.1f} s")
            say("the clients finish")
            fleet.stop()
            say("everything is read once more")
            last = folder / "history-final.jsonl"
            _read_all(cluster, last)
            paths = [*fleet.histories(), last]
        except Exception as trouble:
            outcome.trouble = f"{type(trouble).__name__}: {trouble}"
            paths = fleet.histories()
        finally:
            fleet.kill()
        outcome.settled = fleet.counts("settled")
    outcome.seconds = time.monotonic() - begin
    say("the checker reads the history")
    begin = time.monotonic()
    calls = load(path for path in paths if path.exists())
    outcome.calls.update((call.kind, _answer(call)) for call in calls)
    outcome.found = violations(calls)
    outcome.judged_in = time.monotonic() - begin
    return outcome


def _in_random_order(names: Sequence[str], chance: random.Random) -> Iterator[str]:
    """All of them, shuffled, again and again."""
    while names:
        yield from chance.sample(names, len(names))


def _answer(call: Call) -> str:
    if call.result is not None:
        return "answered"
    return call.error or "its client was killed"


def _read_all(cluster: Cluster, history: Path) -> None:
    """Reads every game from its floor to its head."""
    games = cluster.primary.query("SELECT game_id, floor FROM game ORDER BY game_id")
    config = RegistryConfig(lossless_failover=True)
    with GameSessionRegistry.connect(cluster.primary.server.conninfo, config=config) as registry:
        client = Client(registry, Recorder(history, PROCESSES), 0)
        for game, position in games:
            more = True
            while more:
                page = client.read(game, position, final=True)
                position = page.events[-1].sequence if page.events else position
                more = page.more
