"""How the operator's commands look at a database: read-only, bounded, in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import Connection, IsolationLevel

from .config import RegistryConfig
from .queries import queries
from .settings import server_settings
from .statements import Params, Row, execute

Ask = Callable[[bytes, Params], Sequence[Row]]
"""Runs one query and returns its rows."""


@contextmanager
def look(connection: Connection[Any]) -> Iterator[Ask]:
    """One look: whatever is asked within it is of the same moment, and changes nothing.

    `connection` is in autocommit mode. Each query is bounded as a registry's own are, and a
    standby will do.
    """
    connection.read_only = True
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    with connection.transaction():
        execute(connection, queries.configure, server_settings(RegistryConfig(), local=True))
        yield lambda query, params: execute(connection, query, params).fetchall()


def printable(text: str) -> str:
    """A text from the database, harmless on a terminal: what does not print is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clip(text: str, width: int) -> str:
    """A printable text of at most that many characters."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def span(seconds: float | None) -> str:
    """A time as an operator reads it: 0.4s, 12s, 5m10s, 3h20m, 2d4h; "-" for none."""
    if seconds is None:
        return "-"
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 10:
        return f"{sign}{seconds:.1f}s"
    whole = round(seconds)
    for large, small, size, part in (("d", "h", 86_400, 3_600), ("h", "m", 3_600, 60)):
        if whole >= size:
            return f"{sign}{whole // size}{large}{whole % size // part}{small}"
    return f"{sign}{whole // 60}m{whole % 60}s" if whole >= 60 else f"{sign}{whole}s"


def count(number: float | None, *, capped: bool = False) -> str:
    """A number with separators; "+" after one that was counted no further; "-" for none."""
    return "-" if number is None else f"{number:,.0f}{'+' if capped else ''}"


def size(number: float) -> str:
    """Bytes as an operator reads them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> list[str]:
    """A table as plain lines: `right` has an "r" for each column that stands at the right."""
    table = [header, *rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(header))]
    sides = right.ljust(len(header))[: len(header)]
    return [
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, sides, strict=True)
        ).rstrip()
        for row in table
    ]
