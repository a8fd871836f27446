"""The hand-written queries of `sql/partitioning/`, read once: one attribute a file."""

from __future__ import annotations

import re

from attrs import frozen
from psycopg import sql

from ..queries import load

Statement = bytes | sql.Composed


@frozen
class Queries:
    """Each attribute is the text of the file of that name."""

    above_floor: bytes
    analyze: bytes
    any_event: bytes
    begin_conversion: bytes
    clock: bytes
    comment: bytes
    configure: bytes
    confine_mirror: bytes
    conversion: bytes
    copy: bytes
    copy_all: bytes
    count: bytes
    count_all: bytes
    create_conversion: bytes
    create_mirror: bytes
    drop_conversion: bytes
    drop_mirror: bytes
    droppable: bytes
    foreign_objects: bytes
    grants: bytes
    leave_turn: bytes
    leaves: bytes
    lock_all: bytes
    lock_both: bytes
    lock_events: bytes
    lock_free: bytes
    lock_one: bytes
    look: bytes
    mark_old: bytes
    mirror_delete: bytes
    mirror_insert: bytes
    mirror_truncate: bytes
    mirror_update: bytes
    move: bytes
    oldest: bytes
    owner: bytes
    rest_has: bytes
    rest_rows: bytes
    rows: bytes
    running: bytes
    setting: bytes
    size: bytes
    snapshots: bytes
    table: bytes
    take_turn: bytes
    total: bytes
    triggers: bytes
    under_way: bytes
    users: bytes


queries = load(Queries, "partitioning")


def filled(query: bytes, **parts: object) -> sql.Composed:
    """A query with an identifier for each `{name}` of it, and literals for parameters: for what the
    server takes no parameters in, or who runs a script has none for."""

    def place(parameter: re.Match[str]) -> str:
        return f"{{{parameter[1]}}}" if parameter[1] in parts else parameter[0]

    text = re.sub(r"%\((\w+)\)s", place, query.decode())
    return sql.SQL(text).format(
        **{
            name: part if isinstance(part, sql.Composable) else sql.Literal(part)
            for name, part in parts.items()
        }
    )


def setting(name: str, value: str) -> sql.Composed:
    """Sets something for the rest of the transaction."""
    return filled(queries.setting, setting=name, value=value)
