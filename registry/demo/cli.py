"""`python -m registry demo`: its options, and the run from reading the games to the table."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the demonstration to a parser."""
    parser.description = (
        "Play recorded chess games through a game server, over connections that keep breaking, "
        "and verify that no client missed an event or saw one twice."
    )
    parser.add_argument(
        "--games", type=count, default=80, metavar="N", help="how many games (default: 80)"
    )
    parser.add_argument(
        "--threads", type=tables, default=24, metavar="N", help="games at once (default: 24)"
    )
    parser.add_argument(
        "--drop-rate",
        type=probability,
        default=0.03,
        metavar="P",
        help="how probably a message breaks its connection, 0 to 0.5 (default: 0.03)",
    )
    parser.add_argument(
        "--seed", type=int, default=1851, help="chooses the games and the drops (default: 1851)"
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        help="play in this PostgreSQL database, and go on with what an interrupted run left "
        "there (default: a server of its own, gone afterwards)",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="keep the newest events in this Redis too (default: in memory alone)",
    )
    parser.add_argument(
        "--run",
        default="london-1851",
        metavar="NAME",
        help="prefix of the game ids (default: london-1851)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the finished games in the database"
    )


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
    with psycopg.connect(given, autocommit=True) as connection:
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


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def tables(text: str) -> int:
    number = count(text)
    if number > 100:  # each takes four clients, eight ends of connections and eight threads
        raise argparse.ArgumentTypeError("must be at most 100")
    return number


def probability(text: str) -> float:
    rate = float(text)
    if not 0 <= rate <= 0.5:
        raise argparse.ArgumentTypeError("must lie between 0 and 0.5")
    return rate
