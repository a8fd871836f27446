"""JSON as every peer writes and reads it: by msgspec where that is installed, as the registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.types.json import set_json_dumps, set_json_loads

dumps: Callable[[Any], bytes]
loads: Callable[[Any], Any]
try:
    import msgspec
except ImportError:
    _write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def dumps(value: Any) -> bytes:
        return _write(value).encode()

    def loads(data: Any) -> Any:
        # Of bytes, json would guess the encoding, at half the speed.
        return json.loads(data if isinstance(data, str) else bytes(data).decode())
else:
    dumps, loads = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


def use(connection: psycopg.Connection[Any]) -> None:
    """Has a connection write and read its jsonb by these."""
    set_json_dumps(dumps, connection)
    set_json_loads(loads, connection)
