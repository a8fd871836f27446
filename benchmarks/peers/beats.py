"""Sessions that are alive, and calls that keep them so."""

from __future__ import annotations

import secrets
from functools import partial
from itertools import cycle
from uuid import UUID

from attrs import frozen

from ..worker import Call
from .ours import OurClient, Ours
from .plain import Plain, PlainClient

SESSIONS = 1_000
PLAYERS = 4
"""In each game."""


@frozen
class Beat:
    """One by one, or all the sessions in one call."""

    peer: Ours | Plain
    many: bool

    def open(self, process: int) -> BeatOpened:
        return BeatOpened(self.peer.connect(), process, self.many)


class BeatOpened:
    def __init__(self, client: OurClient | PlainClient, process: int, many: bool) -> None:
        self.close = client.close
        self._many = beat_all(client, process) if many else None
        self._each = [] if many else beat_each(client, process)

    def caller(self, thread: int) -> Call:
        if self._many is not None:
            return self._many
        # Every thread goes through all the sessions, beginning at another one.
        first = thread * 37 % len(self._each)
        following = cycle([*self._each[first:], *self._each[:first]]).__next__
        return lambda: following()()


def beat_all(client: OurClient | PlainClient, process: int) -> Call:
    """A call that beats so many sessions at once."""
    if isinstance(client, OurClient):
        return partial(client.registry.heartbeat_many, _ours(client, process))
    return partial(client.beat_many, _plain(client, process))


def beat_each(client: OurClient | PlainClient, process: int) -> list[Call]:
    if isinstance(client, OurClient):
        return [partial(client.registry.heartbeat, each) for each in _ours(client, process)]
    return [partial(client.beat, each) for each in _plain(client, process)]


def _ours(client: OurClient, process: int) -> list[str]:
    issue = client.registry.issue_resume_token
    return [issue(*_seat(number, process)).session.session_id for number in range(SESSIONS)]


def _plain(client: PlainClient, process: int) -> list[UUID]:
    return [
        client.issue(*_seat(number, process), secrets.token_urlsafe(32))
        for number in range(SESSIONS)
    ]


def _seat(number: int, process: int) -> tuple[str, str]:
    return f"beats-{number // PLAYERS}", f"player-{process}-{number}"
