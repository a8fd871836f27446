"""A reconnect storm, without and with the replay cache: `python -m benchmarks.storm`.

The players of hot games lose their connections, and all come back in the same moment: each resumes
and is sent what it missed. Measured by turns in each round, every time by new processes: from
PostgreSQL alone; with what each process keeps in memory, as is the default; and with Redis behind
that, which is empty, holds the games, or holds them and is killed in the middle. Needs
`pip install '.[benchmark]'` and redis-server.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from typing import Any

import psutil
import psycopg
from attrs import define, evolve, field, frozen

from registry import EmbeddedPostgres, GameSessionRegistry, RegistryConfig, RegistryError, migrate
from registry.cache import RedisReplayCache

from .payload import PAYLOAD, game_names
from .peers import Unavailable
from .peers.redis_streams import Redis, redis_server
from .usage import cpu_times, family, served, spent

PLAIN = "PostgreSQL alone"
WAYS = (PLAIN, "memory", "empty Redis", "filled Redis", "Redis killed")
SPREAD = 50
"""The events that a player missed are so many more or fewer than the mean."""

Player = tuple[str, int]
"""The resume token, and the last sequence seen."""


@frozen
class Storm:
    """What one process does."""

    conninfo: str
    redis: str | None
    memory: bool
    threads: int
    players: Sequence[Player]


@define
class Outcome:
    """Of all processes."""

    seconds: float = 0.0
    """Until the last player had what it missed."""
    failed: int = 0
    wrong: int = 0
    """Replays that were not what was missed."""
    cached: int = 0
    tokens: dict[str, str] = field(factory=dict)


def process(storm: Storm, head: int, wire: Any) -> None:
    """Opens a registry, says so, waits for the word, and lets its players come back."""
    cache = storm.redis and RedisReplayCache(storm.redis)
    config = RegistryConfig(pool_min_size=4)
    if not storm.memory:
        config = evolve(config, cache_bytes=0)
    with GameSessionRegistry.connect(
        storm.conninfo, config=config, cache=cache or None
    ) as registry:
        outcome = Outcome()
        next_one = count()

        def come_back() -> None:
            while (number := next(next_one)) < len(storm.players):
                token, after = storm.players[number]
                try:
                    resumed = registry.resume(token, after=after)
                except RegistryError:
                    outcome.failed += 1
                    continue
                outcome.tokens[token] = resumed.token
                replay = resumed.replay
                outcome.cached += replay.source == "cache"
                sequences = [event.sequence for event in replay.events]
                outcome.wrong += sequences != list(range(after + 1, head + 1))

        threads = [threading.Thread(target=come_back) for _ in range(storm.threads)]
        wire.send(None)
        wire.recv()
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outcome.seconds = time.perf_counter() - begun
        wire.send(outcome)


class Field:
    """The games and their players."""

    def __init__(self, conninfo: str, players: int, games: int, missed: int, size: int) -> None:
        self.conninfo = conninfo
        self.head = 2 * missed
        names = game_names(games)
        chance = random.Random(1851)
        with GameSessionRegistry.connect(conninfo) as registry:
            for name in names:
                registry.record_events(name, [_event(chance, size) for _ in range(self.head)])
            self.players = []
            for number in range(players):
                token = registry.issue_resume_token(names[number % games], f"{number}").token
                spread = chance.randint(-min(SPREAD, missed), min(SPREAD, missed))
                self.players.append((token, self.head - missed - spread))
        chance.shuffle(self.players)
        self.names = names

    def served(self) -> tuple[int, int]:
        """Transactions, which are statements here, and rows that the server has read for them."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            return served(connection)

    def fill(self, redis: str) -> None:
        wanted = dict.fromkeys(self.names, (0, self.head))
        with (
            RedisReplayCache(redis) as cache,
            GameSessionRegistry.connect(self.conninfo, cache=cache) as registry,
        ):
            for name in self.names:
                registry.fetch_events_since(name, 0)
            deadline = time.monotonic() + 20
            while len(cache.read(wanted, 1)) < len(wanted):
                if time.monotonic() > deadline:
                    raise SystemExit("the cache was not filled")
                time.sleep(0.02)


@frozen
class Figures:
    seconds: float
    statements: int
    rows: int
    cached: float
    cpu: float
    server_cpu: float


