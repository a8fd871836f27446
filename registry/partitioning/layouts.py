"""How game_event is laid out: in one table, or in partitions by game or by time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from attrs import field, frozen
from psycopg import Connection, Cursor, sql
from psycopg.rows import tuple_row

from .. import arguments
from ..errors import InvalidArgument, SchemaMismatch
from ..statements import Params
from .queries import Statement, queries

EVENTS: Final = "game_event"

AHEAD: Final = 2
"""Partitions by time that there are beyond the present one."""

MOST_PARTITIONS: Final = 1_000
"""Every replay looks into each partition by time, and each is planned for."""

_ORIGIN: Final = datetime(2001, 1, 1, tzinfo=timezone.utc)  # a Monday, for intervals of weeks
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


@frozen
class Plain:
    """One table."""

    def __str__(self) -> str:
        return "one table"


def _partitions(instance: object, attribute: object, value: int) -> None:
    arguments.whole("partitions", value, 2, MOST_PARTITIONS)


@frozen
class ByHash:
    """The games spread over so many partitions, each game in one."""

    partitions: int = field(validator=_partitions)

    def __str__(self) -> str:
        return f"{self.partitions} partitions by hash"


def _every(instance: object, attribute: object, value: timedelta) -> None:
    if not isinstance(value, timedelta) or value < _MINUTE or value % _MINUTE:
        raise InvalidArgument("every must be a timedelta of whole minutes")
    if value > 3650 * _DAY:
        raise InvalidArgument("every must be at most 3650 days")


@frozen
class ByTime:
    """A partition for all that was recorded in an interval, and one for what is in no other."""

    every: timedelta = field(validator=_every)

    def __str__(self) -> str:
        return f"partitions by time of {self.interval} each"

    @property
    def interval(self) -> str:
        """Such as "1 day" or "6 hours"."""
        minutes = self.every // _MINUTE
        units = ((1440, "day"), (60, "hour"), (1, "minute"))
        size, unit = next(pair for pair in units if minutes % pair[0] == 0)
        return f"{minutes // size} {unit}{'s' * (minutes > size)}"

    def start(self, moment: datetime) -> datetime:
        """The beginning of the interval that a moment is in, in UTC."""
        return _ORIGIN + (moment - _ORIGIN) // self.every * self.every

    def starts(self, since: datetime, until: datetime) -> list[datetime]:
        """The beginnings of the intervals from one moment to another, and of those ahead."""
        first, last = self.start(since), self.start(until) + AHEAD * self.every
        number = (last - first) // self.every + 1
        if number > MOST_PARTITIONS:
            raise InvalidArgument(
                f"one partition for each {self.every} would make {number:,}, of at most "
                f"{MOST_PARTITIONS:,}: the oldest event is of {since:%Y-%m-%d %H:%M}. Choose a "
                "longer interval, or clean up first"
            )
        return [first + place * self.every for place in range(number)]

    def name(self, table: str, start: datetime) -> str:
        """What the partition that begins then is called."""
        exact = self.every % _DAY != timedelta(0)
        return f"{table}_{start.astimezone(timezone.utc):{'%Y%m%d_%H%M' if exact else '%Y%m%d'}}"


Layout = Plain | ByHash | ByTime


@frozen
class Grant:
    """A right to a table; no grantee: everybody."""

    grantee: str | None
    privilege: str
    grantable: bool


@frozen
class Leaf:
    """A table that holds rows; its bounds are those of a partition by time that has some."""

    name: str
    lower: datetime | None
    upper: datetime | None


@frozen
class Table:
    """The table of events or one like it, as the catalogue has it."""

    schema: str
    name: str
    layout: Layout
    leaves: Sequence[Leaf]
    """The partitions, by time in the order of their bounds; of a plain table, that itself."""
    owner: str
    storage: Sequence[tuple[str, str]]
    """The storage parameters of each leaf."""
    grants: Sequence[Grant]
    columns: Sequence[str]
    indexes: Sequence[str]
    """All of them, those of leaves as well."""

    def identifier(self, name: str = "") -> sql.Identifier:
        """This table, or another in the same schema."""
        return sql.Identifier(self.schema, name or self.name)


def describe(connection: Connection[Any], name: str = EVENTS) -> Table | None:
    """A table as the catalogue has it now, or None where there is none of that name.

    Raises `SchemaMismatch` when it is laid out in another way than this library does.
    """
    found = ask(connection, queries.table, {"name": name}).fetchone()
    if found is None:
        return None
    schema, owner, partitioned, strategy, keys, columns, indexes = found
    rows = ask(connection, queries.leaves, {"name": name}).fetchall()
    leaves = [Leaf(leaf, lower, upper) for leaf, _, lower, upper in rows]
    grants = ask(connection, queries.grants, {"name": name}).fetchall()
    layout = _layout(strategy, keys, leaves) if partitioned else Plain()
    options = rows[0][1] if rows else []
    return Table(
        schema, name, layout, leaves, owner,
        storage=[(option, value) for option, _, value in (o.partition("=") for o in options)],
        grants=[Grant(*row) for row in grants],
        columns=columns,
        indexes=indexes,
    )  # fmt: skip


def _layout(strategy: str, keys: list[str], leaves: Sequence[Leaf]) -> Layout:
    bounds = [(leaf.lower, leaf.upper) for leaf in leaves if leaf.lower and leaf.upper]
    if (strategy, keys) == ("h", ["game_id"]) and len(leaves) > 1:
        return ByHash(len(leaves))
    if (strategy, keys) == ("r", ["recorded_at"]) and bounds:
        lower, upper = bounds[-1]
        return ByTime(upper - lower)
    raise SchemaMismatch(f"{EVENTS} is partitioned in a way of its own, which is not known here")


def read(connection: Connection[Any]) -> Layout:
    """How the table of events is laid out, by the catalogue.

    Raises `SchemaMismatch` when there is no such table or it is laid out in another way than this
    library does. Concurrency: locks nothing; one answer for one moment.
    """
    return events(connection).layout


def events(connection: Connection[Any]) -> Table:
    """The table of events. Raises `SchemaMismatch` as `read`."""
    found = describe(connection)
    if found is None:
        raise SchemaMismatch("the database has no registry in it: run `python -m registry migrate`")
    return found


def database_time(connection: Connection[Any]) -> datetime:
    """The database's clock."""
    row = ask(connection, queries.clock).fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def ask(
    connection: Connection[Any], query: Statement, params: Params | None = None
) -> Cursor[tuple[Any, ...]]:
    """Runs a statement and gives its rows as tuples, whatever the connection and its role are set
    to: in the binary format a time reads the same by any DateStyle."""
    # Not the connection's own kind, which may bind in the client.
    cursor = Cursor(connection, row_factory=tuple_row)
    return cursor.execute(query, params, binary=True)
