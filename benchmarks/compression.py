"""What compression saves and what it costs: `python -m benchmarks.compression`.

Chess events as the demonstration records them, and game states of 2 to 8 KB; written as they are,
by zstd without a dictionary and by zstd with one. The dictionary is trained on other games than
those that are measured. Needs `pip install '.[demo,fast,compression]'`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import psycopg
from attrs import define, field

from registry import EmbeddedPostgres, GameSessionRegistry, RegistryConfig, migrate
from registry.demo.games import GameBook
from registry.payloads import decode, encode
from registry.resources import folder
from registry.zstd import Zstd, expanded

Games = list[list[object]]

ROUNDS = 11
PAGE = 100


def chess(count: int) -> Games:
    """The moves of recorded games, as the demonstration's players send them."""
    book = GameBook(folder("demo/data") / "london-1851.pgn")
    return [
        [{"by": ("white", "black")[n % 2], "move": move} for n, move in enumerate(game.moves)]
        for game in book.read(list(range(1, min(count, len(book)) + 1)))
    ]


def states(count: int) -> Games:
    """States of made-up arenas, 25 a game: players who move, fight and collect things."""
    chance = random.Random(1851)
    return [list(_arena(chance)) for _ in range(count)]


def _arena(chance: random.Random) -> Iterator[object]:
    names = [f"{chance.choice(('Ada', 'Bo', 'Cleo', 'Eun'))}{n}" for n in range(10)]
    ids = [f"{chance.getrandbits(64):016x}" for _ in names]
    bags: list[list[object]] = [[] for _ in names]
    for tick in range(25):
        for bag in bags:
            if not bag or chance.random() < 0.6:
                kind = chance.choice(("sword", "bow", "potion", "shield", "scroll", "key"))
                bag.append(
                    {"kind": kind, "count": chance.randint(1, 9), "worn": chance.random() < 0.3}
                )
        yield {
            "tick": tick * 50,
            "phase": "combat",
            "players": [
                {
                    "id": ids[n],
                    "name": names[n],
                    "position": [round(chance.uniform(0, 1_000), 3) for _ in range(3)],
                    "velocity": [round(chance.gauss(0, 5), 3) for _ in range(3)],
                    "health": chance.randint(0, 100),
                    "target": chance.choice([None, *ids]),
                    "bag": list(bags[n]),
                }
                for n in range(len(names))
            ],
        }


@define
class Way:
    """One way to store the events: a database of its own, and what was measured there."""

    name: str
    scheme: Zstd | None
    registry: GameSessionRegistry
    conninfo: str
    seconds: dict[str, list[float]] = field(factory=dict)

    def time(self, what: str, call: Callable[[], object]) -> None:
        begin = time.perf_counter()
        call()
        self.seconds.setdefault(what, []).append(time.perf_counter() - begin)

    def best(self, what: str) -> float:
        return min(self.seconds[what])

    def write(self, games: Games, turn: int) -> None:
        for n, game in enumerate(games):
            self.registry.record_events(f"{turn}-{n}", game)

    def read(self, games: Games) -> None:
        for n in range(len(games)):
            for _ in self.registry.iter_events_since(f"0-{n}", 0, page_size=PAGE):
                pass

    def forward(self, games: Games) -> None:
        for n in range(len(games)):
            after, more = 0, True
            while more:
                page = self.registry.fetch_events_json(f"0-{n}", after, limit=PAGE)
                after, more = page.last, page.more

    def encode(self, payload: object) -> tuple[int, bytes]:
        """As a registry does, but for the choice of the dictionary."""
        codec, data = encode(payload, 2**20)
        if self.scheme is None:
            return codec, data
        smaller = self.scheme.compress(data)
        return (codec + 2, smaller) if len(smaller) < len(data) else (codec, data)

    def decode(self, codec: int, data: bytes) -> object:
        return decode(*expanded(codec, data, {1: self.scheme} if self.scheme else {}))

    def encode_all(self, events: Sequence[object]) -> None:
        for event in events:
            self.encode(event)

    def decode_all(self, stored: Sequence[tuple[int, bytes]]) -> None:
        for codec, data in stored:
            self.decode(codec, data)

    def sizes(self) -> tuple[int, int]:
        """The bytes of all payloads, and of the table with its index on disk."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("VACUUM FULL game_event")
            row = connection.execute(
                "SELECT sum(octet_length(payload)), pg_total_relation_size('game_event') "
                "FROM game_event"
            ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])


def measure(name: str, games: Games, server: EmbeddedPostgres) -> None:
    learned, tried = games[::3], [game for n, game in enumerate(games) if n % 3]
    events = [event for game in tried for event in game]
    with ExitStack() as stack:
        ways = [
            _way(stack, server, name, "plain", [], None),
            _way(stack, server, name, "zstd", [], "zstd"),
            _way(stack, server, name, "zstd with a dictionary", learned, "zstd"),
        ]
        for turn in range(ROUNDS):
            for way in ways:
                way.time("write", partial(way.write, tried, turn))
                stored = [way.encode(event) for event in events]
                way.time("encode", partial(way.encode_all, events))
                way.time("decode", partial(way.decode_all, stored))
                if turn == 0:  # until everything is prepared and in memory
                    way.read(tried)
                way.time("read", partial(way.read, tried))
                way.time("forward", partial(way.forward, tried))
        plain_bytes, plain_disk = ways[0].sizes()
        lengths = [len(encode(event, 2**20)[1]) for event in events]
        mean = sum(lengths) // len(lengths)
        size = f"{min(lengths)} to {max(lengths)} bytes, {mean} on average"
        print(f"\n{name}: {len(events)} events of {size}\n")
        print(
            "| | payload bytes | on disk | encode µs | decode µs | write/s | read/s | as JSON/s |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for way in ways:
            payload, disk = way.sizes()
            cells = [
                f"{payload / plain_bytes:.0%}",
                f"{disk / plain_disk:.0%} ({disk / ROUNDS / len(events):.0f} bytes an event)",
                f"{way.best('encode') / len(events) * 1e6:.2f}",
                f"{way.best('decode') / len(events) * 1e6:.2f}",
                *(f"{len(events) / way.best(w):,.0f}" for w in ("write", "read", "forward")),
            ]
            print(f"| {way.name} | {' | '.join(cells)} |", flush=True)


def _way(
    stack: ExitStack,
    server: EmbeddedPostgres,
    name: str,
    kind: str,
    learned: Games,
    compression: str | None,
) -> Way:
    database = f"{name} {kind}"
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"'.encode())
    conninfo = psycopg.conninfo.make_conninfo(server.conninfo, dbname=database)
    migrate(conninfo)
    config = RegistryConfig(compression="zstd" if compression else None, pool_min_size=1)
    registry = stack.enter_context(GameSessionRegistry.connect(conninfo, config=config))
    scheme = Zstd.by(b"") if compression else None
    if learned:
        for n, game in enumerate(learned):
            registry.record_events(f"learned-{n}", game)
        registry.train_dictionary()
        with psycopg.connect(conninfo) as connection:
            row = connection.execute("SELECT content FROM payload_dictionary").fetchone()
            assert row is not None
            scheme = Zstd.by(row[0])
        for n in range(len(learned)):
            registry.end_game(f"learned-{n}")
    return Way(kind, scheme, registry, conninfo)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("--games", type=int, default=90, help="of each kind (%(default)s)")
    options = parser.parse_args(argv)
    with EmbeddedPostgres() as server:
        measure("chess", chess(options.games), server)
        measure("states", states(options.games), server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
