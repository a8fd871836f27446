"""Plays the demonstration, which is in `registry.demo`."""

from __future__ import annotations

import argparse
from typing import Final

EXIT_CODES: Final = {1: "an error, or a client did not get exactly what it should have"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Play recorded chess games through a game server, over connections that keep breaking, "
        "and verify that no client missed an event or saw one twice."
    )
    parser.add_argument(
        "--games",
        type=count,
        default=80,
        metavar="N",
        help="how many games, as far as there are (default: 80)",
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
        help="play in this PostgreSQL database, migrated if there is no registry in it, and go on "
        "with what an interrupted run left there (default: a server of its own, gone afterwards)",
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


def run(options: argparse.Namespace) -> int:
    from ..demo.run import run  # it needs the extra `demo`

    return run(options)


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
