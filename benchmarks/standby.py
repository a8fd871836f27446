"""What a standby takes off the primary: `python -m benchmarks.standby PRIMARY STANDBY`.

Pages of cold games are read one after another, with nothing in memory, from the primary alone and
with the standby, by turns in each round. The servers are yours, two conninfos of one migrated
database; games of its own are recorded there and ended again. CPU is that of their processes, as
far as they run on this machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from uuid import uuid4

import psutil
import psycopg
from attrs import frozen

from registry import GameSessionRegistry, RegistryConfig

from .payload import PAYLOAD
from .usage import CpuTimes, cpu_times, family, served, spent

TIMES = 4
"""CPU is counted in hundredths of a second."""


@frozen
class Figures:
    """Of one round, each for one page."""

    seconds: float
    statements: float
    rows: float
    """Rows of events that the primary read."""
    primary: float
    standby: float
    """Seconds of CPU of each server."""
    caller: float


class Server:
    """One of the two, as its statistics and its processes show it."""

    def __init__(self, conninfo: str) -> None:
        self.conninfo = conninfo
        with psycopg.connect(conninfo) as connection:
            try:
                parent = psutil.Process(connection.info.backend_pid).parent()
            except psutil.NoSuchProcess:  # on another machine
                parent = None
        self._postmaster = parent.pid if parent and "postgres" in parent.name() else 0

    def cpu(self) -> CpuTimes:
        return cpu_times(family(self._postmaster)) if self._postmaster else {}

    def served(self) -> tuple[int, int]:
        """Transactions, which are statements here, and rows of events read."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            return served(connection)


def caught_up(primary: str, standby: str) -> None:
    """Waits until the standby has all that the primary has."""
    with psycopg.connect(primary) as connection:
        reached = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    deadline = time.monotonic() + 60
    with psycopg.connect(standby, autocommit=True) as connection:
        behind = "SELECT pg_last_wal_replay_lsn() < %s::pg_lsn"
        while (connection.execute(behind, reached).fetchone() or (True,))[0]:
            if time.monotonic() > deadline:
                raise SystemExit("the standby does not catch up")
            time.sleep(0.05)


def play(
    registry: GameSessionRegistry, games: Sequence[str], events: int, primary: Server,
    standby: Server, wanted: str,
) -> Figures:  # fmt: skip
    """Reads a page of each game, `TIMES` over."""
    for game in games[:5]:  # connections are there, statements prepared
        registry.fetch_events_since(game, 0, limit=events)
    time.sleep(1.1)  # until the statistics of what was before are in
    before = primary.served()
    used = primary.cpu(), standby.cpu(), time.process_time()
    begun = time.perf_counter()
    for game in TIMES * list(games):
        page = registry.fetch_events_since(game, 0, limit=events)
        assert (len(page.events), page.source) == (events, wanted)
    seconds = time.perf_counter() - begun
    caller = time.process_time() - used[2]
    here, there = spent(used[0], primary.cpu()), spent(used[1], standby.cpu())
    time.sleep(1.1)
    registry.fetch_events_since(games[0], events)  # has its server process tell what it did
    time.sleep(0.1)
    statements, rows = (b - a for a, b in zip(before, primary.served(), strict=True))
    pages = TIMES * len(games)
    each = (seconds, statements, rows, here, there, caller)
    return Figures(*(figure / pages for figure in each))


def measure(
    primary: Server, standby: Server, games: int, events: int, size: int, rounds: int
) -> Mapping[str, list[Figures]]:
    run = uuid4().hex[:8]
    names = [f"standby-{run}-{number:04}" for number in range(games)]
    figures: dict[str, list[Figures]] = {"primary alone": [], "with the standby": []}
    payload = {**PAYLOAD, "state": "x" * (size - 90)} if size > 90 else PAYLOAD
    config = RegistryConfig(cache_bytes=0, pool_min_size=1, standby_timeout=5.0)
    with (
        GameSessionRegistry.connect(primary.conninfo, config=config) as alone,
        GameSessionRegistry.connect(
            primary.conninfo, config=config, read_conninfo=standby.conninfo
        ) as both,
    ):
        for name in names:
            alone.record_events(name, [payload] * events)
        caught_up(primary.conninfo, standby.conninfo)
        try:
            for number in range(rounds + 1):
                for way, registry, wanted in (
                    ("primary alone", alone, "database"),
                    ("with the standby", both, "standby"),
                ):
                    found = play(registry, names, events, primary, standby, wanted)
                    if number:  # the first warms the servers up
                        figures[way].append(found)
        finally:
            for name in names:
                alone.end_game(name)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.standby", description=__doc__)
    parser.add_argument("primary")
    parser.add_argument("standby")
    parser.add_argument("--games", type=int, default=50, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--events", type=int, nargs="+", default=[200, 1_000], metavar="N")
    parser.add_argument("--bytes", type=int, nargs="+", default=[78, 1_000], metavar="N")
    options = parser.parse_args(argv)
    primary, standby = Server(options.primary), Server(options.standby)
    print(
        f"pages of {options.games} games, {options.rounds} rounds: medians, for one page\n\n"
        "| events, of bytes | | ms (range) | statements of the primary | its event rows "
        "| CPU of the primary, ms | of the standby, ms | of the caller, ms |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for size in options.bytes:
        for events in options.events:
            found = measure(primary, standby, options.games, events, size, options.rounds)
            for way, figures in found.items():
                middle = [
                    statistics.median(getattr(figure, name) for figure in figures)
                    for name in ("seconds", "statements", "rows", "primary", "standby", "caller")
                ]
                seconds = [1000 * figure.seconds for figure in figures]
                print(
                    f"| {events:,}, {size:,} | {way} | {1000 * middle[0]:.1f} "
                    f"({min(seconds):.1f} to {max(seconds):.1f}) | {middle[1]:.1f} "
                    f"| {middle[2]:,.0f} | {1000 * middle[3]:.2f} | {1000 * middle[4]:.2f} "
                    f"| {1000 * middle[5]:.2f} |"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
