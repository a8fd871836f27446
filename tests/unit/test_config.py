"""The settings: sensible by default, checked when made, never changed after."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from registry import GameSessionRegistry, InvalidArgument, RegistryConfig
from registry.arguments import LONGEST

SECONDS = [
    "session_ttl",
    "replay_retention",
    "pool_timeout",
    "statement_timeout",
    "lock_timeout",
    "cache_timeout",
    "standby_timeout",
]
COUNTS = [
    "max_events_per_game",
    "max_payload_bytes",
    "replay_limit",
    "batch_size",
    "pool_min_size",
    "pool_max_size",
    "max_waiting_bytes",
    "cache_events",
    "standby_after",
]
LIMITS = ["max_sessions_per_game", "max_sessions_per_user"]


def test_the_defaults_are_what_the_documents_say() -> None:
    config = RegistryConfig()
    assert config.max_payload_bytes == 64 * 1024
    assert config.on_token_reuse == "revoke"
    assert config.lock_timeout < config.statement_timeout


def test_these_tests_know_every_setting_of_a_kind() -> None:
    kinds = {"float": SECONDS, "int": [*COUNTS, "cache_bytes"], "int | None": LIMITS}
    for kind, names in kinds.items():
        assert {f.name for f in attrs.fields(RegistryConfig) if f.type == kind} == set(names)


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0.001, 1, 2.5, "most"])
def test_seconds_within_bounds_are_taken(name: str, value: Any) -> None:
    if value == "most":
        value = 86_400 if name.endswith("_timeout") else LONGEST
    assert getattr(RegistryConfig(**{name: value}), name) == value


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0001, LONGEST * 2, 10**400, float("nan"), float("inf"), True, None, "5", b"5"],
    ids=lambda value: repr(value)[:12],
)
def test_seconds_out_of_bounds_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} must"):
        RegistryConfig(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
def test_counts_within_bounds_are_taken(name: str) -> None:
    most = 2**31 - 1
    others = {"pool_max_size": most}
    if name in ("replay_limit", "max_payload_bytes"):  # a page has to fit into a message
        most = 2**28
        others = {"replay_limit": 1, "max_payload_bytes": 1}
    assert getattr(RegistryConfig(**{**others, name: most}), name) == most


def test_the_largest_page_has_to_fit_into_a_message() -> None:
    with pytest.raises(InvalidArgument, match="replay_limit times max_payload_bytes"):
        RegistryConfig(replay_limit=2**14 + 1, max_payload_bytes=2**14)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize(
    "value", [0, -1, 2**31, 10**400, 1.0, True, None, "5"], ids=lambda value: repr(value)[:12]
)
def test_counts_out_of_bounds_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name} must"):
        RegistryConfig(**{name: value})


def test_the_memory_for_replays_may_be_none_at_all() -> None:
    for value in (0, 2**40):
        assert RegistryConfig(cache_bytes=value).cache_bytes == value
    for wrong in (-1, 2**40 + 1, 1.0, True, None, "5"):
        with pytest.raises(InvalidArgument, match=r"^cache_bytes must"):
            RegistryConfig(cache_bytes=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_a_count_or_none(name: str) -> None:
    assert getattr(RegistryConfig(), name) is None
    assert getattr(RegistryConfig(**{name: 2**31 - 1}), name) == 2**31 - 1
    for value in (0, -1, 2**31, 1.0, True, "5"):
        with pytest.raises(InvalidArgument, match=f"^{name} must"):
            RegistryConfig(**{name: value})


class Sly(int):
    def __le__(self, other: int) -> bool:
        return True

    __ge__ = __le__

    def __mul__(self, other: int) -> int:
        return 0


def test_a_setting_is_kept_as_it_was_checked() -> None:
    config = RegistryConfig(replay_limit=Sly(5), session_ttl=Sly(5), max_sessions_per_game=Sly(5))
    for value in (config.replay_limit, config.session_ttl, config.max_sessions_per_game):
        assert type(value) in (int, float)
        assert value == 5
    for name in ("replay_limit", "session_ttl", "max_sessions_per_user"):
        with pytest.raises(InvalidArgument):
            RegistryConfig(**{name: Sly(10**12)})


@pytest.mark.parametrize("value", ["", "Revoke", "ignore", None, True, 1, ["revoke"]], ids=repr)
def test_a_token_reused_is_revoked_or_refused_and_nothing_else(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^on_token_reuse must"):
        RegistryConfig(on_token_reuse=value)  # type: ignore[arg-type]


def test_the_pool_cannot_be_smaller_than_its_least() -> None:
    with pytest.raises(InvalidArgument, match="pool_max_size"):
        RegistryConfig(pool_min_size=5, pool_max_size=4)
    assert RegistryConfig(pool_min_size=4, pool_max_size=4).pool_max_size == 4


def test_settings_are_named_and_do_not_change() -> None:
    with pytest.raises(TypeError):
        RegistryConfig(900.0)  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        RegistryConfig().session_ttl = 1  # type: ignore[misc]


@pytest.mark.parametrize("config", [{}, {"session_ttl": 5}, "x", 5])
def test_only_a_config_is_a_config(config: object) -> None:
    with pytest.raises(InvalidArgument, match="config"):
        GameSessionRegistry.connect("host=/nowhere", config=config)  # type: ignore[arg-type]


@pytest.mark.parametrize("conninfo", [None, 5, b"host=x", {}])
def test_only_a_text_is_a_conninfo(conninfo: object) -> None:
    with pytest.raises(InvalidArgument, match="conninfo"):
        GameSessionRegistry.connect(conninfo)  # type: ignore[arg-type]


@pytest.mark.parametrize("conninfo", ["hunter2", "host=x password='hunter2", "postgres://[hunter2"])
def test_a_conninfo_that_is_none_is_refused_without_being_quoted(conninfo: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        GameSessionRegistry.connect(conninfo)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("pool", [None, "host=x", object()])
def test_only_a_pool_is_a_pool(pool: object) -> None:
    with pytest.raises(InvalidArgument, match="pool"):
        GameSessionRegistry(pool)  # type: ignore[arg-type]
