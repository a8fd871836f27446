"""What somebody else's open transaction holds."""

from __future__ import annotations

import psycopg
from support import wait_until

from ..world import World

WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname IS NOT NULL"


def game_locked(world: World) -> None:
    """A game's row, one of those that are played on most."""
    _hold(world, "SELECT FROM game WHERE game_id = (SELECT game_id FROM game_session"
                 " ORDER BY random() LIMIT 1) FOR UPDATE")  # fmt: skip


def session_locked(world: World) -> None:
    """The row of a player who acts all the time."""
    _hold(world, "SELECT FROM game_session WHERE (game_id, id) IN (SELECT game_id, id"
                 " FROM game_session ORDER BY random() LIMIT 2) FOR UPDATE")  # fmt: skip


def statements_timed_out(world: World) -> None:
    """Batches get stuck when they have moved the head and insert the events.

    Half of the clients wait for a lock longer than their statement may take.
    """
    _hold(world, "LOCK TABLE game_event IN SHARE MODE")


def _hold(world: World, query: str) -> None:
    with psycopg.connect(world.cluster.primary.server.conninfo) as connection:
        connection.execute(query.encode())
        wait_until(lambda: world.cluster.primary.query(WAITING))
        world.last(0.5, 3.0)
        connection.rollback()
