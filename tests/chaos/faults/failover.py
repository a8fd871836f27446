"""The primary dies and a standby takes its place."""

from __future__ import annotations

from support import wait_until

from ..world import World


def failed_over(world: World) -> None:
    """With synchronous replication, so that nothing that was answered is lost.

    Half of the processes read long pages from the standby, as long as it is one.
    """
    before = world.fleet.counts("sources").get("standby", 0)

    def followed() -> None:
        world.fleet.until_served()
        wait_until(lambda: world.fleet.counts("sources").get("standby", 0) > before)

    world.cluster.fail_over(when_followed=followed)
