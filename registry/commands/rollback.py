"""Takes migrations back."""

from __future__ import annotations

import argparse

from .. import schema
from . import add_database, positive_whole
from .confirming import add_yes, confirm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    add_yes(parser)
    parser.description = (
        "Take migrations back, the last first, with all data in what they made: the first one "
        "made the tables of games, sessions and events. Stop the game servers before."
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--steps", type=positive_whole, metavar="N", help="how many migrations (default: 1)"
    )
    which.add_argument(
        "--to", metavar="ID", help="the migration that shall be the last one, as `status` names it"
    )


def run(options: argparse.Namespace) -> int:
    which = {"steps": options.steps, "to": options.to}
    with schema.reading(options.database, schema.AS_OWNER) as connection:
        names = schema.to_roll_back(connection, **which)
        if not names:
            print("there was nothing to roll back")
            return 0
        confirm(options, connection, _consequence(names))
    for name in schema.rollback(options.database, **which):
        print(f"rolled back {name}")
    return 0


def _consequence(names: list[str]) -> str:
    lost = (
        "ALL GAMES, SESSIONS AND EVENTS WILL BE LOST."
        if schema.holds_games(names)
        else "Games, sessions and events stay; all else that these made, and what is in it, goes."
    )
    return f"To be taken back: {', '.join(names)}. {lost}"
