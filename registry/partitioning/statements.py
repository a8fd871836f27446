"""The statements of a conversion: begin, copy, swap, drop; or abandon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from psycopg import sql

from .ddl import Statement, create, drop, regrant, rename
from .layouts import EVENTS, ByHash, ByTime, Layout, Table

NEXT: Final = f"{EVENTS}_next"
OLD: Final = f"{EVENTS}_old"
CONVERSION: Final = f"{EVENTS}_conversion"
MIRROR: Final = f"{EVENTS}_mirror"

END: Final = 2**63 - 1
"""The sequence that a position has in a game which is done."""

LEFT: Final = "What game_event was before `python -m registry partition`, which drops it."
"""The comment by which the old table is known for one that may be dropped."""

_MIRRORED: Final = {
    "insert": "INSERT ON {} REFERENCING NEW TABLE AS added",
    "delete": "DELETE ON {} REFERENCING OLD TABLE AS removed",
    "update": "UPDATE ON {} REFERENCING OLD TABLE AS removed NEW TABLE AS added",
    "truncate": "TRUNCATE ON {}",
}  # fmt: skip

TRIGGERS: Final = [f"{MIRROR}_{event}" for event in _MIRRORED]


def configure() -> Iterator[Statement]:
    """For the session: each statement sees what the one before it waited for, and goes by the key,
    whatever the statistics of a new table say."""
    yield _sql("SET default_transaction_isolation = 'read committed'")
    for setting in ("enable_seqscan", "enable_bitmapscan", "jit"):
        yield _sql("SET {} = off", sql.Identifier(setting))


def begin(events: Table, target: Layout, since: datetime, now: datetime) -> Iterator[Statement]:
    """Makes the next table, notes that it is on its way, and mirrors each change from now on.

    The triggers come last: they wait for all that write events, and keep new ones waiting.
    """
    yield from create(events, NEXT, target, since, now)
    conversion = events.identifier(CONVERSION)
    yield _sql(
        "CREATE TABLE {} ("
        "only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), "
        "partitions integer, every interval, "
        "game_id text COLLATE \"C\" NOT NULL DEFAULT '', sequence bigint NOT NULL DEFAULT 0, "
        "copied bigint NOT NULL DEFAULT 0, "
        "started_at timestamptz NOT NULL DEFAULT clock_timestamp())",
        conversion,
    )
    yield _sql("ALTER TABLE {} OWNER TO {}", conversion, sql.Identifier(events.owner))
    yield _sql(
        "INSERT INTO {} (partitions, every) VALUES ({}, {})",
        conversion,
        sql.Literal(target.partitions if isinstance(target, ByHash) else None),
        sql.Literal(target.every if isinstance(target, ByTime) else None),
    )
    yield from mirror(events)


def mirror(events: Table) -> Iterator[Statement]:
    """Has every change of the events made to the next table too, by the same transaction.

    With the rights of the owner: who plays has none there. Nobody else may use the function, on a
    table of his own he could forge events with it. What is there already was copied: the same.
    """
    function = events.identifier(MIRROR)
    columns = _columns(events)
    next_ = events.identifier(NEXT)
    insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM added ON CONFLICT DO NOTHING").format(
        next_, columns, columns
    )
    # The time says in which partition to look.
    delete = sql.SQL(
        "DELETE FROM {} AS e USING removed AS r WHERE e.game_id = r.game_id "
        "AND e.sequence = r.sequence AND e.recorded_at = r.recorded_at"
    ).format(next_)
    body = sql.SQL(
        "BEGIN IF TG_OP = 'TRUNCATE' THEN TRUNCATE {next}; END IF; "
        "IF TG_OP IN ('DELETE', 'UPDATE') THEN {delete}; END IF; "
        "IF TG_OP IN ('INSERT', 'UPDATE') THEN {insert}; END IF; RETURN NULL; END"
    ).format(next=next_, delete=delete, insert=insert)
    yield _sql(
        "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
        "SET search_path = pg_catalog, pg_temp AS {}",
        function,
        sql.Literal(body.as_string()),
    )
    yield _sql("ALTER FUNCTION {}() OWNER TO {}", function, sql.Identifier(events.owner))
    yield _sql("REVOKE ALL ON FUNCTION {}() FROM PUBLIC", function)
    for name, when in zip(TRIGGERS, _MIRRORED.values(), strict=True):
        yield sql.SQL("CREATE TRIGGER {} AFTER {} FOR EACH STATEMENT EXECUTE FUNCTION {}()").format(
            sql.Identifier(name), sql.SQL(when).format(events.identifier()), function
        )


_SEGMENTS: Final = (
    "SELECT * FROM unnest(%(game_ids)s::text[], %(afters)s::bigint[], %(throughs)s::bigint[])"
)
_ALL_SEGMENTS: Final = "SELECT game_id, floor, {} FROM {}"


class Copying:
    """The statements of a batch, each once, since the server plans each once."""

    def __init__(self, events: Table) -> None:
        game = events.identifier("game")
        self.look = _sql(
            "SELECT game_id, after, "
            "CASE WHEN head - after <= %(rows)s - before THEN {end} "
            "ELSE after + %(rows)s - before END::bigint "
            "FROM (SELECT game_id, head, after, coalesce(sum(head - after + 1) OVER ("
            "ORDER BY game_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before "
            "FROM (SELECT game_id, head, greatest(floor, CASE WHEN game_id = %(game_id)s "
            "THEN %(sequence)s END) AS after "
            "FROM {game} WHERE game_id >= %(game_id)s "
            "AND (game_id, head) > (%(game_id)s, %(sequence)s) "
            "ORDER BY game_id LIMIT %(rows)s) AS ahead) AS sized "
            "WHERE before < %(rows)s ORDER BY game_id",
            end=sql.Literal(END),
            game=game,
        )
        """Which part of which games comes next: (game, after, through) by a look at the games.
        A game counts for a row more than it has, so that empty ones count as well."""
        self.lock_free = _sql(
            "SELECT game_id, floor FROM {} WHERE game_id = ANY (%(game_ids)s) "
            "ORDER BY game_id FOR NO KEY UPDATE SKIP LOCKED",
            game,
        )
        """Holds those games against all that write their events, as far as nobody does."""
        self.lock_one = _sql(
            "SELECT game_id, floor FROM {} WHERE game_id = %(game_id)s FOR NO KEY UPDATE", game
        )
        self.move = _sql(
            "UPDATE {} SET game_id = %(game_id)s, sequence = %(sequence)s, "
            "copied = copied + %(copied)s",
            events.identifier(CONVERSION),
        )
        self.copy, self.count = copying(events, sql.SQL(_SEGMENTS))


def copying(events: Table, segments: sql.Composable) -> tuple[Statement, Statement]:
    """Copies the events of segments, those of a game above its floor; and counts them, here and
    there."""
    columns = _columns(events)
    copy = _sql(
        "INSERT INTO {next} ({columns}) SELECT e.* "
        "FROM ({segments}) AS s (game_id, after, through) CROSS JOIN LATERAL ("
        "SELECT {columns} FROM {here} WHERE game_id = s.game_id "
        "AND sequence > s.after AND sequence <= s.through ORDER BY sequence) AS e "
        "ON CONFLICT DO NOTHING",
        next=events.identifier(NEXT),
        here=events.identifier(),
        columns=columns,
        segments=segments,
    )
    counts = [
        sql.SQL(
            "(SELECT count(*) FROM {} WHERE game_id = s.game_id "
            "AND sequence > s.after AND sequence <= s.through)"
        ).format(events.identifier(name))
        for name in (EVENTS, NEXT)
    ]
    count = _sql(
        "SELECT coalesce(sum(here), 0)::bigint, coalesce(sum(there), 0)::bigint, "
        "coalesce(bool_and(here = there), true) FROM ("
        # OFFSET: so that each is counted once, however often it is named above.
        "SELECT {} AS here, {} AS there FROM ({}) AS s (game_id, after, through) OFFSET 0"
        ") AS counted",
        *counts,
        segments,
    )
    return copy, count


def copy_at_once(events: Table) -> Iterator[Statement]:
    """What all batches do together."""
    game = events.identifier("game")
    yield _sql("SELECT game_id, floor FROM {} ORDER BY game_id FOR NO KEY UPDATE", game)
    segments = sql.SQL(_ALL_SEGMENTS).format(sql.Literal(END), game)
    yield from copying(events, segments)


def analyze(events: Table) -> Statement:
    """Partitioned tables are not analyzed by themselves."""
    return _sql("ANALYZE {}", events.identifier(NEXT))


def lock_both(events: Table) -> Iterator[Statement]:
    """Waits for all that use the events, and keeps others waiting."""
    for name in (EVENTS, NEXT):
        yield _sql("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", events.identifier(name))


def swap(events: Table, next_: Table) -> Iterator[Statement]:
    """Puts the next table in the place of the events; runs behind `lock_both`."""
    yield from _unmirror(events)
    yield from regrant(events, next_)
    yield from rename(events, EVENTS, OLD)
    yield from rename(next_, NEXT, EVENTS)
    yield _sql("COMMENT ON TABLE {} IS {}", events.identifier(OLD), sql.Literal(LEFT))
    yield _sql("DROP TABLE {}", events.identifier(CONVERSION))


def abandon(events: Table, next_: Table | None) -> Iterator[Statement]:
    """Takes back what `begin` made, first of all the triggers."""
    yield from _unmirror(events)
    yield _sql("DROP TABLE IF EXISTS {}", events.identifier(CONVERSION))
    if next_ is not None:
        yield drop(next_)


def _unmirror(events: Table) -> Iterator[Statement]:
    for name in TRIGGERS:
        yield _sql("DROP TRIGGER IF EXISTS {} ON {}", sql.Identifier(name), events.identifier())
    yield _sql("DROP FUNCTION IF EXISTS {}()", events.identifier(MIRROR))


def _columns(events: Table) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, events.columns))


def _sql(text: str, *parts: sql.Composable, **named: sql.Composable) -> Statement:
    return sql.SQL(text).format(*parts, **named)
