"""Checks of what callers pass in: a typed error before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from .errors import InvalidArgument, SessionNotFound

T = TypeVar("T")

LONGEST = 3_650 * 86_400.0
"""Ten years, in seconds: well inside what an interval holds."""

LAST_SEQUENCE = 2**63 - 1
"""PostgreSQL's bigint ends here, and so does every log."""


def kind(value: object) -> str:
    """The name of its type, for a message."""
    return type(value).__name__


def plain_text(value: object) -> str | None:
    """A text as a plain `str`, or None if it is no text at all.

    What is checked here has to be what is sent, so nothing is asked of the value itself: a
    subclass may answer differently each time, and any object may call itself a `str`.
    """
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None


def text_id(name: str, value: object) -> str:
    """A `game_id` or `user_id`: text of 1 to 200 characters that PostgreSQL can store."""
    text = plain_text(value)
    if text is None:
        raise InvalidArgument(f"{name} must be a str, not {kind(value)}")
    if not 1 <= len(text) <= 200:
        raise InvalidArgument(f"{name} must be 1 to 200 characters long, not {len(text)}")
    if "\0" in text:
        raise InvalidArgument(f"{name} must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{name} must not contain a lone surrogate") from None
    return text


def whole(name: str, value: object, least: int = 0, most: int = LAST_SEQUENCE) -> int:
    """A whole number within bounds, as a plain `int`; `True` is none."""
    number = value if type(value) is int else _plain_int(value)
    if number is None:
        raise InvalidArgument(f"{name} must be an int, not {kind(value)}")
    if not least <= number <= most:
        raise InvalidArgument(f"{name} must lie between {least} and {most}")
    return number


def _plain_int(value: object) -> int | None:
    if issubclass(type(value), int) and type(value) is not bool:
        return int.__int__(value)  # type: ignore[arg-type]
    return None


def optional_whole(name: str, value: object, least: int = 0) -> int | None:
    return None if value is None else whole(name, value, least)


def seconds(name: str, value: object, least: float = 0.001, most: float = LONGEST) -> float:
    """A finite number of seconds within bounds, as a plain `float`."""
    return _number(name, value, least, most, " of seconds", " seconds")


def share(name: str, value: object) -> float:
    """A part of the time, as a plain `float`."""
    return _number(name, value, 0.001, 1.0, "", ", a part of the time")


def _number(name: str, value: object, least: float, most: float, of: str, unit: str) -> float:
    number: float | None = _plain_int(value)
    if issubclass(type(value), float):
        number = float.__float__(value)  # type: ignore[arg-type]
    if number is None:
        raise InvalidArgument(f"{name} must be a number{of}, not {kind(value)}")
    if not least <= number <= most:  # neither does a NaN or an infinity
        raise InvalidArgument(f"{name} must lie between {least} and {most:.0f}{unit}")
    return float(number)


def optional_uuid(name: str, value: object) -> UUID | None:
    """A UUID as a plain one, or None."""
    if value is None or type(value) is UUID:
        return value
    if issubclass(type(value), UUID):
        with suppress(AttributeError, TypeError):  # a subclass may have hidden it
            return UUID(int=_plain_int(UUID.__dict__["int"].__get__(value)))
    raise InvalidArgument(f"{name} must be a uuid.UUID, not {kind(value)}")


def many(name: str, value: Iterable[T]) -> Iterator[T]:
    """The items of an iterable of things, not of one thing that happens to be iterable."""
    if not issubclass(type(value), (str, bytes, bytearray, memoryview, Mapping)):
        try:
            return iter(value)
        except TypeError:
            pass
    raise InvalidArgument(f"{name} must be an iterable of many, not {kind(value)}")


def session_key(session_id: object) -> tuple[str, UUID]:
    """The key of a session: its id taken apart into game and UUID.

    A text that is no session id at all names a session that does not exist.
    """
    text = plain_text(session_id)
    if text is None:
        raise InvalidArgument(f"session_id must be a str, not {kind(session_id)}")
    game_id, _, tail = text.rpartition("/")
    try:
        key = text_id("game_id", game_id), UUID(tail)
    except ValueError:
        raise SessionNotFound(text[:240]) from None
    if str(key[1]) != tail:
        raise SessionNotFound(text[:240])
    return key
