"""One run: clients at work, faults in random order, and a judgement of what the clients saw."""

from __future__ import annotations

import gc
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from redis_server import running
from soundness import EVERYONE_WAITED_FOR, RULES, unsound

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
    folder: Path
    """The history, and the servers with their logs."""
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind, and by what they were answered."""
    settled: dict[str, int] = field(default_factory=dict)
    trouble: str = ""
    """Why the run could not go on to its end."""
    found: list[str] = field(default_factory=list)
    """What the checker found in the history, and what does not hold between the rows."""
    judged_in: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.trouble and not self.found


def run(
    names: Sequence[str], seed: int, seconds: float | None, say: Say, *, layout: str
) -> Outcome:
    """Runs the clients under the faults of these names: each of them once, or for so long."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    folder.chmod(0o755)  # the server runs as somebody else
    outcome = Outcome(seed, folder)
    begin = time.monotonic()
    try:
        histories = _play(outcome, names, seconds, say, layout)
    except BaseException:  # interrupted: there is nothing to judge
        shutil.rmtree(folder)
        raise
    outcome.seconds = time.monotonic() - begin
    say("the checker reads the history")
    begin = time.monotonic()
    gc.disable()  # nothing of what follows is thrown away
    calls = load(path for path in histories if path.exists())
    outcome.calls.update((call.kind, _answer(call)) for call in calls)
    outcome.found += violations(calls)
    outcome.judged_in = time.monotonic() - begin
    return outcome


def _play(
    outcome: Outcome, names: Sequence[str], seconds: float | None, say: Say, layout: str
) -> Sequence[Path]:
    """The files in which the clients have written down what they saw."""
    begin = time.monotonic()
    chance = random.Random(outcome.seed)
    with Cluster(outcome.folder, outcome.seed, layout) as cluster, running() as redis:
        servers = cluster.conninfo, cluster.read_conninfo, redis.url
        fleet = Fleet(PROCESSES, outcome.folder, *servers, outcome.seed)
        last = outcome.folder / "history-final.jsonl"
        try:
            say(f"{PROCESSES} client processes begin; seed {outcome.seed}, layout {layout}")
            fleet.until_served()
            world = World(cluster, redis, fleet, chance)
            for name in _in_random_order(names, chance, rounds=1 if seconds is None else None):
                started = time.monotonic()
                if seconds is not None and started > begin + seconds:
                    break
                say(name)
                FAULTS[name](world)
                outcome.faults[name] += 1
                fleet.until_served()
                say(f"{name}: over, and all served, after {time.monotonic() - started:.1f} s")
            say("the clients finish")
            fleet.stop()
            say("everything is read once more")
            _read_all(cluster, last)
            rows = unsound(cluster.primary.server.conninfo, {**RULES, **EVERYONE_WAITED_FOR})
            outcome.found += [f"the tables in the end: {name}: {row}" for name, row in rows]
        except Exception as trouble:
            outcome.trouble = f"{type(trouble).__name__}: {trouble}"
        finally:
            fleet.kill()
            outcome.settled = fleet.counts("settled")
        return [*fleet.histories(), last]


def _in_random_order(
    names: Sequence[str], chance: random.Random, rounds: int | None
) -> Iterator[str]:
    """All of them, shuffled, so many times."""
    for _ in count() if rounds is None else range(rounds):
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
