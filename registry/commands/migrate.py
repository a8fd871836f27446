"""Brings the schema up to date."""

from __future__ import annotations

import argparse

from .. import schema
from . import add_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.description = (
        "Bring the schema up to date. May be run again, from several processes at once, and while "
        "game servers work. Connect as the owner of the database, directly: not through a pooler."
    )


def run(options: argparse.Namespace) -> int:
    done = schema.migrate(options.database)
    for name in done:
        print(f"applied {name}")
    if not done:
        print("the schema is up to date")
    return 0
