"""Sessions kept alive, one by one and all at once."""

from __future__ import annotations

from ..lab import Lab
from ..peers import Ours, Plain
from ..peers.beats import SESSIONS, Beat

NAME = "heartbeat"
TITLE = "Heartbeats"
EXPLAINED = (
    "1,000 sessions in 250 games, beaten one a call from 32 threads, or all in one call from one. "
    "Ours extends the expiry and says which sessions are gone, with the reason; plain is one "
    "`UPDATE`, with `= ANY` for the many."
)


def run(lab: Lab) -> None:
    ways = [("one a call", False, 32, 1), ("1,000 a call", True, 1, SESSIONS)]
    lab.view.expect(len(ways))
    with lab.peers("ours", "plain") as peers:
        for way, many, threads, per_call in ways:
            contenders = [
                lab.callers(peer, Beat(peer, many), threads=threads)
                for peer in peers.values()
                if isinstance(peer, (Ours, Plain))
            ]
            lab.measure(
                NAME,
                {"way": way, "threads": threads},
                contenders,
                unit="beats",
                per_call=per_call,
            )
