"""Every error the library raises, all of them under `RegistryError`.

No message, attribute or repr ever holds a token or a payload.
"""

from __future__ import annotations

from uuid import UUID


class RegistryError(Exception):
    """The base of everything this library raises on purpose."""


class InvalidArgument(RegistryError, ValueError):
    """An argument is of the wrong type or out of range. Nothing was sent to the database."""


class InvalidPayload(InvalidArgument):
    """The payload is neither bytes nor a JSON value that comes back equal."""


class PayloadTooLarge(InvalidPayload):
    """The encoded payload is larger than `config.max_payload_bytes`.

    Attributes: `size` and `limit`, both in bytes. The size is what was counted until the payload
    was known to be too large, where counting all would take too long.
    """

    def __init__(self, size: int, limit: int, *, at_least: bool = False) -> None:
        super().__init__(
            f"the payload is {'at least ' if at_least else ''}{size} bytes encoded "
            f"and the limit is {limit}: "
            "send less, split it, or raise RegistryConfig.max_payload_bytes"
        )
        self.size = size
        self.limit = limit


class InvalidToken(RegistryError):
    """The token is unknown, malformed or forged; which of them is never said."""

    def __init__(self) -> None:
        super().__init__(
            "this resume token is not valid: authenticate the player again, "
            "then call issue_resume_token"
        )


class TokenReused(RegistryError):
    """A token of the session came back that is valid no more.

    If its successor has been used, somebody holds a copy, and by `RegistryConfig.on_token_reuse`
    the session is revoked for it. If it was displaced by `issue_resume_token` before that, it
    may be all that an honest client has, and the call is only refused. `revoked` says which.
    """

    def __init__(self, session_id: str, *, revoked: bool) -> None:
        done = "the session was revoked" if revoked else "the call was refused"
        super().__init__(
            f"a retired resume token of session {session_id} was presented and {done}: "
            "authenticate the player again, then call issue_resume_token"
        )
        self.session_id = session_id
        self.revoked = revoked


class _SessionError(RegistryError):
    _why = ""

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id} {self._why}")
        self.session_id = session_id


class SessionNotFound(_SessionError):
    """There is no such session: it never was, was cleaned up, or its game has ended."""

    _why = "does not exist (any more): call issue_resume_token to begin a new one"


class SessionExpired(_SessionError):
    """The session had no heartbeat for longer than its time to live."""

    _why = "has expired: authenticate the player again, then call issue_resume_token"


class SessionRevoked(_SessionError):
    """The session was revoked, by the host or because a token was reused."""

    _why = "was revoked: authenticate the player again, then call issue_resume_token"


class SessionTakenOver(_SessionError):
    """A newer connection holds the session; this one's generation is too old to act."""

    _why = "was taken over by a newer connection: close this one, it must not act any more"


class GameNotFound(RegistryError):
    """There is no such game: nothing was ever recorded or issued for it, or it has ended."""

    def __init__(self, game_id: str) -> None:
        super().__init__(
            f"game {game_id!r} does not exist (any more): "
            "issue_resume_token or record_event begins it"
        )
        self.game_id = game_id


class HistoryPruned(RegistryError):
    """Events just after the position asked for have been pruned.

    What can still be replayed is (`floor`, `head`].
    """

    def __init__(self, floor: int, head: int) -> None:
        super().__init__(
            f"the events up to {floor} have been pruned and the log ends at {head}: "
            f"send the client the full state, then go on from {head}, "
            f"or read what is left from {floor}"
        )
        self.floor = floor
        self.head = head


class AheadOfLog(RegistryError):
    """The position is beyond the last sequence given out (`head`)."""

    def __init__(self, head: int) -> None:
        super().__init__(
            f"the position lies beyond the log, which ends at {head}: "
            "the client knows another log than this one, send it the full state"
        )
        self.head = head


class EpochMismatch(RegistryError):
    """The position belongs to another epoch; `epoch` is the log's present one."""

    def __init__(self, epoch: UUID) -> None:
        super().__init__(
            f"the log is now of epoch {epoch}, so sequences of an older epoch mean nothing: "
            "send the client the full state and the new epoch"
        )
        self.epoch = epoch


class SequenceConflict(RegistryError):
    """The event would not have got the sequence `expected` but `actual`; nothing was recorded."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(
            f"the next sequence is {actual}, not {expected}: "
            "read the events in between, then decide again"
        )
        self.expected = expected
        self.actual = actual


class LimitReached(RegistryError):
    """One more session would be more than `RegistryConfig` allows; nothing was done.

    Attributes: `limit`, the name of the setting, and `most`, its value.
    """

    def __init__(self, limit: str, most: int) -> None:
        whose = "the game" if limit == "max_sessions_per_game" else "the player, in all games,"
        super().__init__(
            f"{whose} has {most} live sessions and the limit is {most}: revoke_session one that "
            f"is not in use, wait until one expires, or raise RegistryConfig.{limit}"
        )
        self.limit = limit
        self.most = most


class LogCorrupted(RegistryError):
    """The rows of a log are not the unbroken run that head and floor promise.

    The library never writes such a log: rows were changed by hand or a restore was partial.
    """

    def __init__(self, game_id: str, sequence: int) -> None:
        super().__init__(
            f"the log of game {game_id!r} has a hole after sequence {sequence}: "
            "rows were removed outside this library; restore them, "
            "or prune_events past the hole, or end_game"
        )
        self.game_id = game_id
        self.sequence = sequence


class PayloadUnreadable(RegistryError):
    """The payload of the event `sequence` of `game_id` is stored but cannot be read here."""

    DAMAGED = (
        "its row was damaged or changed outside this library; restore it, "
        "or prune_events past it, or end_game"
    )

    def __init__(self, game_id: str, sequence: int, why: str) -> None:
        super().__init__(f"event {sequence} of game {game_id!r} cannot be read: {why}")
        self.game_id = game_id
        self.sequence = sequence


class SchemaMismatch(RegistryError):
    """The database's schema is not the one that this version of the library works with."""


class RegistryUnavailable(RegistryError):
    """The database could not be reached or did not answer in time.

    Nothing was done, or nothing that doing it again could double: it is safe to retry.
    """


class OutcomeUnknown(RegistryError):
    """The connection broke while a write was being committed: it may or may not be in.

    Mostly the library finds out by itself; this is left for when the server does not come back
    within the time limit. The message says how to find out then.
    """
