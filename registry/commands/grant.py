"""Lets a role use the registry, and says what it may do now."""

from __future__ import annotations

import argparse

from .. import schema
from . import add_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.description = (
        "Let a role read and write games, sessions and events, but not alter the schema: the one "
        "that your game servers connect as. Run it as the owner of the tables, and again after "
        "each `migrate`. Prints the statements that it ran."
    )
    parser.add_argument(
        "--role",
        required=True,
        metavar="NAME",
        help="an existing one, which your servers connect as",
    )


def run(options: argparse.Namespace) -> int:
    for statement in schema.grant(options.database, options.role):
        print(statement)
    return 0
