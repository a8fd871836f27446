"""A run: events of one log that follow one another without a hole, as the database stores them.

Pages are put together of runs, and the replay cache keeps them. Once committed, an event of an
epoch never changes, so a run is right for ever; what can change is which epoch is the present one
and where its log begins and ends.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from attrs import evolve, field, frozen

from .errors import LogCorrupted

Position = tuple[int, int]
"""After which sequence, and how many events at most."""

Source = Literal["database", "cache", "standby"]

LARGEST: Final = 2**53
"""Sequences from here on are not cached: Redis counts in doubles."""

_HEADER: Final = struct.Struct("!16sQQ")
"""Epoch, first and last sequence: what the scripts in `lua/` read of a run."""
_CHECKSUM: Final = struct.Struct("!I")


@frozen
class Run:
    """Columns of the same length."""

    epoch: UUID
    begin: int
    """The sequence before the first event."""
    times: bytes
    """8 bytes each, as PostgreSQL sends them."""
    codecs: Sequence[int]
    payloads: Sequence[bytes] = field(repr=False)

    @classmethod
    def empty(cls, epoch: UUID, begin: int) -> Run:
        return cls(epoch, begin, b"", (), ())

    @property
    def end(self) -> int:
        """The last event's sequence, or `begin` if there is none."""
        return self.begin + len(self.payloads)

    def part(self, after: int, most: int) -> Run:
        """Its events after a sequence, which is not before `begin`, and at most so many."""
        skip = after - self.begin
        stop = skip + most
        if skip == 0 and len(self.payloads) <= most:
            return self
        return Run(
            self.epoch,
            after,
            self.times[8 * skip : 8 * stop],
            self.codecs[skip:stop],
            self.payloads[skip:stop],
        )

    def newest(self, most: int, head: int | None = None) -> Run:
        """Its events that are among so many of the newest of the log, or of itself."""
        after = (self.end if head is None else head) - most
        return self.part(min(after, self.end), most) if after > self.begin else self

    def beside(self, other: Run) -> Run:
        """The two joined if they are of one log and leave no hole, or else the newer one."""
        if self.epoch != other.epoch:
            return self
        first, second = (self, other) if self.begin <= other.begin else (other, self)
        if second.begin > first.end:
            return second
        return first.then(second) if second.end > first.end else first

    def then(self, later: Run) -> Run:
        """This one, and of one that begins within it or at its end what comes after."""
        if not self.payloads:
            return later
        rest = later.part(self.end, len(later.payloads))
        return Run(
            self.epoch,
            self.begin,
            self.times + rest.times,
            [*self.codecs, *rest.codecs],
            [*self.payloads, *rest.payloads],
        )


@frozen
class Found:
    """Where a log stood, and its events after the position asked for, if they are not pruned."""

    epoch: UUID
    head: int
    floor: int
    run: Run
    known_to: int = 0
    """Up to which sequence the events were known before the database was asked."""
    standby: tuple[int, int] = 0, 0
    """After and up to which sequence the events were read from a standby."""

    @property
    def source(self) -> Source:
        begin, end = self.standby
        if max(begin, self.run.begin) < min(end, self.run.end):
            return "standby"
        return "cache" if self.run.begin < self.known_to else "database"

    def lacks(self, most: int) -> int:
        """How many events are missing of a page of at most so many."""
        run = self.run
        if run.begin < self.floor:
            return 0
        return max(0, min(self.head, run.begin + most) - run.end)

    def part(self, after: int, most: int) -> Found:
        """Its events after a sequence, at most so many."""
        run = self.run
        if after == run.begin and len(run.payloads) <= most:
            return self
        if run.begin <= after <= run.end:
            return evolve(self, run=run.part(after, most))
        return Found(self.epoch, self.head, self.floor, Run.empty(self.epoch, after))


def run_from(game_id: str, begin: int, row: Sequence[Any]) -> Run:
    """A run from the columns `epoch, head, floor, sequences, times, codecs, payloads`.

    It has to go on from `begin` without a hole, and not past the head; anything else is
    `LogCorrupted`.
    """
    epoch, head, _, sequences, times, codecs, payloads = row
    if sequences is None:
        if begin < head:
            raise LogCorrupted(game_id, begin)
        return Run.empty(epoch, begin)
    expected = range(begin + 1, begin + 1 + len(sequences))
    if sequences != list(expected):
        for sequence, right in zip(sequences, expected, strict=True):
            if sequence != right:
                raise LogCorrupted(game_id, right - 1)
    if sequences[-1] > head:
        raise LogCorrupted(game_id, head)
    return Run(epoch, begin, times, codecs, payloads)


def pack(run: Run) -> bytes:
    """A run as bytes, by themselves enough to tell whether they are all there."""
    size = len(run.payloads)
    lengths = map(len, run.payloads)
    body = b"".join(
        (
            _HEADER.pack(run.epoch.bytes, run.begin + 1, run.end),
            run.times,
            struct.pack(f"!{size}h{size}I", *run.codecs, *lengths),
            *run.payloads,
        )
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def unpack(data: bytes) -> Run | None:
    """The run that was packed, or None if that cannot have been one."""
    try:
        body, (checksum,) = data[:-4], _CHECKSUM.unpack(data[-4:])
        if zlib.crc32(body) != checksum:
            return None
        epoch, first, last = _HEADER.unpack_from(body)
        size = last - first + 1
        if not 0 <= size <= len(body):
            return None
        columns = _HEADER.size + 8 * size
        codecs = struct.unpack_from(f"!{size}h", body, columns)
        lengths = struct.unpack_from(f"!{size}I", body, columns + 2 * size)
    except struct.error:
        return None
    payloads = []
    start = columns + 6 * size
    for length in lengths:
        payloads.append(body[start : start + length])
        start += length
    if start != len(body):
        return None
    times = body[_HEADER.size : columns]
    return Run(UUID(bytes=epoch), first - 1, times, codecs, payloads)


def joined(runs: Iterable[Run]) -> Run | None:
    """The runs as one, in the order of their beginnings.

    They overlap, or may leave holes, or be of several epochs: then what is behind the last hole
    counts, and of the last epoch.
    """
    whole: Run | None = None
    for run in runs:
        if whole is None or run.epoch != whole.epoch or run.begin > whole.end:
            whole = run
        elif run.end > whole.end:
            whole = whole.then(run)
    return whole
