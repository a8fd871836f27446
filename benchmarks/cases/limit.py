"""How far one statement an event can go at all: pgbench, beside 128 threads of ours."""

from __future__ import annotations

from contextlib import ExitStack

from ..lab import Lab
from ..measure import Contender
from ..peers import Plain, Unavailable, pgbench
from ..peers.loads import Append

NAME = "limit"
TITLE = "The limit of one statement an event"
EXPLAINED = (
    "pgbench, which is C and has no pool, sends the statement of `plain` from 8 to 64 clients "
    "(the number is in the name). Beside it 128 threads of ours, in turns."
)


def run(lab: Lab) -> None:
    options = lab.options
    games = options.games or ((1_000,) if options.quick else (1, 1_000))
    clients = (16, 32) if options.quick else (8, 16, 32, 64)
    rounds = min(2 if options.quick else 3, options.rounds)
    lab.view.expect(len(games))
    with ExitStack() as stack:
        peers = stack.enter_context(lab.peers("ours"))
        conninfo = stack.enter_context(lab.server.database("pgbench"))
        Plain(conninfo).prepare()
        for count in games:
            contenders: list[Contender] = [
                lab.callers(peer, Append(peer, count), threads=128) for peer in peers.values()
            ]
            if "pgbench" in options.peers:
                try:
                    pgbench.program()
                except Unavailable as error:
                    lab.results.note("pgbench", str(error))
                else:
                    lab.results.settings["pgbench"] = pgbench.SETTINGS
                    contenders += [
                        pgbench.Pgbench(conninfo, number, count, lab.server.processes)
                        for number in clients
                    ]
            lab.measure(NAME, {"games": count}, contenders, rounds=rounds)
