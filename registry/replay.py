"""A page of a log: its events, or the same as one JSON document.

A page keeps the columns that the database sent. Payloads are decoded for who looks at the events,
and not at all for who forwards the document.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from attrs import field, frozen

from . import document
from .errors import LogCorrupted, PayloadUnreadable
from .payloads import JSON, RAW, decode, encode
from .zstd import Schemes, expanded, why_unreadable

T = TypeVar("T")

_ANY_SIZE = 2**63


@frozen
class GameEvent:
    """One event of a game's log."""

    sequence: int
    payload: object = field(repr=False)
    """Equal to what was recorded: a JSON value or bytes."""
    recorded_at: datetime
    """Aware; in UTC, or in the time zone of the connections of a caller's pool."""


@frozen
class ReplayJson:
    """One page of a log as a JSON document, to be sent on as it is."""

    document: bytes = field(repr=False)
    """UTF-8, in one line: `{"epoch":"…","head":9,"floor":0,"more":false,"events":[…]}`.

    An event is `{"sequence":8,"recorded_at":"2024-05-01T12:00:00.250000Z","payload":…}`, with the
    payload as it was recorded; or, of bytes, with `"base64":"…"` in place of the payload, in the
    standard alphabet and padded. The time is ISO 8601 in UTC, with six decimals or none. Integers
    may be larger than JavaScript's numbers hold exactly."""
    last: int
    """The position to go on from: the sequence of the last event here, or the head if none is."""
    head: int
    floor: int
    epoch: UUID
    more: bool
    """Each as in `Replay`."""


@frozen
class Page:
    """Events as columns of the same length."""

    game_id: str
    sequences: Sequence[int]
    times: Sequence[datetime]
    codecs: Sequence[int]
    payloads: Sequence[bytes] = field(repr=False)
    schemes: Schemes = field(factory=dict)

    @classmethod
    def of(cls, events: Iterable[GameEvent]) -> Page:
        """The page of events that somebody put together."""
        rows = [(e.sequence, e.recorded_at, *encode(e.payload, _ANY_SIZE)) for e in events]
        sequences, times, codecs, payloads = zip(*rows, strict=True) if rows else [()] * 4
        return cls("", sequences, times, codecs, payloads)

    def events(self) -> tuple[GameEvent, ...]:
        """Raises `PayloadUnreadable`."""
        decoded = self._each(decode, *self.plain())
        return tuple(map(GameEvent, self.sequences, decoded, self.times))

    def plain(self) -> tuple[Sequence[int], Sequence[bytes]]:
        """The codecs and payloads without compression. Raises `PayloadUnreadable`."""
        if max(self.codecs, default=RAW) <= JSON:
            return self.codecs, self.payloads
        expand = partial(expanded, schemes=self.schemes)
        codecs, payloads = zip(*self._each(expand, self.codecs, self.payloads), strict=True)
        return codecs, payloads

    def _each(
        self, make: Callable[[int, bytes], T], codecs: Sequence[int], payloads: Sequence[bytes]
    ) -> list[T]:
        made: list[T] = []
        try:
            for codec, payload in zip(codecs, payloads, strict=True):
                made.append(make(codec, payload))
        except (ValueError, KeyError, RecursionError):
            pass  # these show the payload
        else:
            return made
        place = len(made)
        why = why_unreadable(self.codecs[place], self.schemes)
        raise PayloadUnreadable(self.game_id, self.sequences[place], why)

    def rows(self) -> list[document.Row]:
        """As a document has them."""
        times = document.in_utc(self.times)
        return list(zip(self.sequences, times, *self.plain(), strict=True))


@frozen(slots=False)
class Replay:
    """One page of a log: events in order, without a hole.

    Immutable, and safe from any thread. A page from the registry decodes its payloads when
    `events` is first looked at, which takes most of the time of reading it.
    """

    events: tuple[GameEvent, ...] = field(repr=False)
    """Raises `PayloadUnreadable` when one was damaged in the database, or is compressed by what is
    missing here."""
    head: int
    """The last sequence given out."""
    floor: int
    """Every event at or below it has been pruned."""
    epoch: UUID
    """Which log these sequences belong to; the client keeps it beside its position."""
    more: bool
    """Whether events follow this page."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Asked only for what is not there: the events that nobody has looked at yet."""
            page = self.__dict__.get("_page")
            if name != "events" or page is None:
                raise AttributeError(name)
            # Of several threads that come here at once, all get what the first one set.
            return self.__dict__.setdefault("events", page.events())

    def json(self) -> ReplayJson:
        """The page as one JSON document, without decoding its payloads.

        They are passed on as they were encoded, so one that was damaged in the database may
        damage the document. Safe from any thread; no round trip.

        Raises:
            PayloadUnreadable: an event cannot be decompressed.
        """
        page: Page = self.__dict__.get("_page") or Page.of(self.events)
        standing = document.Standing(self.epoch, self.head, self.floor, self.more)
        last = page.sequences[-1] if page.sequences else self.head
        return ReplayJson(
            document.write(standing, page.rows()),
            last,
            self.head,
            self.floor,
            self.epoch,
            self.more,
        )


def replay_from(
    game_id: str, after: int, row: Sequence[Any], schemes: Callable[[Sequence[int]], Schemes]
) -> Replay:
    """A page from the columns `epoch, head, floor, sequences, times, codecs, payloads`.

    It has to go on from `after` without a hole; anything else is `LogCorrupted`. `schemes` says
    what compressed payloads are read by.
    """
    epoch, head, floor, sequences, times, codecs, payloads = row
    if sequences is None:
        sequences = times = codecs = payloads = ()
        if after < head:
            raise LogCorrupted(game_id, after)
    expected = range(after + 1, after + 1 + len(sequences))
    for sequence, right in zip(sequences, expected, strict=True):
        if sequence != right:
            raise LogCorrupted(game_id, right - 1)
    if sequences and sequences[-1] > head:
        raise LogCorrupted(game_id, head)
    replay = Replay.__new__(Replay)
    replay.__dict__.update(
        head=head,
        floor=floor,
        epoch=epoch,
        more=after + len(sequences) < head,
        _page=Page(game_id, expected, times, codecs, payloads, schemes(codecs)),
    )
    return replay
