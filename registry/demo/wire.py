"""Between client and server: messages as lines of JSON over sockets that break.

A client sends requests `{"id": 7, "do": "move", ...}`; each is answered by a reply of the same
id, `{"id": 7, "sequence": 12}` or `{"id": 7, "refused": "TokenReused", "why": "..."}`. In between
the server pushes `{"events": [...]}`, without an id.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any
from weakref import WeakSet

from attrs import field, frozen

Message = dict[str, Any]

Fate = Callable[[int], "int | None"]
"""Asked for each message: given the bytes of its line, how many of them still get through before
the connection breaks, or None when all goes well."""

PATIENCE = 30.0
"""Seconds after which a connection that should answer is given up."""


@frozen
class Seat:
    """What somebody needs to take part in a game."""

    game_id: str
    user_id: str
    password: str = field(repr=False)


class Cut(Exception):
    """The connection is gone; `halfway` when it went in the middle of a message."""

    def __init__(self, *, halfway: bool = False) -> None:
        super().__init__("the connection broke")
        self.halfway = halfway


class Closed(Exception):
    """The network is down for good: the demonstration is ending."""


class Refused(Exception):
    """The server's answer was no. `error` is the name of its error."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(f"{error}: {why}")
        self.error = error


def unharmed(_: int) -> None:
    """The fate of a message when nothing goes wrong."""


class Connection:
    """One end. Any thread may send; one thread receives."""

    def __init__(self, end: socket.socket, fate: Fate = unharmed) -> None:
        self._socket = end
        self._fate = fate
        self._sending = Lock()
        self._unread = bytearray()

    def send(self, message: Message) -> None:
        """Sends one message, or as much of it as its fate allows and then `Cut`."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._sending:
            through = self._fate(len(line))
            try:
                self._socket.sendall(line[:through])
            except OSError:
                raise Cut from None
            if through is not None:  # before another thread's message follows half of this one
                self.cut()
                raise Cut(halfway=0 < through < len(line))

    def receive(self, timeout: float | None = None) -> Message | None:
        """The next message, or None when none came within `timeout` seconds."""
        while (end := self._unread.find(b"\n")) < 0:
            try:
                self._socket.settimeout(timeout)
                chunk = self._socket.recv(65_536)
            except TimeoutError:
                return None
            except OSError:
                chunk = b""
            if not chunk:
                raise Cut(halfway=bool(self._unread))
            self._unread += chunk
        line = self._unread[:end]
        del self._unread[: end + 1]
        message: Message = json.loads(line)
        return message

    def cut(self) -> None:
        """Breaks the connection, from any thread; the other end may still read what it got."""
        with suppress(OSError):  # it was broken already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Breaks the connection and gives its socket back."""
        self.cut()
        with self._sending:
            self._socket.close()


class Caller:
    """The client's use of a connection: ask, and be told what is pushed meanwhile."""

    def __init__(self, connection: Connection, on_push: Callable[[Message], None]) -> None:
        self._connection = connection
        self._on_push = on_push
        self._asked = 0

    def ask(self, **request: Any) -> Message:
        """Sends a request and waits for its reply. Raises `Refused` or `Cut`."""
        self.send(**request)
        return self.answer()

    def send(self, **request: Any) -> None:
        """Sends a request; `answer` waits for the reply."""
        self._asked += 1
        self._connection.send({"id": self._asked, **request})

    def answer(self) -> Message:
        """The reply to the last request."""
        while True:
            message = self._connection.receive(PATIENCE)
            if message is None:
                raise Cut
            if "id" not in message:
                self._on_push(message)
            elif message["id"] == self._asked:
                if "refused" in message:
                    raise Refused(message["refused"], message["why"])
                return message

    def listen(self, timeout: float) -> bool:
        """Waits for what the server pushes; False when there was nothing in time."""
        message = self._connection.receive(timeout)
        if message is None:
            return False
        self._on_push(message)
        return True

    def mute(self) -> None:
        """From now on what is pushed is nobody's business."""
        self._on_push = lambda _: None

    def close(self) -> None:
        self._connection.close()


class Network:
    """Connects clients to a server. Safe from any thread."""

    def __init__(self, accept: Callable[[Connection], None]) -> None:
        self._accept = accept
        self._open: WeakSet[Connection] = WeakSet()
        self._down = False
        self._lock = Lock()

    def dial(self, requests: Fate = unharmed, replies: Fate = unharmed) -> Connection:
        """A new connection to the server; and what becomes of requests and of replies.

        Raises `Closed` after `close`.
        """
        near, far = socket.socketpair()
        client, server = Connection(near, requests), Connection(far, replies)
        with self._lock:
            down = self._down
            if not down:
                self._open.add(server)
        if down:
            client.close()
            server.close()
            raise Closed
        self._accept(server)
        return client

    def close(self) -> None:
        """Breaks every connection, for good."""
        with self._lock:
            self._down = True
            left = list(self._open)
        for connection in left:
            connection.cut()
