"""Whatever is passed to a public method: a typed error that changes nothing, or success."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hostile import ODD, Stage, anything
from hypothesis import given
from hypothesis import strategies as st

from registry import GameSessionRegistry, InvalidArgument, RegistryConfig, migrate

METHODS = sorted(
    name
    for name, _ in inspect.getmembers(GameSessionRegistry, inspect.isfunction)
    if not name.startswith("_") and name not in ("close", "migrate")
)


@pytest.fixture(scope="module", params=["alone", "together"])
def stage(request: pytest.FixtureRequest, module_conninfo: str) -> Iterator[Stage]:
    stage = Stage(module_conninfo, together=request.param == "together")
    yield stage
    stage.close()


def test_these_tests_know_every_method_and_all_that_it_takes(stage: Stage) -> None:
    known = stage.arguments()
    assert sorted(known) == METHODS
    for method, names in known.items():
        takes = inspect.signature(getattr(GameSessionRegistry, method)).parameters
        assert ["self", *names] == list(takes)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
def test_whatever_a_method_is_given_it_refuses_or_does(
    stage: Stage, method: str, data: st.DataObject
) -> None:
    stage.play(data.draw, method)


@pytest.mark.parametrize("method", METHODS)
def test_each_odd_value_in_each_place_is_refused_or_taken(stage: Stage, method: str) -> None:
    for name in stage.arguments()[method]:
        for make in ODD:
            if stage.call(method, {**stage.right()[method], name: make()}):
                stage.reset()


SETTINGS = sorted(inspect.signature(RegistryConfig).parameters)


@given(st.sampled_from(SETTINGS), anything)
def test_whatever_a_setting_is_given_it_is_refused_or_kept(name: str, value: object) -> None:
    try:
        config = RegistryConfig(**{name: value})
    except InvalidArgument:
        return
    kept = getattr(config, name)
    assert kept is None or type(kept) in (int, float, str, bool)


@pytest.mark.parametrize("make", ODD)
def test_what_is_no_connection_string_is_refused_at_once(make: Callable[[], Any]) -> None:
    for call in (GameSessionRegistry.connect, GameSessionRegistry, migrate):
        with pytest.raises(InvalidArgument):
            call(make())
