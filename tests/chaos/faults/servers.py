"""What happens to the server and its processes."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress

import psycopg
from support import wait_until

from ..world import World


def backend_killed(world: World) -> None:
    """SIGKILL to one server process, upon which PostgreSQL ends them all and recovers."""
    wait_until(world.cluster.backends)
    with suppress(ProcessLookupError):
        os.kill(world.chance.choice(world.cluster.backends()), signal.SIGKILL)
    wait_until(world.cluster.primary.answers)


def server_killed(world: World) -> None:
    """SIGKILL to all of PostgreSQL, and recovery a while later."""
    world.cluster.primary.kill()
    world.last(0.0, 1.5)
    world.cluster.start()


def server_stopped_at_once(world: World) -> None:
    """An immediate stop, and recovery a while later."""
    world.cluster.primary.server.crash()
    world.last(0.0, 1.5)
    world.cluster.start()


def backends_terminated(world: World) -> None:
    """A storm of pg_terminate_backend."""
    _storm(world, "SELECT pg_terminate_backend(%s)")


def backends_cancelled(world: World) -> None:
    """A storm of pg_cancel_backend."""
    _storm(world, "SELECT pg_cancel_backend(%s)")


def _storm(world: World, query: str) -> None:
    for _ in range(world.chance.randint(20, 60)):
        if victims := world.cluster.backends():
            world.cluster.primary.query(query, [world.chance.choice(victims)])
        world.last(0.0, 0.03)


def backends_stalled(world: World) -> None:
    """Some server processes stand still, until after their clients have given them up."""
    victims = [pid for pid in world.cluster.backends() if world.chance.random() < 0.5]
    still = []
    try:
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                still.append(pid)
        world.last(1.0, 4.5)
    finally:
        for pid in still:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def connections_used_up(world: World) -> None:
    """Somebody else holds every connection that the server has."""
    conninfo = world.cluster.primary.server.conninfo
    with ExitStack() as held:
        with psycopg.connect(conninfo, autocommit=True) as own:
            # Theirs go, and before they are back ...
            own.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'game-session-registry'"
            )
        while True:
            try:
                held.enter_context(psycopg.connect(conninfo))
            except psycopg.OperationalError:
                break
        world.last(0.5, 2.0)
