"""Appends as the table of events grows."""

from __future__ import annotations

import json
from contextlib import ExitStack

import attrs
import psycopg

from ..lab import Lab
from ..measure import Contender
from ..payload import PAYLOAD
from ..peers import Ours
from ..peers.loads import Append
from ..results import Point

NAME = "growth"
TITLE = "Append, by the length of the log"
EXPLAINED = (
    "128 threads record events in 1,000 games of a database that holds so many events already, "
    "100 in each game; the databases take turns. A flat curve is what is wanted."
)
IN_EACH = 100
CHUNK = 1_000_000
GAMES = "INSERT INTO game (game_id, head) SELECT 'game-' || to_char(n, 'FM000000'), {each} "
GAMES += "FROM generate_series({first}, {last} - 1) AS n"
EVENTS = "INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload) "
EVENTS += "SELECT 'game-' || to_char(n, 'FM000000'), s, now(), 1, %s "
EVENTS += "FROM generate_series({first}, {last} - 1) AS n, generate_series(1, {each}) AS s"


def run(lab: Lab) -> None:
    if "ours" not in lab.options.peers:
        return
    sizes = [0, *(10**power for power in range(4, 10) if 10**power <= lab.options.rows)]
    if lab.options.rows > sizes[-1]:
        sizes.append(lab.options.rows)
    lab.view.expect(1)
    with ExitStack() as stack:
        contenders: list[Contender] = []
        places: dict[str, tuple[str, Point]] = {}
        for rows in sizes:
            lab.view.now(f"filling {rows:,} rows")
            conninfo = stack.enter_context(lab.server.database(f"ours_{rows}"))
            peer = Ours(conninfo)
            peer.prepare()
            fill(conninfo, rows)
            name = f"ours at {rows:,}"
            peer = attrs.evolve(peer, name=name)
            contenders.append(lab.callers(peer, Append(peer, 1_000), threads=128))
            log = "empty" if rows == 0 else "longest" if rows == sizes[-1] else "between"
            places[name] = "ours", {"rows": rows, "log": log}
        lab.measure(NAME, {"threads": 128, "games": 1_000}, contenders, places=places)


def fill(conninfo: str, rows: int) -> None:
    """Events straight into the table, as if they had been recorded."""
    payload = json.dumps(PAYLOAD, separators=(",", ":")).encode()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        games = rows // IN_EACH
        for first in range(0, games, CHUNK // IN_EACH):
            part = {"each": IN_EACH, "first": first, "last": min(games, first + CHUNK // IN_EACH)}
            connection.execute(GAMES.format(**part).encode())
            connection.execute(EVENTS.format(**part).encode(), [payload])
        connection.execute("VACUUM ANALYZE")
