"""The settings of a registry, validated once when they are made."""

from __future__ import annotations

from typing import Final, Literal

from attrs import Attribute, field, frozen

from . import arguments
from .errors import InvalidArgument

LARGEST_MESSAGE: Final = 2**28
"""Bytes: well inside what PostgreSQL can hold in one value and send in one message."""


# Each keeps a value as one of the plain type: a subclass may say something else the next time.


def _seconds(config: object, attribute: Attribute[float], value: object) -> None:
    object.__setattr__(config, attribute.name, arguments.seconds(attribute.name, value))


def _timeout(config: object, attribute: Attribute[float], value: object) -> None:
    plain = arguments.seconds(attribute.name, value, most=86_400.0)
    object.__setattr__(config, attribute.name, plain)


def _count(config: object, attribute: Attribute[int], value: object) -> None:
    plain = arguments.whole(attribute.name, value, 1, 2**31 - 1)
    object.__setattr__(config, attribute.name, plain)


def _size(config: object, attribute: Attribute[int], value: object) -> None:
    plain = arguments.whole(attribute.name, value, 0, 2**40)
    object.__setattr__(config, attribute.name, plain)


def _optional_count(config: object, attribute: Attribute[int | None], value: object) -> None:
    if value is not None:
        plain = arguments.whole(attribute.name, value, 1, 2**31 - 1)
        object.__setattr__(config, attribute.name, plain)


def _reaction(config: object, attribute: Attribute[str], value: object) -> None:
    plain = arguments.plain_text(value)
    if plain not in ("revoke", "refuse"):
        raise InvalidArgument(f"{attribute.name} must be 'revoke' or 'refuse'")
    object.__setattr__(config, attribute.name, plain)


def _compression(config: object, attribute: Attribute[str | None], value: object) -> None:
    plain = arguments.plain_text(value)
    if value is not None and plain != "zstd":
        raise InvalidArgument(f"{attribute.name} must be None or 'zstd'")
    object.__setattr__(config, attribute.name, plain)


def _flag(_: object, attribute: Attribute[bool], value: object) -> None:
    if type(value) is not bool:
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

    max_sessions_per_game: int | None = field(default=None, validator=_optional_count)
    """The most live sessions of a game; `issue_resume_token` refuses one more with `LimitReached`.
    None: no limit. Taking over a player's own live session is never refused."""

    max_sessions_per_user: int | None = field(default=None, validator=_optional_count)
    """The most live sessions of a player in all games together, likewise. Where the tables are
    sharded by game, each new session then asks every shard."""

    max_payload_bytes: int = field(default=65_536, validator=_count)
    """The largest encoded payload of one event."""

    compression: Literal["zstd"] | None = field(default=None, validator=_compression)
    """Whether payloads are compressed, where that makes them smaller; `max_payload_bytes` counts
    what they are before. Needs the extra `compression`, and so does whoever reads them."""

    replay_limit: int = field(default=1_000, validator=_count)
    """The most events in one page of a replay."""

    batch_size: int = field(default=1_000, validator=_count)
    """The most rows that one statement of a prune or a cleanup deletes; an append over the cap may
    delete as many more as it added."""

    on_token_reuse: Literal["revoke", "refuse"] = field(default="revoke", validator=_reaction)
    """What a retired token does when it comes back: revoke the session, or refuse the call."""

    lossless_failover: bool = field(default=False, validator=_flag)
    """Whether a failover can lose nothing (synchronous replication). If not, every log has a new
    epoch on the promoted server, since clients may have seen events that it never got."""

    pool_timeout: float = field(default=5.0, validator=_timeout)
    """How long a call waits for a free connection."""

    statement_timeout: float = field(default=5.0, validator=_timeout)
    """How long a statement may run in the server.

    A call has `pool_timeout + statement_timeout` in all: after that nothing is tried again, and
    what has been begun ends by its own bounds. Only the question whether an append was done whose
    connection broke is asked for `pool_timeout` from then on, if that is longer."""

    lock_timeout: float = field(default=2.0, validator=_timeout)
    """How long a statement waits for a row that another transaction holds."""

    pool_min_size: int = field(default=2, validator=_count)
    """Connections that `GameSessionRegistry.connect` opens at once and keeps."""

    pool_max_size: int = field(default=16, validator=_count)
    """The most connections that `GameSessionRegistry.connect` opens."""

    max_waiting_bytes: int = field(default=2**26, validator=_count)
    """When the events that wait to be recorded, each with its row of about a KiB, come to this,
    further calls wait for room."""

    cache_bytes: int = field(default=2**25, validator=_size)
    """Memory for the newest events of the games that were read last, so that they are not sent
    again to the next reader; 0 for none."""

    cache_events: int = field(default=1_000, validator=_count)
    """How many of a game's newest events are kept there, and in the replay cache if there is one.
    """

    cache_timeout: float = field(default=0.05, validator=_timeout)
    """How long a call waits for the replay cache before it does without."""

    standby_timeout: float = field(default=0.1, validator=_timeout)
    """How long a call waits for the standby that replays are read from, if there is one, before it
    does without."""

    standby_after: int = field(default=100, validator=_count)
    """How many events of a page are read from the primary all the same, in the one statement that
    asks it where the log stands; only who wants more waits for the standby."""

    @replay_limit.validator
    def _page_fits(self, _: Attribute[int], __: object) -> None:
        if self.replay_limit * self.max_payload_bytes > LARGEST_MESSAGE:
            raise InvalidArgument(
                "replay_limit times max_payload_bytes is the largest page, and must not be more "
                f"than {LARGEST_MESSAGE} bytes"
            )

    @pool_max_size.validator
    def _not_below_min(self, _: Attribute[int], __: object) -> None:
        if self.pool_max_size < self.pool_min_size:
            raise InvalidArgument("pool_max_size must not be below pool_min_size")
