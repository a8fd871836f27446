"""Payloads: equal after the round trip, or refused before anything is sent."""

from __future__ import annotations

import enum
import json
import sys
from array import array
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from registry import InvalidArgument, InvalidPayload, PayloadTooLarge, RegistryError, payloads
from registry.jsontext import FAST, STANDARD, JsonText
from registry.payloads import DEEPEST, JSON, RAW, decode, encode

PATHS = [
    pytest.param(STANDARD, id="json"),
    pytest.param(
        FAST, id="msgspec", marks=pytest.mark.skipif(FAST is None, reason="needs the extra `fast`")
    ),
]

ANY_SIZE = 2**31
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=30
)


@pytest.fixture(params=PATHS, autouse=True, scope="module")
def json_text(request: pytest.FixtureRequest) -> Iterator[JsonText]:
    """Every test here holds for each way to write and read JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "json_text", request.param)
        yield request.param


def round_trip(payload: object) -> object:
    return decode(*encode(payload, ANY_SIZE))


def same(one: object, other: object) -> bool:
    """Equal, and of equal types all the way down: 1, 1.0 and True are three values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return one.hex() == other.hex()  # -0.0 is not 0.0
    return one == other


def nested(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


class Suit(str, enum.Enum):
    HEARTS = "hearts"


class Rank(enum.IntEnum):
    ACE = 14


Point = namedtuple("Point", "x y")


@given(JSON_VALUES)
@example({"": [None, {"\0": "\0"}]})
@example('\u2028\u2029\ufeff\U0001f3b2\x7f\\"/')
@example([1, 1.0, True, 0, -0.0, False, None, "", [], {}])
@example([5e-324, 1.7976931348623157e308, 0.1, 1e22, 2**53 + 1, -(2**63) - 1])
def test_any_json_value_comes_back_the_same(payload: object) -> None:
    assert same(round_trip(payload), payload)


@given(st.binary())
@example(b"")
@example(b'{"a": 1}')
@example(bytes(range(256)))
def test_any_bytes_come_back_the_same(payload: bytes) -> None:
    assert same(round_trip(payload), payload)


@given(JSON_VALUES)
def test_what_is_stored_for_a_json_value_is_json_in_utf8(payload: object) -> None:
    codec, data = encode(payload, ANY_SIZE)
    assert codec == JSON
    assert same(json.loads(data), payload)


def test_bytes_are_stored_as_they_are() -> None:
    assert encode(b"\x00\xff", ANY_SIZE) == (RAW, b"\x00\xff")


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_bytes_come_back_as_equal_bytes(kind: Callable[[bytes], object]) -> None:
    assert round_trip(kind(b"\x00abc")) == b"\x00abc"
    assert kind(b"\x00abc") == b"\x00abc"


def test_a_memoryview_that_skips_bytes_comes_back_equal() -> None:
    view = memoryview(b"abcdef")[::2]
    assert round_trip(view) == view == b"ace"


def test_a_memoryview_of_wider_items_comes_back_equal_or_is_refused() -> None:
    view = memoryview(array("I", [1, 2, 3]))
    try:
        returned = round_trip(view)
    except InvalidPayload:
        return
    assert returned == view


@pytest.mark.parametrize("payload", [Suit.HEARTS, Rank.ACE, OrderedDict(b=1, a=2), [Rank.ACE]])
def test_subclasses_of_json_types_come_back_equal(payload: object) -> None:
    assert round_trip(payload) == payload


@pytest.mark.parametrize("length", [4300, 1000])
def test_an_integer_of_thousands_of_digits_comes_back_equal(length: int) -> None:
    number = 10 ** (length - 1) + 7
    assert round_trip([number, -number]) == [number, -number]


@pytest.mark.skipif(
    not hasattr(sys, "get_int_max_str_digits"), reason="this Python has no limit to integers"
)
def test_an_integer_that_no_reader_could_take_is_refused() -> None:
    with pytest.raises(InvalidPayload):
        encode({"n": 10**5000}, ANY_SIZE)


@pytest.mark.parametrize(
    "payload",
    [
        float("nan"),
        float("inf"),
        [{"x": [float("-inf")]}],
        {1: "a key that is no str"},
        {None: 1},
        {True: 1},
        {"a": {1.5: 2}},
        {b"k": 1},
        (1, 2),
        [1, (2,)],
        Point(1, 2),
        {1, 2},
        frozenset(),
        {"when": datetime(2024, 1, 1, tzinfo=timezone.utc)},
        Decimal("1.5"),
        Fraction(1, 2),
        1j,
        uuid4(),
        object(),
        ...,
        range(3),
        iter([1]),
        [b"bytes inside of JSON"],
        {"a": bytearray(b"x")},
        "\ud800",
        ["\udfff"],
        {"\udc00": 1},
        encode,
    ],
    ids=lambda payload: type(payload).__name__,
)
def test_what_would_not_come_back_equal_is_refused(payload: object) -> None:
    with pytest.raises(InvalidPayload) as caught:
        encode(payload, ANY_SIZE)
    assert not isinstance(caught.value, PayloadTooLarge)
    assert isinstance(caught.value, InvalidArgument)
    assert isinstance(caught.value, ValueError)


def test_nesting_is_bounded_and_the_bound_is_said() -> None:
    assert round_trip(nested(DEEPEST)) == nested(DEEPEST)
    with pytest.raises(InvalidPayload, match=str(DEEPEST)):
        encode(nested(DEEPEST + 1), ANY_SIZE)


def test_nesting_of_dicts_counts_as_nesting_of_lists() -> None:
    value: object = "leaf"
    for _ in range(DEEPEST):
        value = {"k": value}
    assert round_trip(value) == value
    with pytest.raises(InvalidPayload):
        encode({"k": value}, ANY_SIZE)


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidPayload):
        encode(loop, ANY_SIZE)


