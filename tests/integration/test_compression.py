"""Compressed payloads in a database: smaller, read by everybody, never a crash."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from attrs import fields
from probes import at_once, configured, empty, rows, value
from psycopg_pool import ConnectionPool

from registry import (
    GameSessionRegistry,
    InvalidArgument,
    InvalidPayload,
    PayloadTooLarge,
    PayloadUnreadable,
    RegistryConfig,
    RegistryError,
    SchemaMismatch,
    schema,
    zstd,
)
from registry.extras import install
from registry.storage import TrainedDictionary

pytest.importorskip("zstandard")

Registry = GameSessionRegistry

SECRET = "the-queen-is-in-the-cellar"
BOARD = {"board": [[{"piece": "pawn", "moved": False}] * 8] * 8, "secret": SECRET}


def move(n: int) -> dict[str, Any]:
    return {"move": f"{'abcdefgh'[n % 8]}{n % 8 + 1}", "by": ["white", "black"][n % 2], "n": n}


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def plain(conninfo: str) -> Iterator[Registry]:
    """A registry that writes payloads as they are."""
    with configured(conninfo) as registry:
        yield registry


@pytest.fixture
def dense(conninfo: str) -> Iterator[Registry]:
    """A registry that compresses."""
    with configured(conninfo, compression="zstd") as registry:
        yield registry


def codecs(conninfo: str, game_id: str = "chess") -> list[int]:
    query = "SELECT codec FROM game_event WHERE game_id = %s ORDER BY sequence"
    return [codec for (codec,) in rows(conninfo, query, [game_id])]


def payloads(registry: Registry, game_id: str = "chess") -> list[object]:
    return [event.payload for event in registry.iter_events_since(game_id, 0)]


def trained(registry: Registry, game_id: str = "training") -> TrainedDictionary:
    registry.record_events(game_id, [move(n) for n in range(2_000)])
    return registry.train_dictionary(size=2_048)


def test_nothing_is_compressed_unless_it_is_asked_for(plain: Registry, conninfo: str) -> None:
    assert RegistryConfig().compression is None
    plain.record_events("chess", [BOARD, b"x" * 5_000, move(1)])
    assert codecs(conninfo) == [1, 0, 1]


@pytest.mark.parametrize("wrong", ["gzip", "", True, 0, b"zstd"])
def test_only_zstd_is_a_compression(wrong: object) -> None:
    with pytest.raises(InvalidArgument, match="compression"):
        RegistryConfig(compression=wrong)  # type: ignore[arg-type]


def test_what_gets_smaller_is_compressed_and_what_does_not_is_not(
    dense: Registry, plain: Registry, conninfo: str
) -> None:
    noise = random.Random(1).randbytes(500)
    given = [BOARD, b"x" * 5_000, {"a": 1}, noise, "", None, b"", "e4" * 400]
    assert dense.record_events("chess", given) == range(1, 9)
    assert codecs(conninfo) == [3, 2, 1, 0, 1, 1, 0, 3]
    assert payloads(dense) == payloads(plain) == given
    sizes = rows(conninfo, "SELECT octet_length(payload) FROM game_event ORDER BY sequence")
    assert all(size < 300 for (size,) in sizes[:2])


def test_every_way_to_record_compresses(dense: Registry, conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        dense.record_event("chess", BOARD, connection=connection)
    dense.record_event("chess", BOARD)
    dense.record_event("chess", BOARD, event_id=uuid4(), expected_sequence=3)
    dense.record_events("chess", [BOARD])
    assert codecs(conninfo) == [3] * 4
    assert payloads(dense) == [BOARD] * 4


def test_a_resume_and_a_document_say_the_same_as_without(dense: Registry, plain: Registry) -> None:
    given = [BOARD, b"x" * 5_000, move(1)]
    for registry, game_id in ((dense, "dense"), (plain, "plain")):
        token = registry.issue_resume_token(game_id, "alice").token
        registry.record_events(game_id, given)
        resumed = plain.resume(token, after=0)
        assert [event.payload for event in resumed.replay.events] == given
        page = plain.fetch_events_since(game_id, 0)
        for copy in (page, pickle.loads(pickle.dumps(page))):
            assert copy.json() == plain.fetch_events_json(game_id, 0)
    said = [
        [
            {**event, "recorded_at": None}
            for event in json.loads(plain.fetch_events_json(game_id, 0).document)["events"]
        ]
        for game_id in ("dense", "plain")
    ]
    assert said[0] == said[1]
    assert said[0][0]["payload"] == BOARD


def test_the_limit_is_on_the_payload_before_it_is_compressed(conninfo: str) -> None:
    with configured(conninfo, compression="zstd", max_payload_bytes=1_000) as registry:
        assert registry.record_event("chess", b"x" * 1_000) == 1
        with pytest.raises(PayloadTooLarge) as caught:
            registry.record_event("chess", b"x" * 1_001)
        assert caught.value.size == 1_001
        with pytest.raises(InvalidPayload):
            registry.record_event("chess", [float("nan")])
    with configured(conninfo, max_payload_bytes=10) as registry:
        assert payloads(registry) == [b"x" * 1_000], "recorded under a larger limit"


# Dictionaries


def test_a_dictionary_makes_small_payloads_smaller(dense: Registry, conninfo: str) -> None:
    made = trained(dense)
    assert (made.number, made.events) == (1, 400)
    assert made.size <= 2_048
    assert made.compressed < made.without <= made.plain
    dense.record_events("chess", [move(n) for n in range(9)])
    assert codecs(conninfo) == [5] * 9
    assert payloads(dense) == [move(n) for n in range(9)]


def test_who_was_open_before_the_dictionary_reads_by_it(
    dense: Registry, plain: Registry, conninfo: str
) -> None:
    with configured(conninfo, compression="zstd") as running:
        running.record_event("chess", BOARD)
        assert payloads(plain) == [BOARD]
        trained(dense)
        dense.record_events("chess", [move(1), b"e4e5" * 9])
        running.record_event("chess", BOARD)
        with configured(conninfo, compression="zstd") as opened_later:
            opened_later.record_event("chess", move(2))
        assert codecs(conninfo) == [3, 5, 4, 3, 5], "and goes on writing by what it had"
        for registry in (plain, running, dense):
            assert payloads(registry) == [BOARD, move(1), b"e4e5" * 9, BOARD, move(2)]


def test_dictionaries_stay_and_the_newest_is_written_by(dense: Registry, conninfo: str) -> None:
    first = trained(dense)
    dense.record_event("chess", move(1))
    before = rows(conninfo, "SELECT * FROM payload_dictionary")
    second = trained(dense, "more training")
    assert (first.number, second.number) == (1, 2)
    dense.record_event("chess", move(2))
    assert codecs(conninfo) == [5, 7]
    assert rows(conninfo, "SELECT * FROM payload_dictionary WHERE id = 1") == before
    with configured(conninfo, compression="zstd") as registry:
        registry.record_event("chess", move(3))
        assert payloads(registry) == [move(n) for n in (1, 2, 3)]
    assert codecs(conninfo) == [5, 7, 7]


def test_it_is_trained_on_compressed_events_too(dense: Registry) -> None:
    trained(dense)
    made = trained(dense, "written by the first")
    assert made.plain / made.events == pytest.approx(35, abs=5)


def test_games_without_events_do_not_spoil_the_sample(dense: Registry, conninfo: str) -> None:
    dense.record_events("chess", [move(n) for n in range(2_000)])
    lobbies = "INSERT INTO game (game_id) SELECT 'lobby ' || n FROM generate_series(1, 900) AS n"
    rows(conninfo, lobbies)
    assert dense.train_dictionary(size=1_024).events == 400


def test_two_who_train_at_once_make_two_dictionaries(dense: Registry, plain: Registry) -> None:
    dense.record_events("chess", [move(n) for n in range(2_000)])
    made = at_once([lambda r=r: r.train_dictionary(size=1_024).number for r in [dense, plain] * 2])
    assert sorted(made, key=str) == [1, 2, 3, 4]


def test_a_dictionary_that_cannot_help_is_not_kept(dense: Registry, conninfo: str) -> None:
    with pytest.raises(RegistryError, match="not enough"):
        dense.train_dictionary()
    noise = random.Random(1)
    dense.record_events("noise", [noise.randbytes(60) for _ in range(3_000)])
    with pytest.raises(RegistryError, match=r"no smaller|not enough"):
        dense.train_dictionary(size=1_024)
    assert value(conninfo, "SELECT count(*) FROM payload_dictionary") == 0
    for size in (0, 255, 2**20 + 1, "big", True):
        with pytest.raises(InvalidArgument, match="size"):
            dense.train_dictionary(size=size)  # type: ignore[arg-type]


def test_the_first_to_compress_needs_no_second_connection(conninfo: str) -> None:
    """The caller's own may be the only one that the pool has."""
    with configured(conninfo, compression="zstd") as registry:
        trained(registry)
    with ConnectionPool(conninfo, min_size=1, max_size=1, open=True) as pool:
        config = RegistryConfig(compression="zstd", pool_timeout=0.5)
        registry = GameSessionRegistry(pool, config=config)
        with pool.connection() as connection:
            registry.record_event("chess", move(1), connection=connection)
            connection.rollback()
            registry.record_event("chess", move(2), connection=connection)
        assert codecs(conninfo) == [5]
        assert payloads(registry) == [move(2)]


