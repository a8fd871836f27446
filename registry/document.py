"""A page of a log as one JSON document, with the payloads as they are stored.

Written by the standard library, or by msgspec where it is installed: the same bytes.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from .payloads import JSON

try:
    import msgspec
except ModuleNotFoundError:  # the extra `fast` is not installed
    msgspec = None  # type: ignore[assignment]


class Standing(NamedTuple):
    """Where the log stands, in the order of the document."""

    epoch: UUID
    head: int
    floor: int
    more: bool


Row = tuple[int, datetime, int, bytes]
"""An event: its sequence, its time in UTC, the codec and the stored payload."""

Writer = Callable[[Standing, Sequence[Row]], bytes]


def standard(standing: Standing, rows: Sequence[Row]) -> bytes:
    events = b",".join(
        b'{"sequence":%d,"recorded_at":"%bZ",%b}'
        % (
            sequence,
            at.isoformat()[:-6].encode(),  # without its +00:00
            b'"payload":' + data if codec == JSON else b'"base64":"%b"' % _base64(data),
        )
        for sequence, at, codec, data in rows
    )
    epoch, head, floor, more = standing
    parts = str(epoch).encode(), head, floor, b"true" if more else b"false", events
    return b'{"epoch":"%b","head":%d,"floor":%d,"more":%b,"events":[%b]}' % parts


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


def _fast() -> Writer | None:
    if msgspec is None:
        return None

    class Json(msgspec.Struct):
        sequence: int
        recorded_at: datetime
        payload: msgspec.Raw

    class Bytes(msgspec.Struct):
        sequence: int
        recorded_at: datetime
        base64: bytes

    class Document(msgspec.Struct):
        epoch: UUID
        head: int
        floor: int
        more: bool
        events: list[Json | Bytes]

    encode, raw = msgspec.json.Encoder().encode, msgspec.Raw

    def write(standing: Standing, rows: Sequence[Row]) -> bytes:
        events: list[Json | Bytes] = [
            Json(sequence, at, raw(data)) if codec == JSON else Bytes(sequence, at, data)
            for sequence, at, codec, data in rows
        ]
        return encode(Document(*standing, events))

    return write


FAST: Final = _fast()
write: Writer = FAST or standard
