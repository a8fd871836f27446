"""The settings of a registry, validated once when they are made."""

from __future__ import annotations

from typing import Literal

from attrs import Attribute, field, frozen

from .errors import InvalidArgument

LONGEST = 3_650 * 86_400.0  # ten years, in seconds: well inside what an interval holds


def _seconds(_: object, attribute: Attribute[float], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(f"{attribute.name} must be a number of seconds")
    if not 0.001 <= value <= LONGEST:  # neither does a NaN or an infinity
        raise InvalidArgument(f"{attribute.name} must lie between 0.001 and {LONGEST:.0f} seconds")


def _count(_: object, attribute: Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise InvalidArgument(f"{attribute.name} must be a whole number from 1 to 2147483647")


def _reaction(_: object, attribute: Attribute[str], value: object) -> None:
    if value not in ("revoke", "refuse"):
        raise InvalidArgument(f"{attribute.name} must be 'revoke' or 'refuse'")


def _flag(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidArgument(f"{attribute.name} must be True or False")


@frozen(kw_only=True)
class RegistryConfig:
    """How a `GameSessionRegistry` behaves. Immutable; the defaults suit a live game.

    All times are in seconds, all sizes in bytes.
    """

    session_ttl: float = field(default=900.0, validator=_seconds)
    """A session lives this long after its last heartbeat (or resume)."""

    replay_retention: float = field(default=86_400.0, validator=_seconds)
    """`cleanup_expired_sessions` drops events older than this, acknowledged or not.
    A retry with the same `event_id` is recognised for as long."""

    max_events_per_game: int = field(default=100_000, validator=_count)
    """A log keeps at least this many of its newest unacknowledged events and at most a
    sixteenth more; who is further behind gets `HistoryPruned`."""

    max_payload_bytes: int = field(default=65_536, validator=_count)
    """The largest encoded payload of one event."""

    replay_limit: int = field(default=1_000, validator=_count)
    """The most events in one page of a replay."""

    batch_size: int = field(default=1_000, validator=_count)
    """The most rows that one statement of a prune or a cleanup deletes."""

    on_token_reuse: Literal["revoke", "refuse"] = field(default="revoke", validator=_reaction)
    """What a retired token does when it comes back: revoke the session, or refuse the call."""

    lossless_failover: bool = field(default=False, validator=_flag)
    """Whether a failover can lose nothing (synchronous replication). If not, every log has a new
    epoch on the promoted server, since clients may have seen events that it never got."""

    pool_timeout: float = field(default=5.0, validator=_seconds)
    """How long a call waits for a free connection."""

    statement_timeout: float = field(default=5.0, validator=_seconds)
    """How long a statement may run in the server."""

    lock_timeout: float = field(default=2.0, validator=_seconds)
    """How long a statement waits for a row that another transaction holds."""

    pool_min_size: int = field(default=2, validator=_count)
    """Connections that `GameSessionRegistry.connect` opens at once and keeps."""

    pool_max_size: int = field(default=16, validator=_count)
    """The most connections that `GameSessionRegistry.connect` opens."""

    @pool_max_size.validator
    def _not_below_min(self, _: Attribute[int], value: int) -> None:
        if value < self.pool_min_size:
            raise InvalidArgument("pool_max_size must not be below pool_min_size")
