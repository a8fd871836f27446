"""Every query of sql/ on filled tables: by which index, touching how much, locking which rows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from attrs import frozen
from integration.plans import (
    PROBE,
    Scale,
    comment,
    event_name,
    event_uuid,
    explain,
    fill,
    game_id,
    named_indexes,
    session_name,
    session_uuid,
    token,
)
from psycopg import Connection
from psycopg.types.numeric import Int8
from support import Server, wait_until

from registry import GameSessionRegistry, RegistryConfig
from registry.blueprint import blueprint
from registry.diagnosis.server import SETTINGS
from registry.queries import queries
from registry.receipts import NO_RECEIPT
from registry.resources import folder
from registry.settings import server_settings

FILES = sorted(path.stem for path in folder("sql").glob("*.sql"))

LARGE = Scale(games=10_000, hot=10, hot_events=60_000, other_events=41, hot_players=50)
SMALL = Scale(games=100, hot=5, hot_events=40, other_events=20, hot_players=6)

CUSTOM, GENERIC = "force_custom_plan", "force_generic_plan"

DAY = 86_400.0
BATCH = 1_000
FOREVER = 2**31 - 1
HOT, QUIET, OLD = 0, 50, 54  # games, of either scale

Params = Mapping[str, object]
Rows = set[str]


@frozen(kw_only=True)
class Case:
    """One use of a query."""

    query: str
    use: str
    params: Callable[[Scale], Params]
    rows: int = 100
    """The most rows of the tables that it may look at."""
    buffers: int = 500
    """The most pages that it may touch."""
    logs: int = 1
    """The most logs that it may look into. Where a log lies in many partitions, a row of each of
    the others may be read, and the pages that lead there touched."""
    locks: Callable[[Scale], Rows] = lambda scale: set()
    """Exactly those of the filled rows that are locked after it."""

    def __str__(self) -> str:
        return f"{self.query}: {self.use}"


def acknowledge(game: int, player: int, sequence: int, generation: int = 1) -> Params:
    return {
        "game_id": game_id(game),
        "id": session_uuid(game, player),
        "sequence": Int8(sequence),
        "generation": Int8(generation),
        "epoch": None,
        "batch_size": BATCH,
    }


def cleanup(**more: object) -> Params:
    return {
        "as_of": datetime.now(timezone.utc),
        "retention": DAY,
        "batch_size": BATCH,
        **more,
    }


def due(scale: Scale) -> list[int]:
    """The games whose oldest event is past the retention."""
    return [n for n in range(scale.games) if n % 5 == 4 or n >= scale.games * 0.99]


def unswept(scale: Scale) -> list[int]:
    """Games with rows below the floor, no more than a cleanup claims."""
    return [n for n in range(scale.games) if n % 5 == 3][:100]


def raise_floors(games: list[int], swept: list[int]) -> Params:
    return cleanup(
        game_ids=[game_id(game) for game in games],
        swept=[Int8(sequence) for sequence in swept[: len(games)]],
    )


def sweep_events(games: list[int]) -> Params:
    return {
        "game_ids": [game_id(game) for game in games],
        "epochs": [None for _ in games],
        "afters": [Int8(0) for _ in games],
        "batch_size": BATCH,
    }


def fetch(game: int, after: int) -> Params:
    return {"game_id": game_id(game), "after": Int8(after), "limit": Int8(BATCH)}


def session(game: int, player: int, **more: object) -> Params:
    return {"game_id": game_id(game), "id": session_uuid(game, player), **more}


def beats(sessions: list[tuple[int, int]], generation: int | None = 1) -> Params:
    return {
        "game_ids": [game_id(game) for game, _ in sessions],
        "ids": [session_uuid(game, player) for game, player in sessions],
        "generations": [generation and Int8(generation) for _ in sessions],
    }


def heads(scale: Scale, games: list[int], events: int) -> Params:
    """The games moved on by so many events, each from where it is."""
    at = datetime.now(timezone.utc)
    return {
        "game_ids": [game_id(game) for game in games],
        "floors": [Int8(0) for _ in games],
        "afters": [Int8(scale.head(game)) for game in games],
        "heads": [Int8(scale.head(game) + events) for game in games],
        "head_ats": [at for _ in games],
        "oldest_ats": [at for _ in games],
        "sessions": [2 for _ in games],
    }


def imported(players: list[tuple[int, int]], ttl: bool = True) -> Params:
    """Sessions of an import, all of them there already with a token."""
    at = datetime.now(timezone.utc)
    columns = {
        "game_ids": [game_id(game) for game, _ in players],
        "user_ids": [f"player-{player:02}" for _, player in players],
        "acknowledged": [Int8(FOREVER) for _ in players],
        "beats": [at for _ in players],
        "expiries": [at for _ in players],
    }
    return {**columns, "created": [at for _ in players], "ttl": 900.0} if ttl else columns


def issue(game: str, user: str, per_game: int | None = None, per_user: int | None = None) -> Params:
    return {
        "most_per_game": per_game and Int8(per_game),
        "most_per_user": per_user and Int8(per_user),
        "game_id": game,
        "user_id": user,
        "id": uuid4(),
        "token_hash": b"h" * 32,
        "ttl": 900.0,
    }


def laggards(games: int) -> Params:
    """Those that lack a thousand events, in that many games."""
    numbers = {"games": games, "sessions": BATCH, "lag": BATCH, "most": 10}
    return {name: Int8(number) for name, number in numbers.items()}


def prune(game: int, through: int) -> Params:
    return {"game_id": game_id(game), "through": Int8(through), "batch_size": BATCH}


def receipt(number: int | None = None, statement: int = 2) -> Params:
    """A receipt that is there, or a new one."""
    name = (
        uuid4() if number is None else UUID(hashlib.md5(f"receipt {number}".encode()).hexdigest())
    )
    return {"receipt": name, "statement": Int8(statement)}


def record(game: str, noted: Params | None = None) -> Params:
    return {"game_id": game, "codec": 1, "payload": b"{}", **(noted or receipt())}


def record_checked(
    game: str,
    event_id: UUID | None = None,
    expected: int | None = None,
    noted: Params | None = None,
) -> Params:
    return {**record(game, noted), "event_id": event_id, "expected": expected and Int8(expected)}


def record_batch(events: list[str]) -> Params:
    """An event for each of these games, those of one game in a row."""
    events = sorted(events)
    games = sorted(set(events))
    counts = Counter(events)
    return {
        "game_ids": games,
        "counts": [counts[game] for game in games],
        "events": events,
        "places": [games.index(game) + 1 for game in events],
        "followers": [n for game in games for n in reversed(range(counts[game]))],
        **receipt(),
        "codecs": [1] * len(events),
        "payloads": [b"{}"] * len(events),
    }


def known_id(scale: Scale, game: int, place: int) -> UUID:
    """The id of one of the first ten events of a game."""
    return event_uuid(game, scale.floor(game) + 1 + place)


def record_batch_checked(
    events: list[str],
    event_id: Callable[[int], UUID | None],
    expected: Callable[[int], int | None] = lambda n: None,
) -> Params:
    """An event for each of these games, on the conditions of its place among them."""
    games = sorted(set(events))
    return {
        "game_ids": games,
        "events": events,
        "places": [games.index(game) + 1 for game in events],
        "event_ids": [event_id(n) for n in range(len(events))],
        "expected": [sequence and Int8(sequence) for sequence in map(expected, range(len(events)))],
        **receipt(),
        "codecs": [1] * len(events),
        "payloads": [b"{}"] * len(events),
    }


def resume(game: int, player: int, after: int, forged: bool = False) -> Params:
    proof = token(game, 1 if forged else player).prove()
    return session(
        game,
        player,
        nonce=proof.nonce,
        blinded=proof.blinded,
        salt=b"s" * 32,
        next_hash=b"n" * 32,
        after=Int8(after),
        epoch=None,
        limit=Int8(BATCH),
    )


def together(each: list[Params], **columns: str) -> Params:
    """The parameters of many calls, each of one name a column of another."""
    return {name: [params[one] for params in each] for name, one in columns.items()}


def acknowledge_batch(each: list[Params]) -> Params:
    return together(
        each, game_ids="game_id", ids="id", sequences="sequence", generations="generation",
        epochs="epoch",
    )  # fmt: skip


def resume_batch(each: list[Params]) -> Params:
    """Each with a page of its own."""
    return {
        **together(
            each, game_ids="game_id", ids="id", nonces="nonce", blinded="blinded", salts="salt",
            next_hashes="next_hash", afters="after", epochs="epoch", limits="limit",
        ),
        "pages": list(range(1, len(each) + 1)),
    }  # fmt: skip


def fetch_batch(each: list[Params]) -> Params:
    return together(each, game_ids="game_id", afters="after", limits="limit")


def events(game: int, first: int, last: int) -> Rows:
    return {event_name(game, sequence) for sequence in range(first, last + 1)}


def middle(scale: Scale, game: int) -> int:
    """What the players of a game have acknowledged, but for the first."""
    return (scale.floor(game) + scale.head(game)) // 2


CASES = [
    Case(
        query="acknowledge",
        use="another holds the floor",
        params=lambda s: acknowledge(QUIET, 1, s.head(QUIET)),
        locks=lambda s: {session_name(QUIET, 1)},
    ),
    Case(
        query="acknowledge",
        use="the last one of all",
        params=lambda s: acknowledge(QUIET, 0, s.head(QUIET)),
        rows=200,
        locks=lambda s: {
            game_id(QUIET),
            session_name(QUIET, 0),
            session_name(QUIET, 3),
            *events(QUIET, s.floor(QUIET) + 1, middle(s, QUIET)),
        },
    ),
    Case(
        query="acknowledge",
        use="a batch of a long log",
        params=lambda s: acknowledge(HOT, 0, s.head(HOT)),
        rows=2 * BATCH,
        buffers=5 * BATCH,
        locks=lambda s: {
            game_id(HOT),
            session_name(HOT, 0),
            session_name(HOT, 3),
            *events(HOT, s.floor(HOT) + 1, middle(s, HOT)),
        },
    ),
    Case(
        query="acknowledge",
        use="nothing new",
        params=lambda s: acknowledge(QUIET, 1, s.floor(QUIET)),
    ),
    Case(
        query="acknowledge",
        use="another generation",
        params=lambda s: acknowledge(QUIET, 0, s.head(QUIET), generation=2),
    ),
    Case(
        query="acknowledge",
        use="ahead of the log",
        params=lambda s: acknowledge(QUIET, 0, s.head(QUIET) + 1),
    ),
    Case(
        query="acknowledge_batch",
        use="a thousand, of which another holds the floor",
        params=lambda s: acknowledge_batch(
            [acknowledge(n * 9 % s.games, n % 4, s.head(n * 9 % s.games)) for n in range(BATCH)]
        ),
        rows=15 * BATCH,
        buffers=60 * BATCH,
        locks=lambda s: {
            session_name(n * 9 % s.games, n % 4)
            for n in range(BATCH)
            if n % 4 in (1, 2) and n * 9 % s.games < s.games * 0.99
        },
    ),
    Case(
        query="acknowledge_batch",
        use="another generation, and one ahead of the log",
        params=lambda s: acknowledge_batch(
            [acknowledge(QUIET, 1, 1, 2), acknowledge(QUIET, 2, s.head(QUIET) + 1)]
        ),
    ),
    Case(query="add_dictionary", use="any", params=lambda s: {"content": b"x"}),
    Case(query="backend", use="any", params=lambda s: {}),
    Case(
        query="claim_aged_games",
        use="a batch",
        params=lambda s: cleanup(),
        rows=2 * BATCH,
        buffers=5 * BATCH,
        locks=lambda s: {game_id(game) for game in due(s)},
    ),
    Case(
        query="claim_aged_games",
        use="none is due",
        params=lambda s: cleanup(retention=10 * DAY),
    ),
    Case(
        query="cleanup_due",
        use="much",
        params=lambda s: {"as_of": datetime.now(timezone.utc), "retention": DAY},
        rows=15_000,
        buffers=15_000,
    ),
    Case(
        query="cleanup_event_ids",
        use="a batch",
        params=lambda s: cleanup(),
        rows=3 * BATCH,
        buffers=15 * BATCH,
        locks=lambda s: {
            f"id of {name}"
            for game in due(s)
            if game < s.games * 0.99
            for name in events(game, s.floor(game) + 1, s.floor(game) + 10)
        },
    ),
    Case(
        query="cleanup_event_ids",
        use="none is due",
        params=lambda s: cleanup(retention=10 * DAY),
    ),
    Case(
        query="cleanup_expired_sessions",
        use="a batch",
        params=lambda s: cleanup(),
        rows=3 * BATCH,
        buffers=15 * BATCH,
        locks=lambda s: {session_name(game, 3) for game in range(s.games) if game < s.games * 0.99},
    ),
    Case(query="clock", use="any", params=lambda s: {}),
    Case(
        query="configure",
        use="any",
        params=lambda s: server_settings(RegistryConfig(), local=True),
    ),
    Case(
        query="cleanup_receipts",
        use="a batch",
        params=lambda s: cleanup(after=UUID(int=0)),
        rows=4 * BATCH,
        buffers=15 * BATCH,
        locks=lambda s: {f"receipt {n}" for n in due(s)},
    ),
    Case(
        query="cleanup_receipts",
        use="the last ones",
        params=lambda s: cleanup(after=UUID("ffe" + 29 * "0")),
    ),
    Case(query="doctor_clock", use="any", params=lambda s: {}),
    Case(
        query="doctor_holders",
        use="any",
        params=lambda s: {"longest": 60.0, "transactions": 1_000_000},
    ),
    Case(
        query="doctor_indexes",
        use="any",
        params=lambda s: {"tables": list(blueprint().tables)},
        buffers=BATCH,
    ),
    Case(
        query="doctor_laggards",
        use="the longest logs",
        params=lambda s: laggards(BATCH),
        rows=3 * BATCH,
        buffers=5 * BATCH,
    ),
    Case(query="doctor_laggards", use="of few games", params=lambda s: laggards(10)),
    Case(query="doctor_server", use="any", params=lambda s: {"settings": SETTINGS}),
    Case(query="doctor_standbys", use="any", params=lambda s: {}),
    Case(query="doctor_tables", use="any", params=lambda s: {"tables": list(blueprint().tables)}),
    Case(
        query="doctor_upkeep",
        use="much is late",
        params=lambda s: {"retention": DAY, "grace": 60.0, "most": Int8(BATCH)},
        rows=8 * BATCH,
        buffers=8 * BATCH,
    ),
    Case(
        query="end_game",
        use="a quiet game",
        params=lambda s: {"game_id": game_id(QUIET), **receipt(7)},
        rows=300,
        buffers=1_000,
        locks=lambda s: {
            "receipt 7",
            game_id(QUIET),
            *(session_name(QUIET, player) for player in range(4)),
            *events(QUIET, s.floor(QUIET) + 1, s.head(QUIET)),
            *(f"id of {name}" for name in events(QUIET, s.floor(QUIET) + 1, s.floor(QUIET) + 10)),
        },
    ),
    Case(query="fetch_dictionaries", use="any", params=lambda s: {"ids": [1, 2]}),
    Case(
        query="fetch_events_batch",
        use="pages of many games",
        params=lambda s: fetch_batch(
            [fetch(n * 7 % s.games, s.floor(n * 7 % s.games)) for n in range(50)]
        ),
        rows=50 * 2 * BATCH,
        buffers=50 * 2 * BATCH,
        logs=50,
    ),
    Case(
        query="fetch_events_batch",
        use="the middle and the head of a long log",
        params=lambda s: fetch_batch([fetch(HOT, middle(s, HOT)), fetch(HOT, s.head(HOT))]),
        rows=BATCH + 3,
        buffers=2 * BATCH,
        logs=2,
    ),
    Case(
        query="fetch_events_since",
        use="a quiet game from its floor",
        params=lambda s: fetch(QUIET, s.floor(QUIET)),
    ),
    Case(
        query="fetch_events_since",
        use="a page in the middle of a long log",
        params=lambda s: fetch(HOT, middle(s, HOT)),
        rows=BATCH + 1,
        buffers=2 * BATCH,
    ),
    Case(
        query="fetch_events_since",
        use="the head of a long log",
        params=lambda s: fetch(HOT, s.head(HOT)),
    ),
    Case(
        query="fetch_events_since",
        use="below the floor",
        params=lambda s: fetch(OLD, s.floor(OLD) - 1),
    ),
    Case(
        query="fetch_events_standby",
        use="no standby: nothing is read of the logs",
        params=lambda s: {
            "game_ids": [game_id(n) for n in range(50)],
            "epochs": [UUID(int=1)] * 50,
            "afters": [Int8(0)] * 50,
            "limits": [Int8(BATCH)] * 50,
        },
        logs=50,
    ),
    Case(
        query="find_session",
        use="of a hot game",
        params=lambda s: {"game_id": game_id(HOT), "user_id": "player-05"},
    ),
    Case(query="get_session", use="of a hot game", params=lambda s: session(HOT, 5)),
    Case(query="grant", use="any", params=lambda s: {"role": "player"}),
    Case(
        query="heartbeat",
        use="live",
        params=lambda s: session(HOT, 0, generation=Int8(1)),
        locks=lambda s: {session_name(HOT, 0)},
    ),
    Case(
        query="heartbeat",
        use="whatever generation",
        params=lambda s: session(QUIET, 0, generation=None),
        locks=lambda s: {session_name(QUIET, 0)},
    ),
    Case(
        query="heartbeat",
        use="another generation",
        params=lambda s: session(QUIET, 0, generation=Int8(2)),
    ),
    Case(
        query="heartbeat",
        use="expired",
        params=lambda s: session(QUIET, 3, generation=Int8(1)),
    ),
    *(
        case
        for query in ("heartbeat_batch", "heartbeat_many")
        for case in (
            Case(
                query=query,
                use="a thousand",
                params=lambda s: beats([(n * 9 % s.games, n % 4) for n in range(BATCH)]),
                rows=4 * BATCH,
                buffers=50 * BATCH,
                locks=lambda s: {
                    session_name(n * 9 % s.games, n % 4)
                    for n in range(BATCH)
                    if n % 4 != 3 and n * 9 % s.games < s.games * 0.99
                },
            ),
            Case(
                query=query,
                use="another generation",
                params=lambda s: beats([(QUIET, 0), (QUIET, 1)], generation=2),
            ),
        )
    ),
    Case(
        query="inspect_events",
        use="of a long log",
        params=lambda s: {"game_id": game_id(HOT), "events": Int8(10), "payloads": True},
    ),
    Case(query="inspect_game", use="any", params=lambda s: {"game_id": game_id(HOT)}),
    Case(
        query="inspect_log",
        use="a part of a long log",
        params=lambda s: {"game_id": game_id(HOT), "most": Int8(BATCH), "holes": Int8(20)},
        rows=2 * BATCH,
        buffers=BATCH,
    ),
    Case(
        query="inspect_log",
        use="a quiet game",
        params=lambda s: {"game_id": game_id(QUIET), "most": Int8(BATCH), "holes": Int8(20)},
        rows=200,
    ),
    Case(
        query="inspect_sessions",
        use="and one of them",
        params=lambda s: {**session(HOT, 5), "most": Int8(BATCH)},
    ),
    Case(
        query="import_check",
        use="as many as the import asks for",
        params=lambda s: {"game_ids": [game_id(n) for n in range(s.hot, 500)]},
        rows=45 * BATCH,
        buffers=60 * BATCH,
        logs=500,
    ),
    Case(
        query="import_games",
        use="some that are there and some that are not",
        params=lambda s: {
            "game_ids": [game_id(n) for n in range(50)] + [f"new-{n}" for n in range(BATCH)],
            "floors": [Int8(7)] * (BATCH + 50),
        },
        buffers=20 * BATCH,
    ),
    Case(
        query="import_heads",
        use="fifty games",
        params=lambda s: heads(s, list(range(50)), 5),
        rows=500,
        buffers=5 * BATCH,
        logs=50,
        locks=lambda s: {game_id(n) for n in range(50)},
    ),
    Case(
        query="import_heads",
        use="one that has changed",
        params=lambda s: {**heads(s, [QUIET], 5), "afters": [Int8(1)]},
    ),
    Case(
        query="import_heads",
        use="a floor over a part of the log",
        params=lambda s: {**heads(s, [QUIET], 5), "floors": [Int8(s.floor(QUIET) + 5)]},
        locks=lambda s: {
            game_id(QUIET),
            *events(QUIET, s.floor(QUIET) + 1, s.floor(QUIET) + 5),
        },
    ),
    Case(query="import_lock", use="any", params=lambda s: {"import": Int8(1)}),
    Case(
        query="import_pending_sessions",
        use="a thousand",
        params=lambda s: imported([(n * 9 % s.games, n % 5) for n in range(BATCH)], ttl=False),
        rows=2 * BATCH,
        buffers=10 * BATCH,
    ),
    Case(
        query="import_sessions",
        use="new ones, and those that have a token",
        params=lambda s: imported([(QUIET, player) for player in range(1, 30)]),
        buffers=BATCH,
        locks=lambda s: {session_name(QUIET, player) for player in range(1, 4)} | {game_id(QUIET)},
    ),
    Case(
        query="import_standing",
        use="a thousand",
        params=lambda s: {
            "game_ids": [game_id(n * 9 % s.games) for n in range(BATCH)] + ["new"],
            "heads": [Int8(s.head(n * 9 % s.games)) for n in range(BATCH)] + [Int8(1)],
        },
        rows=10 * BATCH,
        buffers=30 * BATCH,
        logs=BATCH,
    ),
    Case(query="issue_resume_token", use="a new game", params=lambda s: issue("new", "player")),
    Case(
        query="issue_resume_token",
        use="a new player",
        params=lambda s: issue(game_id(HOT), "new"),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="issue_resume_token",
        use="taken over",
        params=lambda s: issue(game_id(HOT), "player-05"),
        locks=lambda s: {game_id(HOT), session_name(HOT, 5)},
    ),
    Case(
        query="issue_resume_token",
        use="a new player within both limits",
        params=lambda s: issue(game_id(HOT), "new", per_game=BATCH, per_user=BATCH),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="issue_resume_token",
        use="a full game",
        params=lambda s: issue(game_id(HOT), "new", per_game=3),
    ),
    Case(
        query="issue_resume_token",
        use="a player of every game",
        params=lambda s: issue("new", "player-00", per_user=50),
        buffers=BATCH,
    ),
    Case(
        query="issue_resume_token",
        use="a player whose sessions have all expired",
        params=lambda s: issue("new", "player-03", per_user=50),
    ),
    Case(
        query="list_sessions",
        use="of a quiet game",
        params=lambda s: {"game_id": game_id(QUIET)},
    ),
    Case(query="list_sessions", use="of a hot game", params=lambda s: {"game_id": game_id(HOT)}),
    Case(query="lock_cleanup", use="any", params=lambda s: {}),
    Case(
        query="lock_game",
        use="any",
        params=lambda s: {"game_id": game_id(HOT)},
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="lock_issue",
        use="counting a player's sessions",
        params=lambda s: issue(game_id(HOT), "player-05", per_user=3),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="lock_issue",
        use="counting a game's sessions",
        params=lambda s: issue(game_id(HOT), "player-05", per_game=3),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(query="newest_dictionary", use="any", params=lambda s: {}),
    Case(
        query="prune_events",
        use="some of a quiet game",
        params=lambda s: prune(QUIET, s.floor(QUIET) + 5),
        locks=lambda s: {
            game_id(QUIET),
            *events(QUIET, s.floor(QUIET) + 1, s.floor(QUIET) + 5),
        },
    ),
    Case(
        query="prune_events",
        use="a batch of a long log",
        params=lambda s: prune(HOT, s.head(HOT)),
        rows=BATCH + 50,
        buffers=5 * BATCH,
        locks=lambda s: {game_id(HOT), *events(HOT, s.floor(HOT) + 1, s.head(HOT))},
    ),
    Case(
        query="prune_events",
        use="done already",
        params=lambda s: prune(OLD, s.floor(OLD)),
        locks=lambda s: {game_id(OLD)},
    ),
    Case(
        query="prune_events",
        use="ahead of the log",
        params=lambda s: prune(QUIET, s.head(QUIET) + 1),
    ),
    Case(
        query="raise_floors",
        use="a batch",
        params=lambda s: raise_floors(due(s)[:100], [-1] * 100),
        rows=8 * BATCH,
        buffers=20 * BATCH,
        logs=100,
        locks=lambda s: {game_id(game) for game in due(s)},
    ),
    Case(
        query="raise_floors",
        use="of games that have nothing left",
        params=lambda s: raise_floors(due(s)[-20:], [s.floor(game) for game in due(s)[-20:]]),
        rows=2 * BATCH,
        buffers=5 * BATCH,
        logs=20,
        locks=lambda s: {game_id(game) for game in due(s)[-20:]},
    ),
    Case(
        query="record_batch",
        use="a thousand of many games, some that are not there",
        params=lambda s: record_batch([game_id(n * 9 % s.games) for n in range(BATCH)] + ["new"]),
        rows=2 * BATCH + 10,
        buffers=50 * BATCH,
        locks=lambda s: {game_id(n * 9 % s.games) for n in range(BATCH)},
    ),
    Case(
        query="record_batch",
        use="a thousand of one game",
        params=lambda s: {**record_batch([game_id(HOT)] * BATCH), **receipt(7)},
        buffers=10 * BATCH,
        locks=lambda s: {game_id(HOT), "receipt 7"},
    ),
    Case(
        query="record_batch_checked",
        use="a thousand of many games, half of them known",
        params=lambda s: record_batch_checked(
            [game_id(n * 9 % s.games) for n in range(BATCH)] + ["new"],
            lambda n: uuid4() if n % 2 else known_id(s, n * 9 % s.games, n // s.games),
        ),
        rows=4 * BATCH,
        buffers=60 * BATCH,
        locks=lambda s: {game_id(n * 9 % s.games) for n in range(BATCH)},
    ),
    Case(
        query="record_batch_checked",
        use="a known id",
        params=lambda s: (
            record_batch_checked(
                [game_id(HOT), game_id(QUIET)], lambda n: known_id(s, HOT, 4) if n == 0 else uuid4()
            )
            | receipt(7)
        ),
        locks=lambda s: {game_id(HOT), game_id(QUIET), "receipt 7"},
    ),
    Case(
        query="record_batch_checked",
        use="a thousand of one game",
        params=lambda s: record_batch_checked(
            [game_id(HOT)] * BATCH, lambda n: uuid4(), lambda n: s.head(HOT) + n + 1
        ),
        rows=10,
        buffers=20 * BATCH,
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="record_event",
        use="plain",
        params=lambda s: record(game_id(HOT)),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(query="record_event", use="a new game", params=lambda s: record("new")),
    Case(
        query="record_event",
        use="noted in a receipt that is there",
        params=lambda s: record(game_id(HOT), receipt(7)),
        locks=lambda s: {game_id(HOT), "receipt 7"},
    ),
    Case(
        query="record_event",
        use="without a receipt",
        params=lambda s: record(game_id(HOT), NO_RECEIPT),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="record_event_checked",
        use="a new game",
        params=lambda s: record_checked("new", uuid4(), 1),
    ),
    Case(
        query="record_event_checked",
        use="with an id",
        params=lambda s: record_checked(game_id(HOT), uuid4(), s.head(HOT) + 1),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="record_event_checked",
        use="noted in a receipt that is there",
        params=lambda s: record_checked(game_id(HOT), None, s.head(HOT) + 1, receipt(7)),
        locks=lambda s: {game_id(HOT), "receipt 7"},
    ),
    Case(
        query="record_event_checked",
        use="a known id",
        params=lambda s: record_checked(game_id(HOT), event_uuid(HOT, 5)),
    ),
    Case(
        query="record_event_checked",
        use="not the next",
        params=lambda s: record_checked(game_id(HOT), expected=5),
        locks=lambda s: {game_id(HOT)},
    ),
    Case(
        query="record_events",
        use="a thousand",
        params=lambda s: {
            "game_id": game_id(HOT),
            "codecs": [1] * BATCH,
            "payloads": [b"{}"] * BATCH,
            **receipt(7),
        },
        buffers=10 * BATCH,
        locks=lambda s: {game_id(HOT), "receipt 7"},
    ),
    Case(query="renew_epochs", use="any", params=lambda s: {}, locks=lambda s: {"lineage"}),
    Case(
        query="resume",
        use="in the middle of a long log",
        params=lambda s: resume(HOT, 0, middle(s, HOT)),
        rows=BATCH + 10,
        buffers=2 * BATCH,
        locks=lambda s: {session_name(HOT, 0)},
    ),
    Case(
        query="resume",
        use="at the head",
        params=lambda s: resume(QUIET, 0, s.head(QUIET)),
        locks=lambda s: {session_name(QUIET, 0)},
    ),
    Case(
        query="resume",
        use="a forged token",
        params=lambda s: resume(QUIET, 0, 0, forged=True),
    ),
    Case(
        query="resume",
        use="expired",
        params=lambda s: resume(QUIET, 3, 0),
    ),
    Case(
        query="resume_batch",
        use="many of many games",
        params=lambda s: resume_batch(
            [
                resume(n * 7 % s.games, 0, s.floor(n * 7 % s.games), forged=n % 5 == 0)
                for n in range(50)
            ]
        ),
        rows=50 * 2 * BATCH,
        buffers=50 * 2 * BATCH,
        logs=50,
        locks=lambda s: {
            session_name(n * 7 % s.games, 0)
            for n in range(50)
            if n % 5 and n * 7 % s.games < s.games * 0.99
        },
    ),
    Case(
        query="resume_batch",
        use="of one game, with one page",
        params=lambda s: {
            **resume_batch([resume(HOT, player, middle(s, HOT)) for player in range(3)]),
            "pages": [1, 1, 1],
        },
        rows=2 * BATCH,
        buffers=2 * BATCH,
        locks=lambda s: {session_name(HOT, player) for player in range(3)},
    ),
    Case(
        query="resume_batch",
        use="at the head of a long log",
        params=lambda s: resume_batch([resume(HOT, 0, s.head(HOT))]),
        locks=lambda s: {session_name(HOT, 0)},
    ),
    Case(
        query="revoke_session",
        use="any",
        params=lambda s: session(QUIET, 0, generation=None),
        locks=lambda s: {session_name(QUIET, 0)},
    ),
    Case(
        query="sample_events",
        use="of many games",
        params=lambda s: {"games": Int8(BATCH), "events": Int8(10 * BATCH), "bytes": Int8(2**20)},
        rows=13 * BATCH,
        buffers=40 * BATCH,
        logs=BATCH,
    ),
    Case(
        query="sample_events",
        use="of few games",
        params=lambda s: {"games": Int8(10), "events": Int8(10 * BATCH), "bytes": Int8(2**17)},
        rows=13 * BATCH,
        buffers=40 * BATCH,
        logs=10,
    ),
    Case(
        query="settle_lineage",
        use="in a copy of a database",
        params=lambda s: {"lossless_failover": False},
        locks=lambda s: {"lineage"},
    ),
    Case(
        query="settle_statement",
        use="that was done",
        params=lambda s: receipt(7, 1),
        locks=lambda s: {"receipt 7"},
    ),
    Case(query="settle_statement", use="of a new receipt", params=lambda s: receipt()),
    Case(
        query="stale_sessions",
        use="the longest silent",
        params=lambda s: {"older_than": 300.0, "limit": Int8(BATCH)},
        rows=20 * BATCH,
        buffers=20 * BATCH,
    ),
    Case(
        query="top_games",
        use="on the way round",
        params=lambda s: {
            "watched": [game_id(n * 9 % s.games) for n in range(BATCH)],
            "newest": Int8(BATCH),
            "after": game_id(QUIET),
            "next": Int8(BATCH),
        },
        rows=3 * BATCH,
        buffers=10 * BATCH,
    ),
    Case(
        query="top_games",
        use="at the end",
        params=lambda s: {
            "watched": [],
            "newest": Int8(10),
            "after": game_id(s.games),
            "next": Int8(BATCH),
        },
    ),
    Case(
        query="tally",
        use="a limit of each",
        params=lambda s: {"most": Int8(BATCH)},
        rows=3 * BATCH + 10,  # the next of each partition
        buffers=3 * BATCH,
    ),
    Case(
        query="top_server",
        use="any",
        params=lambda s: {"most": Int8(BATCH), "stale": 60.0},
        rows=2 * BATCH,
        buffers=5 * BATCH,
    ),
    Case(
        query="top_sessions",
        use="of many games",
        params=lambda s: {
            "game_ids": [game_id(n) for n in range(100)],
            "most": Int8(BATCH),
            "stale": 60.0,
        },
        rows=BATCH,
        buffers=2 * BATCH,
    ),
    Case(
        query="top_sessions",
        use="of a game with more than are counted",
        params=lambda s: {"game_ids": [game_id(HOT)], "most": Int8(5), "stale": 60.0},
        rows=10,
    ),
    Case(
        query="standing",
        use="more are live than are counted",
        params=lambda s: {"sessions": Int8(BATCH)},
        rows=4 * BATCH,
        buffers=8 * BATCH,
        logs=BATCH,
    ),
    Case(
        query="standing",
        use="all that are live",
        params=lambda s: {"sessions": Int8(100 * BATCH)},
        rows=70 * BATCH,
        buffers=160 * BATCH,
        logs=10 * BATCH,
    ),
    Case(
        query="sweep_events",
        use="a batch",
        params=lambda s: sweep_events(unswept(s)),
        rows=4 * BATCH,
        buffers=15 * BATCH,
        logs=100,
        locks=lambda s: {
            *(game_id(game) for game in unswept(s)),
            *(
                name
                for game in unswept(s)
                for name in events(game, s.floor(game) - 9, s.floor(game))
            ),
        },
    ),
    Case(
        query="sweep_events",
        use="of a long log, below which there is nothing",
        params=lambda s: sweep_events([HOT + 2]),
        locks=lambda s: {game_id(HOT + 2)},
    ),
    Case(
        query="validate_resume_token",
        use="any",
        params=lambda s: {
            name: value
            for name, value in resume(HOT, 5, 0).items()
            if name in ("game_id", "id", "nonce", "blinded")
        },
    ),
]

PLANNED = [
    pytest.param(case, mode, id=f"{case} ({mode.split('_')[1]})")
    for case in CASES
    for mode in (CUSTOM, GENERIC)
]

DROP_EVENTS_KEYS = """
DO $$
DECLARE key record;
BEGIN
    FOR key IN
        SELECT conrelid::regclass AS part, conname AS name
        FROM pg_constraint
        WHERE contype = 'p' AND conparentid = 0
          AND conrelid IN (SELECT 'game_event'::regclass
                           UNION SELECT relid FROM pg_partition_tree('game_event'))
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', key.part, key.name);
    END LOOP;
