"""The faults, by name: each is a function that does it, waits for what it is about, and undoes it.

Whoever calls it waits afterwards until all clients are served again.
"""

from __future__ import annotations

from . import caches, clients, disk, failover, locks, network, servers

FAULTS = {
    fault.__name__.replace("_", "-"): fault
    for fault in (
        servers.backend_killed,
        servers.server_killed,
        servers.server_stopped_at_once,
        servers.backends_terminated,
        servers.backends_cancelled,
        servers.backends_stalled,
        servers.connections_used_up,
        locks.game_locked,
        locks.session_locked,
        locks.statements_timed_out,
        network.connections_cut,
        network.half_open,
        network.vanished,
        network.delayed,
        network.throttled,
        clients.client_killed,
        clients.clock_wrong,
        clients.interrupted,
        clients.forked,
        caches.cache_killed,
        caches.cache_frozen,
        caches.cache_flushed,
        caches.cache_restored,
        disk.disk_full,
        disk.wal_disk_full,
        failover.failed_over,
    )
}
