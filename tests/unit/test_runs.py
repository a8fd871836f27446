"""Runs of events against plain lists, and as bytes that may have been damaged."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from registry.runs import Found, Run, joined, pack, unpack

EPOCHS = [UUID(int=1), UUID(int=2)]
Events = dict[int, tuple[UUID, bytes, int, bytes]]
"""By sequence: of which epoch, and time, codec and payload as they are stored."""

epochs = st.sampled_from(EPOCHS)
counts = st.integers(0, 30)


def event(epoch: UUID, sequence: int) -> tuple[UUID, bytes, int, bytes]:
    """The one there can be: an event of an epoch never changes."""
    payload = f"{epoch.int}/{sequence}".encode() * (sequence % 3)
    return epoch, (1000 * epoch.int + sequence).to_bytes(8, "big"), sequence % 5 - 1, payload


def run_of(epoch: UUID, begin: int, end: int) -> Run:
    events = [event(epoch, sequence) for sequence in range(begin + 1, end + 1)]
    times = b"".join(time for _, time, _, _ in events)
    return Run(epoch, begin, times, [e[2] for e in events], [e[3] for e in events])


def events_of(run: Run) -> Events:
    """What a run says; its columns have to be of the same length."""
    assert len(run.times) == 8 * len(run.payloads)
    assert len(run.codecs) == len(run.payloads)
    times = [run.times[8 * n : 8 * n + 8] for n in range(len(run.payloads))]
    rows = zip(times, run.codecs, run.payloads, strict=True)
    return {run.begin + n: (run.epoch, *row) for n, row in enumerate(rows, 1)}


def between(epoch: UUID, after: int, end: int) -> Events:
    return {sequence: event(epoch, sequence) for sequence in range(after + 1, end + 1)}


@st.composite
def runs(draw: st.DrawFn, epoch: st.SearchStrategy[UUID] = epochs) -> Run:
    begin = draw(counts)
    return run_of(draw(epoch), begin, begin + draw(counts))


@st.composite
def raw_runs(draw: st.DrawFn) -> Run:
    """With any columns, as large as they can be."""
    size = draw(st.integers(0, 5))
    return Run(
        draw(st.uuids()),
        draw(st.integers(0, 2**63 - 10)),
        draw(st.binary(min_size=8 * size, max_size=8 * size)),
        draw(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=size, max_size=size)),
        draw(st.lists(st.binary(max_size=40), min_size=size, max_size=size)),
    )


def same(one: Run, other: Run) -> bool:
    return (one.epoch, one.begin) == (other.epoch, other.begin) and (
        events_of(one) == events_of(other)
    )


# as bytes


@given(raw_runs())
def test_what_is_packed_comes_out_equal(run: Run) -> None:
    unpacked = unpack(pack(run))
    assert unpacked is not None
    assert same(unpacked, run)


@given(raw_runs(), st.data())
def test_what_is_cut_off_is_no_run(run: Run, data: st.DataObject) -> None:
    packed = pack(run)
    assert unpack(packed[: data.draw(st.integers(0, len(packed) - 1))]) is None
    assert unpack(packed[data.draw(st.integers(1, len(packed))) :]) is None


def test_each_flipped_bit_and_each_length_of_one_run_shows() -> None:
    packed = pack(run_of(EPOCHS[0], 7, 12))
    for length in range(len(packed)):
        assert unpack(packed[:length]) is None
    for bit in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[bit // 8] ^= 1 << bit % 8
        assert unpack(bytes(damaged)) is None


@given(st.binary(max_size=100))
def test_any_other_bytes_are_none(data: bytes) -> None:
    assert unpack(data) is None


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=60))
def test_a_right_checksum_alone_makes_no_run(first: int, last: int, rest: bytes) -> None:
    body = EPOCHS[0].bytes + struct.pack("!QQ", first, last) + rest
    run = unpack(body + struct.pack("!I", zlib.crc32(body)))
    if run is not None:
        assert last - first + 1 == len(run.payloads) == len(run.codecs) == len(run.times) // 8


# parts


@given(runs(), counts, counts)
def test_a_part_is_the_events_after_a_sequence_and_no_more(run: Run, skip: int, most: int) -> None:
    after = run.begin + skip
    part = run.part(after, most)
    assert part.begin == after
    assert events_of(part) == between(run.epoch, after, min(run.end, after + most))


@given(runs(), st.integers(1, 30), st.none() | st.integers(0, 90))
def test_the_newest_are_the_last_ones_of_the_log(run: Run, most: int, head: int | None) -> None:
    if head is not None:
        head = max(head, run.end)
    last = run.end if head is None else head
    newest = run.newest(most, head)
    assert events_of(newest) == between(run.epoch, max(run.begin, last - most), run.end)


@given(runs(), st.data())
def test_what_comes_then_is_appended_once(run: Run, data: st.DataObject) -> None:
    begin = data.draw(st.integers(run.begin, run.end))
    later = run_of(run.epoch, begin, begin + data.draw(counts))
    whole = run.then(later)
    if not run.payloads:
        assert same(whole, later)
        return
    assert whole.begin == run.begin
    assert events_of(whole) == between(run.epoch, run.begin, max(run.end, later.end))


@given(runs(), runs())
def test_two_runs_beside_each_other_are_one_or_the_newer_one(one: Run, other: Run) -> None:
    both = one.beside(other)
    if one.epoch != other.epoch:
        assert same(both, one)
        return
    touching = max(one.begin, other.begin) <= min(one.end, other.end)
    begin = (min if touching else max)(one.begin, other.begin)
    if not (one.payloads and other.payloads):  # an empty one may lend its place
        assert both.begin in (one.begin, other.begin)
    else:
        assert both.begin == begin
    end = max(run.end for run in (one, other)) if touching else both.end
    assert both.end == end
    assert events_of(both) == between(one.epoch, both.begin, both.end)


@given(st.lists(runs(), max_size=6), st.booleans())
def test_joined_runs_are_what_is_behind_the_last_hole(some: Sequence[Run], ordered: bool) -> None:
    """Of whatever comes, in whatever order: no event that is not of the log, and no hole."""
    if ordered:
        some = sorted(some, key=lambda run: run.begin)
    whole = joined(some)
    if not some:
        assert whole is None
        return
    assert whole is not None
    assert whole.epoch == some[-1].epoch
    assert events_of(whole) == between(whole.epoch, whole.begin, whole.end)
    last = [run for run in some if run.epoch == whole.epoch]
    assert whole.begin in [run.begin for run in last]
    assert whole.end in [run.end for run in last]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.data())
def test_joined_runs_without_a_hole_lose_nothing(sizes: list[int], data: st.DataObject) -> None:
    epoch, end, some = EPOCHS[0], 5, []
    for size in sizes:
        begin = data.draw(st.integers(5, end))
        some.append(run_of(epoch, begin, begin + size))
        end = max(end, begin + size)
    some.sort(key=lambda run: run.begin)
    whole = joined(some)
    assert whole is not None
    assert events_of(whole) == between(epoch, some[0].begin, end)


@settings(max_examples=50)
@given(runs(), counts, counts, counts)
def test_a_part_of_what_was_found_is_right_wherever_it_begins(
    run: Run, after: int, most: int, more: int
) -> None:
    found = Found(run.epoch, run.end + more, 0, run, run.end).part(after, most)
    assert (found.epoch, found.head, found.floor) == (run.epoch, run.end + more, 0)
    assert found.run.begin == after
    inside = run.begin <= after <= run.end
    last = min(run.end, after + most) if inside else after
    assert events_of(found.run) == between(run.epoch, after, last)
