"""What the database says of a conversion: whether one is under way, and where the tables stand."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from attrs import frozen
from psycopg import Connection

from ..errors import RegistryError
from .layouts import EVENTS, ByHash, ByTime, Layout, Plain, Table, ask, describe, events
from .queries import queries
from .statements import CONVERSION, LEFT, NEXT, OLD, TRIGGERS

COLUMNS: Final = frozenset({"game_id", "sequence", "recorded_at", "codec", "payload"})
"""Those of the events, which the copy and the mirror name."""

LOCK: Final = 0x67616D65_70617274
"""The advisory lock of a conversion, beside those of the migrations."""


@frozen
class Conversion:
    """A conversion that is under way, as the database has it."""

    target: Layout
    game_id: str
    sequence: int
    copied: int
    started_at: datetime
    sound: bool
    """Whether all that it needs is there."""


@frozen
class Standing:
    """Where the tables stand."""

    events: Table
    next: Table | None
    old: Table | None
    """What a conversion left behind, still to be dropped."""
    conversion: Conversion | None

    @classmethod
    def ask(cls, connection: Connection[Any]) -> Standing:
        """Reads the catalogue. Raises `RegistryError` where a name is taken by something else."""
        table = events(connection)
        next_, old = describe(connection, NEXT), describe(connection, OLD)
        conversion = _under_way(connection, next_)
        comment = ask(connection, queries.comment, {"name": OLD})
        if old is not None and comment.fetchone() != (LEFT,):
            raise RegistryError(f"there is a table {OLD} of somebody else's: rename or drop it")
        if next_ is not None and conversion is None:
            raise RegistryError(f"there is a table {NEXT} of somebody else's: rename or drop it")
        return cls(table, next_, old, conversion)

    @property
    def foreseen_columns(self) -> bool:
        """Whether the events have the columns that the copy and the mirror name."""
        return set(self.events.columns) == COLUMNS


def is_running(connection: Connection[Any]) -> bool:
    """Whether a process is at a conversion just now."""
    return ask(connection, queries.running, {"lock": LOCK}).rowcount > 0


def foreign_objects(connection: Connection[Any]) -> list[str]:
    """What is not the registry's and would stay with the old table, in words."""
    found = ask(connection, queries.foreign_objects, {"name": EVENTS, "triggers": TRIGGERS})
    return [name for (name,) in found.fetchall()]


def _under_way(connection: Connection[Any], next_: Table | None) -> Conversion | None:
    """The conversion that is under way, if one is."""
    if ask(connection, queries.under_way, {"name": CONVERSION}).fetchone() != (True,):
        return None
    row = ask(connection, queries.conversion).fetchone()
    assert row is not None  # it is begun with one
    partitions, every, game_id, sequence, copied, started_at = row
    target = ByHash(partitions) if partitions else ByTime(every) if every else Plain()
    names = {"name": EVENTS, "triggers": TRIGGERS}
    triggers = ask(connection, queries.triggers, names).fetchone()
    sound = next_ is not None and triggers == (len(TRIGGERS),)
    return Conversion(target, game_id, sequence, copied, started_at, sound)
