"""The source's payloads as the registry stores them, or why it does not."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Final

from ..errors import InvalidPayload
from ..payloads import DEEPEST, encode, json_text

LONG_NUMBER: Final = "[1-9]([0-9]{17}|[0-9.]{18})"
"""What is in every number of 18 digits or more, as a regular expression of either side: what a
double holds is written with 17 at most, and readers would round the others."""

_LONG = re.compile(LONG_NUMBER.encode())
_EXPONENT = re.compile(rb"[0-9][eE]")


def stored_json(text: bytes, limit: int) -> tuple[int, bytes]:
    """Codec and bytes of a JSON text. Raises `InvalidPayload`."""
    try:
        if _LONG.search(text) or _EXPONENT.search(text):
            value = json.loads(text, parse_float=_exact)
        else:
            value = json_text.loads(text)
    except RecursionError:
        raise InvalidPayload(f"the payload is nested deeper than {DEEPEST} levels") from None
    except InvalidPayload:
        raise
    except ValueError:
        raise InvalidPayload("the payload has what no reader of JSON would take") from None
    return encode(value, limit)


def stored_bytes(data: bytes, limit: int) -> tuple[int, bytes]:
    """Codec and bytes of a payload that is no JSON. Raises `PayloadTooLarge`."""
    return encode(data, limit)


def _exact(digits: str) -> float:
    number = float(digits)
    # A JavaScript client wrote the shortest digits of a double, and Python writes the same.
    if Decimal(repr(number)) != Decimal(digits):
        raise InvalidPayload("the payload has a number with more digits than readers would keep")
    return number
