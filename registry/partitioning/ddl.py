"""The statements that make a table of events in a layout, rename it and drop it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from attrs import evolve
from psycopg import Connection, sql

from ..errors import RegistryError
from .layouts import (
    EVENTS,
    ByHash,
    ByTime,
    Grant,
    Layout,
    Leaf,
    Table,
    database_time,
    describe,
    events,
)
from .queries import Statement, queries, setting


def create(
    like: Table, name: str, layout: Layout, since: datetime, now: datetime
) -> Iterator[Statement]:
    """Makes a table in that layout, else as `like` is: columns, storage, owner, rights.

    In a layout by time it has partitions since then and `AHEAD` beyond now. There each partition
    has a key of its own, as narrow as that of a plain table: one of the whole table would have to
    contain the time.
    """
    table, columns, key = like.identifier(name), _columns(like), _key(name)
    if isinstance(layout, ByTime):
        yield _sql("CREATE TABLE {} ({}) PARTITION BY RANGE (recorded_at)", table, columns)
    elif isinstance(layout, ByHash):
        yield _sql("CREATE TABLE {} ({}, {}) PARTITION BY HASH (game_id)", table, columns, key)
    else:
        yield _sql("CREATE TABLE {} ({}, {}){}", table, columns, key, _storage(like))
    for leaf, bound in _leaves(layout, name, since, now):
        own_key = _sql(" ({})", _key(leaf)) if isinstance(layout, ByTime) else sql.SQL("")
        yield _sql(
            "CREATE TABLE {} PARTITION OF {}{} {}{}",
            like.identifier(leaf), table, own_key, bound, _storage(like),
        )  # fmt: skip
        yield _owner(like, leaf)
    yield _owner(like, name)
    yield from _grants(like, name)


def foreseen(like: Table, name: str, layout: Layout, since: datetime, now: datetime) -> Table:
    """The table that `create` will make, as far as its names go."""
    leaves = [leaf for leaf, _ in _leaves(layout, name, since, now)]
    keyed = leaves if isinstance(layout, ByTime) else [*leaves, name]
    return evolve(
        like,
        name=name,
        layout=layout,
        leaves=[Leaf(leaf, None, None) for leaf in leaves],
        indexes=[f"{table}_pkey" for table in keyed],
    )


def _leaves(
    layout: Layout, name: str, since: datetime, now: datetime
) -> Iterator[tuple[str, sql.Composable]]:
    """The partitions by their names, each with its bounds."""
    if isinstance(layout, ByTime):
        yield f"{name}_default", sql.SQL("DEFAULT")
        for start in layout.starts(since, now):
            yield layout.name(name, start), _bounds(layout, start)
    elif isinstance(layout, ByHash):
        digits = max(2, len(str(layout.partitions - 1)))
        for remainder in range(layout.partitions):
            yield (
                f"{name}_p{remainder:0{digits}}",
                _sql(
                    "FOR VALUES WITH (MODULUS {}, REMAINDER {})",
                    sql.Literal(layout.partitions),
                    sql.Literal(remainder),
                ),
            )


def attach(table: Table, start: datetime) -> Iterator[Statement]:
    """Adds the partition that begins then to a table by time, which is in use.

    That locks the partition for the rest and looks through it, for a second at most; the table
    itself can be written to.
    """
    layout = table.layout
    assert isinstance(layout, ByTime)
    leaf = layout.name(table.name, start)
    yield setting("statement_timeout", "1s")
    yield _sql(
        "CREATE TABLE {} ({}, {}){}",
        table.identifier(leaf), _columns(table), _key(leaf), _storage(table),
    )  # fmt: skip
    yield _owner(table, leaf)
    yield _sql(
        "ALTER TABLE {} ATTACH PARTITION {} {}",
        table.identifier(), table.identifier(leaf), _bounds(layout, start),
    )  # fmt: skip


def regrant(like: Table, table: Table) -> Iterator[Statement]:
    """Gives a table the rights that another has by now, and takes those that are gone there."""
    kept = {(grant.grantee, grant.privilege) for grant in like.grants}
    for grant in table.grants:
        if (grant.grantee, grant.privilege) not in kept:
            yield _sql(
                "REVOKE {} ON {} FROM {}",
                sql.SQL(grant.privilege),
                table.identifier(),
                _grantee(grant),
            )
    fresh = [grant for grant in like.grants if grant not in table.grants]
    yield from _grants(evolve(like, grants=fresh), table.name)


def rename(table: Table, prefix: str, to: str) -> Iterator[Statement]:
    """Gives a table, its partitions and indexes names that begin with another prefix."""
    for name in [leaf.name for leaf in table.leaves if leaf.name != table.name] + [table.name]:
        if name.startswith(prefix):
            yield _rename("TABLE", table, name, to + name.removeprefix(prefix))
    for name in table.indexes:  # with the constraint that each stands for
        if name.startswith(prefix):
            yield _rename("INDEX", table, name, to + name.removeprefix(prefix))


def _rename(kind: str, table: Table, name: str, to: str) -> sql.Composed:
    return _sql(f"ALTER {kind} {{}} RENAME TO {{}}", table.identifier(name), sql.Identifier(to))


def drop(table: Table) -> Statement:
    """Drops a table with its partitions, but nothing that others made to depend on it."""
    return _sql("DROP TABLE {}", table.identifier())


def bring_empty(connection: Connection[Any], layout: Layout) -> None:
    """Lays the table of events out anew at once, while it is empty.

    `connection` is in autocommit mode or in a transaction of the caller's; its role owns the table.
    Raises `RegistryError` when there are events. Concurrency: waits for all that use the table and
    has them wait.
    """
    with connection.transaction():
        connection.execute(queries.lock_events)
        old = events(connection)
        if connection.execute(queries.any_event).rowcount:
            raise RegistryError(f"{EVENTS} has rows: use `python -m registry partition`")
        now = database_time(connection)
        for statement in create(old, f"{EVENTS}_next", layout, now, now):
            connection.execute(statement)
        next_ = describe(connection, f"{EVENTS}_next")
        assert next_ is not None
        for statement in [drop(old), *rename(next_, f"{EVENTS}_next", EVENTS)]:
            connection.execute(statement)


def _bounds(layout: ByTime, start: datetime) -> sql.Composed:
    return _sql(
        "FOR VALUES FROM ({}) TO ({})",
        sql.Literal(start.isoformat()),
        sql.Literal((start + layout.every).isoformat()),
    )


def _columns(like: Table) -> sql.Composed:
    return _sql("LIKE {} INCLUDING ALL EXCLUDING INDEXES", like.identifier())


def _key(table: str) -> sql.Composed:
    return _sql("CONSTRAINT {} PRIMARY KEY (game_id, sequence)", sql.Identifier(f"{table}_pkey"))


def _storage(like: Table) -> sql.Composable:
    if not like.storage:
        return sql.SQL("")
    options = [
        _sql("{} = {}", sql.Identifier(option), sql.Literal(value))
        for option, value in like.storage
    ]
    return _sql(" WITH ({})", sql.SQL(", ").join(options))


def _owner(like: Table, name: str) -> sql.Composed:
    return _sql("ALTER TABLE {} OWNER TO {}", like.identifier(name), sql.Identifier(like.owner))


def _grants(like: Table, name: str) -> Iterator[Statement]:
    for grant in like.grants:
        yield _sql(
            "GRANT {} ON {} TO {}{}",
            sql.SQL(grant.privilege),
            like.identifier(name),
            _grantee(grant),
            sql.SQL(" WITH GRANT OPTION" if grant.grantable else ""),
        )


def _grantee(grant: Grant) -> sql.Composable:
    return sql.SQL("PUBLIC") if grant.grantee is None else sql.Identifier(grant.grantee)


def _sql(text: str, *parts: sql.Composable) -> sql.Composed:
    return sql.SQL(text).format(*parts)
