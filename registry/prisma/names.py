"""What the source's tables and columns are called, and its connection string."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from attrs import frozen
from psycopg import sql

from ..errors import InvalidArgument

EVENT: Final = "event"
SESSION: Final = "session"

TABLES: Final[Mapping[str, str]] = {EVENT: "gameEvent", SESSION: "gameSession"}
"""Each table, and what it is called if it is not mapped."""

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    EVENT: ("gameId", "sequence", "payload", "createdAt"),
    SESSION: ("gameId", "userId", "lastAckSequence", "lastHeartbeat", "expiresAt", "createdAt"),
}
"""Their columns, called so if they are not mapped."""

OPTIONAL: Final = frozenset({"event.createdAt", "session.expiresAt", "session.createdAt"})
"""Columns that need not be there, unless they are mapped."""

# What Prisma reads in its URL and libpq would refuse.
_PRISMA_ONLY: Final = frozenset(
    {
        "connection_limit",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "sslpassword",
        "statement_cache_size",
    }
)


@frozen
class Names:
    """The names of the source. `given` are those that were mapped."""

    given: Mapping[str, str]
    schema: str | None = None

    @classmethod
    def parse(cls, maps: Iterable[str], schema: str | None = None) -> Names:
        """From texts such as `event=game_events` and `event.gameId=game_id`.

        Raises `InvalidArgument` for what is not of that form, or maps what nobody asks for.
        """
        known = [*TABLES, *(f"{table}.{name}" for table in TABLES for name in COLUMNS[table])]
        given = {}
        for text in maps:
            key, _, name = text.partition("=")
            if key not in known or not name or "\0" in name:
                raise InvalidArgument(
                    f"{text!r} maps nothing: write KEY=NAME, where KEY is one of {', '.join(known)}"
                )
            given[key] = name
        return cls(given, schema)

    def table(self, table: str) -> sql.Identifier:
        """A mapped name may have a schema in front, with a dot."""
        name = self.given.get(table, TABLES[table])
        schema, _, rest = name.rpartition(".")
        parts = [part for part in (schema or self.schema, rest) if part]
        return sql.Identifier(*parts)

    def column(self, table: str, column: str) -> str:
        return self.given.get(f"{table}.{column}", column)


def plain_conninfo(url: str) -> tuple[str, str | None]:
    """A Prisma URL as libpq takes it, and the schema that it names; others as they are."""
    if not url.startswith(("postgresql://", "postgres://")):
        return url, None
    try:
        parts = urlsplit(url)
    except ValueError:  # libpq says better what is wrong
        return url, None
    query = parse_qsl(parts.query, keep_blank_values=True)
    kept = urlencode([(key, value) for key, value in query if key not in _PRISMA_ONLY])
    return urlunsplit(parts._replace(query=kept)), dict(query).get("schema") or None
