"""The tables: whether they are as the migrations make them, how they are laid out, dead rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from psycopg import Connection, errors

from .. import schema
from ..blueprint import blueprint
from ..errors import RegistryError, SchemaMismatch
from ..looking import Ask, count, span
from ..partitioning import layouts
from ..partitioning.ahead import missing_ahead, rows_of_rest
from ..partitioning.conversion import Standing, is_running
from ..partitioning.layouts import ByTime, Table
from ..partitioning.moving import command
from ..queries import queries
from .findings import ADVICE, ATTENTION, OK, Finding, Limits


def misfit(connection: Connection[Any]) -> Finding | None:
    try:
        schema.check(connection)
    except SchemaMismatch as error:
        if error.__cause__ is not None:  # it could not be read at all
            raise
        said, _, remedy = str(error).partition(": ")
        return Finding("migrations", ATTENTION, said, remedy)
    return None


def indexes(ask: Ask, events: Table) -> Iterator[Finding]:
    wanted = dict(blueprint().indexes_of(events))
    number = len(wanted)
    rows = ask(queries.doctor_indexes, {"tables": list(blueprint().tables)})
    sound = True
    for name, full_name, table, usable in rows:
        ours = wanted.pop(name, None) is not None
        if not usable:
            sound = False
            yield Finding(
                "indexes",
                ATTENTION,
                f"{full_name} of {table} is invalid: a CREATE or REINDEX was interrupted",
                f"REINDEX INDEX CONCURRENTLY {full_name}"
                if ours
                else f"DROP INDEX CONCURRENTLY {full_name}",
            )
    for name, statement in wanted.items():
        sound = False
        yield Finding("indexes", ATTENTION, f"{name} is missing", statement)
    if sound:
        yield Finding("indexes", OK, f"all {number} are there and valid")


def partitions(connection: Connection[Any], events: Table, limits: Limits) -> Iterator[Finding]:
    """How the events are laid out, and what of that was begun, or is due."""
    found = [*_conversion(connection), *_by_time(connection, events, limits)]
    yield from found or [Finding("partitions", OK, f"{layouts.EVENTS}: {events.layout}")]


def _conversion(connection: Connection[Any]) -> Iterator[Finding]:
    try:
        with connection.transaction():  # what is refused must not end the look
            standing = Standing.ask(connection)
    except RegistryError as error:
        yield Finding("partitions", ATTENTION, *str(error).split(": ", 1))
        return
    except errors.InsufficientPrivilege:
        yield Finding(
            "partitions",
            ADVICE,
            "a conversion is running or not done, and this role may not see how far it is",
            "run this as the owner of the tables",
        )
        return
    begun = standing.conversion
    if begun is not None:
        running = is_running(connection)
        yield Finding(
            "partitions",
            ADVICE if running and begun.sound else ATTENTION,
            f"a conversion to {begun.target}, begun at {begun.started_at:%Y-%m-%d %H:%M %Z}, "
            f"{'is running' if running else 'is not done'}, {count(begun.copied)} events copied"
            f"{'' if begun.sound else '; it has lost its triggers or its table'}",
            "python -m registry partition --abandon"
            if not begun.sound
            else "let it end"
            if running
            else f"{command(begun.target)}, or python -m registry partition --abandon",
        )
    elif standing.old is not None:
        yield Finding(
            "partitions",
            ATTENTION,
            f"the table of events from before a conversion is still there, {standing.old.name}",
            f"{command(standing.events.layout)}, which drops it",
        )


def _by_time(connection: Connection[Any], events: Table, limits: Limits) -> Iterator[Finding]:
    if not isinstance(events.layout, ByTime):
        return
    now = layouts.database_time(connection)
    ahead = [start for start in missing_ahead(events, now) if start > now]
    if ahead:
        yield Finding(
            "partitions",
            ATTENTION,
            f"{len(ahead)} of the {layouts.AHEAD} partitions ahead are missing: from "
            f"{ahead[0]:%Y-%m-%d %H:%M} on, events go to {events.name}_default",
            command(events.layout),
        )
    rest = rows_of_rest(connection, events)
    if rest:
        yield Finding(
            "partitions",
            ADVICE,
            f"rows in {events.name}_default: {count(rest)} of times that no partition is for",
            "have the partitions added in time; these age out by the cleanup",
        )
    due = now - timedelta(seconds=limits.retention + limits.grace)
    past = [leaf for leaf in events.leaves if leaf.upper and leaf.upper <= due]
    if past:
        yield Finding(
            "partitions",
            ATTENTION,
            f"{count(len(past))} partitions are past their time, the oldest is {past[0].name}",
            f"run `python -m registry cleanup` as {events.owner}, which drops them",
        )


def vacuum(ask: Ask, limits: Limits, *, held: bool) -> Iterator[Finding]:
    faulty = False
    dead_rows = 0
    for table, live, dead, vacuumed, automatic in ask(
        queries.doctor_tables, {"tables": list(blueprint().tables)}
    ):
        dead_rows += dead
        if not automatic:
            faulty = True
            yield Finding(
                "vacuum",
                ATTENTION,
                f"autovacuum is off for {table}",
                f"ALTER TABLE {table} RESET (autovacuum_enabled)",
            )
        if dead > limits.dead + live / 5:
            faulty = True
            last = "never" if vacuumed is None else f"{span(vacuumed)} ago"
            yield Finding(
                "vacuum",
                ATTENTION,
                f"{table} has {count(dead)} dead rows and {count(live)} live ones, "
                f"vacuumed last: {last}",
                "end what holds vacuum back (snapshots)" if held else f"VACUUM {table}",
            )
    if not faulty:
        yield Finding("vacuum", OK, f"{count(dead_rows)} dead rows in all tables")
