"""A filled database to plan against, and what a plan may and may not do there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from attrs import frozen
from psycopg import ClientCursor, Connection, sql
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus

from registry import RegistryConfig
from registry.queries import queries
from registry.resources import folder
from registry.settings import server_settings
from registry.tokens import ResumeToken

Node = dict[str, Any]

TABLES = ["game", "game_session", "game_event", "game_event_id", "statement_receipt"]
"""The tables that grow."""

JIT_ABOVE_COST = 100_000
"""The server's default: what it believes to cost more, it compiles first, for half a second."""

PROBE = 4
"""The most pages that it takes to find out, by its index, that a partition has nothing."""

_PARAMETER = re.compile(r"%\((\w+)\)s")

ALLOWED_SORTS = {
    "doctor_laggards": "by length, of a bounded number of games; by position, the players of a few",
    "heartbeat_many": "by key, of the sessions asked for: it puts the locks in order",
}
"""The queries that may sort rows of a table, each with the reason why no index spares it."""


@frozen
class Scale:
    """How much there is of everything. The hot games are the first ones."""

    games: int
    hot: int
    hot_events: int
    other_events: int
    hot_players: int

    def floor(self, game: int) -> int:
        return game % 5 * 10

    def head(self, game: int) -> int:
        return self.floor(game) + (self.hot_events if game < self.hot else self.other_events)


def game_id(game: int) -> str:
    return f"game-{game:05}"


def session_name(game: int, player: int) -> str:
    return f"{game_id(game)}/player-{player:02}"


def session_uuid(game: int, player: int) -> UUID:
    return UUID(hashlib.md5(session_name(game, player).encode()).hexdigest())


def token(game: int, player: int) -> ResumeToken:
    secret = hashlib.sha256(session_name(game, player).encode()).digest()
    return ResumeToken(game_id(game), session_uuid(game, player), secret)


def event_name(game: int, sequence: int) -> str:
    return f"{game_id(game)}#{sequence}"


def event_uuid(game: int, sequence: int) -> UUID:
    return UUID(hashlib.md5(event_name(game, sequence).encode()).hexdigest())


_FILL = """
CREATE TEMPORARY TABLE plan AS
SELECT n, game_id, mod(n, 5) * 10 AS floor, ancient,
       CASE mod(n, 5) WHEN 3 THEN 10 ELSE 0 END AS unswept,
       CASE WHEN ancient THEN 0 WHEN n < %(hot)s THEN %(hot_events)s
            ELSE %(other_events)s END AS events,
       CASE WHEN ancient THEN 0 WHEN n < %(hot)s THEN %(hot_players)s ELSE 4 END AS players,
       halved, now() - CASE WHEN ancient OR halved THEN interval '2 days'
                            ELSE make_interval(mins => 1000 - mod(n, 1000)) END AS begun
FROM (SELECT n, mod(n, 5) = 4 AS halved, 'game-' || lpad(n::text, 5, '0') AS game_id,
             n >= %(games)s * 0.99 AS ancient
      FROM generate_series(0, %(games)s - 1) AS n) AS game;

INSERT INTO game (game_id, head, head_at, floor, issued, oldest_at)
SELECT game_id, floor + events, CASE WHEN ancient THEN begun ELSE now() END, floor, players, begun
FROM plan ORDER BY mod(n, 97);

INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
SELECT game_id, floor + event,
       CASE WHEN NOT halved THEN begun + (now() - begun) * event / events
            WHEN event <= events / 2 THEN begun ELSE now() END,
       1, repeat('x', 78)::bytea
FROM plan, generate_series(CASE WHEN events > 0 THEN 1 - unswept ELSE 1 END, events) AS event
ORDER BY event, n;

INSERT INTO game_event_id (game_id, event_id, sequence, recorded_at)
SELECT game_id, md5(game_id || '#' || floor + event)::uuid, floor + event, begun
FROM plan, generate_series(1, least(events, 10)) AS event;

INSERT INTO game_session
    (game_id, id, user_id, token_hash, last_acknowledged, ttl, created_at, heartbeat_at,
     expires_at)
SELECT game_id, md5(name)::uuid, user_id, sha256(sha256(name::bytea)),
       floor + CASE WHEN player = 0 THEN 0 ELSE events / 2 END,
       interval '30 minutes', begun, beat, beat + interval '30 minutes'
FROM (
    SELECT *, game_id || '/' || user_id AS name,
           now() - CASE player WHEN 0 THEN interval '5 seconds' WHEN 3 THEN interval '1 hour'
                               ELSE make_interval(secs => mod(n, 840)) END AS beat
    FROM (SELECT *, 'player-' || lpad(player::text, 2, '0') AS user_id
          FROM plan, generate_series(0, players - 1) AS player) AS player
) AS session
ORDER BY player, n;

INSERT INTO statement_receipt (id, statement, answer, used_at)
SELECT md5('receipt ' || n)::uuid, 1, '{1}', begun
FROM plan;
"""


