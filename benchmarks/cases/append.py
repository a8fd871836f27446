"""Durable events, one a call: the rate and the latency, by callers, games and processes."""

from __future__ import annotations

from attrs import frozen

from ..lab import Lab
from ..measure import Contender
from ..peers.loads import Append
from ..peers.prisma_client import Prisma

NAME = "append"
TITLE = "Append"
EXPLAINED = (
    "Threads record one event a call, as fast as the calls return, into one game or spread over "
    "1,000, from one process or from four; `threads` is of each process."
)

PAIR = ("ours", "plain")
OTHERS = ("sqlalchemy", "eventsourcing", "message-db", "redis-always", "redis-everysec")


@frozen
class Place:
    processes: int
    threads: int
    games: int
    others: bool = True
    """Whether all peers are measured there, or only the first two."""


FULL = [
    *(Place(1, threads, 1) for threads in (1, 8, 32, 128, 512)),
    Place(1, 1, 1_000, others=False),
    Place(1, 8, 1_000, others=False),
    *(Place(1, threads, 1_000) for threads in (32, 128)),
    Place(1, 512, 1_000, others=False),
    Place(4, 8, 1, others=False),
    Place(4, 32, 1),
    Place(4, 128, 1, others=False),
    Place(4, 32, 1_000, others=False),
    Place(4, 128, 1_000, others=False),
]
QUICK = [
    Place(1, 1, 1),
    Place(1, 32, 1, others=False),
    Place(1, 128, 1),
    Place(1, 128, 1_000),
    Place(4, 32, 1, others=False),
]


def run(lab: Lab) -> None:
    places = _places(lab)
    lab.view.expect(len(places))
    with lab.peers(*PAIR, *OTHERS) as peers, lab.prisma() as node:
        for place in places:
            contenders: list[Contender] = [
                lab.callers(
                    peer,
                    Append(peer, place.games),
                    threads=place.threads,
                    processes=place.processes,
                )
                for name, peer in peers.items()
                if place.others or name in PAIR
            ]
            if node is not None and place.others and place.processes == 1 and place.threads <= 128:
                contenders.append(
                    Prisma(node, "append", place.threads, place.games, lab.server.processes)
                )
            point = {"processes": place.processes, "threads": place.threads, "games": place.games}
            lab.measure(NAME, point, contenders)


def _places(lab: Lab) -> list[Place]:
    """The case's own, or every combination of what was asked for."""
    wanted = lab.options
    if not (wanted.threads or wanted.games or wanted.processes):
        return QUICK if wanted.quick else FULL
    return [
        Place(processes, threads, games)
        for processes in wanted.processes or (1,)
        for games in wanted.games or (1, 1_000)
        for threads in wanted.threads or (1, 8, 32, 128, 512)
    ]
