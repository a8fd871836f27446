"""What `doctor` looks for, and the remedy for each thing that it finds."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import frozen
from psycopg import Connection
from psycopg.types.numeric import Int8

from . import schema
from .blueprint import blueprint
from .errors import RegistryError, SchemaMismatch
from .looking import Ask, count, look, printable, span
from .partitioning import layouts
from .partitioning.ahead import missing_ahead, rows_of_rest
from .partitioning.conversion import Standing, is_running
from .partitioning.layouts import ByTime, Table
from .partitioning.moving import command
from .queries import queries

OK: Final = "ok"
ADVICE: Final = "advice"
ATTENTION: Final = "attention"

COUNTED: Final = 10_000
"""What waits for the cleanup, and receipts, are counted this far."""

GAMES: Final = 200_000
"""Among how many games the longest logs are looked for: those cleaned up longest ago."""

SESSIONS_OF_A_GAME: Final = 1_000
NAMED: Final = 10
"""The most laggards that are named."""

SOON: Final = 1_000
"""A time limit of the role's below so many milliseconds gets in the way."""

SETTINGS: Final = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "autovacuum",
    "track_counts",
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
]


@frozen(kw_only=True)
class Limits:
    """From where on something needs attention. Times are in seconds."""

    retention: float = 86_400.0
    """`RegistryConfig.replay_retention` of the servers."""
    grace: float = 3_600.0
    """How much later the cleanup may come."""
    longest: float = 60.0
    """How long a transaction may be open."""
    transactions: int = 1_000_000
    """How many transactions a slot or a standby may hold vacuum back."""
    lag: int = 10_000
    """Events that a player may lack."""
    dead: int = 10_000
    """Dead rows of a table, above a fifth of those that live."""
    connections: int = 10
    """Connections that should be left."""
    skew: float = 2.0
    """Between this machine's clock and the server's."""


@frozen
class Finding:
    """One thing that was looked at."""

    check: str
    level: str
    """`OK`, `ADVICE` (worth a thought) or `ATTENTION`."""
    said: str
    remedy: str | None = None
    """What to do, in a line."""


@frozen
class Diagnosis:
    """All that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs attention."""
        return all(finding.level != ATTENTION for finding in self.findings)


def diagnose(connection: Connection[Any], limits: Limits) -> Diagnosis:
    """Looks at everything once and changes nothing.

    `connection` is in autocommit mode. Of a database whose schema does not fit only the server is
    looked at. Raises `SchemaMismatch` when the role may not read what it takes.
    """
    clock = _clock(connection, limits)
    misfit = _misfit(connection)
    with look(connection) as ask:
        server = _Server.ask(ask)
        holders = list(_holders(ask, limits))
        findings = [misfit or Finding("migrations", OK, "all are applied")]
        if misfit is None:
            events = layouts.events(connection)
            findings += _indexes(ask, events)
            findings += _partitions(connection, events, limits)
            findings += _upkeep(ask, limits)
            findings += _laggards(ask, limits)
            findings += _tables(ask, limits, held=bool(holders))
        findings += holders or [Finding("snapshots", OK, "nothing holds vacuum back")]
        findings += _settings(server)
        findings += _connections(server, limits)
    return Diagnosis((*findings, clock))


def _clock(connection: Connection[Any], limits: Limits) -> Finding:
    """Compares the clocks, as well as the time that the question takes allows."""
    with look(connection) as ask:
        before = time.time()
        ((there,),) = ask(queries.doctor_clock, {})
        after = time.time()
    off = there.timestamp() - (before + after) / 2
    unsure = (after - before) / 2
    if abs(off) <= limits.skew + unsure:
        return Finding("clock", OK, f"the server's and this machine's agree to {span(abs(off))}")
    return Finding(
        "clock",
        ATTENTION,
        f"the server's is {span(abs(off))} {'ahead of' if off > 0 else 'behind'} this machine's",
        "run NTP (chrony) on both; times in tables and logs are the server's",
    )


def _misfit(connection: Connection[Any]) -> Finding | None:
    try:
        schema.check(connection)
    except SchemaMismatch as error:
        if error.__cause__ is not None:  # it could not be read at all
            raise
        said, _, remedy = str(error).partition(": ")
        return Finding("migrations", ATTENTION, said, remedy)
    return None


