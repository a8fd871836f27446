"""A player comes back: validated, taken over, beaten, and given what it missed."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import attrs
from attrs import frozen

from registry import Replay

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
    "does neither. `-raw` does not decode: the page as a JSON document, or bytea as bytes."
)
MISSED = 100


@frozen
class OurResume:
    peer: Ours
    raw: bool = False

    def open(self, process: int) -> OurResumeOpened:
        return OurResumeOpened(self.peer, self.raw)


class OurResumeOpened:
    def __init__(self, peer: Ours, raw: bool) -> None:
        self._client = peer.connect()
        self._raw = raw
        self.close = self._client.close

    def caller(self, thread: int) -> Call:
        registry, raw = self._client.registry, self._raw
        game = f"resume-{secrets.token_hex(8)}"
        token = registry.issue_resume_token(game, "player").token
        self._client.append_many(game, [PAYLOAD] * (2 * MISSED))

        def call() -> None:
            nonlocal token
            back = registry.resume(token, after=MISSED)
            token = back.token
            if raw:
                page: Any = back.replay
                page.json()
            else:
                assert len(back.replay.events) == MISSED  # looked at, they are decoded

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
            if hasattr(Replay, "json"):
                found[f"{name}-raw"] = OurResume(peer, raw=True)
        elif isinstance(peer, Plain):
            found[name] = PlainResume(peer)
            found[f"{name}-raw"] = PlainResume(attrs.evolve(peer, raw=True))
    return found


def run(lab: Lab) -> None:
    numbers = lab.options.threads or (1, 32)
    lab.view.expect(len(numbers))
    with lab.peers("ours", "plain") as peers:
        each = loads({**peers})
        for threads in numbers:
            contenders = [
                lab.callers(peers[name.removesuffix("-raw")], load, threads=threads, name=name)
                for name, load in each.items()
            ]
            lab.measure(NAME, {"threads": threads, "missed": MISSED}, contenders, unit="resumes")
