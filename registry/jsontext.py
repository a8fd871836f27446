"""JSON to UTF-8 and back: by the standard library, or faster by msgspec where it is installed.

Both give the same answers, and either reads what the other wrote. msgspec and no other, because
it keeps integers of any size; and where it gives up, the standard library decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Final

from attrs import frozen

try:
    import msgspec
except ModuleNotFoundError:  # the extra `fast` is not installed
    msgspec = None  # type: ignore[assignment]


@frozen
class JsonText:
    """One way to write and read JSON. Safe from any thread."""

    name: str
    dumps: Callable[[object], bytes]
    """Of dict, list, str, int, float, bool and None only, not too deep, with no NaN."""
    loads: Callable[[bytes], object]
    """Raises ValueError for what is not JSON."""
    loads_all: Callable[[Iterable[bytes]], list[object]]
    """The same of many, in less time."""


# What is too deep, and so every circle, was refused before.
_write = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_scan = json.JSONDecoder().raw_decode


def _dumps(value: object) -> bytes:
    return _write(value).encode()


def _loads(data: bytes) -> object:
    # Decoded first: json.loads would guess the encoding of bytes, at half the speed.
    text = data.decode()
    try:
        value, end = _scan(text)
        if end == len(text):
            return value
    except ValueError:
        pass
    return json.loads(text)  # it allows white space around, and says what is wrong


def _loads_all(many: Iterable[bytes]) -> list[object]:
    return list(map(_loads, many))


STANDARD: Final = JsonText("json", _dumps, _loads, _loads_all)


def _accelerated() -> JsonText | None:
    if msgspec is None:
        return None
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode

    def loads(data: bytes) -> object:
        try:
            return decode(data)
        except Exception:
            return _loads(data)

    def loads_all(many: Iterable[bytes]) -> list[object]:
        try:
            return list(map(decode, many))
        except Exception:
            return list(map(loads, many))

    return JsonText("msgspec", encode, loads, loads_all)


FAST: Final = _accelerated()
