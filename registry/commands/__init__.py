"""The commands of `python -m registry`, a module each, named as the command.

Each has `add_arguments(parser)` and `run(options)`, which returns the exit code; `registry.cli`
lists them and loads the one that is called.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap

from .. import arguments


def add_database(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says which database."""
    url = os.environ.get("DATABASE_URL")
    parser.add_argument(
        "--database",
        metavar="URL",
        default=url,
        help="postgresql://user@host/name, or any libpq connection string (default: DATABASE_URL)",
    )
    if not url:
        parser.set_defaults(without_database=parser.error)


def positive_seconds(text: str) -> float:
    """An option that is a number of seconds above 0."""
    try:
        return arguments.seconds("it", float(text), most=86_400.0 * 3_650)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive_whole(text: str) -> int:
    """An option that is a whole number above 0."""
    try:
        return arguments.whole("it", int(text), 1, 2**31 - 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and lines may be long."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def folded(text: str, indent: int) -> str:
    """A text that begins at a column, in as many lines as the terminal needs."""
    columns = width()
    if columns is None:
        return text
    lines = textwrap.wrap(text, max(40, columns - indent), break_on_hyphens=False)
    return f"\n{'':{indent}}".join(lines)
