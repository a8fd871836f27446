"""What the migrations make: the tables, and on which columns their indexes are."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from functools import cache

from attrs import frozen

from .partitioning.layouts import EVENTS, ByTime, Table
from .resources import folder

_TABLE = re.compile(r"CREATE TABLE (\w+) \((.*)\)", re.DOTALL)
_KEY = re.compile(r"\b(PRIMARY KEY|UNIQUE) \(([^)]*)\)")
_KEY_COLUMN = re.compile(r"^\s*(\w+) .*\bPRIMARY KEY(?! \()", re.MULTILINE)
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?(\w+) ON \w+")
_DROPPED = re.compile(r"DROP INDEX (?:CONCURRENTLY )?(?:IF EXISTS )?(\w+)")


@frozen
class Blueprint:
    """By what the migrations say, all of them applied."""

    tables: tuple[str, ...]
    indexes: Mapping[str, str]
    """Each index by its name, with the statement that makes it again."""

    def indexes_of(self, events: Table) -> Mapping[str, str]:
        """The indexes, with the table of events laid out as it is: by time it has no key as a
        whole, but each partition has one of its own."""
        if not isinstance(events.layout, ByTime):
            return self.indexes
        kept = {name: made for name, made in self.indexes.items() if name != f"{EVENTS}_pkey"}
        keys = [_keys(leaf.name, "PRIMARY KEY (game_id, sequence)") for leaf in events.leaves]
        return dict(ChainMap(kept, *map(dict, keys)))


@cache
def blueprint() -> Blueprint:
    """Reads the migrations' own text."""
    tables: list[str] = []
    indexes: dict[str, str] = {}
    paths = sorted(folder("migrations").glob("*.sql"))
    for path in (path for path in paths if not path.name.endswith(".rollback.sql")):
        text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        for statement in map(str.strip, text.split(";")):
            if table := _TABLE.match(statement):
                tables.append(table[1])
                indexes.update(_keys(table[1], table[2]))
            elif index := _INDEX.match(statement):
                indexes[index[1]] = " ".join(statement.split())
            elif dropped := _DROPPED.match(statement):
                indexes.pop(dropped[1], None)
    return Blueprint(tuple(tables), indexes)


def _keys(table: str, body: str) -> Mapping[str, str]:
    """The indexes behind a table's constraints, named as PostgreSQL names them."""
    found = {}
    for kind, columns in [
        *_KEY.findall(body),
        *(("PRIMARY KEY", column) for column in _KEY_COLUMN.findall(body)),
    ]:
        primary = kind == "PRIMARY KEY"
        name = f"{table}_pkey" if primary else "_".join([table, *columns.split(", "), "key"])
        found[name] = f"ALTER TABLE {table} ADD CONSTRAINT {name} {kind} ({columns})"
    return found
