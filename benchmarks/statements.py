"""Which form of the batch statement is the fastest: `python -m benchmarks.statements`.

The library's own statements and the ones that lost (`benchmarks/forms/`), on one connection, in
turns; the figures are rows a second, packing of the parameters and the flush included. Writes
`STATEMENTS.md` here.
"""

from __future__ import annotations

import json
import statistics
import struct
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg
from attrs import field, frozen

from registry import EmbeddedPostgres, RegistryConfig, migrate
from registry.arrays import adapt, bytea_array, integer_array, smallint_array, text_array
from registry.queries import queries
from registry.receipts import Receipt
from registry.settings import server_settings

from .payload import PAYLOAD

ENCODED = json.dumps(PAYLOAD, separators=(",", ":")).encode()
HERE = Path(__file__).parent
ROUNDS = 15
SLICE = 0.1
SHAPES = [(1, 16), (1, 128), (1, 1_000), (128, 128), (128, 1_024), (1_000, 1_000)]

Connection = psycopg.Connection[Any]
Run = Callable[[Connection, "Batch"], object]


@frozen
class Batch:
    """Events for some games, the same number for each."""

    games: list[str]
    each: int
    receipt: Receipt = field(factory=Receipt)

    @property
    def rows(self) -> int:
        return len(self.games) * self.each

    def params(self) -> dict[str, object]:
        """Packed anew for each statement, as the library has to."""
        places = range(1, len(self.games) + 1)
        return {
            **self.receipt.next(),
            "game_id": self.games[0],
            "game_ids": text_array(self.games),
            "counts": integer_array([self.each] * len(self.games)),
            "events": text_array([game for game in self.games for _ in range(self.each)]),
            "places": integer_array([place for place in places for _ in range(self.each)]),
            "followers": integer_array(list(range(self.each - 1, -1, -1)) * len(self.games)),
            "codecs": smallint_array([1] * self.rows),
            "payloads": bytea_array([ENCODED] * self.rows),
        }


def statement(query: bytes) -> Run:
    def run(connection: Connection, batch: Batch) -> object:
        return connection.execute(query, batch.params(), binary=True).fetchall()

    return run


def copied(connection: Connection, batch: Batch) -> object:
    """Three round trips, during which the game is locked."""
    (game,) = batch.games
    name = game.encode()
    with connection.transaction():
        taken = connection.execute(
            form("take_sequences"), {"game_id": game, "count": batch.rows}, binary=True
        ).fetchone()
        assert taken is not None
        first = taken[0] - batch.rows + 1
        rows = [b"PGCOPY\n\xff\r\n\0" + bytes(8)]
        layout = f"!hi{len(name)}siqiqihi"
        for sequence in range(first, taken[0] + 1):
            rows.append(
                struct.pack(layout, 5, len(name), name, 8, sequence, 8, 0, 2, 1, len(ENCODED))
            )
            rows.append(ENCODED)
        rows.append(b"\xff\xff")
        with connection.cursor().copy(form("copy_events")) as copy:
            copy.write(b"".join(rows))
    return None


def form(name: str) -> bytes:
    return (HERE / "forms" / f"{name}.sql").read_bytes()


def contenders(games: int) -> dict[str, Run]:
    many = {
        "record_batch (ours)": statement(queries.record_batch),
        "many_games_update": statement(form("many_games_update")),
        "many_games_upsert": statement(form("many_games_upsert")),
        "many_games_windows": statement(form("many_games_windows")),
    }
    if games > 1:
        return many
    one = {
        "record_events (ours)": statement(queries.record_events),
        "one_game_ordinality": statement(form("one_game_ordinality")),
        "one_game_counted_by_caller": statement(form("one_game_counted_by_caller")),
        "copy": copied,
    }
    return {**one, **many}


def measured(connection: Connection, games: int, rows: int) -> dict[str, list[float]]:
    """Rows a second of each contender, by round."""
    runs = contenders(games)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    batches = {
        name: Batch(sorted(f"{name}-{n}" for n in range(games)), rows // games) for name in runs
    }
    for batch in batches.values():
        connection.cursor().executemany(
            "INSERT INTO game (game_id) VALUES (%s) ON CONFLICT DO NOTHING",
            [(game,) for game in batch.games],
        )
    for turn in range(ROUNDS + 1):
        names = list(runs)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            # The windows' join is the only one that was not written for nested loops.
            joins = "on" if name == "many_games_windows" else "off"
            connection.execute("SELECT set_config('enable_hashjoin', %s, false)", [joins])
            done, begun = 0, perf_counter()
            while perf_counter() - begun < SLICE:
                runs[name](connection, batches[name])
                done += rows
            if turn:  # the first fills caches and prepares
                rates[name].append(done / (perf_counter() - begun))
    return rates


def main() -> None:
    lines = [
        "# The forms of the batch statement",
        "",
        "Thousands of rows a second on one connection (`python -m benchmarks.statements`): the",
        f"median of {ROUNDS} rounds, and the lowest and highest. The forms are in `forms/`; ours",
        "are in `sql/`. `copy` takes three round trips, with the game locked during them;",
        "`many_games_update` and `many_games_upsert` wait for games that somebody else holds.",
        "",
        "| games | rows | form | 1,000 rows/s | rounds |",
        "| ---: | ---: | --- | ---: | --- |",
    ]
    with EmbeddedPostgres() as server:
        migrate(server.conninfo)
        with psycopg.connect(server.conninfo, autocommit=True, prepare_threshold=1) as connection:
            connection.execute(queries.configure, server_settings(RegistryConfig(), local=False))
            adapt(connection)
            for games, rows in SHAPES:
                rates = measured(connection, games, rows)
                best_first = sorted(rates, key=lambda name: -statistics.median(rates[name]))
                for name in best_first:
                    middle, low, high = (
                        round(of(rates[name]) / 1000) for of in (statistics.median, min, max)
                    )
                    line = f"| {games:,} | {rows:,} | {name} | {middle} | {low} to {high} |"
                    print(line, flush=True)
                    lines.append(line)
    (HERE / "STATEMENTS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
