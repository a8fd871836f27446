"""Those that are measured: the registry, and what one would use without it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..server import Server
from .base import Client, Peer, Unavailable
from .ours import Ours
from .plain import Plain

Make = Callable[[Server, ExitStack], Peer]


def _on_postgres(kind: Callable[[str], Peer], name: str) -> Make:
    def make(server: Server, stack: ExitStack) -> Peer:
        peer = kind(stack.enter_context(server.database(name)))
        peer.prepare()
        return peer

    return make


PEERS: dict[str, Make] = {
    "ours": _on_postgres(Ours, "ours"),
    "plain": _on_postgres(Plain, "plain"),
}

__all__ = ["PEERS", "Client", "Peer", "Unavailable"]
