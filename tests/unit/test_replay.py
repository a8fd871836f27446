"""A page of a log: a value to its users, decoded late, the same as events and as a document."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from base64 import b64decode
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from probes import at_once
from unit.test_payloads import JSON_VALUES, same

from registry import (
    GameEvent,
    LogCorrupted,
    PayloadUnreadable,
    RegistryError,
    Replay,
    document,
    replay,
)
from registry.document import Row, Standing, standard
from registry.payloads import JSON, RAW, decode, encode
from registry.replay import replay_of
from registry.runs import Found, run_from

EPOCH = UUID("12345678-1234-5678-1234-567812345678")
AT = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)
SECRET = "the-queen-is-in-the-cellar"
FRAGMENTS = st.sampled_from(
    [b"1", b"[1", b"2]", b"1,2", b"[1,", b"3 4", b"{}", b'"a"', b"1e999", b""]
)
PAYLOADS = [{"move": SECRET}, b"\x00\xff", None, "\u2028€", [1.5, 2**70]]


def sent(times: list[datetime]) -> bytes:
    """As PostgreSQL sends them: microseconds since 2000."""
    begin = datetime(2000, 1, 1, tzinfo=timezone.utc)
    return b"".join(struct.pack("!q", (at - begin) // timedelta(microseconds=1)) for at in times)


def stored(payloads: list[Any], after: int = 4, more: int = 0) -> tuple[Any, ...]:
    """The row that the database gives for these events."""
    encoded = [encode(payload, 2**31) for payload in payloads]
    sequences = list(range(after + 1, after + 1 + len(payloads)))
    times = sent([AT + timedelta(seconds=n) for n in range(len(payloads))])
    columns = (sequences, times, [c for c, _ in encoded], [d for _, d in encoded])
    head = after + len(payloads) + more
    return EPOCH, head, 2, *(columns if payloads else [None] * 4)


def replay_from(game_id: str, after: int, row: tuple[Any, ...]) -> Replay:
    return replay_of(
        game_id,
        Found(row[0], row[1], row[2], run_from(game_id, after, row)),
        lambda codecs: {},
    )


def page(payloads: list[Any], more: int = 0) -> Replay:
    return replay_from("chess", 4, stored(payloads, more=more))


def by_hand(payloads: list[Any], more: int = 0) -> Replay:
    events = tuple(
        GameEvent(5 + n, payload, AT + timedelta(seconds=n)) for n, payload in enumerate(payloads)
    )
    return Replay(events, 4 + len(payloads) + more, 2, EPOCH, bool(more))


@pytest.mark.parametrize(("payloads", "more"), [([], 0), (PAYLOADS, 0), (PAYLOADS, 3)])
def test_a_page_equals_one_that_is_put_together_by_hand(payloads: list[Any], more: int) -> None:
    assert page(payloads, more) == by_hand(payloads, more) == page(payloads, more)
    assert page(payloads, more).events == by_hand(payloads, more).events
    assert page(payloads, more).json() == by_hand(payloads, more).json()
    assert repr(page(payloads, more)) == repr(by_hand(payloads, more))


def test_pages_differ_by_anything_that_shows() -> None:
    one = by_hand(PAYLOADS)
    assert page(PAYLOADS) != by_hand([*PAYLOADS[:-1], "another"])
    for change in ({"head": 99}, {"floor": 0}, {"epoch": UUID(int=1)}, {"more": True}):
        assert attrs.evolve(one, **change) != page(PAYLOADS)


def test_a_page_can_be_hashed_where_its_payloads_can() -> None:
    assert hash(page(["e4", None])) == hash(by_hand(["e4", None]))
    assert len({page(["e4"]), by_hand(["e4"]), page(["e5"])}) == 2


@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_page_can_be_copied_and_sent_to_another_process(clone: Any, looked_at: bool) -> None:
    original = page(PAYLOADS)
    if looked_at:
        assert original.events
    assert clone(original) == by_hand(PAYLOADS)
    assert clone(original).json() == original.json()
    assert attrs.evolve(original, more=True).events == original.events
    assert attrs.asdict(original, recurse=False)["events"] == original.events


@pytest.mark.parametrize("name", ["events", "head", "floor", "epoch", "more", "anything"])
def test_a_page_does_not_change(name: str) -> None:
    for each in (page(PAYLOADS), page(PAYLOADS).json(), page(PAYLOADS).events[0]):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(each, name, 1)
    with pytest.raises(AttributeError, match="anything"):
        page(PAYLOADS).anything  # noqa: B018


def test_no_repr_shows_a_payload() -> None:
    shown = page(PAYLOADS)
    for each in (shown, shown.events, shown.events[0], shown.json()):
        assert SECRET not in repr(each)
        assert "move" not in repr(each)


def test_payloads_are_decoded_at_the_first_look_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []

    def decode_all(codecs: list[int], payloads: list[bytes]) -> list[Any]:
        decoded.extend(payloads)
        return [*payloads]

    monkeypatch.setattr(replay, "decode_all", decode_all)
    unread = page(PAYLOADS)
    unread.json()
    repr(unread)
    assert decoded == []
    assert unread.events is unread.events
    assert len(decoded) == len(PAYLOADS)


def test_threads_that_look_at_once_see_the_same_events() -> None:
    for _ in range(20):
        shared = page(PAYLOADS * 20)
        seen = at_once([lambda shared=shared: shared.events] * 4)
        assert all(events is seen[0] for events in seen)


@pytest.mark.parametrize(
    "damaged", [b"{", b"", b"\xff", b'"' + SECRET.encode(), b"[" * 100_000, b"1" * 5_000]
)
def test_a_payload_that_was_damaged_is_said_and_not_shown(damaged: bytes) -> None:
    row = stored(["fine", "damaged", "fine"])
    row[6][1] = damaged
    broken = replay_from("chess", 4, row)
    for _ in range(2):
        with pytest.raises(PayloadUnreadable, match="event 6 of game 'chess'") as caught:
            broken.events  # noqa: B018
        assert (caught.value.game_id, caught.value.sequence) == ("chess", 6)
        assert isinstance(caught.value, RegistryError)
        assert caught.value.__cause__ is caught.value.__context__ is None


@given(st.lists(FRAGMENTS | st.binary(max_size=4), min_size=1, max_size=5))
@example([b"1,2", b"[1", b"2]"])
@example([b"[1,", b"2]", b"3 4"])
@example([b"1e999", b""])
def test_no_damaged_payload_moves_another(payloads: list[bytes]) -> None:
    """Each event has what its own row says, or the first bad one is named."""
    count = len(payloads)
    columns = ([*range(1, count + 1)], sent([AT] * count), [JSON] * count, payloads)
    read = replay_from("chess", 0, (EPOCH, count, 0, *columns))
    apart: list[object] = []
    try:
        for payload in payloads:
            apart.append(decode(JSON, payload))
    except ValueError:
        with pytest.raises(PayloadUnreadable) as caught:
            read.events  # noqa: B018
        assert caught.value.sequence == len(apart) + 1
    else:
        assert repr([event.payload for event in read.events]) == repr(apart)


@pytest.mark.parametrize("infinite", [2**63 - 1, -(2**63)])
def test_a_time_that_no_clock_shows_is_said(infinite: int) -> None:
    *row, times, codecs, payloads = stored(["fine", "damaged", "fine"])
    times = times[:8] + struct.pack("!q", infinite) + times[16:]
    broken = replay_from("chess", 4, (*row, times, codecs, payloads))
    for look in (lambda: broken.events, broken.json):
        with pytest.raises(PayloadUnreadable, match="event 6 of game 'chess'") as caught:
            look()
        assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    ("sequences", "head", "after"),
    [
        ([6, 7], 7, 4),
        ([5, 7], 7, 5),
        ([5, 6, 6], 7, 6),
        ([6, 5], 7, 4),
        ([5, 6, 7], 6, 6),
        ([], 6, 4),
    ],
)
def test_a_hole_is_found_wherever_it_is(sequences: list[int], head: int, after: int) -> None:
    times = sent([AT] * len(sequences))
    columns = (sequences, times, [JSON] * 9, [b"1"] * 9) if sequences else [None] * 4
    with pytest.raises(LogCorrupted) as caught:
        replay_from("chess", 4, (EPOCH, head, 2, *columns))
    assert caught.value.sequence == after


@given(st.lists(JSON_VALUES | st.binary(), max_size=8), st.integers(0, 2))
@example(PAYLOADS, 1)
@example([b""], 0)
def test_the_document_says_what_the_events_say(payloads: list[Any], more: int) -> None:
    if not payloads:
        more = 0
    original = page(payloads, more)
    made = original.json()
    said = json.loads(made.document)
    assert list(said) == ["epoch", "head", "floor", "more", "events"]
    assert UUID(said["epoch"]) == made.epoch == original.epoch
    assert (said["head"], said["floor"]) == (original.head, original.floor)
    assert (made.head, made.floor, made.more) == (original.head, original.floor, original.more)
    assert said["more"] is bool(more)
    assert made.last == 4 + len(payloads)
    assert b"\n" not in made.document
    assert len(said["events"]) == len(original.events)
    for told, event in zip(said["events"], original.events, strict=True):
        assert told["sequence"] == event.sequence
        at = told["recorded_at"]
        assert at.endswith("Z")
        assert datetime.fromisoformat(at.replace("Z", "+00:00")) == event.recorded_at
        if isinstance(event.payload, bytes):
            assert list(told) == ["sequence", "recorded_at", "base64"]
            assert b64decode(told["base64"], validate=True) == event.payload
        else:
            assert list(told) == ["sequence", "recorded_at", "payload"]
            assert same(told["payload"], event.payload)


TIMES = st.datetimes(timezones=st.just(timezone.utc)) | st.just(AT.replace(microsecond=0))
ROWS = st.lists(
    st.tuples(st.integers(1, 2**63 - 1), TIMES, st.just(JSON), JSON_VALUES)
    | st.tuples(st.integers(1, 2**63 - 1), TIMES, st.just(RAW), st.binary())
)


@pytest.mark.skipif(document.FAST is None, reason="needs the extra `fast`")
@given(st.uuids(), st.integers(0, 2**63 - 1), st.booleans(), ROWS)
def test_the_document_does_not_depend_on_the_path(
    epoch: UUID, number: int, more: bool, events: list[tuple[int, datetime, int, Any]]
) -> None:
    assert document.FAST is not None
    rows: list[Row] = [(n, at, codec, encode(p, 2**31)[1]) for n, at, codec, p in events]
    standing = Standing(epoch, number, number // 2, more)
    assert document.FAST(standing, rows) == standard(standing, rows)


def test_a_damaged_payload_is_passed_on_alike() -> None:
    rows: list[Row] = [(1, AT, JSON, b"\xff{"), (2, AT, RAW, b"\xff")]
    standing = Standing(EPOCH, 2, 0, False)
    made = {write(standing, rows) for write in (standard, document.FAST) if write}
    assert len(made) == 1
    assert b'"payload":\xff{}' in made.pop()


def test_times_of_another_zone_are_told_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=45))
    event = GameEvent(1, "e4", AT.astimezone(east))
    made = Replay((event,), 1, 0, EPOCH, False).json()
    assert json.loads(made.document)["events"][0]["recorded_at"] == "2024-05-01T12:00:00.250000Z"
