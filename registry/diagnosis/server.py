"""The server: its clock, its settings and its connections."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import frozen
from psycopg import Connection

from ..looking import Ask, count, look, span
from ..queries import queries
from .findings import ADVICE, ATTENTION, OK, Finding, Limits

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


def clock(connection: Connection[Any], limits: Limits) -> Finding:
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


def standing(ask: Ask, limits: Limits) -> Iterator[Finding]:
    """What it is set to for this role, and how many connections are left."""
    server = _Server.ask(ask)
    yield from _settings(server)
    yield from _connections(server, limits)


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
