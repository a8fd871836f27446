"""Payloads to bytes and back: what went in comes out equal, or it does not go in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from types import NoneType
from typing import Any, Final

from . import jsontext
from .errors import InvalidPayload, PayloadTooLarge

RAW: Final = 0
JSON: Final = 1

DEEPEST = 100
"""Levels of nesting: far less than any reader's stack, so that what is stored can be read."""

json_text = jsontext.FAST or jsontext.STANDARD

_ALL = slice(None)
_BYTES = (bytes, bytearray, memoryview)
_KEYS = frozenset({str})
_SCALARS = frozenset({str, int, bool, NoneType})


def encode(payload: object, limit: int) -> tuple[int, bytes]:
    """The codec and the bytes to store; refuses what would not come back equal."""
    kind = type(payload)
    if issubclass(kind, _BYTES):
        codec, data = RAW, _raw(payload)
    else:
        if not _check(payload, DEEPEST, limit, [limit]):
            payload = _plain(payload)
        try:
            codec, data = JSON, json_text.dumps(payload)
        except UnicodeEncodeError:
            raise InvalidPayload("the payload has text with a lone surrogate") from None
        except ValueError:
            raise InvalidPayload("the payload has a number that JSON cannot hold") from None
    if len(data) > limit:
        raise PayloadTooLarge(len(data), limit)
    return codec, data


def decode(codec: int, data: bytes) -> object:
    """The payload that was stored. Raises ValueError if it was damaged since."""
    return data if codec == RAW else json_text.loads(data)


def decode_all(codecs: Sequence[int], payloads: Sequence[bytes]) -> list[object]:
    """The same of many, in less time."""
    if codecs.count(JSON) == len(payloads):
        return json_text.loads_all(payloads)
    return list(map(decode, codecs, payloads))


def _raw(payload: Any) -> bytes:
    """The bytes themselves, whatever a subclass would make of being asked for them."""
    kind = type(payload)
    if issubclass(kind, bytes):
        return bytes.__getitem__(payload, _ALL)
    if issubclass(kind, bytearray):
        return bytes(bytearray.__getitem__(payload, _ALL))
    try:
        data = bytes(payload)
    except ValueError:
        raise InvalidPayload("the payload is a memoryview that was released") from None
    if data != payload:
        raise InvalidPayload("the payload is a memoryview of other items than bytes")
    return data


def _check(value: Any, depth: int, limit: int, left: list[int]) -> bool:
    """Refuses what a JSON encoder would take and give back changed, or never end on.

    Returns whether all of it is of JSON's own types exactly, without subclasses. `left` are the
    bytes that are left of the limit when each item is thought to take one: of parts that are there
    many times, in each other, no more than that is ever looked at.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    exact, items = True, value
    if kind is dict:
        if not _KEYS.issuperset(map(type, items)):
            _check_keys(items)
            exact = False
        items = items.values()
    elif kind is not list:
        return _check_other(items, depth, limit, left)
    if depth == 0:
        raise InvalidPayload(f"the payload is nested deeper than {DEEPEST} levels")
    left[0] -= 1 + len(items)
    if left[0] < 0:
        raise PayloadTooLarge(limit - left[0], limit, at_least=True)
    for item in items:
        kind = type(item)
        if kind in _SCALARS or (kind is float and isfinite(item)):
            continue  # most items: not worth a call
        if not _check(item, depth - 1, limit, left):
            exact = False
    return exact


def _check_other(value: Any, depth: int, limit: int, left: list[int]) -> bool:
    """What is not one of JSON's own types exactly; a float is, if it is one that JSON can hold."""
    kind = type(value)
    if issubclass(kind, dict):
        _check_keys(value)
        _check(list(dict.values(value)), depth, limit, left)
        return False
    if issubclass(kind, list):
        _check(list.__getitem__(value, _ALL), depth, limit, left)
        return False
    if issubclass(kind, float):
        if not isfinite(value):
            raise InvalidPayload("the payload has a NaN or an infinity, which JSON cannot hold")
    elif not issubclass(kind, (str, int)):
        raise InvalidPayload(
            f"the payload has a {kind.__name__}, which would not come back equal; "
            "use bytes, or dict, list, str, int, float, bool and None"
        )
    return kind is float


def _check_keys(value: Any) -> None:
    for key in dict.keys(value):
        if not issubclass(type(key), str):
            raise InvalidPayload(
                f"the payload has a key of type {type(key).__name__}; JSON keys are str"
            )


def _plain(value: Any) -> object:
    """The same of JSON's own types exactly, for what passed the check.

    A subclass is asked nothing: it may answer each question differently, and what an encoder
    makes of it is the encoder's own.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    for exact, made in _MADE.items():
        if issubclass(kind, exact):
            return made(value)
    plain = {str.__str__(key): _plain(item) for key, item in dict.items(value)}
    if len(plain) != dict.__len__(value):
        raise InvalidPayload("the payload has a key twice, which JSON cannot hold")
    return plain


_MADE: Final[dict[type, Callable[[Any], object]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
    list: lambda value: [_plain(item) for item in list.__iter__(value)],
}
