"""How numbers, times and texts are shown to an operator."""

from __future__ import annotations

import pytest

from registry.looking import clip, columns, count, printable, size, span


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0s"),
        (9.96, "10.0s"),
        (59.4, "59s"),
        (59.6, "1m0s"),
        (3_599, "59m59s"),
        (3_600, "1h0m"),
        (86_399, "23h59m"),
        (100_000, "1d3h"),
        (-75, "-1m15s"),
    ],
)
def test_a_span(seconds: float | None, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"), [(None, "-"), (0, "0"), (1234.4, "1,234"), (10_000, "10,000")]
)
def test_a_count(number: float | None, shown: str) -> None:
    assert count(number) == shown


def test_a_count_that_went_no_further() -> None:
    assert count(1_000, capped=True) == "1,000+"


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**52, "4096.0 TiB")],
)
def test_a_size(number: float, shown: str) -> None:
    assert size(number) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 王", "Zoë 王"),
        ("\x1b[31m\n", r"\x1b[31m\n"),
        ("a\u202eb\x9bc\u2028", r"a\u202eb\x9bc\u2028"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_text_is_clipped_after_it_was_escaped() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcde…"
    assert clip("\x1b" * 3, 6) == r"\x1b\…"


def test_columns_stand_where_they_should() -> None:
    table = columns(("name", "n", "end"), [("a", "10,000", "x"), ("long one", "1", "")], " r")
    assert table == ["name           n  end", "a         10,000  x", "long one       1"]
