"""The registry itself, by its public methods only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from registry import GameSessionRegistry, RegistryConfig, migrate

from .base import POOL

CONFIG = RegistryConfig(
    pool_max_size=POOL,
    # A log that is measured for minutes outgrows what a live game should keep.
    max_events_per_game=10**9,
    replay_limit=10_000,
    max_payload_bytes=16_384,
)


@frozen
class Ours:
    conninfo: str
    config: RegistryConfig = CONFIG
    name: str = "ours"
    settings: str = (
        f"record_event; its own pool of at most {POOL}, defaults otherwise "
        "(the cap on events per game is lifted: a log measured for minutes outgrows it)"
    )
    server_pid: int | None = None

    def prepare(self) -> None:
        migrate(self.conninfo)

    def connect(self) -> OurClient:
        return OurClient(GameSessionRegistry.connect(self.conninfo, config=self.config))


class OurClient:
    def __init__(self, registry: GameSessionRegistry) -> None:
        self.registry = registry
        self.append = registry.record_event
        self.close = registry.close

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        self.registry.record_events(game, payloads)

    def read(self, game: str, after: int, limit: int) -> int:
        return len(self.registry.fetch_events_since(game, after, limit=limit).events)

    def raw_reader(self) -> Callable[[str, int, int], object] | None:
        """The page as JSON bytes, not decoded; None if this registry does not have that."""
        fetch = getattr(self.registry, "fetch_events_json", None)
        if fetch is None:
            return None
        return lambda game, after, limit: fetch(game, after, limit=limit)
