"""How a registry stores payloads: encoded, and compressed if its settings say so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import frozen
from psycopg import Connection
from psycopg.types.numeric import Int8

from . import zstd
from .config import RegistryConfig
from .database import Database
from .errors import InvalidArgument, RegistryError
from .payloads import encode
from .queries import queries
from .statements import Params, Row, row_within
from .zstd import Schemes, Zstd

SAMPLED_GAMES = 1_000
SAMPLED_EVENTS = 10_000
SAMPLED_TIMES = 100
"""How many bytes to train on for each one of the dictionary, as zstd's authors advise."""


@frozen
class TrainedDictionary:
    """A new dictionary, and what it does for events that it was not trained on."""

    number: int
    size: int
    """Bytes."""
    events: int
    """How many it was tried on: a fifth of those sampled."""
    plain: int
    """Bytes of their payloads as they are."""
    without: int
    """Bytes when compressed without a dictionary, where that is smaller."""
    compressed: int
    """Bytes when compressed with it, where that is smaller."""


class Payloads:
    """Encodes what a registry writes, and finds what its reads need to expand.

    Safe from any thread. A dictionary never changes: one that was seen is kept.
    """

    def __init__(self, database: Database, config: RegistryConfig) -> None:
        if config.compression is not None and not zstd.INSTALLED:
            raise InvalidArgument(f"compression={config.compression!r}: {zstd.missing()}")
        self._database = database
        self._config = config
        self._schemes: dict[int, Zstd] = {}
        self._newest: int | None = None

    def encode(
        self, payload: object, connection: Connection[Any] | None = None
    ) -> tuple[int, bytes]:
        """The codec and the bytes to store.

        The first one to compress asks for the newest dictionary, in one more round trip: on the
        caller's connection if there is one, since the pool may have no other.
        """
        codec, data = encode(payload, self._config.max_payload_bytes)
        if self._config.compression is None:
            return codec, data
        scheme = self._newest or self._find_newest(connection)
        smaller = self._schemes[scheme].compress(data)
        return (codec + 2 * scheme, smaller) if len(smaller) < len(data) else (codec, data)

    def schemes(self, codecs: Iterable[int]) -> Schemes:
        """What it takes to read rows of these codecs, as far as it is to be had.

        One more round trip when a dictionary is among them that was not seen before.
        """
        wanted = {codec >> 1 for codec in set(codecs)} - {0}
        if unseen := {scheme for scheme in wanted if scheme not in self._schemes}:
            self._schemes.update(find_schemes(unseen, self._database.rows))
        return {scheme: self._schemes[scheme] for scheme in wanted if scheme in self._schemes}

    def train(self, size: int) -> TrainedDictionary:
        """Trains a dictionary on recorded events, stores it, and uses it from now on."""
        rows = self._database.rows(
            queries.sample_events,
            {
                "games": Int8(SAMPLED_GAMES),
                "events": Int8(SAMPLED_EVENTS),
                "bytes": Int8(SAMPLED_TIMES * size),
            },
        )
        schemes = self.schemes(codec for codec, _ in rows)
        found = (_sample(codec, data, schemes) for codec, data in rows)
        samples = [sample for sample in found if sample]
        tried = samples[::5]
        content = zstd.train([sample for n, sample in enumerate(samples) if n % 5], size)
        trained, without = (_together(tried, Zstd.by(using)) for using in (content, b""))
        if trained >= without:
            raise RegistryError(
                "a dictionary would make these events no smaller: they have too little in common"
            )
        row = self._database.row(
            queries.add_dictionary, {"content": content}, if_unknown="train again"
        )
        assert row is not None  # an insert returns its row
        number: int = row[0]
        self._schemes[1 + number] = Zstd.by(content)
        self._newest = 1 + number
        return TrainedDictionary(
            number, len(content), len(tried), sum(map(len, tried)), without, trained
        )

    def _find_newest(self, connection: Connection[Any] | None) -> int:
        if connection is None:
            row = self._database.row(queries.newest_dictionary, {})
        else:
            row = row_within(connection, queries.newest_dictionary, {}, savepoint=False)
        scheme, content = (1 + row[0], row[1]) if row else (1, b"")
        self._schemes.setdefault(scheme, Zstd.by(content))
        self._newest = scheme
        return scheme


def find_schemes(
    wanted: set[int], ask: Callable[[bytes, Params], Sequence[Row]]
) -> dict[int, Zstd]:
    """What it takes to read rows of these schemes, none of them 0, as far as it is to be had.

    `ask` runs a query.
    """
    if not zstd.INSTALLED:
        return {}
    found = {scheme: Zstd.by(b"") for scheme in wanted & {1}}
    if numbers := [scheme - 1 for scheme in wanted - {1}]:
        rows = ask(queries.fetch_dictionaries, {"ids": numbers})
        found.update({1 + number: Zstd.by(content) for number, content in rows})
    return found


def _sample(codec: int, data: bytes, schemes: Schemes) -> bytes | None:
    """The payload of a row as it was encoded, or None if that cannot be had."""
    try:
        return zstd.expanded(codec, data, schemes)[1]
    except (KeyError, ValueError):
        return None


def _together(payloads: Iterable[bytes], by: Zstd) -> int:
    return sum(min(len(payload), len(by.compress(payload))) for payload in payloads)
