"""A relay between a registry and its server, which loses what it is told to lose."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import psycopg
from attrs import define, field
from psycopg.conninfo import make_conninfo
from support import wait_until

Fault = Literal["answer lost", "request lost", "request late"]
"""What happens to a statement: it is done, but the answer is swallowed; it never arrives; or it
arrives when it is let go (`Relay.let_go`). The connection is broken each time."""

READY = b"Z\x00\x00\x00\x05I"
"""How an answer ends after which no transaction is open."""


@define(eq=False)
class _Trap:
    statement: bytes
    fault: Fault
    meanwhile: Callable[[], object]
    sprung: threading.Event = field(factory=threading.Event)


class Relay:
    """Listens on the loopback and passes on to the server, a thread for each connection."""

    def __init__(self, conninfo: str) -> None:
        with psycopg.connect(conninfo) as connection:
            host, port = connection.info.host, connection.info.port
        self._server: str | tuple[str, int] = (
            f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        )
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.conninfo = make_conninfo(
            conninfo,
            host="127.0.0.1",
            port=self._listener.getsockname()[1],
            sslmode="disable",
            gssencmode="disable",
        )
        self._traps: list[_Trap] = []
        self._down = False
        self._lines: list[tuple[socket.socket, socket.socket]] = []
        self._silent: set[socket.socket] = set()
        self._late = threading.Event()
        self.late_answers: list[bytes] = []
        """What the server said to the requests that came late."""
        self.requests: list[bytes] = []
        """What was passed on to the server."""
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(
        self, statement: str, fault: Fault, meanwhile: Callable[[], object] = lambda: None
    ) -> threading.Event:
        """Sets a trap for the next request that has this statement; says when it was sprung.

        `meanwhile` is called when the server has answered, or not been asked, and before the
        client learns of anything.
        """
        trap = _Trap(f"/* registry.{statement} */".encode(), fault, meanwhile)
        self._traps.append(trap)
        return trap.sprung

    def go_down(self) -> None:
        """Breaks every connection and refuses new ones."""
        self._down = True
        for line in self._lines:
            _close(*line)

    def cut_clients(self) -> None:
        """Breaks the clients' side of every connection; the server does not notice."""
        for client, _ in self._lines:
            _close(client)

    def go_silent(self) -> None:
        """Passes nothing on any more, on the connections that there are."""
        self._silent.update(client for client, _ in self._lines)

    def let_go(self, number: int = 1) -> None:
        """Sends the requests that were kept, and waits for what the server says to them."""
        self._late.set()
        wait_until(lambda: len(self.late_answers) >= number)

    def close(self) -> None:
        self.go_down()
        self._late.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                _close(client)
                continue
            unix = isinstance(self._server, str)
            server = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
            server.connect(self._server)
            self._lines.append((client, server))
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(2**16)
                    if not data:
                        _close(client, server)
                        return
                    if client in self._silent:
                        continue
                    if end is server:
                        client.sendall(data)
                    elif trap := self._trap(data):
                        self._spring(trap, data, client, server)
                        return
                    else:
                        self.requests.append(data)
                        server.sendall(data)
        except (OSError, ValueError):  # one broke, or was closed by another thread
            _close(client, server)

    def _trap(self, data: bytes) -> _Trap | None:
        for trap in self._traps:
            if trap.statement in data:
                self._traps.remove(trap)
                return trap
        return None

    def _spring(
        self, trap: _Trap, data: bytes, client: socket.socket, server: socket.socket
    ) -> None:
        if trap.fault == "answer lost":
            server.sendall(data)
            _answer(server, client)
        trap.meanwhile()
        trap.sprung.set()
        _close(client)
        if trap.fault == "request late":
            self._late.wait(60)
            server.sendall(data)
            self.late_answers.append(_answer(server))
        _close(server)


def _answer(server: socket.socket, client: socket.socket | None = None) -> bytes:
    """All that the server says to a request, of which the client may still send the rest."""
    said = b""
    ends = [server] if client is None else [server, client]
    while not said.endswith(READY):
        for end in select.select(ends, [], [])[0]:
            data = end.recv(2**16)
            if not data:
                return said
            if end is client:
                server.sendall(data)
            else:
                said += data
    return said


def _close(*sockets: socket.socket) -> None:
    for end in sockets:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def relayed(conninfo: str) -> Iterator[Relay]:
    relay = Relay(conninfo)
    try:
        yield relay
    finally:
        relay.close()