def fill(connection: Connection[Any], scale: Scale) -> None:
    """Fills a migrated database; `connection` is in autocommit mode.

    In each game player 0 is live and has acknowledged nothing, player 3 has expired, the
    others are live, silent for up to 14 minutes, and have acknowledged half the log. A log goes
    back for up to 17 hours, so over many partitions if they are by time. In every fifth game
    (4, 9, …) the first half of it is two days old and the rest is new, and in every fifth
    (3, 8, …) ten rows below the floor are still there. The last hundredth of the games is two
    days old too and has neither events nor sessions. The first ten events of each log have ids.
    """
    numbers = {
        "games": scale.games,
        "hot": scale.hot,
        "hot_events": scale.hot_events,
        "other_events": scale.other_events,
        "hot_players": scale.hot_players,
    }
    connection.execute("SET synchronous_commit = off")
    ClientCursor(connection).execute(_FILL, numbers)
    for table in TABLES:
        connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(table)))


_PARTS = """
SELECT part.relid::regclass::text, index.relname::text
FROM pg_partition_tree('game_event') AS part
LEFT JOIN (pg_index AS i JOIN pg_class AS index ON index.oid = i.indexrelid)
    ON i.indrelid = part.relid AND i.indisunique
   AND pg_get_indexdef(i.indexrelid, 1, true) = 'game_id'
   AND pg_get_indexdef(i.indexrelid, 2, true) = 'sequence'
WHERE part.isleaf AND part.level > 0
"""

_BY_TIME = """
SELECT FROM pg_partitioned_table WHERE partrelid = 'game_event'::regclass AND partstrat = 'r'
"""


@frozen
class Parts:
    """What the partitions and their indexes stand for: those of the table when it is one."""

    tables: Mapping[str, str]
    indexes: Mapping[str, str]
    by_time: bool

    @property
    def number(self) -> int:
        """How many there are; one table is one."""
        return max(1, len(self.tables))

    @property
    def per_log(self) -> int:
        """In how many of them a log can be, so that who reads it has to look there."""
        return self.number if self.by_time else 1

    def renamed(self, node: Node) -> Node:
        """A node of a plan, and those below it, as of the whole tables."""
        changed = {**node, "Plans": [self.renamed(child) for child in node.get("Plans", ())]}
        for key, names in (("Relation Name", self.tables), ("Index Name", self.indexes)):
            if key in node:
                changed[key] = names.get(node[key], node[key])
        return changed


def parts(connection: Connection[Any]) -> Parts:
    """The partitions that there are now, none if there is one table."""
    found = connection.execute(_PARTS.encode()).fetchall()
    return Parts(
        {table: "game_event" for table, _ in found},
        {index: "game_event_pkey" for _, index in found if index is not None},
        by_time=connection.execute(_BY_TIME.encode()).rowcount > 0,
    )


