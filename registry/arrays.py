"""Arrays in PostgreSQL's binary format: psycopg looks at each item by itself, these do not."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

_EMPTY: Final = struct.Struct("!iiI")
_HEADER: Final = struct.Struct("!iiIii")
_BIGINT: Final = struct.Struct("!q")
_LENGTH: Final = struct.Struct("!i")
_NULL: Final = _LENGTH.pack(-1)


class Array:
    """A parameter, packed once it is known how its connection wants text."""

    __slots__ = ("_item_oid", "_length", "_pack", "oid")

    def __init__(self, item_oid: int, oid: int, length: int, pack: Callable[[str], bytes]) -> None:
        self.oid = oid
        self._item_oid = item_oid
        self._length = length
        self._pack = pack

    def packed(self, encoding: str) -> bytes:
        if not self._length:
            return _EMPTY.pack(0, 0, self._item_oid)
        # One dimension, from 1 on. Whether there are NULLs the server sees for itself.
        return _HEADER.pack(1, 0, self._item_oid, self._length, 1) + self._pack(encoding)


class ArrayDumper(Dumper):
    """Sends an `Array`; to be registered with each connection that is to take one."""

    format = Format.BINARY

    def dump(self, obj: Array) -> Buffer | None:
        encoding = self.connection.info.encoding if self.connection else "utf-8"
        # SQL_ASCII takes any bytes: as psycopg, these.
        return obj.packed("utf-8" if encoding == "ascii" else encoding)

    def get_key(self, obj: Array, format: PyFormat) -> Any:  # noqa: A002
        return self.cls, obj.oid

    def upgrade(self, obj: Array, format: PyFormat) -> Dumper:  # noqa: A002
        dumper = type(self)(self.cls, self.connection)
        dumper.oid = obj.oid
        return dumper


def adapt(context: AdaptContext) -> None:
    """Lets a connection take arrays of this module."""
    context.adapters.register_dumper(Array, ArrayDumper)


def bytea_array(items: Sequence[bytes]) -> Array:
    return Array(17, 1001, len(items), lambda _: _variable(items))


def text_array(items: Sequence[str]) -> Array:
    return Array(25, 1009, len(items), lambda to: _variable([item.encode(to) for item in items]))


def uuid_array(items: Sequence[UUID | None]) -> Array:
    packed = [None if item is None else item.bytes for item in items]
    return Array(2950, 2951, len(items), lambda _: _variable(packed))


def bigint_array(items: Sequence[int | None]) -> Array:
    packed = [None if item is None else _BIGINT.pack(item) for item in items]
    return Array(20, 1016, len(items), lambda _: _variable(packed))


def smallint_array(items: Sequence[int]) -> Array:
    return Array(21, 1005, len(items), lambda _: _fixed("ih", 2, items))


def integer_array(items: Sequence[int]) -> Array:
    return Array(23, 1007, len(items), lambda _: _fixed("ii", 4, items))


def _variable(items: Sequence[bytes | None]) -> bytes:
    pack = _LENGTH.pack
    parts: list[bytes] = []
    for item in items:
        if item is None:
            parts.append(_NULL)
        else:
            parts.append(pack(len(item)))
            parts.append(item)
    return b"".join(parts)


def _fixed(item: str, size: int, items: Sequence[int]) -> bytes:
    lengths_and_items = [size] * (2 * len(items))
    lengths_and_items[1::2] = items
    return struct.pack("!" + item * len(items), *lengths_and_items)