@frozen
class _Server:
    standby: bool
    connections: int
    left: int
    left_to_role: int | None
    role: str
    sees_all: bool
    settings: Mapping[str, str]

    @classmethod
    def ask(cls, ask: Ask) -> _Server:
        return cls(*ask(queries.doctor_server, {"settings": SETTINGS})[0])

    def milliseconds(self, setting: str) -> int:
        """A time limit of the role; 0 where there is none."""
        return int(self.settings.get(setting, "0"))


def _settings(server: _Server) -> Iterator[Finding]:
    found = [*_durability(server), *_autovacuum(server), *_time_limits(server)]
    for check in ("durability", "autovacuum", "time limits"):
        mine = [finding for finding in found if finding.check == check]
        yield from mine or [Finding(check, OK, _GOOD[check])]


_GOOD: Final = {
    "durability": "fsync, full_page_writes and synchronous_commit are on",
    "autovacuum": "it runs",
    "time limits": "the role's own do not get in the way",
}


def _durability(server: _Server) -> Iterator[Finding]:
    for setting, loss in (
        ("fsync", "a crash of the machine can destroy the whole database"),
        ("full_page_writes", "a crash of the machine can leave torn pages behind"),
    ):
        if server.settings[setting] == "off":
            yield Finding(
                "durability",
                ATTENTION,
                f"{setting} is off: {loss}",
                f"ALTER SYSTEM SET {setting} = on; SELECT pg_reload_conf()",
            )
    if server.settings["synchronous_commit"] == "off":
        yield Finding(
            "durability",
            ATTENTION,
            "synchronous_commit is off: a registry sets it on its own statements, but what is "
            "recorded with connection=... can be lost in a crash",
            "ALTER SYSTEM SET synchronous_commit = on (or ALTER ROLE, ALTER DATABASE)",
        )


def _autovacuum(server: _Server) -> Iterator[Finding]:
    for setting in ("autovacuum", "track_counts"):
        if server.settings[setting] == "off":
            yield Finding(
                "autovacuum",
                ATTENTION,
                f"{setting} is off: dead rows stay, and tables grow without end",
                f"ALTER SYSTEM SET {setting} = on; SELECT pg_reload_conf()",
            )


def _time_limits(server: _Server) -> Iterator[Finding]:
    for setting in ("statement_timeout", "lock_timeout", "transaction_timeout"):
        if 0 < server.milliseconds(setting) < SOON:
            yield Finding(
                "time limits",
                ATTENTION,
                f"{setting} of {server.role} is {server.milliseconds(setting)} ms, which may end "
                "a registry's first statements and calls within your own transactions",
                f"ALTER ROLE {server.role} SET {setting} = '5s'; RegistryConfig bounds the rest",
            )
    if server.milliseconds("idle_session_timeout"):
        yield Finding(
            "time limits",
            ATTENTION,
            f"idle_session_timeout of {server.role} ends the pool's idle connections",
            f"ALTER ROLE {server.role} SET idle_session_timeout = 0",
        )
    if not server.milliseconds("idle_in_transaction_session_timeout"):
        yield Finding(
            "time limits",
            ADVICE,
            "nothing ends a forgotten transaction, which holds vacuum back and may lock a game",
            "ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min'; "
            "SELECT pg_reload_conf()",
        )


def _connections(server: _Server, limits: Limits) -> Iterator[Finding]:
    left = server.left if server.left_to_role is None else min(server.left, server.left_to_role)
    said = f"{count(server.connections)} in use, {count(left)} left"
    if left < limits.connections:
        yield Finding(
            "connections",
            ATTENTION,
            said,
            "fewer processes, a lower pool_max_size, PgBouncer, or raise the limit of the server "
            "(max_connections), role or database",
        )
    else:
        yield Finding("connections", OK, said)
    if not server.sees_all:
        yield Finding(
            "rights",
            ADVICE,
            f"{server.role} does not see other roles' transactions",
            f"GRANT pg_monitor TO {server.role}, or run this as a role that has it",
        )
    if server.standby:
        yield Finding(
            "standby", ADVICE, "this is a standby: it counts no dead rows", "ask the primary too"
        )