@frozen
class Plan:
    """What EXPLAIN (ANALYZE, BUFFERS) said of one query, with each partition named as the table."""

    query: str
    root: Node
    parts: Parts

    def nodes(self) -> Iterator[Node]:
        return _walk(self.root)

    @property
    def scans(self) -> list[Node]:
        """The nodes that read one of the tables."""
        return [node for node in self.nodes() if _reads_table(node)]

    @property
    def indexes(self) -> set[str]:
        """The indexes that carry it: read from, or asked whether a row is there already."""
        found = {node["Index Name"] for node in self.nodes() if "Index Name" in node}
        for node in self.nodes():
            found.update(node.get("Conflict Arbiter Indexes", ()))
        return found

    @property
    def rows_read(self) -> float:
        """How many rows of the tables it looked at, kept or not."""
        return sum(
            node.get("Actual Loops", 0)
            * (
                node.get("Actual Rows", 0)
                + node.get("Rows Removed by Filter", 0)
                + node.get("Rows Removed by Index Recheck", 0)
            )
            for node in self.scans
        )

    @property
    def buffers(self) -> int:
        """How many pages it touched."""
        read = {node.get("CTE Name") for node in self.nodes()}
        # Of what is changed without anybody reading the outcome the root knows nothing.
        apart = [
            node
            for node in self.nodes()
            if node.get("Subplan Name", "").startswith("CTE ")
            and node["Subplan Name"].removeprefix("CTE ") not in read
        ]
        return sum(
            int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])
            for node in [self.root, *apart]
        )

    def faults(self) -> list[str]:
        """What makes the query slow on a filled table, in words; nothing if it is sound."""
        return [
            *self._unindexed_reads(),
            *self._needless_sorts(),
            *self._unnamed_indexes(),
            *self._compiled(),
        ]

    def _unindexed_reads(self) -> Iterator[str]:
        for node in self.scans:
            table, kind = node["Relation Name"], node["Node Type"]
            if kind == "Seq Scan":
                yield f"{self.query}: Seq Scan on {table}"
            elif kind.startswith("Index") and "Index Cond" not in node:
                yield f"{self.query}: reads all of {table} by {node['Index Name']}"
        for node in self.nodes():
            if node["Node Type"] == "Bitmap Index Scan" and "Index Cond" not in node:
                yield f"{self.query}: reads all of {node['Index Name']}"

    def _needless_sorts(self) -> Iterator[str]:
        if self.query in ALLOWED_SORTS:
            return
        for node in self.nodes():
            if node["Node Type"] == "Sort" and any(map(_reads_table, _inputs(node))):
                yield f"{self.query}: sorts by {', '.join(node['Sort Key'])}"

    def _unnamed_indexes(self) -> Iterator[str]:
        for index in sorted(self.indexes - set().union(*named_indexes(self.query))):
            if index.startswith("pg_"):
                continue
            yield f"{self.query}: uses {index}, which its comment does not name"

    def _compiled(self) -> Iterator[str]:
        # It counts on looking into all partitions, although it will leave most out.
        if self.root["Total Cost"] > JIT_ABOVE_COST * self.parts.number:
            yield f"{self.query}: thought to cost {self.root['Total Cost']:.0f}, so compiled first"


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _inputs(node: Node) -> Iterator[Node]:
    """The nodes below one, without those that are worked out apart."""
    for child in node.get("Plans", ()):
        if child.get("Parent Relationship") not in ("InitPlan", "SubPlan"):
            yield child
            yield from _inputs(child)


def _reads_table(node: Node) -> bool:
    return node["Node Type"].endswith("Scan") and node.get("Relation Name") in TABLES


def explain(
    connection: Connection[Any], query: str, params: Mapping[str, object], *, mode: str
) -> Plan:
    """The plan of a query as the registry runs it; whatever it changes is rolled back.

    The statement is prepared as the driver prepares one that comes back; `mode` is how the
    server then plans it: "force_custom_plan" for these parameters or "force_generic_plan" for
    any. `connection` is in autocommit mode and has not explained the query before.
    """
    patient = RegistryConfig(statement_timeout=300.0)  # a plan without its index may take long
    connection.execute(queries.configure, server_settings(patient, local=False))
    text = getattr(queries, query).decode()
    order = list(dict.fromkeys(_PARAMETER.findall(text)))
    numbered = _PARAMETER.sub(lambda match: f"${order.index(match[1]) + 1}", text)
    driver = Transformer(connection)
    driver.dump_sequence([params[name] for name in order], [PyFormat.AUTO] * len(order))
    prepared = connection.pgconn.prepare(query.encode(), numbered.encode(), driver.types)
    assert prepared.status == ExecStatus.COMMAND_OK, prepared.error_message
    values = sql.SQL(", ").join(sql.Literal(params[name]) for name in order)
    call = sql.SQL("EXECUTE {}({})" if order else "EXECUTE {}")
    call = call.format(sql.Identifier(query), values)
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('plan_cache_mode', %s, true)", [mode])
        row = connection.execute(
            sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) {}").format(call)
        ).fetchone()
    assert row is not None
    there = parts(connection)
    return Plan(query, there.renamed(row[0][0]["Plan"]), there)


def comment(query: str) -> str:
    """The comment at the head of a query's file, as one line."""
    lines = (folder("sql") / f"{query}.sql").read_text(encoding="utf-8").splitlines()
    head = lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))]
    return " ".join(line.removeprefix("--").strip() for line in head)


def named_indexes(query: str) -> list[set[str]]:
    """The indexes that the comment of a query's file says carry it; alternatives together."""
    said = re.search(r"\bIndex(?:es)?: ([^.;]*)", comment(query))
    parts = said[1].split(",") if said else []
    named = [set(re.findall(r"\b(?:game|lineage|payload|statement)_\w+\b", part)) for part in parts]
    return [alternatives for alternatives in named if alternatives]
