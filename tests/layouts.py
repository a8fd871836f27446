"""The layouts of game_event that the tests run on: one table, partitions by game, or by time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg import Connection, sql

from registry.partitioning import ByHash, ByTime, Layout, Plain, bring_empty, read
from registry.partitioning.layouts import events

PLAIN: Final = "plain"

LAYOUT: Final = os.environ.get("REGISTRY_TEST_LAYOUT") or PLAIN
"""The layout of every database that the tests migrate."""

INTERVAL: Final = timedelta(minutes=15)

LAYOUTS: Final[Mapping[str, Layout]] = {
    PLAIN: Plain(),
    "hash": ByHash(4),
    "time": ByTime(INTERVAL),
}

BACK: Final = [(INTERVAL, 4), (timedelta(hours=6), 4)]
"""The partitions by time before the present one: how long each is, and how many.

The tests' events are minutes to days old, so that their logs lie in several, and in the one for
the rest what is past the default retention.
"""

AHEAD: Final = 6
"""More partitions beyond the present one than a command would make: nothing adds any in a run."""


def lay_out(conninfo: str, layout: str = LAYOUT, *, every: timedelta = INTERVAL) -> None:
    """Brings the table of events of a database just migrated into that layout, if it is not.

    `every` is the interval of partitions by time.
    """
    target = ByTime(every) if layout == "time" else LAYOUTS[layout]
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if read(connection) != target:
            bring_empty(connection, target)
            if layout == "time":
                _extend(connection)


def _extend(connection: Connection[Any]) -> None:
    """Adds partitions by time before and after those that there are."""
    table = events(connection)
    layout = table.layout
    assert isinstance(layout, ByTime)
    bounds = [(leaf.lower, leaf.upper) for leaf in table.leaves if leaf.lower and leaf.upper]
    first, last = bounds[0][0], bounds[-1][1]
    later = [last + place * layout.every for place in range(AHEAD - len(bounds) + 1)]
    for lower, upper in [*_before(first), *((start, start + layout.every) for start in later)]:
        name = layout.name("game_event", lower)
        create = sql.SQL(
            "CREATE TABLE {} PARTITION OF game_event"
            " (CONSTRAINT {} PRIMARY KEY (game_id, sequence)) FOR VALUES FROM ({}) TO ({})"
        ).format(
            sql.Identifier(name),
            sql.Identifier(f"{name}_pkey"),
            sql.Literal(lower.isoformat()),
            sql.Literal(upper.isoformat()),
        )
        connection.execute(create)


def _before(upper: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The bounds of the partitions before that moment, the latest first."""
    for length, number in BACK:
        for _ in range(number):
            yield upper - length, upper
            upper -= length
