"""The accelerator changes no answer: both ways to write and read JSON, side by side."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.test_payloads import nested, same

from registry import InvalidPayload, payloads
from registry.jsontext import FAST, STANDARD, JsonText

needs_fast = pytest.mark.skipif(FAST is None, reason="needs the extra `fast`")


class Suit(str, enum.Enum):
    HEARTS = "hearts"


class Mute(str, enum.Enum):
    """Its value is not the text that it is."""

    X = "x"

    def __init__(self, _: str) -> None:
        self._value_ = "another"


class Rank(enum.IntEnum):
    ACE = 14


class Plain(enum.Enum):
    A = 1


class Agreeable(enum.Enum):
    """Says that it equals whatever comes back."""

    A = "a"

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


class Text(str):
    pass


class Whole(int):
    pass


class Real(float):
    def __repr__(self) -> str:
        return "nonsense"


class Table(dict):  # type: ignore[type-arg]
    pass


class Row(list):  # type: ignore[type-arg]
    pass


@dataclass
class Data:
    x: int = 1

    def __eq__(self, other: object) -> bool:
        return other == {"x": self.x}


@attrs.define
class Record:
    x: int = 1


Point = namedtuple("Point", "x y")

ODD = st.sampled_from(
    [
        *(Suit.HEARTS, Mute.X, Rank.ACE, Plain.A, Agreeable.A),
        *(Text("t"), Text("\ud800"), Whole(3), Whole(2**70), Real(1.5), Real("nan")),
        *(Table(a=1), Table({1: 2}), Row([1]), Row([(1,)]), OrderedDict(b=1, a=2)),
        *(defaultdict(int, a=1), Data(), Record(), Point(1, 2), (), (1,), {1}, frozenset()),
        *(b"x", bytearray(b"x"), memoryview(b"x"), 1j, Decimal("1.5"), UUID(int=7)),
        *(date(2024, 1, 1), object, ..., NotImplemented, range(2)),
    ]
)
NUMBERS = st.sampled_from(
    [
        *(
            2**63 - 1,
            2**63,
            2**64 - 1,
            2**64,
            -(2**63),
            -(2**63) - 1,
            2**53 + 1,
            10**25,
            -(10**400),
        ),
        *(0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e16, 1e22, 1e-7, 123456789.123456789),
        *(float("nan"), float("inf"), -float("inf")),
    ]
)
KEYS = st.text(max_size=3) | st.sampled_from(
    [
        "null",
        "\0",
        "\u2028",
        "\ud800",
        Text("k"),
        Suit.HEARTS,
        Mute.X,
        1,
        None,
        True,
        1.5,
        b"k",
        (1,),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=10)
    | NUMBERS
    | ODD
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(inner, max_size=2).map(tuple)
        | st.lists(inner, max_size=2).map(Row)
        | st.dictionaries(KEYS, inner, max_size=2).map(Table)
        | st.tuples(st.integers(95, 104), inner).map(lambda deep: wrapped(*deep))
    ),
    max_leaves=12,
)


def wrapped(levels: int, value: object) -> object:
    for level in range(levels):
        value = {"k": value} if level % 2 else [value]
    return value


def answer(path: JsonText, payload: object) -> tuple[object, ...]:
    """What becomes of a payload: refused, with the words of the refusal; or read back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "json_text", path)
        try:
            codec, data = payloads.encode(payload, 2**31)
        except Exception as error:
            return type(error), str(error)
    return codec, data


def read(path: JsonText, data: bytes) -> object:
    try:
        return path.loads(data)
    except ValueError as error:
        return type(error), str(error)


def agree(one: object, other: object) -> bool:
    return same(one, other) or (one != one and other != other)  # a NaN, written by hand


