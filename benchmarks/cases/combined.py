"""A game server's mixture: events from many rooms while thousands of sessions beat."""

from __future__ import annotations

import time

from attrs import frozen

from ..lab import Lab
from ..measure import Contender
from ..payload import game_names
from ..peers import Ours, Plain
from ..peers.beats import SESSIONS, beat_all
from ..peers.loads import AppendOpened
from ..worker import Call, Uncounted

NAME = "combined"
TITLE = "Events while 5,000 sessions beat each second"
EXPLAINED = (
    "64 threads record events in 200 games, alone and beside one thread that beats 1,000 sessions "
    "five times a second (`+beats`; both with one statement for the 1,000). What counts is events."
)
THREADS = 64
GAMES = 200
EVERY = 0.2


@frozen
class Mixture:
    peer: Ours | Plain

    def open(self, process: int) -> MixtureOpened:
        return MixtureOpened(self.peer, process)


class MixtureOpened:
    def __init__(self, peer: Ours | Plain, process: int) -> None:
        client = peer.connect()
        self._append = AppendOpened(client, game_names(GAMES), process)
        self._beat = beat_all(client, process)
        self.close = client.close

    def caller(self, thread: int) -> Call | Uncounted:
        if thread < THREADS:
            return self._append.caller(thread)
        due = time.monotonic()

        def beat() -> None:
            nonlocal due
            now = time.monotonic()
            due = max(due + EVERY, now)
            time.sleep(due - now)
            self._beat()

        return Uncounted(beat)


def run(lab: Lab) -> None:
    lab.view.expect(1)
    assert SESSIONS / EVERY == 5_000
    with lab.peers("ours", "plain") as peers:
        contenders: list[Contender] = []
        for name, peer in peers.items():
            if isinstance(peer, (Ours, Plain)):
                contenders += [
                    lab.callers(peer, load, threads=threads, name=f"{name}{suffix}")
                    for load, threads, suffix in (
                        (Mixture(peer), THREADS, ""),
                        (Mixture(peer), THREADS + 1, "+beats"),
                    )
                ]
        lab.measure(NAME, {"threads": THREADS, "games": GAMES}, contenders)
