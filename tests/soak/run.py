"""One run: clients at work, a look at everything each second, and what is left in the end."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

import psycopg
from attrs import Factory, define
from soundness import unsound
from support import Clock

from registry import EmbeddedPostgres, GameSessionRegistry, migrate

from .clients import Clients
from .flatness import Verdict, judged
from .pace import TABLES, Pace
from .play import check_whole
from .probe import Probe
from .series import Sample
from .worker import LATENESS

EVERY = 1.0
"""Seconds between two looks."""

Say = Callable[[float], None]
"""Is told how many seconds have gone."""


@define
class Outcome:
    """What came of a run."""

    pace: Pace
    seed: int
    times: list[float] = Factory(list)
    samples: list[Sample] = Factory(list)
    verdicts: list[Verdict] = Factory(list)
    calls: dict[str, int] = Factory(dict)
    trouble: list[str] = Factory(list)
    """What is wrong besides lines that are not flat."""

    @property
    def passed(self) -> bool:
        return not self.trouble and all(verdict.flat for verdict in self.verdicts)


def run(pace: Pace, seed: int, say: Say) -> Outcome:
    """Loads a server of its own for `pace.seconds`, then judges."""
    outcome = Outcome(pace, seed)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    folder.chmod(0o755)  # the server runs as somebody else
    try:
        with EmbeddedPostgres(folder / "server", settings=pace.server_settings()) as server:
            migrate(server.conninfo)
            with Clients(pace, server.conninfo, seed, folder) as clients:
                _watch(outcome, clients, server.conninfo, say)
                clients.stop()
            outcome.trouble += _holes(server.conninfo) + _residue(pace, server.conninfo)
    except AssertionError as error:  # of the clients: what they saw is wrong, or they died
        outcome.trouble.append(str(error))
    finally:
        shutil.rmtree(folder)
    if not outcome.trouble:
        outcome.verdicts = judged(outcome.times, outcome.samples)
    return outcome


def _watch(outcome: Outcome, clients: Clients, conninfo: str, say: Say) -> None:
    never = threading.Event()
    begin = last = time.monotonic()
    with Probe(conninfo) as probe:
        while last < begin + outcome.pace.seconds:
            never.wait(last + EVERY - time.monotonic())
            now = time.monotonic()
            times = clients.take()
            for name, durations in times.items():
                outcome.calls[name] = outcome.calls.get(name, 0) + len(durations)
            sample = {**probe.look(), **_of_calls(times, now - last)}
            for number, memory in enumerate(clients.memory()):
                sample["memory", f"client {number + 1}"] = memory
            outcome.times.append(now - begin)
            outcome.samples.append(sample)
            last = now
            say(now - begin)


def _of_calls(times: dict[str, list[int]], seconds: float) -> Sample:
    """Rates, and latencies in seconds."""
    sample: Sample = {}
    every = [name for name in times if name != LATENESS]
    sample["rate", "all calls"] = sum(len(times[name]) for name in every) / seconds
    sample["rate", "record_event"] = len(times.get("record_event", ())) / seconds
    if cleanups := times.pop("cleanup_expired_sessions", None):
        sample["cleanup", "median"] = median(cleanups) / 1e6
    for name, durations in times.items():
        ranks = quantiles(durations, n=100) if len(durations) > 1 else durations * 99
        sample["latency p50", name] = ranks[49] / 1e6
        sample["latency p99", name] = ranks[98] / 1e6
    return sample


def _holes(conninfo: str) -> list[str]:
    """What is wrong with the rows, and with the log of any game when it is read."""
    found = [f"{rule}: {row}" for rule, row in unsound(conninfo)]
    with psycopg.connect(conninfo) as connection:
        games = connection.execute("SELECT game_id, floor, head FROM game").fetchall()
    if not games:
        found.append("no game was left to look at")
    with GameSessionRegistry.connect(conninfo) as registry:
        for game_id, floor, head in games:
            try:
                events = registry.iter_events_since(game_id, floor, page_size=100)
                check_whole(game_id, events, floor, head)
            except AssertionError as error:
                found.append(str(error))
    return found


def _residue(pace: Pace, conninfo: str) -> list[str]:
    """What is still there when everything has had its time and was cleaned up."""
    Clock(conninfo).advance(pace.ttl + pace.retention)
    with GameSessionRegistry.connect(conninfo, config=pace.config()) as registry:
        registry.cleanup_expired_sessions()
    with Probe(conninfo) as probe:
        left = probe.look()
    return [
        f"{left['rows', table]} rows are left in {table} when all is over"
        for table in TABLES
        if left["rows", table]
    ]