def _holders(ask: Ask, limits: Limits) -> Iterator[Finding]:
    """What holds vacuum back, and slots that hold back the write-ahead log."""
    params = {"longest": limits.longest, "transactions": limits.transactions}
    for kind, name, age, about in ask(queries.doctor_holders, params):
        name, about = printable(name), printable(about)
        if kind == "transaction":
            yield Finding(
                "snapshots",
                ATTENTION,
                f"process {name} has a transaction open for {span(age)} ({about})",
                f"let it end, or SELECT pg_terminate_backend({name})",
            )
        elif kind == "prepared":
            yield Finding(
                "snapshots",
                ATTENTION,
                f"the transaction {name!r} was prepared {span(age)} ago ({about})",
                f"COMMIT PREPARED '{name}' or ROLLBACK PREPARED '{name}'",
            )
        elif kind == "standby":
            yield Finding(
                "snapshots",
                ATTENTION,
                f"the standby {name} reports a snapshot of {about}",
                "end its long queries, or set hot_standby_feedback = off there",
            )
        else:
            yield Finding(
                "slots",
                ATTENTION,
                f"the replication slot {name} keeps log or dead rows ({about})",
                f"bring its reader back, or SELECT pg_drop_replication_slot('{name}')",
            )


def _tables(ask: Ask, limits: Limits, *, held: bool) -> Iterator[Finding]:
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


def _indexes(ask: Ask, events: Table) -> Iterator[Finding]:
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


def _partitions(connection: Connection[Any], events: Table, limits: Limits) -> Iterator[Finding]:
    """How the events are laid out, and what of that was begun, or is due."""
    found = [*_conversion(connection), *_by_time(connection, events, limits)]
    yield from found or [Finding("partitions", OK, f"{layouts.EVENTS}: {events.layout}")]


def _conversion(connection: Connection[Any]) -> Iterator[Finding]:
    try:
        standing = Standing.ask(connection)
    except RegistryError as error:
        yield Finding("partitions", ATTENTION, *str(error).split(": ", 1))
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
            else f"{command(begun.target)}, or the same with only --abandon",
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


def _upkeep(ask: Ask, limits: Limits) -> Iterator[Finding]:
    params = {"retention": limits.retention, "grace": limits.grace, "most": Int8(COUNTED)}
    ((games, oldest, sessions, expired, ids, old_receipts, receipts),) = ask(
        queries.doctor_upkeep, params
    )
    late = {
        f"games with events past the retention, up to {span(oldest)} old": games,
        f"sessions that expired, up to {span(expired)} ago": sessions,
        "event ids past the retention": ids,
        "receipts of appends past the retention": old_receipts,
    }
    said = [
        f"{count(number, capped=number == COUNTED)} {what}"
        for what, number in late.items()
        if number
    ]
    if said:
        yield Finding(
            "cleanup",
            ATTENTION,
            "; ".join(said),
            "run Maintenance(registry) in your servers, or `python -m registry cleanup` from a "
            "timer; see its errors if one does already",
        )
    else:
        yield Finding("cleanup", OK, "nothing waits for it")
    if receipts - old_receipts >= COUNTED:
        yield Finding(
            "receipts",
            ADVICE,
            f"{count(receipts, capped=True)} receipts: one for each append that ever ran at once, "
            "or for each process that ended lately",
            "look for processes that restart all the time, or threads without bound",
        )


def _laggards(ask: Ask, limits: Limits) -> Iterator[Finding]:
    rows = ask(
        queries.doctor_laggards,
        {
            "games": Int8(GAMES),
            "sessions": Int8(SESSIONS_OF_A_GAME),
            "lag": Int8(limits.lag),
            "most": Int8(NAMED),
        },
    )
    for game_id, log, session, user_id, lacks, holds, silent in rows:
        name = printable(f"{game_id}/{session}")
        yield Finding(
            "laggards",
            ATTENTION,
            f"{printable(user_id)} in {printable(game_id)} lacks {count(lacks)} events and alone "
            f"holds {count(holds)} of {count(log)}, last beat {span(silent)} ago",
            f"see `python -m registry inspect session {shlex.quote(name)}`; "
            "have its client acknowledge, or have a server call revoke_session",
        )
    if not rows:
        yield Finding("laggards", OK, f"no player seen that lacks {count(limits.lag)} events")
