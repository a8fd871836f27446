"""Checks of what callers pass in: a typed error before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar
from uuid import UUID

from .errors import InvalidArgument, SessionNotFound

T = TypeVar("T")

LONGEST = 3_650 * 86_400.0
"""Ten years, in seconds: well inside what an interval holds."""

LAST_SEQUENCE = 2**63 - 1
"""PostgreSQL's bigint ends here, and so does every log."""


def text_id(name: str, value: object) -> str:
    """A `game_id` or `user_id`: text of 1 to 200 characters that PostgreSQL can store."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a str, not {type(value).__name__}")
    if not 1 <= len(value) <= 200:
        raise InvalidArgument(f"{name} must be 1 to 200 characters long, not {len(value)}")
    if "\0" in value:
        raise InvalidArgument(f"{name} must not contain a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} must not contain a lone surrogate") from None
    return value


def whole(name: str, value: object, least: int = 0, most: int = LAST_SEQUENCE) -> int:
    """A whole number within bounds; `True` is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(f"{name} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidArgument(f"{name} must lie between {least} and {most}")
    return value


def optional_whole(name: str, value: object, least: int = 0) -> int | None:
    return None if value is None else whole(name, value, least)


def seconds(name: str, value: object, least: float = 0.001, most: float = LONGEST) -> float:
    """A finite number of seconds within bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidArgument(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not least <= value <= most:  # neither does a NaN or an infinity
        raise InvalidArgument(f"{name} must lie between {least} and {most:.0f} seconds")
    return float(value)


def optional_uuid(name: str, value: object) -> UUID | None:
    if value is not None and not isinstance(value, UUID):
        raise InvalidArgument(f"{name} must be a uuid.UUID, not {type(value).__name__}")
    return value


def many(name: str, value: Iterable[T]) -> Iterable[T]:
    """An iterable of things, not one thing that happens to be iterable."""
    single = isinstance(value, (str, bytes, bytearray, memoryview, Mapping))
    if single or not isinstance(value, Iterable):
        raise InvalidArgument(f"{name} must be an iterable of many, not {type(value).__name__}")
    return value


def session_key(session_id: object) -> tuple[str, UUID]:
    """The key of a session: its id taken apart into game and UUID.

    A text that is no session id at all names a session that does not exist.
    """
    if not isinstance(session_id, str):
        raise InvalidArgument(f"session_id must be a str, not {type(session_id).__name__}")
    game_id, _, tail = session_id.rpartition("/")
    try:
        key = text_id("game_id", game_id), UUID(tail)
    except ValueError:
        raise SessionNotFound(session_id[:240]) from None
    if str(key[1]) != tail:
        raise SessionNotFound(session_id[:240])
    return key