def test_a_part_that_is_there_many_times_counts_each_time() -> None:
    """Little in memory, endless when written: an alias bomb of YAML."""
    bomb: object = "ha"
    for _ in range(DEEPEST - 10):
        bomb = [bomb] * 10
    wide = dict.fromkeys(map(str, range(100)), dict.fromkeys(map(str, range(100)), [1] * 100))
    for payload in (wide, bomb, {"a": bomb}):  # who writes them out comes to an end of the first
        with pytest.raises(PayloadTooLarge, match="at least") as caught:
            encode(payload, 65_536)
        assert 65_536 < caught.value.size < 200_000
    flat = [[]] * 1_000
    assert len(encode(flat, ANY_SIZE)[1]) == 3_001
    assert round_trip(flat) == flat
    encode(flat, 3_001)
    with pytest.raises(PayloadTooLarge):
        encode(flat, 3_000)


class Shy(dict):
    """Says that it is empty."""

    def __iter__(self) -> Iterator[str]:
        return iter(())

    keys = values = items = __iter__  # type: ignore[assignment]

    def __len__(self) -> int:
        return 0


class Alias(str):
    """Says that it is another text."""

    def __str__(self) -> str:
        return "another"

    __format__ = encode = None  # type: ignore[assignment]


def test_a_subclass_is_taken_for_what_it_holds() -> None:
    assert encode([Shy(a=[Alias("b")]), Alias("c")], ANY_SIZE) == (JSON, b'[{"a":["b"]},"c"]')
    assert encode({Alias("k"): 1}, ANY_SIZE) == (JSON, b'{"k":1}')
    for hidden in (float("nan"), {1, 2}, nested(DEEPEST), {1: 2}):
        with pytest.raises(InvalidPayload):
            encode(Shy(a=hidden), ANY_SIZE)


def test_a_value_met_twice_is_no_circle() -> None:
    shared = {"a": 1}
    assert round_trip([shared, shared]) == [shared, shared]


def test_the_deepest_payload_is_read_even_where_the_stack_is_nearly_full() -> None:
    stored = encode(nested(DEEPEST), ANY_SIZE)

    def descend(frames: int) -> object:
        return decode(*stored) if frames == 0 else descend(frames - 1)

    used = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        used, frame = used + 1, frame.f_back
    assert descend(sys.getrecursionlimit() - used - 3 * DEEPEST) == nested(DEEPEST)


@pytest.mark.parametrize(
    ("payload", "size"), [(b"x" * 10, 10), ("x" * 8, 10), ("€" * 2, 8), ([1, 2, 3], 7), ({}, 2)]
)
def test_the_limit_counts_encoded_bytes_and_is_itself_allowed(payload: object, size: int) -> None:
    assert len(encode(payload, size)[1]) == size
    with pytest.raises(PayloadTooLarge) as caught:
        encode(payload, size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)
    assert isinstance(caught.value, (InvalidPayload, RegistryError))


@pytest.mark.parametrize(
    "payload", ["hunter2\ud800", {"hunter2": {1, 2}}, ["hunter2", float("nan")], b"hunter2" * 9]
)
def test_a_refusal_does_not_quote_the_payload(payload: object) -> None:
    with pytest.raises(InvalidPayload) as caught:
        encode(payload, 20)
    assert "hunter2" not in str(caught.value) + repr(caught.value)
