"""The source: what is asked of Prisma's tables, all of it in one snapshot, nothing written.

Its names are not ours, so these queries are put together here, every name quoted by `psycopg.sql`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final

import psycopg
from attrs import frozen
from psycopg import IsolationLevel, sql

from ..errors import InvalidArgument, RegistryUnavailable
from ..payloads import DEEPEST
from ..translation import translated
from .connecting import connected
from .names import COLUMNS, EVENT, OPTIONAL, SESSION, Names, plain_conninfo
from .stored import LONG_NUMBER, stored_bytes, stored_json

Event = tuple[int, bytes, bytes, bytes]
"""The place of its game among those asked for; sequence, time and payload as sent in binary."""

FETCHED: Final = 1_000
"""Payloads that are fetched together, when one has to look at them."""

_WHOLE: Final = frozenset({"smallint", "integer", "bigint"})
_TIMES: Final = frozenset({"timestamp without time zone", "timestamp with time zone"})
_NUMBERS: Final = frozenset({"event.sequence", "session.lastAckSequence"})
_MOMENTS: Final = frozenset(
    {"event.createdAt", "session.lastHeartbeat", "session.expiresAt", "session.createdAt"}
)
_PAYLOADS: Final = frozenset({"jsonb", "json", "bytea"})


@frozen
class SourceGame:
    """What the source has of one game, counted. Without events, `first` and `last` are None."""

    game_id: str | None
    events: int
    distinct: int
    unnumbered: int
    """Events with no sequence, or one below 1."""
    first: int | None
    last: int | None
    oldest: datetime | None
    newest: datetime | None
    untimed: int
    suspects: int
    """Events whose payload has to be looked at; 0 if that was not asked."""
    fingerprint: Decimal | None
    """Which time stands at which sequence."""
    sessions: int
    acknowledged: int
    """The highest acknowledgement."""

    @property
    def whole(self) -> bool:
        """Whether its sequences are each there once, from the first to the last."""
        if self.first is None or self.last is None:
            return self.events == 0
        return self.first >= 1 and self.events == self.distinct == self.last - self.first + 1


@frozen
class Breaks:
    """Where the sequences of a game are not each there once."""

    holes: int
    missing: int
    first_missing: int | None
    duplicates: int
    first_duplicate: int | None
    floor: int
    """All above it is whole."""


@frozen
class SourceSession:
    """One row of the session table."""

    game_id: str
    user_id: str | None
    acknowledged: int
    beat: datetime | None
    expiry: datetime | None
    created: datetime | None


class Source:
    """The two tables, as one transaction sees them. Used by one thread."""

    def __init__(self, connection: psycopg.Connection[Any], names: Names, limit: int) -> None:
        """`limit`: the most bytes of a payload."""
        self._connection = connection
        self._limit = limit
        self._cursors = count()
        types = {table: self._types(names, table) for table in (EVENT, SESSION)}
        self.timed = "createdAt" in types[EVENT]
        self.binary = types[EVENT]["payload"] == "bytea"
        self.store = stored_bytes if self.binary else stored_json
        self._parts = {
            **self._expressions(names, EVENT, types[EVENT]),
            **self._expressions(names, SESSION, types[SESSION]),
        }
        self._parts["suspect"] = self._suspect(types[EVENT]["payload"])

    @classmethod
    @contextmanager
    def open(cls, url: str, maps: Sequence[str], limit: int) -> Iterator[Source]:
        """Connects, and holds one snapshot until the end of the block.

        Raises `InvalidArgument` for a URL or names that do not fit, `RegistryUnavailable` when the
        source does not serve.
        """
        conninfo, schema = plain_conninfo(url)
        connection = connected(conninfo, option="--from", silent="the source")
        with closing(connection):  # in whatever state it is: there is nothing to commit
            try:
                connection.isolation_level = IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                connection.execute("SET LOCAL TimeZone = 'UTC'")
                connection.execute("SET LOCAL statement_timeout = 0")
                yield cls(connection, Names.parse(maps, schema), limit)
            except psycopg.Error as error:
                raise RegistryUnavailable(
                    f"the source: {translated(error, connection, None)}"
                ) from None

    def games(self, at_once: int, *, payloads: bool) -> Iterator[list[SourceGame]]:
        """Every game that an event or a session names, so many at a time.

        `payloads`: whether to look for suspects among them, which takes longest.
        """
        query = self._compose(
            """
            SELECT coalesce(e.game, s.game), coalesce(events, 0), coalesce(numbers, 0),
                   coalesce(unnumbered, 0), first, last, oldest, newest, coalesce(untimed, 0),
                   coalesce(suspects, 0), fingerprint, coalesce(sessions, 0),
                   coalesce(acknowledged, 0)
            FROM (
                SELECT {event_game}::text AS game, count(*) AS events,
                       count(DISTINCT {sequence}) AS numbers,
                       count(*) FILTER (WHERE coalesce({sequence}, 0) < 1) AS unnumbered,
                       min({sequence})::bigint AS first, max({sequence})::bigint AS last,
                       min({at}) AS oldest, max({at}) AS newest,
                       count(*) FILTER (WHERE {at} IS NULL) AS untimed,
                       count(*) FILTER (WHERE {payloads} AND {suspect}) AS suspects,
                       sum(mod({sequence}::bigint, 1000003)
                           * mod((extract(epoch FROM {at}) * 1000000)::bigint, 1000000007))
                           AS fingerprint
                FROM {event} AS e
                GROUP BY {event_game}
            ) AS e
            FULL JOIN (
                SELECT {session_game}::text AS game, count(*) AS sessions,
                       max({acknowledged})::bigint AS acknowledged
                FROM {session} AS s
                GROUP BY {session_game}
            ) AS s ON s.game = e.game
            """,
            payloads=payloads,
        )
        with self._cursor() as cursor:
            cursor.execute(query)
            while rows := cursor.fetchmany(at_once):
                yield [SourceGame(*row) for row in rows]

    def breaks(self, games: Sequence[str]) -> Mapping[str, Breaks]:
        """Where their sequences are not whole."""
        query = self._compose(
            """
            SELECT game, count(*) FILTER (WHERE missing > 0),
                   coalesce(sum(missing) FILTER (WHERE missing > 0), 0)::bigint,
                   min(sequence - missing) FILTER (WHERE missing > 0),
                   count(*) FILTER (WHERE copies > 1),
                   min(sequence) FILTER (WHERE copies > 1),
                   max(CASE WHEN copies > 1 THEN sequence ELSE sequence - 1 END)
                       FILTER (WHERE missing > 0 OR copies > 1)
            FROM (
                SELECT game, sequence, copies,
                       sequence - lag(sequence) OVER (PARTITION BY game ORDER BY sequence) - 1
                           AS missing
                FROM (
                    SELECT {event_game}::text AS game, {sequence}::bigint AS sequence,
                           count(*) AS copies
                    FROM {event} AS e
                    WHERE {event_game} = ANY ({games}::{event_game_type}[]) AND {sequence} >= 1
                    GROUP BY {event_game}, {sequence}
                ) AS number
            ) AS step
            WHERE missing > 0 OR copies > 1
            GROUP BY game
            """,
            games=list(games),
        )
        return {row[0]: Breaks(*row[1:]) for row in self._connection.execute(query)}

    def suspects(self, games: Sequence[str]) -> Iterator[tuple[str, int, bytes | None]]:
        """Game, sequence and payload of their events that have to be looked at."""
        query = self._compose(
            """
            SELECT {event_game}::text, {sequence}::bigint, {payload}
            FROM {event} AS e
            WHERE {event_game} = ANY ({games}::{event_game_type}[]) AND {sequence} >= 1
              AND {suspect}
            """,
            games=list(games),
        )
        with self._cursor() as cursor:
            cursor.execute(query)
            for game, sequence, payload in cursor:
                yield game, sequence, payload.encode() if isinstance(payload, str) else payload

    def events(
        self, games: Sequence[str], afters: Sequence[int], heads: Sequence[int]
    ) -> Generator[Event, None, None]:
        """The events of the games above `afters` up to `heads`, in order, game by game.

        To be read to the end or closed, before anything else is asked.
        """
        query = self._compose(
            """
            COPY (
                SELECT wanted.place, {sequence}::bigint, {at}, {payload}
                FROM unnest({games}::text[], {afters}::bigint[], {heads}::bigint[])
                         WITH ORDINALITY AS wanted (game, after, head, place)
                JOIN {event} AS e
                    ON {event_game} = wanted.game::{event_game_type}
                    AND {sequence} > wanted.after AND {sequence} <= wanted.head
                ORDER BY wanted.place, {sequence}
            ) TO STDOUT (FORMAT BINARY)
            """,
            games=list(games),
            afters=list(afters),
            heads=list(heads),
        )
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for place, sequence, at, payload in copy.rows():
                yield int.from_bytes(place, "big") - 1, sequence, at, payload

    def samples(
        self, games: Sequence[str], sequences: Sequence[int]
    ) -> Mapping[str, list[tuple[datetime, bytes | None]]]:
        """Of each of the games, the time and payload of the events of that sequence."""
        query = self._compose(
            """
            SELECT wanted.game, {at}, {payload}
            FROM unnest({games}::text[], {sequences}::bigint[]) AS wanted (game, sequence)
            JOIN {event} AS e
                ON {event_game} = wanted.game::{event_game_type} AND {sequence} = wanted.sequence
            """,
            games=list(games),
            sequences=list(sequences),
        )
        found: dict[str, list[tuple[datetime, bytes | None]]] = {}
        for game, at, payload in self._connection.execute(query):
            data = payload.encode() if isinstance(payload, str) else payload
            found.setdefault(game, []).append((at, data))
        return found

    def sessions(self, games: Sequence[str]) -> list[SourceSession]:
        """Their sessions, game by game."""
        query = self._compose(
            """
            SELECT {session_game}::text, {user}::text, coalesce({acknowledged}, 0)::bigint,
                   {beat}, {expiry}, {created}
            FROM {session} AS s
            WHERE {session_game} = ANY ({games}::{session_game_type}[])
            ORDER BY {session_game}, {user}
            """,
            games=list(games),
        )
        return [SourceSession(*row) for row in self._connection.execute(query)]

    def _cursor(self) -> psycopg.ServerCursor[Any]:
        cursor = psycopg.ServerCursor(self._connection, f"import_{next(self._cursors)}")
        cursor.itersize = FETCHED
        return cursor

    def _compose(self, text: str, **values: object) -> sql.Composed:
        literals = {name: sql.Literal(value) for name, value in values.items()}
        return sql.SQL(text).format(**self._parts, **literals)

    def _types(self, names: Names, table: str) -> dict[str, str]:
        """The type of each column that is there, by our names. Raises `InvalidArgument`."""
        name = names.table(table)
        query = """
            SELECT attname, format_type(atttypid, NULL)
            FROM pg_attribute
            WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
        """
        rows = self._connection.execute(query, [name.as_string(self._connection)]).fetchall()
        found: dict[str, str] = dict(rows)
        if not found:
            raise InvalidArgument(
                f"the source has no table {name.as_string(self._connection)}: "
                f"name it with --map {table}=NAME"
            )
        types = {}
        for column in COLUMNS[table]:
            key, there = f"{table}.{column}", names.column(table, column)
            if there in found:
                types[column] = found[there]
                _check_type(key, there, found[there])
            elif key not in OPTIONAL or key in names.given:
                raise InvalidArgument(
                    f"{name.as_string(self._connection)} has no column {there!r}, it has "
                    f"{', '.join(sorted(found))}: name it with --map {key}=NAME"
                )
        return types

    def _expressions(
        self, names: Names, table: str, types: Mapping[str, str]
    ) -> dict[str, sql.Composable]:
        def column(name: str) -> sql.Composable:
            quoted = sql.Identifier(table[0], names.column(table, name))
            if types[name] == "timestamp without time zone":  # Prisma's are in UTC
                return sql.SQL("({} AT TIME ZONE 'UTC')").format(quoted)
            return quoted

        def moment(name: str, otherwise: str) -> sql.Composable:
            return column(name) if name in types else sql.SQL(otherwise)

        parts: dict[str, sql.Composable] = {
            table: names.table(table),
            f"{table}_game": column("gameId"),
            f"{table}_game_type": sql.SQL(types["gameId"]),
        }
        if table == EVENT:
            payload = column("payload")
            plain = types["payload"] == "bytea"
            parts["sequence"] = column("sequence")
            parts["payload"] = payload if plain else sql.SQL("{}::text").format(payload)
            parts["at"] = moment("createdAt", "transaction_timestamp()")
        else:
            parts["user"] = column("userId")
            parts["acknowledged"] = column("lastAckSequence")
            parts["beat"] = column("lastHeartbeat")
            parts["expiry"] = moment("expiresAt", "NULL::timestamptz")
            parts["created"] = moment("createdAt", "NULL::timestamptz")
        return parts

    def _suspect(self, kind: str) -> sql.Composable:
        """What holds for every event whose payload the registry might refuse."""
        if kind == "json":  # may be written in more ways than can be told apart here
            return sql.SQL("true")
        payload = self._parts["payload"]
        missing_or_long = sql.SQL("({0} IS NULL OR octet_length({0}) > {1}").format(
            payload, self._limit
        )
        if kind == "bytea":
            return missing_or_long + sql.SQL(")")
        return missing_or_long + sql.SQL(
            " OR {0} ~ {1} OR length({0}) - length(translate({0}, '[{{', '')) > {2})"
        ).format(payload, LONG_NUMBER, DEEPEST)


def _check_type(key: str, there: str, kind: str) -> None:
    wanted = (
        _WHOLE if key in _NUMBERS else _TIMES if key in _MOMENTS
        else _PAYLOADS if key == "event.payload" else None
    )  # fmt: skip
    if wanted is not None and kind not in wanted:
        raise InvalidArgument(
            f"{key} is the column {there!r} of type {kind}, but has to be one of "
            f"{', '.join(sorted(wanted))}"
        )
