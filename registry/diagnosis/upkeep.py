"""The upkeep: what the cleanup should have removed, and players who hold it up."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from psycopg.types.numeric import Int8

from ..looking import Ask, count, printable, span
from ..queries import queries
from .findings import ADVICE, ATTENTION, OK, Finding, Limits

COUNTED: Final = 10_000
"""What waits for the cleanup, and receipts, are counted this far."""

GAMES: Final = 200_000
"""Among how many games the longest logs are looked for: those cleaned up longest ago."""

SESSIONS_OF_A_GAME: Final = 1_000
NAMED: Final = 10
"""The most laggards that are named."""


def cleanup(ask: Ask, limits: Limits) -> Iterator[Finding]:
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


def laggards(ask: Ask, limits: Limits) -> Iterator[Finding]:
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
        said = f"none of the players looked at lacks {count(limits.lag)} events"
        yield Finding("laggards", OK, said)
