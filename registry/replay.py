"""A page of a log: its events, or the same as one JSON document.

A page keeps the columns that the database sent. Payloads are decoded for who looks at the events,
and not at all for who forwards the document.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from attrs import field, frozen

from . import document
from .errors import PayloadUnreadable
from .payloads import JSON, RAW, decode, decode_all, encode
from .runs import Found, Source
from .zstd import Schemes, expanded, why_unreadable

T = TypeVar("T")


# What damaged rows raise; it shows the payload.
_UNREADABLE: Final = ValueError, KeyError, RecursionError

_ANY_SIZE: Final = 2**63

_YEAR_2000: Final = datetime(2000, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)


@frozen
class GameEvent:
    """One event of a game's log."""

    sequence: int
    payload: object = field(repr=False)
    """Equal to what was recorded: a JSON value or bytes."""
    recorded_at: datetime
    """Aware, in UTC."""


def _events(
    sequences: Sequence[int], payloads: Sequence[object], times: Sequence[datetime]
) -> tuple[GameEvent, ...]:
    """Each of these an event, at half of what `GameEvent()` takes: that sets what is frozen."""
    events = tuple(map(GameEvent.__new__, repeat(GameEvent, len(sequences))))
    for set_one, values in zip(_SETTERS, (sequences, payloads, times), strict=True):
        deque(map(set_one, events, values), maxlen=0)
    return events


_SETTERS: Final = [vars(GameEvent)[name].__set__ for name in GameEvent.__match_args__]


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
    times: Sequence[int]
    """Microseconds since the year 2000 began in UTC, as PostgreSQL counts."""
    codecs: Sequence[int]
    payloads: Sequence[bytes] = field(repr=False)
    schemes: Schemes = field(factory=dict)

    @classmethod
    def of(cls, events: Iterable[GameEvent]) -> Page:
        """The page of events that somebody put together."""
        rows = [
            (
                event.sequence,
                (event.recorded_at.astimezone(timezone.utc) - _YEAR_2000) // _MICROSECOND,
                *encode(event.payload, _ANY_SIZE),
            )
            for event in events
        ]
        sequences, times, codecs, payloads = zip(*rows, strict=True) if rows else [()] * 4
        return cls("", sequences, times, codecs, payloads)

    def events(self) -> tuple[GameEvent, ...]:
        """Raises `PayloadUnreadable`."""
        codecs, payloads = self.plain()
        decoded = None
        with suppress(*_UNREADABLE):
            decoded = decode_all(codecs, payloads)
        if decoded is None:
            decoded = self._each(decode, codecs, payloads)  # says which
        return _events(self.sequences, decoded, self.moments())

    def plain(self) -> tuple[Sequence[int], Sequence[bytes]]:
        """The codecs and payloads without compression. Raises `PayloadUnreadable`."""
        if max(self.codecs, default=RAW) <= JSON:
            return self.codecs, self.payloads
        expand = partial(expanded, schemes=self.schemes)
        codecs, payloads = zip(*self._each(expand, self.codecs, self.payloads), strict=True)
        return codecs, payloads

    def moments(self) -> list[datetime]:
        """The times in UTC. Raises `PayloadUnreadable`."""
        moments: list[datetime] = []
        moment, before = _YEAR_2000, 0
        with suppress(OverflowError):  # an infinity, set by hand
            for time in self.times:
                if time != before:  # as it is for events that were recorded together
                    moment += _MICROSECOND * (time - before)
                    before = time
                moments.append(moment)
            return moments
        raise self._unreadable(len(moments), PayloadUnreadable.DAMAGED)

    def rows(self) -> list[document.Row]:
        """As a document has them. Raises `PayloadUnreadable`."""
        return list(zip(self.sequences, self.moments(), *self.plain(), strict=True))

    def _each(
        self, make: Callable[[int, bytes], T], codecs: Sequence[int], payloads: Sequence[bytes]
    ) -> list[T]:
        made: list[T] = []
        with suppress(*_UNREADABLE):
            for codec, payload in zip(codecs, payloads, strict=True):
                made.append(make(codec, payload))
            return made
        raise self._unreadable(len(made), why_unreadable(self.codecs[len(made)], self.schemes))

    def _unreadable(self, place: int, why: str) -> PayloadUnreadable:
        return PayloadUnreadable(self.game_id, self.sequences[place], why)


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
    source: Source = field(default="database", eq=False)
    """Where the events came from: "cache" if memory or the replay cache had them, all but the
    latest maybe; "standby" if any were read from one. The position of the log is from the database,
    the primary, at any rate."""

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


def size_of(replay: Replay) -> int:
    """How many events a page has; none is decoded for it."""
    page: Page | None = replay.__dict__.get("_page")
    return len(replay.events if page is None else page.sequences)


def replay_of(game_id: str, found: Found, schemes: Callable[[Sequence[int]], Schemes]) -> Replay:
    """A page of what was found. `schemes` says what compressed payloads are read by."""
    run = found.run
    codecs = run.codecs
    counted = struct.unpack(f"!{len(codecs)}q", run.times)
    used = schemes(codecs) if max(codecs, default=RAW) > JSON else {}
    replay = Replay.__new__(Replay)
    replay.__dict__.update(
        head=found.head,
        floor=found.floor,
        epoch=found.epoch,
        more=run.end < found.head,
        source=found.source,
        _page=Page(game_id, range(run.begin + 1, run.end + 1), counted, codecs, run.payloads, used),
    )
    return replay
