"""Takes migrations back."""

from __future__ import annotations

import argparse

from .. import schema
from . import add_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--steps", type=int, metavar="N", help="how many (default: 1)")
    which.add_argument("--to", metavar="ID", help="the migration that shall be the last one")


def run(options: argparse.Namespace) -> int:
    done = schema.rollback(options.database, steps=options.steps, to=options.to)
    for name in done:
        print(f"rolled back {name}")
    if not done:
        print("there was nothing to roll back")
    return 0
