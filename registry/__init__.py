"""Game sessions that survive a dropped connection, on PostgreSQL.

`GameSessionRegistry` is the one class to call; everything else here is what it takes, returns
or raises.
"""

import logging

from . import driver  # noqa: F401
from .api import GameSessionRegistry
from .config import RegistryConfig
from .embedded import EmbeddedPostgres
from .errors import (
    AheadOfLog,
    EpochMismatch,
    GameNotFound,
    HistoryPruned,
    InvalidArgument,
    InvalidPayload,
    InvalidToken,
    LimitReached,
    LogCorrupted,
    OutcomeUnknown,
    PayloadTooLarge,
    PayloadUnreadable,
    RegistryError,
    RegistryUnavailable,
    SchemaMismatch,
    SequenceConflict,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionTakenOver,
    TokenReused,
)
from .maintenance import Maintenance
from .model import (
    Acknowledgement,
    Cleanup,
    Continuity,
    GameSession,
    Heartbeats,
    IssuedSession,
    Resumption,
    SessionState,
)
from .replay import GameEvent, Replay, ReplayJson
from .schema import migrate
from .storage import TrainedDictionary

# What is logged goes where the host sends it, and nowhere else.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "Acknowledgement",
    "AheadOfLog",
    "Cleanup",
    "Continuity",
    "EmbeddedPostgres",
    "EpochMismatch",
    "GameEvent",
    "GameNotFound",
    "GameSession",
    "GameSessionRegistry",
    "Heartbeats",
    "HistoryPruned",
    "InvalidArgument",
    "InvalidPayload",
    "InvalidToken",
    "IssuedSession",
    "LimitReached",
    "LogCorrupted",
    "Maintenance",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PayloadUnreadable",
    "RegistryConfig",
    "RegistryError",
    "RegistryUnavailable",
    "Replay",
    "ReplayJson",
    "Resumption",
    "SchemaMismatch",
    "SequenceConflict",
    "SessionExpired",
    "SessionNotFound",
    "SessionRevoked",
    "SessionState",
    "SessionTakenOver",
    "TokenReused",
    "TrainedDictionary",
    "migrate",
]
