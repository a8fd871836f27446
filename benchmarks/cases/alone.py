"""One caller alone: what combining many callers' events must not cost him."""

from __future__ import annotations

from ..lab import Lab
from ..peers.loads import Append

NAME = "alone"
TITLE = "One caller alone"
EXPLAINED = (
    "A single thread and nobody else. Slices of 0.2 s in alternating order and many of them, so "
    "that the ratio is exact: it is the median of the ratios of neighbouring slices."
)
SLICE = 0.2


def run(lab: Lab) -> None:
    # By its length the case is worth six points of others; a smoke test has fewer rounds.
    rounds = max(2, round(6 * lab.options.seconds / SLICE))
    lab.view.expect(1)
    with lab.peers("ours", "plain") as peers:
        contenders = [lab.callers(peer, Append(peer, 1), threads=1) for peer in peers.values()]
        lab.measure(NAME, {"threads": 1, "games": 1}, contenders, rounds=rounds, seconds=SLICE)