# What cannot be read


def unreadable(registry: Registry, sequence: int) -> str:
    """What a page that goes past this event says, however it is looked at; it names no payload."""
    said = set()
    for look in (
        lambda: registry.fetch_events_since("chess", 0).events,
        lambda: registry.fetch_events_json("chess", 0),
        lambda: list(registry.iter_events_since("chess", 0)),
    ):
        with pytest.raises(PayloadUnreadable) as caught:
            look()
        assert (caught.value.game_id, caught.value.sequence) == ("chess", sequence)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert SECRET not in repr(caught.value)
        said.add(str(caught.value))
    (words,) = said
    return words


def test_without_the_extra_a_compressed_row_says_what_to_install(
    dense: Registry, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense.record_events("chess", [1, 2])
    dense.record_event("chess", BOARD)
    token = dense.issue_resume_token("chess", "alice").token
    monkeypatch.setattr(zstd, "INSTALLED", False)
    with configured(conninfo) as poor:
        assert install("compression") in unreadable(poor, 3)
        assert [e.payload for e in poor.fetch_events_since("chess", 0, limit=2).events] == [1, 2]
        resumed = poor.resume(token, after=0)
        assert resumed.token, "the client gets its token all the same"
        assert repr(resumed.replay)
        poor.record_events("training", [move(n) for n in range(2_000)])
        with pytest.raises(RegistryError, match="compression"):
            poor.train_dictionary(size=2_048)


def test_a_dictionary_that_is_gone_is_said(dense: Registry, plain: Registry, conninfo: str) -> None:
    trained(dense)
    dense.record_event("chess", move(1))
    ((content,),) = rows(conninfo, "DELETE FROM payload_dictionary RETURNING content")
    assert "dictionary 1 is not in payload_dictionary" in unreadable(plain, 1)
    assert payloads(dense) == [move(1)], "it has seen it"
    rows(conninfo, "INSERT INTO payload_dictionary (id, content) VALUES (1, %s)", [content])
    assert payloads(plain) == [move(1)]


@pytest.mark.parametrize(
    "damage",
    ["substr(payload, 2)", "payload || 'x'", "'x'", "''", r"'\xe0ffffffffffffff7f010000'"],
)
def test_a_damaged_compressed_row_is_said(
    dense: Registry, plain: Registry, conninfo: str, damage: str
) -> None:
    dense.record_events("chess", [1, BOARD, BOARD])
    rows(conninfo, f"UPDATE game_event SET payload = {damage} WHERE sequence = 2")
    for registry in (dense, plain):
        assert "damaged" in unreadable(registry, 2)
    dense.prune_events("chess", 2)
    assert [e.payload for e in plain.fetch_events_since("chess", 2).events] == [BOARD]


def test_damaged_json_inside_a_sound_frame_is_said(
    dense: Registry, plain: Registry, conninfo: str
) -> None:
    dense.record_event("chess", SECRET.encode() * 99)
    rows(conninfo, "UPDATE game_event SET codec = 3")
    with pytest.raises(PayloadUnreadable, match="damaged") as caught:
        plain.fetch_events_since("chess", 0).events  # noqa: B018
    assert caught.value.__context__ is None


# The schema


def test_the_schema_is_not_taken_back_under_compressed_events(
    blank_conninfo: str,
) -> None:
    schema.migrate(blank_conninfo)
    with configured(blank_conninfo, compression="zstd") as registry:
        registry.record_event("chess", BOARD)
        before = "0002_registry_upkeep_indexes"
        with pytest.raises(SchemaMismatch, match="compressed events"):
            schema.rollback(blank_conninfo, to=before)
        assert payloads(registry) == [BOARD]
        registry.prune_events("chess", 1)
        undone = schema.rollback(blank_conninfo, to=before)
        assert undone[-1] == "0003_registry_payload_dictionary"
    with pytest.raises(SchemaMismatch, match="too old"):
        GameSessionRegistry.connect(blank_conninfo)


def test_a_trained_dictionary_says_what_it_does() -> None:
    names = [field.name for field in fields(TrainedDictionary)]
    assert names == ["number", "size", "events", "plain", "without", "compressed"]
