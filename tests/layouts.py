"""The layouts of game_event that the tests run on: one table, partitions by game, or by time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg import Connection, sql

from registry.partitioning import ByHash, ByTime, Plain, bring_empty, read

PLAIN: Final = "plain"

LAYOUT: Final = os.environ.get("REGISTRY_TEST_LAYOUT") or PLAIN
"""The layout of every database that the tests migrate."""

LAYOUTS: Final = {
    PLAIN: Plain(),
    "hash": ByHash(4),
    "time": ByTime(timedelta(minutes=15)),
}

BACK: Final = [(timedelta(minutes=15), 4), (timedelta(hours=6), 4), (timedelta(days=1), 3)]
"""The partitions by time before the present one: how long each is, and how many.

The tests' events are minutes to days old, so that their logs lie in several.
"""


def lay_out(conninfo: str, layout: str = LAYOUT) -> None:
    """Brings the table of events of a database just migrated into that layout."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        if LAYOUTS[layout] != Plain() and read(connection) == Plain():
            bring_empty(connection, LAYOUTS[layout])
            if layout == "time":
                _extend_back(connection)


def _extend_back(connection: Connection[Any]) -> None:
    """Adds partitions for what was recorded before."""
    layout = LAYOUTS["time"]
    assert isinstance(layout, ByTime)
    ((now,),) = connection.execute("SELECT now()").fetchall()
    for lower, upper in _before(layout.start(now)):
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