def blow(
    land: Field, server: int, redis: str | None, memory: bool, processes: int, threads: int,
    meanwhile: Callable[[], object] = lambda: None,
) -> Figures:  # fmt: skip
    """One storm, by new processes."""
    context = get_context("spawn")
    wires, children = [], []
    for number in range(processes):
        ours, theirs = context.Pipe()
        storm = Storm(
            land.conninfo, redis, memory, threads // processes, land.players[number::processes]
        )
        child = context.Process(target=process, args=(storm, land.head, theirs))
        child.start()
        wires.append(ours)
        children.append(child)
    for wire in wires:
        wire.recv()
    pids = [child.pid for child in children if child.pid]
    before, used, used_there = land.served(), cpu_times(pids), cpu_times(family(server))
    for wire in wires:
        wire.send(None)
    meanwhile()
    outcomes = [wire.recv() for wire in wires]
    here, there = spent(used, cpu_times(pids)), spent(used_there, cpu_times(family(server)))
    for child in children:
        child.join()
    statements, rows = (b - a for a, b in zip(before, land.served(), strict=True))
    for outcome in outcomes:
        if outcome.failed or outcome.wrong:
            raise SystemExit(f"{outcome.failed} calls failed, {outcome.wrong} answers were wrong")
    tokens = {old: new for outcome in outcomes for old, new in outcome.tokens.items()}
    land.players = [(tokens[token], after) for token, after in land.players]
    cached = sum(outcome.cached for outcome in outcomes) / len(land.players)
    return Figures(max(o.seconds for o in outcomes), statements, rows, cached, here, there)


@contextmanager
def prepared(way: str, land: Field) -> Iterator[tuple[str | None, Callable[[], object]]]:
    """The URL of the cache, and what to do while the storm blows."""
    if way in (PLAIN, "memory"):
        yield None, lambda: None
        return
    with redis_server("no") as redis:
        url = f"unix://{redis.socket}"
        if way != "empty Redis":
            land.fill(url)
        yield url, (lambda: kill_soon(redis)) if way == "Redis killed" else (lambda: None)


def kill_soon(redis: Redis) -> None:
    time.sleep(0.1)
    os.kill(redis.server_pid, signal.SIGKILL)


def _event(chance: random.Random, size: int) -> object:
    """A move, and what does not compress, up to a size."""
    return PAYLOAD if size <= 78 else {**PAYLOAD, "state": chance.randbytes((size - 90) // 2).hex()}


def _postmaster(conninfo: str) -> int:
    with psycopg.connect(conninfo) as connection:
        parent = psutil.Process(connection.info.backend_pid).parent()
    assert parent is not None
    return int(parent.pid)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    for name, default in (
        ("players", 2_000), ("games", 50), ("missed", 100), ("threads", 128), ("processes", 2),
        ("rounds", 7), ("bytes", 78),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    options = parser.parse_args(argv)
    figures: dict[str, list[Figures]] = {way: [] for way in WAYS}
    with EmbeddedPostgres() as server:
        migrate(server.conninfo)
        land = Field(server.conninfo, options.players, options.games, options.missed, options.bytes)
        postmaster = _postmaster(server.conninfo)
        try:
            for number in range(options.rounds + 1):
                for way in WAYS:
                    with prepared(way, land) as (url, meanwhile):
                        found = blow(
                            land,
                            postmaster,
                            url,
                            way != PLAIN,
                            options.processes,
                            options.threads,
                            meanwhile,
                        )
                    if number:  # the first warms the server up
                        figures[way].append(found)
        except Unavailable as error:
            print(error, file=sys.stderr)
            return 1
    print(
        f"{options.players} players of {options.games} games, {options.missed} events of "
        f"{options.bytes} bytes missed each, {options.processes} processes with "
        f"{options.threads} threads together, {options.rounds} rounds (medians)\n"
    )
    print(
        "| | ms to the last player (range) | of PostgreSQL alone | statements | event rows read "
        "| known before | CPU of the processes, ms | of PostgreSQL, ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    plain = [found.seconds for found in figures[PLAIN]]
    for way, all_found in figures.items():
        seconds = [found.seconds for found in all_found]
        ratio = statistics.median(a / b for a, b in zip(seconds, plain, strict=True))

        def middle(name: str, of: Sequence[Figures] = all_found) -> float:
            return float(statistics.median(getattr(found, name) for found in of))

        print(
            f"| {way} | {1000 * statistics.median(seconds):,.0f} "
            f"({1000 * min(seconds):,.0f} to {1000 * max(seconds):,.0f}) | {ratio:.2f} "
            f"| {middle('statements'):,.0f} | {middle('rows'):,.0f} | {middle('cached'):.0%} "
            f"| {1000 * middle('cpu'):,.0f} | {1000 * middle('server_cpu'):,.0f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
