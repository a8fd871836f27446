"""What must hold between the rows of a database at any moment, asked of it in one snapshot."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import Connection

RULES = {
    "a log holds exactly the events above its floor up to its head": """
        SELECT g.game_id, g.head, g.floor, count(e.sequence), min(e.sequence), max(e.sequence)
        FROM game AS g LEFT JOIN game_event AS e USING (game_id)
        GROUP BY g.game_id
        HAVING count(e.sequence) <> g.head - g.floor
            OR min(e.sequence) <> g.floor + 1 OR max(e.sequence) <> g.head
    """,
    "no event outlives its log": """
        SELECT game_id, count(*) FROM game_event
        WHERE NOT EXISTS (SELECT FROM game WHERE game.game_id = game_event.game_id)
        GROUP BY game_id
    """,
    "no event id outlives the log in which it stood for an event": """
        SELECT i.game_id, i.sequence FROM game_event_id AS i LEFT JOIN game AS g USING (game_id)
        WHERE g.game_id IS NULL OR i.sequence > g.head
    """,
    "nobody acknowledged what was never given out": """
        SELECT s.game_id, s.user_id, s.last_acknowledged, g.head
        FROM game_session AS s JOIN game AS g USING (game_id)
        WHERE s.last_acknowledged > g.head
    """,
}

EVERYONE_WAITED_FOR = {
    "no floor is above what a live session has acknowledged": """
        SELECT s.game_id, s.user_id, s.last_acknowledged, g.floor
        FROM game_session AS s JOIN game AS g USING (game_id)
        WHERE s.closed IS NULL AND s.expires_at > now() AND s.last_acknowledged < g.floor
    """,
}
"""Holds as long as neither the operator, nor the retention, nor the cap prunes."""


def unsound(
    connection: Connection[Any] | str, rules: dict[str, str] | None = None
) -> list[tuple[str, Any]]:
    """The rules that are broken, each with a row that breaks it."""
    if isinstance(connection, str):
        with psycopg.connect(connection) as own:
            return unsound(own, rules)
    found = []
    with connection.transaction():
        for name, query in (RULES if rules is None else rules).items():
            for row in connection.execute(query.encode()).fetchmany(3):
                found.append((name, row))
    return found
