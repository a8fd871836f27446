"""What players have is acknowledged and pruned."""

from __future__ import annotations

import secrets

from attrs import frozen

from ..lab import Lab
from ..payload import PAYLOAD
from ..peers import Ours, Plain
from ..worker import Call, Load

NAME = "acknowledge"
TITLE = "Acknowledge and prune"
EXPLAINED = (
    "Each thread has a game with two players: it records ten events in one call, and both players "
    "acknowledge them; the second acknowledgement prunes. A call here is all three. Plain updates "
    "the session and deletes up to the lowest acknowledgement, in two statements."
)
BATCH = 10


@frozen
class OurAcknowledge:
    peer: Ours

    def open(self, process: int) -> OurAcknowledgeOpened:
        return OurAcknowledgeOpened(self.peer)


class OurAcknowledgeOpened:
    def __init__(self, peer: Ours) -> None:
        self._client = peer.connect()
        self.close = self._client.close

    def caller(self, thread: int) -> Call:
        registry = self._client.registry
        game = f"acknowledge-{secrets.token_hex(8)}"
        both = [
            registry.issue_resume_token(game, user).session.session_id for user in ("ann", "bob")
        ]
        batch = [PAYLOAD] * BATCH

        def call() -> None:
            last = registry.record_events(game, batch)[-1]
            for session in both:
                done = registry.acknowledge(session, last)
            assert done.floor == last

        return call


@frozen
class PlainAcknowledge:
    peer: Plain

    def open(self, process: int) -> PlainAcknowledgeOpened:
        return PlainAcknowledgeOpened(self.peer)


class PlainAcknowledgeOpened:
    def __init__(self, peer: Plain) -> None:
        self._client = peer.connect()
        self.close = self._client.close

    def caller(self, thread: int) -> Call:
        client = self._client
        game = f"acknowledge-{secrets.token_hex(8)}"
        both = [client.issue(game, user, secrets.token_urlsafe(32)) for user in ("ann", "bob")]
        batch, last = [PAYLOAD] * BATCH, 0

        def call() -> None:
            nonlocal last
            client.append_many(game, batch)
            last += BATCH
            for session in both:
                client.acknowledge(game, session, last)

        return call


def run(lab: Lab) -> None:
    numbers = lab.options.threads or (1, 32)
    lab.view.expect(len(numbers))
    with lab.peers("ours", "plain") as peers:
        each: dict[str, Load] = {}
        for name, peer in peers.items():
            if isinstance(peer, Ours):
                each[name] = OurAcknowledge(peer)
            elif isinstance(peer, Plain):
                each[name] = PlainAcknowledge(peer)
        for threads in numbers:
            contenders = [
                lab.callers(peers[name], load, threads=threads) for name, load in each.items()
            ]
            lab.measure(NAME, {"threads": threads}, contenders, per_call=BATCH)
