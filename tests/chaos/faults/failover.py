"""The primary dies and a standby takes its place."""

from __future__ import annotations

from ..world import World


def failed_over(world: World) -> None:
    """With synchronous replication, so that nothing that was answered is lost."""
    world.cluster.fail_over(when_followed=world.fleet.until_served)
