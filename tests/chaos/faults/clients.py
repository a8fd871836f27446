"""What happens to the clients."""

from __future__ import annotations

from typing import Final

from support import wait_until

from ..world import World

WRONG: Final = 3600.0
"""Seconds."""


def client_killed(world: World) -> None:
    """SIGKILL to a client process in the middle of its batches; another takes its place."""
    world.fleet.replace(world.a_client())


def clock_wrong(world: World) -> None:
    """The wall clock of a half of the processes jumps by hours, and back."""
    clients = [client for client in world.fleet.clients if client.clock is not None]
    for client in clients:
        assert client.clock is not None
        client.clock.write_text(world.chance.choice(["+9h", "-9h", "+400d"]))
    wait_until(lambda: all(client.clock_error() > WRONG for client in clients))
    world.last(0.5, 1.5)
    for client in clients:
        assert client.clock is not None
        client.clock.write_text("+0")
    wait_until(lambda: all(client.clock_error() < WRONG for client in clients))


def interrupted(world: World) -> None:
    """Threads are interrupted in the middle of their calls, the main one as by Ctrl-C."""
    for _ in range(world.chance.randint(20, 60)):
        client = world.a_client()
        if world.chance.random() < 0.5:
            client.interrupt()
        else:
            client.tell("interrupt")
        world.last(0.0, 0.04)


def forked(world: World) -> None:
    """A child process uses the registry that its parent opened.

    Not where the clock is faked: the library that does it holds locks of its own at a fork.
    """
    for client in world.fleet.clients:
        if client.clock is None:
            client.tell("fork")
