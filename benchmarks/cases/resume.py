"""A player comes back: validated, taken over, beaten, and given what it missed."""

from __future__ import annotations

import secrets
from functools import partial

from attrs import frozen

from ..lab import Lab
from ..payload import PAYLOAD
from ..peers import Ours, Plain
from ..worker import Call, Load

NAME = "resume"
TITLE = "Resume with 100 missed events"
EXPLAINED = (
    "Each thread resumes a session of its own over and over, 100 events behind the head. Ours is "
    "`resume`, one round trip that also rotates the token and raises the generation; plain is "
    "three statements one after the other (find the session by its token's hash, beat, read) and "
    "does neither."
)
MISSED = 100


@frozen
class OurResume:
    peer: Ours

    def open(self, process: int) -> OurResumeOpened:
        return OurResumeOpened(self.peer)


class OurResumeOpened:
    def __init__(self, peer: Ours) -> None:
        self._client = peer.connect()
        self.close = self._client.close

    def caller(self, thread: int) -> Call:
        registry = self._client.registry
        game = f"resume-{secrets.token_hex(8)}"
        token = registry.issue_resume_token(game, "player").token
        self._client.append_many(game, [PAYLOAD] * (2 * MISSED))

        def call() -> None:
            nonlocal token
            back = registry.resume(token, after=MISSED)
            token = back.token
            assert len(back.replay.events) == MISSED

        return call


@frozen
class PlainResume:
    peer: Plain

    def open(self, process: int) -> PlainResumeOpened:
        return PlainResumeOpened(self.peer)


class PlainResumeOpened:
    def __init__(self, peer: Plain) -> None:
        self._client = peer.connect()
        self.close = self._client.close

    def caller(self, thread: int) -> Call:
        game, token = f"resume-{secrets.token_hex(8)}", secrets.token_urlsafe(32)
        self._client.issue(game, "player", token)
        self._client.append_many(game, [PAYLOAD] * (2 * MISSED))
        assert self._client.resume(token, MISSED, 1_000) == MISSED
        return partial(self._client.resume, token, MISSED, 1_000)


def loads(peers: dict[str, object]) -> dict[str, Load]:
    """What each of the peers does in this case."""
    found: dict[str, Load] = {}
    for name, peer in peers.items():
        if isinstance(peer, Ours):
            found[name] = OurResume(peer)
        elif isinstance(peer, Plain):
            found[name] = PlainResume(peer)
    return found


def run(lab: Lab) -> None:
    numbers = lab.options.threads or (1, 32)
    lab.view.expect(len(numbers))
    with lab.peers("ours", "plain") as peers:
        each = loads({**peers})
        for threads in numbers:
            contenders = [
                lab.callers(peers[name], load, threads=threads) for name, load in each.items()
            ]
            lab.measure(NAME, {"threads": threads, "missed": MISSED}, contenders, unit="resumes")
