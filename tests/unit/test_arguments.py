"""Arguments: a typed error for whatever is out of range, of the wrong type, or no text at all."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import InvalidArgument, SessionNotFound, arguments
from registry.arguments import LONGEST


@pytest.mark.parametrize("text", ["a", "x" * 200, "\U0001f3b2" * 200, " ", "a/b", "日本", "\n"])
def test_an_id_is_any_text_of_1_to_200_characters(text: str) -> None:
    assert arguments.text_id("game_id", text) == text


@pytest.mark.parametrize(
    "value",
    ["", "x" * 201, "a\0b", "\ud800", "a\udfffb", None, 1, b"a", ["a"], UUID(int=7)],
    ids=repr,
)
def test_any_other_id_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^user_id must") as caught:
        arguments.text_id("user_id", value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1])
def test_a_sequence_is_any_whole_number_that_a_log_can_reach(number: int) -> None:
    assert arguments.whole("sequence", number) == number
    assert arguments.optional_whole("sequence", number) == number


@pytest.mark.parametrize(
    "value", [-1, 2**63, 10**5000, True, False, 1.0, float("nan"), "1", b"1", [1], None], ids=type
)
def test_any_other_sequence_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^sequence must"):
        arguments.whole("sequence", value)


def test_optional_arguments_may_be_none() -> None:
    assert arguments.optional_whole("generation", None) is None
    assert arguments.optional_uuid("epoch", None) is None


def test_a_lower_bound_is_kept() -> None:
    assert arguments.whole("limit", 1, 1) == 1
    with pytest.raises(InvalidArgument):
        arguments.whole("limit", 0, 1)
    with pytest.raises(InvalidArgument):
        arguments.optional_whole("generation", 0, 1)


@pytest.mark.parametrize("number", [0.001, 1, 2.5, LONGEST, int(LONGEST)])
def test_seconds_are_any_number_up_to_ten_years(number: float) -> None:
    assert arguments.seconds("ttl", number) == number


@pytest.mark.parametrize(
    "value",
    [0, 0.0009, -1, LONGEST + 1, 10**400, float("nan"), float("inf"), True, "1", None, b"1", [1]],
    ids=lambda value: repr(value)[:12],
)
def test_any_other_seconds_are_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^ttl must"):
        arguments.seconds("ttl", value)


@pytest.mark.parametrize("value", [str(uuid4()), uuid4().bytes, 1, b"", object()], ids=type)
def test_only_a_uuid_is_a_uuid(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^epoch must"):
        arguments.optional_uuid("epoch", value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_a_session_id_is_taken_apart_into_what_it_was_made_of(game_id: str) -> None:
    uuid = uuid4()
    assert arguments.session_key(f"{game_id[:200]}/{uuid}") == (game_id[:200], uuid)


@pytest.mark.parametrize(
    "change",
    [
        lambda uuid: "",
        lambda uuid: "/",
        lambda uuid: "game",
        lambda uuid: f"/{uuid}",
        lambda uuid: f"{uuid}",
        lambda uuid: f"game/{uuid.hex}",
        lambda uuid: f"game/{str(uuid).upper()}",
        lambda uuid: f"game/{{{uuid}}}",
        lambda uuid: f"game/urn:uuid:{uuid}",
        lambda uuid: f"game/{uuid}/",
        lambda uuid: f"game/{uuid} ",
        lambda uuid: f"{'g' * 201}/{uuid}",
        lambda uuid: f"a\0/{uuid}",
        lambda uuid: f"\ud800/{uuid}",
        lambda uuid: "x" * 1_000_000,
    ],
)
def test_a_text_that_is_no_session_id_names_no_session(change: Callable[[UUID], str]) -> None:
    text = change(UUID("abcdefab-cdef-abcd-efab-cdefabcdefab"))
    with pytest.raises(SessionNotFound) as caught:
        arguments.session_key(text)
    assert caught.value.session_id == text[:240]
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [None, 1, b"game/x", uuid4(), ("g", "u")], ids=type)
def test_a_session_id_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^session_id must"):
        arguments.session_key(value)
