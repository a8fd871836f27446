"""What happens between the clients and the server."""

from __future__ import annotations

from support import wait_until

from ..proxy import DIRECTIONS, Weather
from ..world import World


def connections_cut(world: World) -> None:
    """All connections end at a random byte of what goes in one direction, several times."""
    proxy = world.cluster.proxy
    for _ in range(world.chance.randint(2, 6)):
        wait_until(proxy.connections)
        proxy.cut(world.chance.choice(DIRECTIONS), most_bytes=world.chance.choice([50, 2000]))
        world.last(0.1, 0.4)
    proxy.heal()


def half_open(world: World) -> None:
    """What goes in one direction vanishes, and nobody is told."""
    _while(world, [world.chance.choice(DIRECTIONS)], Weather(drop=True))


def vanished(world: World) -> None:
    """All connections end in the middle of what a client sends, and the server is not told.

    Nothing that it holds for them may keep the others from being served.
    """
    proxy = world.cluster.proxy
    wait_until(proxy.connections)
    proxy.vanish(most_bytes=world.chance.choice([200, 6000]))
    world.last(0.2, 1.0)
    world.fleet.until_served()
    proxy.heal()


def delayed(world: World) -> None:
    """200 ms later, more or less, in both directions."""
    _while(world, DIRECTIONS, Weather(delay=0.2, jitter=0.1))


def throttled(world: World) -> None:
    """Each connection gets a few KB a second."""
    _while(world, DIRECTIONS, Weather(rate=world.chance.choice([1_000, 4_000, 16_000])))


def _while(world: World, directions: object, weather: Weather) -> None:
    proxy = world.cluster.proxy
    for direction in directions:  # type: ignore[attr-defined]
        proxy.set(direction, weather)
    world.last(1.0, 4.0)
    proxy.heal()
