"""Calls while somebody's forgotten transaction holds back vacuum: `python -m benchmarks.vacuum`.

What is deleted or updated meanwhile stays in the tables and in their indexes, since that
transaction might still want to see it. Each layout of the events has a database of its own on one
server, with a transaction left open there and the same even load; one more has the load alone. All
at once, minute by minute: whatever disturbs the machine shows in all.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from multiprocessing import get_context
from typing import Any

import psycopg
from attrs import frozen
from rich.progress import Progress, TextColumn

from registry import EmbeddedPostgres, GameSessionRegistry, Maintenance, RegistryConfig, migrate
from registry.partitioning import ByHash, ByTime, Layout, Plain, bring_empty

from .payload import PAYLOAD, game_names

THREADS = 4
PLAYERS = 2
HOT = "append, hot game"
APPEND, ACKNOWLEDGE, REPLAY = "append", "acknowledge", "replay"
KINDS = (APPEND, HOT, ACKNOWLEDGE, REPLAY)
PAGE = 10
"""Events between two acknowledgements of a player, and so of a replay."""

SETTINGS = {"checkpoint_timeout": "1h", "max_wal_size": "16GB", "shared_buffers": "1GB"}
"""No checkpoint and no page that has to be written to make room: these make every call slower for
minutes, whoever holds back vacuum."""

Took = Mapping[tuple[str, int], Sequence[float]]
"""Of each kind of call, in each stretch of the time, the seconds that calls took."""


@frozen
class Load:
    """What the process of one way does."""

    conninfo: str
    games: int
    rate: float
    """Events in a second."""
    hot: float
    """The share of the first game."""
    stretch: float
    """Seconds that are looked at together."""
    stretches: int
    retention: float


class Table:
    """The games of one process, and who plays them."""

    def __init__(self, load: Load, registry: GameSessionRegistry) -> None:
        self._registry = registry
        self._names = game_names(load.games)
        self._hot = load.hot
        self._lock = threading.Lock()
        self._events: dict[str, int] = defaultdict(int)
        self._sessions = {
            name: [registry.issue_resume_token(name, f"{player}").session.session_id
                   for player in range(PLAYERS)]
            for name in self._names
        }  # fmt: skip
        self._chance = random.Random(1851)

    def calls(self) -> Iterator[tuple[str, float]]:
        """One event and what follows from it: of each call the kind, and when it ended."""
        with self._lock:
            hot = self._chance.random() < self._hot
            name = self._names[0] if hot else self._chance.choice(self._names[1:])
        head = self._registry.record_event(name, PAYLOAD)
        yield HOT if hot else APPEND, time.perf_counter()
        if head % PAGE:
            return
        # In every fourth game one player is silent, so that its log waits for the retention.
        silent = self._names.index(name) % 4 == 3
        for session in self._sessions[name][silent:]:
            self._registry.fetch_events_since(name, head - PAGE)
            yield REPLAY, time.perf_counter()
            self._registry.acknowledge(session, head)
            yield ACKNOWLEDGE, time.perf_counter()


def process(load: Load, wire: Any) -> None:
    """Says when it is ready, waits for the word, and plays."""
    config = RegistryConfig(replay_retention=load.retention, pool_min_size=4, cache_bytes=0)
    took: dict[tuple[str, int], list[float]] = defaultdict(list)
    with GameSessionRegistry.connect(load.conninfo, config=config) as registry:
        table = Table(load, registry)
        turns = count()
        failures: list[BaseException] = []
        wire.send(None)
        begun = wire.recv()
        end = begun + load.stretch * load.stretches

        def play() -> None:
            try:
                while (due := begun + next(turns) / load.rate) < end:
                    time.sleep(max(0.0, due - time.perf_counter()))
                    last = time.perf_counter()
                    stretch = min(int((due - begun) / load.stretch), load.stretches - 1)
                    for kind, now in table.calls():
                        took[kind, stretch].append(now - last)
                        last = now
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=play) for _ in range(THREADS)]
        with Maintenance(registry, interval=max(1.0, load.retention / 4)):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        late = time.perf_counter() - end
    wire.send((dict(took), late, failures[:1]))


@contextmanager
def forgotten(conninfo: str, held: bool) -> Iterator[None]:
    """A transaction that somebody left open."""
    if not held:
        yield
        return
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT pg_current_xact_id()")
        yield


def ways(stretch: float) -> dict[str, tuple[Layout, bool]]:
    """The layout of each, and whether vacuum is held back."""
    return {
        "plain, vacuum free": (Plain(), False),
        "plain": (Plain(), True),
        "by hash": (ByHash(16), True),
        "by time": (ByTime(timedelta(seconds=max(60.0, stretch))), True),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vacuum", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, metavar="N")
    parser.add_argument("--games", type=int, default=50, metavar="N")
    parser.add_argument("--rate", type=float, default=100, metavar="EVENTS/S", help="of each way")
    parser.add_argument("--hot", type=float, default=0.2, metavar="SHARE", help="of one game")
    options = parser.parse_args(argv)
    stretches = 10
    stretch = options.minutes * 60 / stretches
    context = get_context("spawn")
    with EmbeddedPostgres(settings=SETTINGS) as server:
        wires, children, holders = {}, [], []
        for number, (way, (layout, held)) in enumerate(ways(stretch).items()):
            conninfo = _database(server.conninfo, f"way_{number}")
            migrate(conninfo)
            with psycopg.connect(conninfo, autocommit=True) as connection:
                bring_empty(connection, layout)
            ours, theirs = context.Pipe()
            load = Load(
                conninfo, options.games, options.rate, options.hot, stretch, stretches, 2 * stretch
            )
            child = context.Process(target=process, args=(load, theirs), daemon=True)
            child.start()
            theirs.close()
            wires[way] = ours
            children.append(child)
            holders.append(forgotten(conninfo, held))
        for wire in wires.values():
            wire.recv()
        for holder in holders:
            holder.__enter__()
        begun = time.perf_counter() + 0.5
        for wire in wires.values():
            wire.send(begun)
        _wait(stretch * stretches)
        found = {way: wire.recv() for way, wire in wires.items()}
        for holder in holders:
            holder.__exit__(None, None, None)
        for child in children:
            child.join()
    for way, (_, late, failures) in found.items():
        if failures:
            raise SystemExit(f"{way}: {failures[0]!r}")
        if late > stretch / 10:
            print(f"{way}: ended {late:.0f} s late, the load is too much for this machine")
    _show({way: took for way, (took, _, _) in found.items()}, stretches, stretch, options)
    return 0


def _database(conninfo: str, name: str) -> str:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return psycopg.conninfo.make_conninfo(conninfo, dbname=name)


def _wait(seconds: float) -> None:
    with Progress(*Progress.get_default_columns(), TextColumn("of the load")) as progress:
        task = progress.add_task("", total=seconds)
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < seconds:
            progress.update(task, completed=gone)
            time.sleep(min(1.0, seconds - gone + 0.01))


def _show(found: Mapping[str, Took], stretches: int, stretch: float, options: Any) -> None:
    print(
        f"{options.games} games, {options.rate:g} events/s of each way, {options.hot:.0%} of them "
        f"in one hot game; p99 in ms of each {stretch:g} s\n"
    )
    print(
        "| calls | way | calls in all | " + " | ".join(str(n + 1) for n in range(stretches)) + " |"
    )
    print("| --- | --- | ---: |" + " ---: |" * stretches)
    for kind in KINDS:
        for way, took in found.items():
            each = [sorted(took.get((kind, n), ())) for n in range(stretches)]
            cells = [f"{1000 * one[int(len(one) * 0.99)]:.2f}" if one else "" for one in each]
            print(f"| {kind} | {way} | {sum(map(len, each)):,} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
