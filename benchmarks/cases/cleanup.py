"""Appends while a million old events are cleaned up."""

from __future__ import annotations

import json
from contextlib import ExitStack

import attrs
import psycopg
from attrs import frozen

from registry import Maintenance
from registry.maintenance import Outcome

from ..lab import Lab
from ..measure import Contender
from ..payload import PAYLOAD, game_names
from ..peers import Ours
from ..peers.loads import AppendOpened
from ..worker import Call, Uncounted

NAME = "cleanup"
TITLE = "Events while 1,000,000 old ones are cleaned up"
EXPLAINED = (
    "16 threads record events in 1,000 games, alone and beside a thread that cleans up "
    "(`+cleanup`), as `Maintenance` does, a database that was filled with "
    "1,000,000 events past the retention: of other games, or of the very games that are played. "
    "The two take turns on one database, and the cleanup goes on from where it was."
)
THREADS = 16
GAMES = 1_000
OLD = 1_000_000
STRETCH = 0.2
"""Seconds of cleaning between two looks at whether the measurement is over."""
OLD_GAMES = """
    INSERT INTO game (game_id, head, head_at, oldest_at)
    SELECT %(prefix)s || to_char(n, 'FM000000'), %(each)s, now() - '2 days'::interval,
           now() - '2 days'::interval
    FROM generate_series(0, %(games)s - 1) AS n
"""
OLD_EVENTS = """
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(prefix)s || to_char(n, 'FM000000'), s, now() - '2 days'::interval, 1, %(payload)s
    FROM generate_series(%(first)s, %(last)s - 1) AS n, generate_series(1, %(each)s) AS s
"""


@frozen
class Load:
    peer: Ours

    def open(self, process: int) -> LoadOpened:
        return LoadOpened(self.peer, process)


class LoadOpened:
    def __init__(self, peer: Ours, process: int) -> None:
        client = peer.connect()
        self._append = AppendOpened(client, game_names(GAMES), process)
        self._maintenance = Maintenance(client.registry, max_seconds=STRETCH)
        self.close = client.close

    def caller(self, thread: int) -> Call | Uncounted:
        if thread < THREADS:
            return self._append.caller(thread)
        return Uncounted(self._clean)

    def _clean(self) -> None:
        if self._maintenance.run_once().outcome is Outcome.DONE:
            raise RuntimeError("all is cleaned up before the measurement is over: fill in more")


def run(lab: Lab) -> None:
    if "ours" not in lab.options.peers:
        return
    old = min(OLD, lab.options.rows)
    lab.view.expect(2)
    for whose, prefix, games in (("other", "old-", old // 100), ("the same", "game-", GAMES)):
        with ExitStack() as stack:
            conninfo = stack.enter_context(lab.server.database(f"cleanup_{games}"))
            peer = Ours(conninfo)
            peer.prepare()
            lab.view.now(f"filling {old:,} rows")
            fill(conninfo, prefix, games, old // games)
            contenders: list[Contender] = [
                lab.callers(peer, Load(peer), threads=THREADS),
                lab.callers(
                    attrs.evolve(peer, name="ours+cleanup"), Load(peer), threads=THREADS + 1
                ),
            ]
            lab.measure(NAME, {"threads": THREADS, "old events of": f"{whose} games"}, contenders)


def fill(conninfo: str, prefix: str, games: int, each: int) -> None:
    """Events straight into the table, as if they had been recorded two days ago."""
    payload = json.dumps(PAYLOAD, separators=(",", ":")).encode()
    given = {"prefix": prefix, "games": games, "each": each, "payload": payload}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(OLD_GAMES.encode(), given)
        step = max(1, 100_000 // max(1, each))
        for first in range(0, games, step):
            part = {**given, "first": first, "last": min(games, first + step)}
            connection.execute(OLD_EVENTS.encode(), part)
        connection.execute("VACUUM ANALYZE")
