"""Asks a person before a command does what cannot be taken back."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from typing import Any

from psycopg import Connection

from ..errors import RegistryError
from ..looking import count, look, printable
from ..queries import queries

MOST = 1_000_000
"""Rows of a table that are counted, so that it takes seconds at most."""


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Adds the option that spares the question."""
    parser.add_argument(
        "--yes", action="store_true", help="do not ask; needed where there is no terminal"
    )


def confirm(options: argparse.Namespace, connection: Connection[Any], consequence: str) -> None:
    """Has a person type the name of the database, having said what is in it and what will be.

    Raises `RegistryError` when the person does not, or when there is none.
    """
    if options.yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RegistryError(
            "this cannot be taken back and there is no terminal to ask on: say --yes to have it "
            "done without a question; nothing was done"
        )
    with look(connection) as ask:
        ((games, sessions, events),) = ask(queries.tally, {"most": MOST})
    info = connection.info
    said = [
        f"Database {printable(info.dbname)} on {info.host}, port {info.port}, as "
        f"{printable(info.user)}, holds {_number(games)} games, {_number(sessions)} sessions and "
        f"{_number(events)} events.",
        consequence,
    ]
    columns = shutil.get_terminal_size().columns
    print(*(textwrap.fill(line, columns) for line in said), sep="\n", file=sys.stderr)
    print("Type the name of the database to go on: ", end="", file=sys.stderr, flush=True)
    try:
        typed = sys.stdin.readline().strip()
    except KeyboardInterrupt:
        print("\nnothing was done", file=sys.stderr)
        raise
    if typed != info.dbname:
        raise RegistryError("that is not its name: nothing was done")


def _number(counted: int) -> str:
    return count(counted, capped=counted == MOST)
