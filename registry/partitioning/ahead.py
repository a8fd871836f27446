"""The partitions by time that are still to come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from .layouts import ByTime, Table, ask
from .queries import filled, queries


def missing_ahead(table: Table, now: datetime) -> list[datetime]:
    """The beginnings of the partitions that there should be, of the present time and ahead."""
    layout = table.layout
    if not isinstance(layout, ByTime):
        return []
    bounds = [(leaf.lower, leaf.upper) for leaf in table.leaves if leaf.lower and leaf.upper]
    return [
        start
        for start in layout.starts(now, now)
        if not any(start < upper and lower < start + layout.every for lower, upper in bounds)
    ]


def rest_has(connection: Connection[Any], table: Table, start: datetime) -> bool:
    """Whether the partition for the rest has rows of the interval that begins then.

    No partition can be added for that; they age out where they are. Looks through it, without a
    lock that anybody would notice.
    """
    assert isinstance(table.layout, ByTime)
    query = filled(queries.rest_has, rest=table.identifier(f"{table.name}_default"))
    between = {"lower": start, "upper": start + table.layout.every}
    return ask(connection, query, between).rowcount > 0


def rows_of_rest(connection: Connection[Any], table: Table) -> int:
    """About how many rows the partition for the rest has, by the server's statistics."""
    row = ask(connection, queries.rest_rows, {"name": f"{table.name}_default"}).fetchone()
    assert row is not None
    return int(row[0])
