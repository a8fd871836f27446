"""The commands of `python -m registry`, a module each, named as the command.

Each has `add_arguments(parser)` and `run(options)`, which returns the exit code, and `EXIT_CODES`
if it has others than all have; `registry.cli` lists them and loads the one that is called. None
needs more than a plain installation to explain itself: what an extra brings is imported by `run`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .. import arguments, schema
from ..api import GameSessionRegistry
from ..config import RegistryConfig
from ..errors import InvalidArgument

N = TypeVar("N")


class Help(argparse.HelpFormatter):
    """Fills each paragraph of a text by itself, and leaves one alone that has indented lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(p if "\n  " in p else fill(p, width, indent) for p in paragraphs)


def add_database(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says which database."""
    parser.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("DATABASE_URL"),
        help="postgresql://user@host/name, or any libpq connection string (default: DATABASE_URL)",
    )
    parser.set_defaults(needs_database=True)


@contextmanager
def registry_of(
    conninfo: str, config: RegistryConfig | None = None
) -> Iterator[GameSessionRegistry]:
    """A registry, after a connection of its own: unlike a pool that says why there is none."""
    with schema.reading(conninfo) as connection:
        schema.check(connection)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        yield registry


def positive_seconds(text: str) -> float:
    """An option that is a number of seconds above 0."""
    number = read(text, float, "number of seconds")
    with checked():
        return arguments.seconds("it", number, most=86_400.0 * 3_650)


def positive_whole(text: str) -> int:
    """An option that is a whole number above 0."""
    number = read(text, int, "whole number")
    with checked():
        return arguments.whole("it", number, 1, 2**31 - 1)


def share(text: str) -> float:
    """An option that is a part of the time."""
    number = read(text, float, "number")
    with checked():
        return arguments.share("it", number)


def read(text: str, kind: Callable[[str], N], name: str) -> N:
    """The number that the text of an option is."""
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {name}") from None


@contextmanager
def checked() -> Iterator[None]:
    """Has argparse say what the library finds wrong with an option."""
    try:
        yield
    except InvalidArgument as error:
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


@contextmanager
def ended_by_sigterm(end: Callable[[], object]) -> Iterator[None]:
    """The first process of a container dies of no signal that it does not handle."""
    before = signal.signal(signal.SIGTERM, lambda *_: end())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
