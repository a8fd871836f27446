"""The statements of a conversion that are not of its copy: begin, swap, drop; or abandon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from psycopg import sql

from .ddl import create, drop, regrant, rename
from .layouts import EVENTS, ByHash, ByTime, Layout, Table
from .queries import Statement, filled, queries, setting

NEXT: Final = f"{EVENTS}_next"
OLD: Final = f"{EVENTS}_old"
CONVERSION: Final = f"{EVENTS}_conversion"
MIRROR: Final = f"{EVENTS}_mirror"

LEFT: Final = "What game_event was before `python -m registry partition`, which drops it."
"""The comment by which the old table is known for one that may be dropped."""

TRIGGERS: Final = [f"{MIRROR}_{event}" for event in ("insert", "delete", "update", "truncate")]


def begin(events: Table, target: Layout, since: datetime, now: datetime) -> Iterator[Statement]:
    """Makes the next table, notes that it is on its way, and mirrors each change from now on.

    The triggers come last: they wait for all that write events, and keep new ones waiting.
    """
    yield from create(events, NEXT, target, since, now)
    schema, owner = sql.Identifier(events.schema), sql.Identifier(events.owner)
    # What is made goes to the schema of the events, whichever comes first for this role.
    yield setting("search_path", schema.as_string())
    yield queries.create_conversion
    yield _sql("ALTER TABLE {} OWNER TO {}", events.identifier(CONVERSION), owner)
    yield filled(
        queries.begin_conversion,
        partitions=target.partitions if isinstance(target, ByHash) else None,
        every=target.every if isinstance(target, ByTime) else None,
    )
    yield filled(queries.create_mirror, schema=schema)
    yield _sql("ALTER FUNCTION {}() OWNER TO {}", events.identifier(MIRROR), owner)
    yield queries.confine_mirror
    yield queries.mirror_insert
    yield queries.mirror_delete
    yield queries.mirror_update
    yield queries.mirror_truncate


def copy_at_once() -> Iterator[Statement]:
    """What all batches do together."""
    yield queries.lock_all
    yield queries.copy_all
    yield queries.count_all


def swap(events: Table, next_: Table) -> Iterator[Statement]:
    """Puts the next table in the place of the events; runs behind `lock_both`."""
    yield queries.drop_mirror
    yield from regrant(events, next_)
    yield from rename(events, EVENTS, OLD)
    yield from rename(next_, NEXT, EVENTS)
    yield filled(queries.mark_old, comment=LEFT)
    yield queries.drop_conversion


def abandon(next_: Table | None) -> Iterator[Statement]:
    """Takes back what `begin` made, first of all the triggers."""
    yield queries.drop_mirror
    yield queries.drop_conversion
    if next_ is not None:
        yield drop(next_)


def _sql(text: str, *parts: sql.Composable) -> Statement:
    return sql.SQL(text).format(*parts)
