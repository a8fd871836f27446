"""What each layout of the events costs and brings: `python -m benchmarks.layouts`.

The same events, of games over ten days, in one table, in partitions by hash and in partitions by
day; the last two are made of the first one by `python -m registry partition`, while events are
recorded. Then calls in each, by turns; then the oldest day has had its time, and each is cleaned
up, while events are recorded.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import psycopg
from attrs import frozen
from psycopg import sql
from psycopg.conninfo import make_conninfo
from rich.progress import Progress, TextColumn

from registry import EmbeddedPostgres, GameSessionRegistry, Maintenance, RegistryConfig
from registry.maintenance import Outcome
from registry.partitioning.layouts import EVENTS
from registry.partitioning.queries import queries

from .cases.acknowledge import OurAcknowledge
from .measure import Callers, Sample, interleave, opened
from .payload import PAYLOAD
from .peers import Ours
from .peers.loads import Append
from .peers.ours import CONFIG
from .worker import Call, Load

DAYS = 10
IN_EACH = 100
"""Events of a game that is over."""
LAYOUTS: Mapping[str, Sequence[str]] = {
    "one table": (),
    "by hash": ("--by", "hash", "--partitions", "16"),
    "by day": ("--by", "time", "--every", "1day"),
}
"""Each with what the command is told."""

BESIDE = "p99 of appends, ms: before / meanwhile / worst second"
THREADS_BESIDE = 16
SLICE = 1.0
SLICES_BEFORE = 5
AT = "now() - make_interval(secs => %(seconds)s * (1 - n / %(games)s::float))"
FILL = (
    f"""
    INSERT INTO game (game_id, head, head_at, oldest_at)
    SELECT 'old-' || to_char(n, 'FM00000000'), %(each)s, {AT}, {AT}
    FROM generate_series(%(first)s, %(last)s - 1) AS n
    """,
    f"""
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT 'old-' || to_char(n, 'FM00000000'), s, {AT}, 1, %(payload)s
    FROM generate_series(%(first)s, %(last)s - 1) AS n, generate_series(1, %(each)s) AS s
    ORDER BY n, s
    """,
)


@frozen
class Replay:
    """Pages of games that nobody has in memory."""

    peer: Ours
    games: int

    def open(self, process: int) -> ReplayOpened:
        return ReplayOpened(self.peer, self.games)


class ReplayOpened:
    def __init__(self, peer: Ours, games: int) -> None:
        client = peer.connect()
        self._read, self._games = client.read, games
        self.close = client.close

    def caller(self, thread: int) -> Call:
        choose, read, games = random.Random(thread).randrange, self._read, self._games

        def call() -> None:
            assert read(f"old-{choose(games):08}", 0, IN_EACH) == IN_EACH

        return call


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layouts", description=__doc__)
    for name, default in (("rows", 10_000_000), ("rounds", 7), ("seconds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    parser.add_argument("--share", type=float, default=0.5, help="as of the command partition")
    options = parser.parse_args(argv)
    games = options.rows // IN_EACH
    with EmbeddedPostgres() as server, Progress(
        *Progress.get_default_columns(), TextColumn("{task.fields[now]}")
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=11, now="")

        def now(text: str) -> None:
            progress.update(task, advance=1, now=text)

        now(f"filling {options.rows:,} rows")
        first = make_conninfo(server.conninfo, dbname="one_table")
        _create(server.conninfo, "one_table", None)
        peer = Ours(first, attrs.evolve(CONFIG, cache_bytes=0, replay_retention=2 * DAYS * 86400.0))
        peer.prepare()
        fill(first, games)
        peers = {"one table": peer}
        print(f"{options.rows:,} events of {games:,} games over {DAYS} days\n")
        print(f"| | to get there, s | {BESIDE} | size, MB |")
        print("| --- | ---: | --- | ---: |")
        for name, words in LAYOUTS.items():
            if not words:
                print(f"| {name} | | | {_megabytes(first):,.0f} |")
                continue
            now(f"{name}: moving")
            there = name.replace(" ", "_")
            _create(server.conninfo, there, "one_table")
            moved = attrs.evolve(peer, conninfo=make_conninfo(first, dbname=there), name=name)
            peers[name] = moved
            took, appends = beside(moved, partial(_partition, moved.conninfo, words, options.share))
            print(f"| {name} | {took:.0f} | {appends} | {_megabytes(moved.conninfo):,.0f} |")
        print("\n| calls | " + " | ".join(LAYOUTS) + " |")
        print("| --- |" + " ---: |" * len(LAYOUTS))
        loads: Mapping[str, tuple[Callable[[Ours], Load], int]] = {
            "append, 1 thread": (lambda peer: Append(peer, 1), 1),
            "append, 128 threads in 1,000 games": (lambda peer: Append(peer, 1_000), 128),
            "replay of 100, 1 thread": (lambda peer: Replay(peer, games), 1),
            "replay of 100, 32 threads": (lambda peer: Replay(peer, games), 32),
            "acknowledge and prune, 32 threads": (OurAcknowledge, 32),
        }
        for title, (make, threads) in loads.items():
            now(title)
            print(_row(title, taking_turns(peers, make, threads, options)))
        print(f"\n| | cleaned up in, s | {BESIDE} | WAL, MB | freed, MB |")
        print("| --- | ---: | --- | ---: | ---: |")
        for name, peer in peers.items():
            now(f"{name}: the oldest day goes")
            # To a midnight, so that it is the same for all: more than one day and less than two.
            retention = (DAYS - 2) * 86400.0 + time.time() % 86400
            aged = attrs.evolve(peer.config, replay_retention=retention)
            size, wal = _megabytes(peer.conninfo), _wal(peer.conninfo)
            took, appends = beside(peer, partial(_clean, peer.conninfo, aged))
            freed = size - _megabytes(peer.conninfo)
            wal = (_wal(peer.conninfo) - wal) / 1e6
            print(f"| {name} | {took:.1f} | {appends} | {wal:,.0f} | {freed:,.0f} |")
    return 0


def beside(peer: Ours, work: Callable[[], object]) -> tuple[float, str]:
    """How long some work takes, and what becomes of appends beside it."""
    failures: list[BaseException] = []
    took = 0.0

    def run() -> None:
        nonlocal took
        begun = time.perf_counter()
        try:
            work()
        except BaseException as error:
            failures.append(error)
        took = time.perf_counter() - begun

    callers = Callers(peer.name, Append(peer, 1_000), threads=THREADS_BESIDE)
    with opened([callers], _failed):
        callers.slice(0.5, 0.5)
        before = [callers.slice(0.0, SLICE).p99 for _ in range(SLICES_BEFORE)]
        thread = threading.Thread(target=run)
        thread.start()
        meanwhile = []
        while thread.is_alive():
            meanwhile.append(callers.slice(0.0, SLICE).p99)
        thread.join()
    if failures:
        raise failures[0]
    said = f"{1000 * statistics.median(before):.1f} / {1000 * statistics.median(meanwhile):.1f} / "
    return took, f"{said}{1000 * max(meanwhile):.1f}"


def taking_turns(
    peers: Mapping[str, Ours], make: Callable[[Ours], Load], threads: int, options: Any
) -> dict[str, list[Sample]]:
    contenders = [Callers(name, make(peer), threads=threads) for name, peer in peers.items()]
    with opened(contenders, _failed) as ready:
        return interleave(
            ready,
            rounds=options.rounds,
            warm=0.3,
            seconds=options.seconds,
            tick=lambda number, name: None,
            failed=_failed,
        )


def fill(conninfo: str, games: int) -> None:
    """Events of games that are over, as if they had been recorded in the last days."""
    payload = json.dumps(PAYLOAD, separators=(",", ":")).encode()
    step = max(1, 500_000 // IN_EACH)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for first in range(0, games, step):
            given = {
                "each": IN_EACH, "first": first, "last": min(games, first + step), "games": games,
                "seconds": DAYS * 86400.0, "payload": payload,
            }  # fmt: skip
            for statement in FILL:
                connection.execute(statement.encode(), given)
        connection.execute("VACUUM ANALYZE")


def _failed(name: str, error: Exception) -> None:
    raise SystemExit(f"{name}: {error}")


def _partition(conninfo: str, words: Sequence[str], share: float) -> None:
    command = [sys.executable, "-m", "registry", "partition", "--database", conninfo, *words]
    command += ["--share", f"{share}"]
    subprocess.run(command, check=True, capture_output=True)


def _clean(conninfo: str, config: RegistryConfig) -> None:
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        found = Maintenance(registry).run_once()
        assert found.outcome is Outcome.DONE, found


def _create(conninfo: str, name: str, template: str | None) -> None:
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
        sql.Identifier(name), sql.Identifier(template or "template0")
    )
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(statement)


def _megabytes(conninfo: str) -> float:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(queries.size, {"name": EVENTS}).fetchone()
    assert row is not None
    return float(row[0]) / 1e6


def _wal(conninfo: str) -> float:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
    assert row is not None
    return float(row[0])


def _row(title: str, found: Mapping[str, Sequence[Sample]]) -> str:
    """The rate and p99 of each, and the ratio of the rate to the first one's."""
    first = [sample.rate for sample in next(iter(found.values()))]
    cells = []
    for samples in found.values():
        ratio = statistics.median(s.rate / one for s, one in zip(samples, first, strict=True))
        rate = statistics.median(sample.rate for sample in samples)
        p99 = 1000 * statistics.median(sample.p99 for sample in samples)
        cells.append(f"{rate:,.0f}/s, p99 {p99:.2f} ms, {ratio:.2f}")
    return f"| {title} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
