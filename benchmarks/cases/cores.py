"""A core of its own for each process, or all of them: what the interpreter's lock makes of it."""

from __future__ import annotations

from ..lab import Lab
from ..peers.loads import Append

NAME = "cores"
TITLE = "One core for a process, or all"
EXPLAINED = (
    "128 threads of one process append to one hot game: kept to one core, as everywhere else here, "
    "and free to hop between all of them, which is what a process does unless it is told otherwise."
)


def run(lab: Lab) -> None:
    lab.view.expect(1)
    with lab.peers("ours", "plain") as peers:
        contenders = [
            lab.callers(peer, Append(peer, 1), threads=128, name=f"{name}, {cores}", keep=keep)
            for name, peer in peers.items()
            for cores, keep in (("one core", True), ("all cores", False))
        ]
        lab.measure(NAME, {"threads": 128, "games": 1}, contenders)
