"""How much is done, and how soon things are forgotten, in a run of so many seconds."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from registry import RegistryConfig

TABLES: Final = ["game", "game_session", "game_event", "game_event_id"]


@frozen
class Pace:
    """Times are scaled to the run, so that all that comes has gone once in its first quarter."""

    seconds: float
    rate: float
    """Events each second, of all processes together: well below what one could record."""
    processes: int = 2
    threads: int = 8
    """In each process."""
    games: int = 90
    """Under way at a time, in each process."""

    @property
    def ttl(self) -> float:
        return max(6.0, self.seconds / 12)

    @property
    def retention(self) -> float:
        return max(4.0, self.seconds / 9)

    @property
    def event_interval(self) -> float:
        """Seconds between two events of one game; the hall takes a tenth of a process's rate."""
        return self.processes * self.games / (0.9 * self.rate)

    @property
    def hall_interval(self) -> float:
        return self.processes / (0.1 * self.rate)

    @property
    def cleanup_interval(self) -> float:
        return max(1.0, self.seconds / 60)

    def config(self) -> RegistryConfig:
        """Of a pool of one size, so that it is the same connections whose memory is looked at."""
        return RegistryConfig(
            session_ttl=self.ttl,
            replay_retention=self.retention,
            max_events_per_game=500,
            pool_min_size=self.threads,
            pool_max_size=self.threads,
        )

    def server_settings(self) -> dict[str, Any]:
        """Durability and memory are PostgreSQL's defaults. What it does each minute, or each five,
        is done more often in a short run, as what it works on comes and goes faster too."""
        return {
            "autovacuum_naptime": f"{min(60, max(1, round(self.seconds / 36)))}s",
            "checkpoint_timeout": f"{min(300, max(30, round(self.seconds / 6)))}s",
            "log_checkpoints": "off",
        }
