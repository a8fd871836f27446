"""Payloads to bytes and back: what went in comes out equal, or it does not go in."""

from __future__ import annotations

import json
import math
from typing import Final

from .errors import InvalidPayload, PayloadTooLarge

RAW: Final = 0
JSON: Final = 1

DEEPEST = 100
"""Levels of nesting: far less than any reader's stack, so that what is stored can be read."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


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
        _check(payload, DEEPEST)
        try:
            codec, data = JSON, _encode(payload).encode()
        except UnicodeEncodeError:
            raise InvalidPayload("the payload has text with a lone surrogate") from None
        except ValueError:
            raise InvalidPayload("the payload has a number that JSON cannot hold") from None
    if len(data) > limit:
        raise PayloadTooLarge(len(data), limit)
    return codec, data


def decode(codec: int, data: bytes) -> object:
    if codec == RAW:
        return data
    # Decoded first: json.loads would guess the encoding of bytes, at half the speed.
    return json.loads(data.decode())


def _check(value: object, depth: int) -> None:
    """Refuses what the JSON encoder would take and give back changed, or never end on."""
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidPayload("the payload has a NaN or an infinity, which JSON cannot hold")
    elif depth == 0:
        raise InvalidPayload(f"the payload is nested deeper than {DEEPEST} levels")
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidPayload(
                    f"the payload has a key of type {type(key).__name__}; JSON keys are str"
                )
            _check(item, depth - 1)
    else:
        raise InvalidPayload(
            f"the payload has a {type(value).__name__}, which would not come back equal; "
            "use bytes, or dict, list, str, int, float, bool and None"
        )