END
$$
"""
"""That of the table, or those of its partitions where each has its own."""

# An index, and a use of a query that is lost without it.
NEEDED = [
    ("ALTER TABLE game DROP CONSTRAINT game_pkey CASCADE", "lock_game: any"),
    ("DROP INDEX game_oldest", "claim_aged_games: a batch"),
    ("ALTER TABLE game_session DROP CONSTRAINT game_session_pkey", "heartbeat: live"),
    (
        "ALTER TABLE game_session DROP CONSTRAINT game_session_game_id_user_id_key",
        "find_session: of a hot game",
    ),
    ("DROP INDEX game_session_heartbeat", "stale_sessions: the longest silent"),
    ("DROP INDEX game_session_expiry", "cleanup_expired_sessions: a batch"),
    (DROP_EVENTS_KEYS, "fetch_events_since: the head of a long log"),
    (
        "ALTER TABLE game_event_id DROP CONSTRAINT game_event_id_pkey",
        "record_event_checked: a known id",
    ),
    (
        "ALTER TABLE game_event_id DROP CONSTRAINT game_event_id_pkey",
        "record_batch_checked: a known id",
    ),
    (
        "ALTER TABLE game DROP CONSTRAINT game_pkey CASCADE",
        "record_batch: a thousand of many games, some that are not there",
    ),
    (
        "ALTER TABLE game_session DROP CONSTRAINT game_session_pkey",
        "heartbeat_batch: a thousand",
    ),
    ("DROP INDEX game_event_id_age", "cleanup_event_ids: a batch"),
    ("DROP INDEX game_oldest", "top_games: on the way round"),
    ("DROP INDEX game_session_expiry", "top_server: any"),
    ("DROP INDEX game_oldest", "doctor_laggards: the longest logs"),
    ("DROP INDEX game_event_id_age", "doctor_upkeep: much is late"),
    (
        "ALTER TABLE statement_receipt DROP CONSTRAINT statement_receipt_pkey",
        "cleanup_receipts: a batch",
    ),
]


@pytest.fixture(scope="module")
def large(server: Server) -> Iterator[str]:
    """A database with a million events and forty thousand sessions; nobody changes it."""
    yield from _filled(server, LARGE)


@pytest.fixture(scope="module")
def small(server: Server) -> Iterator[str]:
    """A database with a little of everything; nobody changes it."""
    yield from _filled(server, SMALL)


def _filled(server: Server, scale: Scale) -> Iterator[str]:
    conninfo = server.create_migrated()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        fill(connection, scale)
    yield conninfo
    server.drop(conninfo)


@pytest.fixture
def connection(large: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(large, autocommit=True) as connection:
        yield connection


def test_every_query_has_a_case() -> None:
    assert sorted({case.query for case in CASES}) == FILES


@pytest.mark.parametrize(("case", "mode"), PLANNED)
def test_a_query_reads_by_index_and_no_more_than_it_needs(
    case: Case, mode: str, connection: Connection[Any]
) -> None:
    plan = explain(connection, case.query, case.params(LARGE), mode=mode)
    assert plan.faults() == []
    others = case.logs * (plan.parts.per_log - 1)
    assert plan.rows_read <= case.rows + others
    assert plan.buffers <= case.buffers + others * PROBE


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plan_made_while_the_tables_were_small_still_reads_by_index(
    case: Case, small: str
) -> None:
    """A connection keeps its generic plans; the tables may have grown a thousandfold meanwhile.

    A custom plan is made anew each time: on a small table whatever it does is right.
    """
    with psycopg.connect(small, autocommit=True) as connection:
        assert explain(connection, case.query, case.params(SMALL), mode=GENERIC).faults() == []


@pytest.mark.parametrize("query", FILES)
def test_every_index_that_a_comment_names_carries_the_query(query: str, large: str) -> None:
    used: set[str] = set()
    for case, mode in ((c, m) for c in CASES if c.query == query for m in (CUSTOM, GENERIC)):
        with psycopg.connect(large, autocommit=True) as connection:
            used |= explain(connection, query, case.params(LARGE), mode=mode).indexes
    assert [named for named in named_indexes(query) if not named & used] == []


@pytest.mark.parametrize("mode", [CUSTOM, GENERIC])
@pytest.mark.parametrize(("drop", "use"), NEEDED, ids=[use for _, use in NEEDED])
def test_a_missing_index_is_found_out(drop: str, use: str, mode: str, large: str) -> None:
    """Each index is needed, and the checks above would notice."""
    case = next(case for case in CASES if str(case) == use)
    with psycopg.connect(large, autocommit=True) as connection:
        before = explain(connection, case.query, case.params(LARGE), mode=mode).faults()
    with (
        psycopg.connect(large, autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute(drop.encode())
        after = explain(connection, case.query, case.params(LARGE), mode=mode).faults()
    assert set(after) - set(before)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_query_locks_exactly_what_its_case_says(case: Case, small: str) -> None:
    with psycopg.connect(small) as caller, psycopg.connect(small) as other:
        everything = unlocked(other)
        other.rollback()
        caller.execute(getattr(queries, case.query), case.params(SMALL))
        locked = everything - unlocked(other)
        caller.rollback()
    assert locked == case.locks(SMALL)


@pytest.mark.parametrize("query", FILES)
def test_the_comment_says_what_is_locked(query: str) -> None:
    said = re.search(r"\bLocks,? (.*?)(?= Index(?:es)?: |$)", comment(query))
    assert said, "no line on locks"
    kinds = kinds_locked(query)
    if "nothing more than the claim" in said[1]:
        kinds -= kinds_locked("claim_aged_games")
    assert said[1].startswith("nothing") == (not kinds)
    for kind in kinds:
        assert re.search(MENTIONS[kind], said[1]), kind


# How a comment speaks of a row of each kind. Events need no mention: they are only ever deleted,
# and only under the lock of their game.
MENTIONS = {
    "game": r"\bgames?'s? row|\bgames' rows",
    "session": r"\bsession",
    "event id": r"\bthose rows|\bgame's row",
    "lineage": r"\brow of lineage",
    "receipt": r"\breceipt",
}


def kinds_locked(query: str) -> set[str]:
    names = {name for case in CASES if case.query == query for name in case.locks(SMALL)}
    kinds = {
        "lineage"
        if name == "lineage"
        else "receipt"
        if name.startswith("receipt ")
        else "event id"
        if name.startswith("id of ")
        else "event"
        if "#" in name
        else "session"
        if "/" in name
        else "game"
        for name in names
    }
    return kinds - {"event"}


def unlocked(connection: Connection[Any]) -> Rows:
    """The rows on which nobody else holds any lock."""
    found: Rows = set()
    for query in (
        "SELECT game_id FROM game FOR UPDATE SKIP LOCKED",
        "SELECT game_id || '/' || user_id FROM game_session FOR UPDATE SKIP LOCKED",
        "SELECT game_id || '#' || sequence FROM game_event FOR UPDATE SKIP LOCKED",
        "SELECT 'id of ' || game_id || '#' || sequence FROM game_event_id FOR UPDATE SKIP LOCKED",
        "SELECT 'lineage' FROM lineage FOR UPDATE SKIP LOCKED",
        "SELECT 'receipt ' || n FROM generate_series(0, 99) AS n JOIN statement_receipt"
        " ON id = md5('receipt ' || n)::uuid FOR UPDATE OF statement_receipt SKIP LOCKED",
    ):
        found.update(name for (name,) in connection.execute(query.encode()))
    return found


def test_beats_and_appends_are_hot_updates(conninfo: str) -> None:
    """They leave every index alone: what vacuum has to clean up stays on the row's own page."""
    rounds = 200
    with GameSessionRegistry.connect(conninfo) as registry:
        session_id = registry.issue_resume_token("game", "player").session.session_id
        for sequence in range(1, rounds + 1):
            registry.heartbeat(session_id)
            registry.record_event("game", {"move": sequence})
            registry.acknowledge(session_id, sequence - 1)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        expected = {"game": 2 * rounds, "game_session": 2 * rounds, "statement_receipt": rounds}
        for table, most in expected.items():
            wait_until(partial(all_counted, connection, table, most - 1))
            updated, hot = updates(connection, table)
            # A beat in another minute than the last one moves two indexes.
            assert updated - hot <= rounds // 20


def all_counted(connection: Connection[Any], table: str, expected: int) -> bool:
    return updates(connection, table)[0] >= expected


def updates(connection: Connection[Any], table: str) -> tuple[int, int]:
    """How many rows of a table were updated, and how many of those without touching an index."""
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = %s"
    ((updated, hot),) = connection.execute(query, [table]).fetchall()
    return updated, hot
