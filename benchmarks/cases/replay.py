"""Pages of a log, read and decoded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import cycle

import attrs
from attrs import frozen

from ..lab import Lab
from ..measure import Contender
from ..payload import PAYLOAD
from ..peers import Ours, Peer, Plain
from ..peers.prisma_client import Prisma
from ..worker import Call

NAME = "replay"
TITLE = "Replay"
EXPLAINED = (
    "One thread reads pages of a log of 10,000 events. All decode to Python objects except "
    "`plain-raw` (bytea, left as bytes) and `ours-raw` (the page as JSON bytes), which pass on "
    "what they read."
)
LENGTH = 10_000
GAME = "replay"
READERS = (
    "ours", "plain", "sqlalchemy", "eventsourcing", "message-db", "redis-always",
)  # fmt: skip


@frozen
class Read:
    """Pages of a given size, from different places of the log."""

    peer: Peer
    page: int
    raw: bool = False

    def open(self, process: int) -> ReadOpened:
        return ReadOpened(self.peer, self.page, self.raw)


class ReadOpened:
    def __init__(self, peer: Peer, page: int, raw: bool) -> None:
        client = peer.connect()
        read: Callable[[str, int, int], object] | None = client.read
        if raw and isinstance(peer, Ours):
            read = peer.connect().raw_reader()
        assert read is not None
        self._read, self._page = read, page
        self.close = client.close

    def caller(self, thread: int) -> Call:
        if self._page == LENGTH:
            return partial(self._read, GAME, 0, LENGTH)
        read, page = self._read, self._page
        after = cycle(range(0, LENGTH - page + 1, page)).__next__
        return lambda: read(GAME, after(), page)


def run(lab: Lab) -> None:
    pages = (100,) if lab.options.quick else (100, LENGTH)
    lab.view.expect(len(pages))
    with lab.peers(*READERS) as peers, lab.prisma() as node:
        readers: dict[str, tuple[Peer, bool]] = {}
        for name, peer in peers.items():
            readers[name] = peer, False
            if isinstance(peer, Plain):
                readers["plain-raw"] = attrs.evolve(peer, raw=True, name="plain-raw"), False
            if isinstance(peer, Ours) and _has_raw(peer):
                readers["ours-raw"] = peer, True
        for name, (peer, raw) in readers.items():
            if not raw:
                lab.view.now(f"filling {name}")
                _fill(peer)
        if node is not None:
            lab.view.now("filling prisma")
            with closing(Prisma(node, "read", 1, LENGTH, lab.server.processes)) as prisma:
                prisma.open()
                prisma.ready()
                prisma.fill()
        for page in pages:
            contenders: list[Contender] = [
                lab.callers(peer, Read(peer, page, raw), threads=1, name=name)
                for name, (peer, raw) in readers.items()
            ]
            if node is not None:
                contenders.append(Prisma(node, "read", 1, LENGTH, lab.server.processes, page=page))
            lab.measure(NAME, {"page": page}, contenders, per_call=page)


def _has_raw(peer: Ours) -> bool:
    client = peer.connect()
    try:
        return client.raw_reader() is not None
    finally:
        client.close()


def _fill(peer: Peer) -> None:
    client = peer.connect()
    try:
        client.append_many(GAME, [PAYLOAD] * LENGTH)
        read = client.read(GAME, 0, LENGTH)
        assert read == LENGTH, f"{peer.name} gave {read} events of {LENGTH}"
    finally:
        client.close()
