"""The run of the demonstration, from reading the games to the table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg

from .. import schema
from ..api import GameSessionRegistry
from ..config import RegistryConfig
from ..embedded import EmbeddedPostgres
from ..errors import RegistryError
from ..keeping import ReplayCache
from ..resources import folder
from .games import Game, GameBook
from .tally import Count, Tally
from .tournament import Played, Tournament, board_is_right
from .view import Row, View, make_view

RECORDINGS = "london-1851.pgn"
CONFIG = RegistryConfig(pool_timeout=20.0)
"""All threads of the demonstration share one pool: at times some have to queue."""


def run(args: argparse.Namespace) -> int:
    """Runs the demonstration. 0 when all is well, 1 when not, 130 when interrupted."""
    tally = Tally()
    view = make_view(tally)
    try:
        with view:
            return _run(args, tally, view)
    except KeyboardInterrupt:
        view.say(
            "interrupted" + ("; run it again and it goes on where it was" if args.database else "")
        )
        return 130


def _run(args: argparse.Namespace, tally: Tally, view: View) -> int:
    games = _read(args, view)
    with (
        _database(args.database, args.run, view) as conninfo,
        _cache(args.redis) as cache,
        GameSessionRegistry.connect(conninfo, config=CONFIG, cache=cache) as registry,
        Tournament(
            registry,
            tally,
            run=args.run,
            seed=args.seed,
            drop_rate=args.drop_rate,
            at_once=min(args.threads, len(games)),
        ) as tournament,
    ):
        begun = monotonic()
        with view.stage("play", sum(len(game.moves) for game in games), "moves") as advance:
            played = tournament.play(games, advance)
        duration = monotonic() - begun
        wrong = tally.violations
        with view.stage("verify", len(played), "games") as advance:
            for one in played:
                wrong += tournament.verify(one)
                advance(1)
        if not wrong and not args.keep:
            with view.stage("clear up", len(played), "games") as advance:
                for one in played:
                    tournament.clear_up(one)
                    advance(1)
    view.table(f"seed {args.seed}, drop rate {args.drop_rate:g}", _rows(played, tally, duration))
    if not wrong:
        view.say("every client has every event, once and in order")
        return 0
    for text in wrong:
        view.say(f"WRONG: {text}")
    if args.database:
        view.say("the games are left in the database as they are")
    return 1


def _read(args: argparse.Namespace, view: View) -> list[Game]:
    book = GameBook(folder("demo/data") / RECORDINGS)
    numbers = book.choose(min(args.games, len(book)), args.seed)
    view.say(
        f"{len(numbers)} of {len(book)} games, at most {args.threads} at once, 4 clients each, "
        f"drop rate {args.drop_rate:g}, seed {args.seed}"
    )
    games = []
    with view.stage("read", len(numbers), "games") as advance:
        for game in book.read(numbers):
            games.append(game)
            advance(1)
    return games


@contextmanager
def _database(given: str | None, run: str, view: View) -> Iterator[str]:
    """The database to play in: the given one, this run's alone, or a server of its own."""
    if given is None:
        view.say("starting a PostgreSQL of its own, gone afterwards")
        with EmbeddedPostgres() as server:
            schema.migrate(server.conninfo)
            yield server.conninfo
        return
    if all(applied is None for _, applied in schema.status(given)):
        schema.migrate(given)  # an empty database; one in use is its operator's to migrate
        view.say("made the registry's tables in this database, which had none")
    with schema.reading(given) as connection:
        schema.refuse_pooler(connection, given)
        connection.execute("SET lock_timeout = '5s'")
        try:
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [run])
        except psycopg.errors.LockNotAvailable:
            raise RegistryError(
                f"another demonstration plays as --run {run} in this database: "
                "wait for its end, or give this one another name"
            ) from None
        yield given


@contextmanager
def _cache(url: str | None) -> Iterator[ReplayCache | None]:
    if url is None:
        yield None
        return
    from ..cache import RedisReplayCache

    with RedisReplayCache(url) as cache:
        yield cache


def _rows(played: list[Played], tally: Tally, duration: float) -> list[Row]:
    clients = [(client, one.game) for one in played for client in one.clients]
    duplicates = sum(client.duplicates for client, _ in clients)
    gaps = sum(client.gaps for client, _ in clients)
    right = sum(board_is_right(client, game) for client, game in clients)
    begun = sum(0 < one.found < len(one.game.moves) for one in played)
    finished = sum(one.found >= len(one.game.moves) for one in played)
    events = tally[Count.MOVES] + tally[Count.RECEIVED]
    rows = [Row("games", str(len(played)))]
    if begun or finished:
        rows.append(Row("  begun by an earlier run", str(begun)))
        rows.append(Row("  finished by an earlier run", str(finished)))
    rows.append(Row("clients", str(len(clients))))
    rows += (Row(what.value, str(tally[what])) for what in Count if tally[what])
    rows.append(Row("duplicates", str(duplicates), duplicates == 0))
    rows.append(Row("gaps", str(gaps), gaps == 0))
    rows.append(Row("boards equal", f"{right}/{len(clients)}", right == len(clients)))
    rows.append(Row("duration", f"{duration:.1f} s"))
    rows.append(Row("events/s recorded and received", f"{events / duration:,.0f}"))
    return rows
