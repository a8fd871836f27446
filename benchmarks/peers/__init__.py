"""Those that are measured: the registry, and what one would use without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..server import Server
from .base import Client, Peer, Unavailable
from .eventsourcing_recorder import EventSourcing
from .message_db import MessageDb
from .ours import Ours
from .plain import Plain
from .redis_streams import redis_server
from .sqlalchemy_core import SqlAlchemy

Make = Callable[[Server, ExitStack], Peer]


def _on_postgres(kind: Callable[[str], Peer], name: str) -> Make:
    def make(server: Server, stack: ExitStack) -> Peer:
        peer = kind(stack.enter_context(server.database(name)))
        peer.prepare()
        return peer

    return make


def _redis(appendfsync: str) -> Make:
    return lambda _, stack: stack.enter_context(redis_server(appendfsync))


PEERS: dict[str, Make] = {
    "ours": _on_postgres(Ours, "ours"),
    "plain": _on_postgres(Plain, "plain"),
    "sqlalchemy": _on_postgres(SqlAlchemy, "sqlalchemy"),
    "eventsourcing": _on_postgres(EventSourcing, "eventsourcing"),
    "message-db": _on_postgres(MessageDb, "message_db"),
    "redis-always": _redis("always"),
    "redis-everysec": _redis("everysec"),
}
NAMES = (*PEERS, "prisma", "pgbench")
"""What can be asked for; the last two are not called from Python."""

__all__ = ["NAMES", "PEERS", "Client", "Ours", "Peer", "Plain", "Unavailable"]