@needs_fast
@given(ANYTHING)
@example(nested(payloads.DEEPEST))
@example(nested(payloads.DEEPEST + 1))
@example({"a": [1.0, None, float("nan")]})
@example([None, "null", 1.5])
@example({1: "x", "1": "y"})
@example([Agreeable.A])
@example(Data())
@example([Mute.X, {Mute.X: 1}])
@example([Real(1.5)])
@example(10**5000)
@example(-(2**63) - 1)
def test_what_goes_in_and_what_comes_out_does_not_depend_on_the_path(payload: object) -> None:
    assert FAST is not None
    slow, fast = answer(STANDARD, payload), answer(FAST, payload)
    if isinstance(slow[0], type):
        assert fast == slow
        return
    assert isinstance(slow[1], bytes)
    assert isinstance(fast[1], bytes)
    assert fast[0] == slow[0]
    if slow[0] == payloads.JSON:
        values = [path.loads(data) for path in (STANDARD, FAST) for data in (slow[1], fast[1])]
        assert all(same(value, values[0]) for value in values)
        assert values[0] == payload
        assert len(fast[1]) <= len(slow[1]), "and the limit lets no less through"


# What a row may hold that was written by hand, or by another program.
FRAGMENTS = st.sampled_from(
    [
        *("{", "}", "[", "]", ",", ":", " ", "\n", "\t", '"', '"a"', '"\\ud800"', '"\\udc00x"'),
        *('"\\ud83d\\ude00"', '"\\u0000"', '"\\/"', '"\\x"', "null", "true", "NaN", "Infinity"),
        *("-0", "-0.0", "0", "01", "1.", ".5", "1e5", "1E+5", "1e400", "-1e400", "1e-400", "-"),
        *("18446744073709551615", "18446744073709551616", "-9223372036854775809", "9" * 40),
        *("9007199254740993.0", "2.2250738585072011e-308", '{"a":1,"b":2,"a":3}', "\ufeff", "\0"),
    ]
)


@needs_fast
@given(st.lists(FRAGMENTS, max_size=6).map("".join).map(str.encode) | st.binary(max_size=12))
@example(b'{"a":1,"b":2,"a":3}')
@example(b" [1, 2]\n")
@example(b"1e400")
@example(b"[-0, -0.0]")
@example(b"18446744073709551616")
@example(b'"\\ud800"')
@example(b"\xef\xbb\xbf1")
@example(b'"\xff"')
@example(b'"\xed\xa0\x80"')
@example(b'"\\ud83dx\\ude00"')
@example(b"[1]\x00")
@example(b"[" * 150 + b"]" * 150)
def test_what_is_read_does_not_depend_on_the_path_even_if_nobody_here_wrote_it(data: bytes) -> None:
    assert FAST is not None
    assert agree(read(FAST, data), read(STANDARD, data))


@needs_fast
def test_the_accelerator_is_what_payloads_use_where_it_is_installed() -> None:
    assert payloads.json_text is FAST


def test_without_the_accelerator_the_standard_library_serves() -> None:
    program = (
        "import sys; sys.modules['msgspec'] = None; "
        "import registry; from registry import payloads; "
        "print(payloads.json_text.name, payloads.decode(*payloads.encode({'a': [1.5]}, 99)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stderr, done.stdout) == ("", "json {'a': [1.5]}\n")


@pytest.mark.parametrize("path", [path for path in (STANDARD, FAST) if path])
@pytest.mark.parametrize("make", [lambda: [1.5] * 5, lambda: {"k": "v\u2028"}, lambda: 7])
def test_what_is_written_has_no_line_break_and_no_space(
    path: JsonText, make: Callable[[], object]
) -> None:
    data = path.dumps(make())
    assert data.split() == [data]
    assert json.loads(data) == make()


def test_an_error_of_the_accelerator_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers past every float are read as the standard library reads them."""
    for path in (STANDARD, FAST):
        if path:
            assert path.loads(b"[1e999]") == [float("inf")]
    with pytest.raises(InvalidPayload):
        payloads.encode([float("inf")], 99)
