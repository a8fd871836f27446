"""Payloads to bytes and back: what went in comes out equal, or it does not go in."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from types import NoneType
from typing import Final

from . import jsontext
from .errors import InvalidPayload, PayloadTooLarge

RAW: Final = 0
JSON: Final = 1

DEEPEST = 100
"""Levels of nesting: far less than any reader's stack, so that what is stored can be read."""

json_text = jsontext.FAST or jsontext.STANDARD

_KEYS = frozenset({str})
_SCALARS = frozenset({str, int, bool, NoneType})


def encode(payload: object, limit: int) -> tuple[int, bytes]:
    """The codec and the bytes to store; refuses what would not come back equal."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        try:
            codec, data = RAW, bytes(payload)
        except ValueError:
            raise InvalidPayload("the payload is a memoryview that was released") from None
        if data != payload:
            raise InvalidPayload("the payload is a memoryview of other items than bytes")
    else:
        # What an accelerator makes of subclasses is its own; of the types themselves, the same.
        writer = json_text if _check(payload, DEEPEST) else jsontext.STANDARD
        try:
            codec, data = JSON, writer.dumps(payload)
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


def _check(value: object, depth: int) -> bool:
    """Refuses what a JSON encoder would take and give back changed, or never end on.

    Returns whether all of it is of JSON's own types exactly, without subclasses.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    exact = kind is dict or kind is list
    if not exact and not isinstance(value, (dict, list)):
        return _check_scalar(value)
    if depth == 0:
        raise InvalidPayload(f"the payload is nested deeper than {DEEPEST} levels")
    if isinstance(value, dict):
        if not _KEYS.issuperset(map(type, value)):
            _check_keys(value)
            exact = False
        value = value.values()
    for item in value:  # type: ignore[attr-defined]
        kind = type(item)
        if kind in _SCALARS or (kind is float and isfinite(item)):
            continue  # most items: not worth a call
        if not _check(item, depth - 1):
            exact = False
    return exact


def _check_scalar(value: object) -> bool:
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidPayload("the payload has a NaN or an infinity, which JSON cannot hold")
    elif not isinstance(value, (str, int)):
        raise InvalidPayload(
            f"the payload has a {type(value).__name__}, which would not come back equal; "
            "use bytes, or dict, list, str, int, float, bool and None"
        )
    return type(value) is float


def _check_keys(value: dict[object, object]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise InvalidPayload(
                f"the payload has a key of type {type(key).__name__}; JSON keys are str"
            )
