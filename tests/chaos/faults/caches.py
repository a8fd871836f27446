"""The Redis behind half of the clients: gone, silent, emptied, or as it was some time ago."""

from __future__ import annotations

from ..world import World


def cache_killed(world: World) -> None:
    """Gone for a while; then there again with nothing in it."""
    world.redis.kill()
    world.last(0.5, 3.0)
    world.redis.start()


def cache_frozen(world: World) -> None:
    """It takes what it is sent and says nothing, until it does all that at once."""
    world.redis.freeze()
    world.last(0.5, 3.0)
    world.redis.thaw()


def cache_flushed(world: World) -> None:
    """Emptied again and again, its scripts too."""
    for _ in range(5):
        world.redis.client.flushall()
        world.redis.client.script_flush()
        world.last(0.05, 0.3)


def cache_restored(world: World) -> None:
    """As it was some time ago, with what has been pruned and ended since."""
    world.redis.client.save()
    world.last(0.5, 2.0)
    world.redis.restart()
    world.last(0.5, 1.0)
