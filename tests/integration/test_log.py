"""The log of a game: recorded, read, acknowledged, pruned, ended; and honest about all of it."""

from __future__ import annotations

import json
import logging
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from uuid import uuid4

import psycopg
import pytest
from probes import (
    PATIENCE,
    PATIENT,
    as_just_opened,
    at_once,
    configured,
    dump,
    empty,
    held,
    hold_game,
    hold_session,
    in_thread,
    rows,
    sequences,
    several,
    until_blocked,
    value,
)
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool
from support import Clock, wait_until

from registry import (
    Acknowledgement,
    AheadOfLog,
    Continuity,
    EpochMismatch,
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    InvalidArgument,
    InvalidPayload,
    InvalidToken,
    LogCorrupted,
    PayloadUnreadable,
    RegistryConfig,
    SequenceConflict,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionState,
)
from registry.queries import queries
from registry.statements import execute

Registry = GameSessionRegistry


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture(scope="module")
def shared(module_conninfo: str) -> Iterator[Registry]:
    with GameSessionRegistry.connect(module_conninfo, config=RegistryConfig(**PATIENT)) as registry:
        yield registry


@pytest.fixture
def registry(shared: Registry, conninfo: str) -> Registry:
    """A registry on an empty database."""
    return shared


def numbers(registry: Registry, game_id: str, after: int = 0) -> list[int]:
    return [event.sequence for event in registry.iter_events_since(game_id, after)]


def session(registry: Registry, game_id: str, user_id: str) -> str:
    return registry.issue_resume_token(game_id, user_id).session.session_id


# record_event


def test_sequences_begin_at_one_and_have_no_gap(registry: Registry) -> None:
    assert [registry.record_event("chess", n) for n in range(5)] == [1, 2, 3, 4, 5]
    assert registry.record_event("go", 0) == 1
    assert numbers(registry, "chess") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "payload",
    [
        None,
        True,
        0,
        -1.5,
        "",
        "\0\u2028€\U0001f3b2",
        [],
        {},
        {"a": [1, {"b": None}]},
        b"",
        b"\0\xff",
    ],
    ids=repr,
)
def test_a_payload_comes_back_equal_from_the_database(registry: Registry, payload: object) -> None:
    registry.record_event("one", payload)
    registry.record_events("many", [payload, payload])
    token = registry.issue_resume_token("one", "alice").token
    read = [
        *registry.fetch_events_since("one", 0).events,
        *registry.fetch_events_since("many", 0).events,
        *registry.resume(token, after=0).replay.events,
    ]
    assert [event.payload for event in read] == [payload] * 4
    assert {type(event.payload) for event in read} == {type(payload)}


def test_an_event_has_the_databases_time(registry: Registry, conninfo: str) -> None:
    before = value(conninfo, "SELECT clock_timestamp()")
    registry.record_event("chess", 1)
    after = value(conninfo, "SELECT clock_timestamp()")
    (event,) = registry.fetch_events_since("chess", 0).events
    assert before <= event.recorded_at <= after
    assert event.recorded_at.utcoffset() is not None


def test_the_largest_payload_is_taken_and_one_byte_more_is_not(registry: Registry) -> None:
    registry.record_event("chess", b"x" * 65_536)
    with pytest.raises(InvalidPayload):
        registry.record_event("chess", b"x" * 65_537)
    assert registry.fetch_events_since("chess", 0).events[0].payload == b"x" * 65_536


def test_threads_that_append_to_one_game_get_each_sequence_once(registry: Registry) -> None:
    def append(worker: int) -> list[tuple[int, int]]:
        return [(registry.record_event("hot", [worker, n]), n) for n in range(25)]

    outcomes = at_once([lambda worker=worker: append(worker) for worker in range(8)])
    given = [sequence for pairs in outcomes for sequence, _ in pairs]
    assert sorted(given) == list(range(1, 201))
    by_sequence = {e.sequence: e.payload for e in registry.iter_events_since("hot", 0)}
    for worker, pairs in enumerate(outcomes):
        assert [sequence for sequence, _ in pairs] == sorted(sequence for sequence, _ in pairs)
        assert all(by_sequence[sequence] == [worker, n] for sequence, n in pairs)


# event_id


def test_the_same_event_id_again_returns_the_first_ones_sequence(
    registry: Registry, conninfo: str
) -> None:
    event_id = uuid4()
    assert registry.record_event("chess", "first", event_id=event_id) == 1
    registry.record_event("chess", "between")
    before = dump(conninfo)
    assert registry.record_event("chess", "again", event_id=event_id) == 1
    assert dump(conninfo) == before
    assert registry.record_event("chess", "other", event_id=uuid4()) == 3


def test_an_event_id_belongs_to_its_game(registry: Registry) -> None:
    event_id = uuid4()
    registry.record_events("chess", range(4))
    assert registry.record_event("chess", 1, event_id=event_id) == 5
    assert registry.record_event("go", 1, event_id=event_id) == 1


def test_an_event_id_is_remembered_after_its_event_was_pruned(registry: Registry) -> None:
    event_id = uuid4()
    registry.record_event("chess", 1, event_id=event_id)
    registry.record_events("chess", range(3))
    registry.prune_events("chess", 4)
    assert registry.record_event("chess", 1, event_id=event_id) == 1
    assert registry.fetch_events_since("chess", 4).head == 4


def test_an_event_id_of_an_ended_game_is_forgotten_with_it(registry: Registry) -> None:
    event_id = uuid4()
    registry.record_events("chess", range(3))
    registry.record_event("chess", 1, event_id=event_id)
    registry.end_game("chess")
    assert registry.record_event("chess", 1, event_id=event_id) == 1
    assert registry.fetch_events_since("chess", 0).head == 1


def test_an_event_id_wins_over_the_expected_sequence(registry: Registry) -> None:
    event_id = uuid4()
    assert registry.record_event("chess", 1, event_id=event_id, expected_sequence=1) == 1
    assert registry.record_event("chess", 1, event_id=event_id, expected_sequence=1) == 1
    assert registry.fetch_events_since("chess", 0).head == 1


def test_one_event_id_at_once_from_many_threads_is_one_event(registry: Registry) -> None:
    for turn in range(1, 6):
        event_id = uuid4()
        append = partial(registry.record_event, "chess", 1, event_id=event_id)
        outcomes = at_once([append] * 8)
        assert outcomes == [turn] * 8
    assert numbers(registry, "chess") == [1, 2, 3, 4, 5]


def test_two_first_uses_of_an_event_id_that_overlap_are_one_event(
    registry: Registry, conninfo: str
) -> None:
    event_id = uuid4()
    registry.record_event("chess", 0)
    with several(conninfo, 3) as registries:
        with hold_game(conninfo, "chess"):
            twins = [
                in_thread(lambda each=each: each.record_event("chess", 1, event_id=event_id))
                for each in registries
            ]
            until_blocked(conninfo, 3, "record_event_checked")
        assert [twin.result(30) for twin in twins] == [2, 2, 2]
    assert numbers(registry, "chess") == [1, 2]


# expected_sequence


def test_an_event_is_appended_only_at_the_expected_sequence(
    registry: Registry, conninfo: str
) -> None:
    assert registry.record_event("chess", 1, expected_sequence=1) == 1
    assert registry.record_event("chess", 2, expected_sequence=2) == 2
    before = dump(conninfo)
    for expected in (1, 2, 4, 2**63 - 1):
        with pytest.raises(SequenceConflict) as caught:
            registry.record_event("chess", 3, expected_sequence=expected, event_id=uuid4())
        assert (caught.value.expected, caught.value.actual) == (expected, 3)
    assert dump(conninfo) == before


def test_a_game_that_is_not_there_is_not_begun_by_a_conflict(
    registry: Registry, conninfo: str
) -> None:
    with pytest.raises(SequenceConflict) as caught:
        registry.record_event("chess", 1, expected_sequence=2)
    assert (caught.value.expected, caught.value.actual) == (2, 1)
    assert value(conninfo, "SELECT count(*) FROM game") == 0
    with pytest.raises(GameNotFound):
        registry.fetch_events_since("chess", 0)


def test_the_expected_sequence_counts_pruned_events(registry: Registry) -> None:
    registry.record_events("chess", range(5))
    registry.prune_events("chess", 5)
    assert registry.record_event("chess", 1, expected_sequence=6) == 6


def test_exactly_one_of_many_who_expect_a_sequence_gets_it(registry: Registry) -> None:
    for expected in range(1, 6):
        append = partial(registry.record_event, "chess", 1, expected_sequence=expected)
        outcomes = at_once([append] * 8)
        assert outcomes.count(expected) == 1
        lost = [outcome for outcome in outcomes if outcome != expected]
        assert {type(outcome) for outcome in lost} == {SequenceConflict}
        assert {(error.expected, error.actual) for error in lost} == {(expected, expected + 1)}
    assert numbers(registry, "chess") == [1, 2, 3, 4, 5]


def test_who_waited_for_a_game_to_begin_learns_the_sequence_after_it(
    registry: Registry, conninfo: str
) -> None:
    with held(conninfo, "SELECT 1") as connection:
        registry.record_event("chess", 1, connection=connection)
        late = in_thread(lambda: registry.record_event("chess", 2, expected_sequence=1))
        until_blocked(conninfo, 1, "record_event_checked")
    with pytest.raises(SequenceConflict) as caught:
        late.result(30)
    assert (caught.value.expected, caught.value.actual) == (1, 2)


# connection=


def test_an_event_in_the_callers_transaction_is_seen_when_it_commits(
    registry: Registry, conninfo: str
) -> None:
    registry.record_event("chess", "before")
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TEMP TABLE mine (n int)")
        assert registry.record_event("chess", "inside", connection=connection) == 2
        assert registry.record_event("chess", "inside", connection=connection) == 3
        assert registry.fetch_events_since("chess", 0).head == 1
        connection.execute("INSERT INTO mine VALUES (1)")
    assert numbers(registry, "chess") == [1, 2, 3]


def test_a_rollback_of_the_callers_transaction_leaves_nothing(
    registry: Registry, conninfo: str
) -> None:
    event_id = uuid4()
    registry.record_event("chess", 0)
    before = dump(conninfo)
    with psycopg.connect(conninfo) as connection:
        registry.record_event("chess", 1, connection=connection, event_id=event_id)
        registry.record_event("new game", 1, connection=connection)
        connection.rollback()
    assert dump(conninfo) == before
    assert registry.record_event("chess", 1, event_id=event_id) == 2


@pytest.mark.parametrize("first", [True, False], ids=["first statement", "later statement"])
def test_an_event_with_an_id_does_not_commit_the_callers_transaction(
    registry: Registry, conninfo: str, first: bool
) -> None:
    registry.record_event("chess", 0)
    with psycopg.connect(conninfo) as connection:
        if not first:
            connection.execute("SELECT 1")
        registry.record_event("chess", 1, connection=connection, event_id=uuid4())
        assert connection.info.transaction_status == TransactionStatus.INTRANS
        assert registry.fetch_events_since("chess", 0).head == 1
        connection.rollback()
    assert registry.fetch_events_since("chess", 0).head == 1


def test_others_wait_for_the_callers_transaction_and_leave_no_gap(
    registry: Registry, conninfo: str
) -> None:
    registry.record_event("chess", 0)
    for commits, expected in ((True, [2, 3]), (False, [4])):
        with psycopg.connect(conninfo) as connection:
            registry.record_event("chess", "mine", connection=connection)
            other = in_thread(lambda: registry.record_event("chess", "other"))
            until_blocked(conninfo, 1, "record_event")
            assert registry.record_event("go", "elsewhere") > 0  # other games do not wait
            if not commits:
                connection.rollback()
        assert other.result(30) == expected[-1]
    assert numbers(registry, "chess") == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("statement", "append"),
    [
        ("record_event", lambda registry, n: [registry.record_event("chess", n)]),
        (
            "record_event_checked",
            lambda registry, n: [registry.record_event("chess", n, event_id=uuid4())],
        ),
        ("record_events", lambda registry, n: registry.record_events("chess", [n, n, n])),
    ],
    ids=["event", "event with an id", "events"],
)
def test_processes_that_waited_for_a_game_each_go_on_from_its_head(
    registry: Registry,
    conninfo: str,
    statement: str,
    append: Callable[[Registry, int], range],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The head that they saw when they came is not the one that they append to."""
    caplog.set_level(logging.INFO, "registry.retrying")
    registry.record_event("chess", "first")
    with several(conninfo, 12) as registries:
        with hold_game(conninfo, "chess"):
            appends = [
                in_thread(lambda n=n, each=each: append(each, n))
                for n, each in enumerate(registries)
            ]
            until_blocked(conninfo, 12, statement)
        given = {
            sequence: n for n, call in enumerate(appends) for sequence in call.result(PATIENCE)
        }
    log = {event.sequence: event.payload for event in registry.iter_events_since("chess", 1)}
    assert log == given
    assert sorted(log) == list(range(2, len(log) + 2))
    assert caplog.messages == []  # nobody had to try again: a sequence was free at once


def test_an_event_id_makes_a_retry_harmless_in_the_callers_transaction_too(
    registry: Registry, conninfo: str
) -> None:
    event_id = uuid4()
    with psycopg.connect(conninfo) as connection:
        assert registry.record_event("chess", 1, event_id=event_id, connection=connection) == 1
        assert registry.record_event("chess", 1, event_id=event_id, connection=connection) == 1
    with psycopg.connect(conninfo) as connection:
        assert registry.record_event("chess", 1, event_id=event_id, connection=connection) == 1
        connection.execute("SELECT 1")
    assert numbers(registry, "chess") == [1]


def test_a_race_for_an_event_id_spoils_nothing_of_the_callers_transaction(
    registry: Registry, conninfo: str
) -> None:
    event_id = uuid4()
    registry.record_event("chess", 0)
    with psycopg.connect(conninfo) as winner, psycopg.connect(conninfo) as loser:
        registry.record_event("chess", 1, event_id=event_id, connection=winner)
        registry.record_event("another", "kept", connection=loser)
        waiting = in_thread(
            lambda: registry.record_event("chess", 1, event_id=event_id, connection=loser)
        )
        until_blocked(conninfo, 1, "record_event_checked")
        winner.commit()
        assert waiting.result(30) == 2
        loser.commit()
    assert numbers(registry, "chess") == [1, 2]
    assert numbers(registry, "another") == [1]


def test_a_conflict_leaves_the_callers_transaction_usable(
    registry: Registry, conninfo: str
) -> None:
    with psycopg.connect(conninfo) as connection:
        registry.record_event("chess", 1, connection=connection)
        with pytest.raises(SequenceConflict):
            registry.record_event("chess", 2, expected_sequence=5, connection=connection)
        registry.record_event("chess", 2, expected_sequence=2, connection=connection)
    assert numbers(registry, "chess") == [1, 2]


def test_a_retry_that_waits_for_its_first_attempt_is_no_conflict(
    registry: Registry, conninfo: str
) -> None:
    event_id = uuid4()
    registry.record_events("chess", range(4))
    with psycopg.connect(conninfo) as first:
        registry.record_event("chess", 5, event_id=event_id, expected_sequence=5, connection=first)
        retry = in_thread(
            lambda: registry.record_event("chess", 5, event_id=event_id, expected_sequence=5)
        )
        until_blocked(conninfo, 1, "record_event_checked")
        first.commit()
        assert retry.result(30) == 5
    assert numbers(registry, "chess") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("connection", ["host=x", 5, object()])
def test_only_a_connection_is_a_connection(registry: Registry, connection: object) -> None:
    with pytest.raises(InvalidArgument):
        registry.record_event("chess", 1, connection=connection)


# record_events


def test_many_events_get_consecutive_sequences_in_their_order(registry: Registry) -> None:
    registry.record_event("chess", "first")
    assert registry.record_events("chess", (n for n in [0, b"1", None, [3]])) == range(2, 6)
    events = registry.fetch_events_since("chess", 1).events
    assert [event.payload for event in events] == [0, b"1", None, [3]]


def test_one_bad_payload_refuses_all(registry: Registry, conninfo: str) -> None:
    registry.record_event("chess", 1)
    before = dump(conninfo)
    for bad in (float("nan"), b"x" * 65_537, {1: 2}):
        with pytest.raises(InvalidPayload):
            registry.record_events("chess", [1, 2, bad, 4])
        with pytest.raises(InvalidPayload):
            registry.record_events("new game", [1, 2, bad, 4])
    assert dump(conninfo) == before


def test_no_payloads_are_no_call(registry: Registry, conninfo: str) -> None:
    assert len(registry.record_events("chess", [])) == 0
    assert value(conninfo, "SELECT count(*) FROM game") == 0


@pytest.mark.parametrize("payloads", ["text", b"bytes", {"a": 1}, bytearray(b"x"), None, 5])
def test_a_single_payload_in_place_of_many_is_an_error(
    registry: Registry, payloads: object
) -> None:
    with pytest.raises(InvalidArgument):
        registry.record_events("chess", payloads)


def test_blocks_of_events_from_many_threads_do_not_mingle(registry: Registry) -> None:
    outcomes = at_once([lambda n=n: registry.record_events("hot", [n] * 7) for n in range(10)])
    payloads = [event.payload for event in registry.iter_events_since("hot", 0)]
    assert sorted(block.start for block in outcomes) == list(range(1, 71, 7))
    for n, block in enumerate(outcomes):
        assert [payloads[sequence - 1] for sequence in block] == [n] * 7


# fetch_events_since, iter_events_since


def test_a_page_is_what_follows_and_says_whether_more_does(registry: Registry) -> None:
    registry.record_events("chess", range(10))

    def page(after: int, limit: int | None = None) -> tuple[list[int], bool]:
        replay = registry.fetch_events_since("chess", after, limit=limit)
        assert (replay.head, replay.floor) == (10, 0)
        return [event.sequence for event in replay.events], replay.more

    assert page(0) == (list(range(1, 11)), False)
    assert page(0, 4) == ([1, 2, 3, 4], True)
    assert page(4, 6) == ([5, 6, 7, 8, 9, 10], False)
    assert page(9, 1) == ([10], False)
    assert page(10) == ([], False)
    assert page(0, 10**12) == (list(range(1, 11)), False)


def test_a_page_is_never_larger_than_configured(conninfo: str) -> None:
    with configured(conninfo, replay_limit=3) as registry:
        registry.record_events("chess", range(10))
        token = registry.issue_resume_token("chess", "alice").token
        for replay in (
            registry.fetch_events_since("chess", 0),
            registry.fetch_events_since("chess", 0, limit=100),
            registry.resume(token, after=0).replay,
            registry.resume(token, after=0, limit=100).replay,
        ):
            assert len(replay.events) == 3
            assert replay.more
        assert len(registry.resume(token, after=0, limit=2).replay.events) == 2
        assert numbers(registry, "chess") == list(range(1, 11))
        assert [e.sequence for e in registry.iter_events_since("chess", 5, page_size=100)] == [
            6, 7, 8, 9, 10,
        ]  # fmt: skip


def test_history_that_is_gone_or_never_was_is_said_and_never_skipped(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    registry.prune_events("chess", 4)
    epoch = registry.fetch_events_since("chess", 4).epoch
    for position in (0, 3):
        for call in (registry.fetch_events_since, registry.iter_events_since):
            with pytest.raises(HistoryPruned) as pruned:
                call("chess", position)
            assert (pruned.value.floor, pruned.value.head) == (4, 10)
    for call in (registry.fetch_events_since, registry.iter_events_since):
        with pytest.raises(AheadOfLog) as ahead:
            call("chess", 11)
        assert ahead.value.head == 10
        with pytest.raises(GameNotFound) as missing:
            call("no game", 0)
        assert missing.value.game_id == "no game"
    with pytest.raises(EpochMismatch) as other:
        registry.fetch_events_since("chess", 4, epoch=uuid4())
    assert other.value.epoch == epoch
    assert len(registry.fetch_events_since("chess", 4, epoch=epoch).events) == 6


def test_the_wrong_epoch_is_said_before_the_position_in_it(registry: Registry) -> None:
    registry.record_events("chess", range(3))
    with pytest.raises(EpochMismatch):
        registry.fetch_events_since("chess", 100, epoch=uuid4())


@pytest.mark.parametrize(
    "arguments",
    [
        ("", 0),
        ("g" * 201, 0),
        (None, 0),
        ("a\0", 0),
        ("chess", -1),
        ("chess", 2**63),
        ("chess", "0"),
    ],
)
def test_what_can_be_no_position_is_refused(registry: Registry, arguments: tuple[str, int]) -> None:
    for call in (registry.fetch_events_since, registry.iter_events_since, registry.prune_events):
        with pytest.raises(InvalidArgument):
            call(*arguments)


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 100])
def test_the_iterator_gives_each_event_once_whatever_the_page(
    registry: Registry, page_size: int
) -> None:
    registry.record_events("chess", range(20))
    for after in (0, 7, 19, 20):
        events = registry.iter_events_since("chess", after, page_size=page_size)
        assert [event.sequence for event in events] == list(range(after + 1, 21))


def test_the_iterator_ends_at_the_head_it_began_with(registry: Registry) -> None:
    registry.record_events("chess", range(5))
    events = registry.iter_events_since("chess", 0, page_size=2)
    seen = [next(events).sequence]
    registry.record_events("chess", range(5))
    assert [*seen, *(event.sequence for event in events)] == [1, 2, 3, 4, 5]


def test_a_prune_that_overtakes_the_iterator_is_said(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    events = registry.iter_events_since("chess", 0, page_size=2)
    assert next(events).sequence == 1
    registry.prune_events("chess", 6)
    assert next(events).sequence == 2
    with pytest.raises(HistoryPruned):
        next(events)


def test_a_game_begun_again_under_the_iterator_is_said(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    events = registry.iter_events_since("chess", 0, page_size=2)
    assert [next(events).sequence, next(events).sequence] == [1, 2]
    registry.end_game("chess")
    registry.record_events("chess", range(10))
    with pytest.raises(EpochMismatch):
        next(events)


READS: list[Callable[[Registry], Callable[..., object]]] = [
    lambda registry: registry.fetch_events_since,
    lambda registry: registry.fetch_events_json,
]


@pytest.mark.parametrize("which", READS, ids=["events", "json"])
def test_a_page_is_refused_alike_as_events_and_as_json(
    registry: Registry, conninfo: str, which: Callable[[Registry], Callable[..., object]]
) -> None:
    fetch = which(registry)
    with pytest.raises(GameNotFound):
        fetch("chess", 0)
    registry.record_events("chess", range(10))
    registry.prune_events("chess", 4)
    with pytest.raises(HistoryPruned) as pruned:
        fetch("chess", 3)
    assert (pruned.value.floor, pruned.value.head) == (4, 10)
    with pytest.raises(AheadOfLog):
        fetch("chess", 11)
    with pytest.raises(EpochMismatch):
        fetch("chess", 4, epoch=uuid4())
    for bad in ({"limit": 0}, {"epoch": "x"}):
        with pytest.raises(InvalidArgument):
            fetch("chess", 4, **bad)
    rows(conninfo, "DELETE FROM game_event WHERE sequence = 7")
    as_just_opened(registry)
    with pytest.raises(LogCorrupted) as corrupted:
        fetch("chess", 4)
    assert corrupted.value.sequence == 6


def test_a_page_as_json_says_the_same_and_where_to_go_on(registry: Registry) -> None:
    registry.record_events("chess", [{"a": [1, {"b": None}]}, b"\0\xff", "\u2028€", 2**70, None])
    after, told = 0, []
    while True:
        made = registry.fetch_events_json("chess", after, limit=2)
        page = registry.fetch_events_since("chess", after, limit=2)
        assert made == page.json()
        said = json.loads(made.document)
        assert (said["head"], said["floor"], said["more"]) == (page.head, page.floor, page.more)
        assert said["epoch"] == str(page.epoch)
        for event, read in zip(said["events"], page.events, strict=True):
            at = datetime.fromisoformat(event["recorded_at"].replace("Z", "+00:00"))
            assert (event["sequence"], at) == (read.sequence, read.recorded_at)
            told.append(b64decode(event["base64"]) if "base64" in event else event["payload"])
        after = made.last
        if not made.more:
            break
    assert told == [event.payload for event in registry.iter_events_since("chess", 0)]
    assert after == 5
    assert registry.fetch_events_json("chess", 5).last == 5
    assert json.loads(registry.fetch_events_json("chess", 5).document)["events"] == []


def test_a_resume_can_be_forwarded_as_json_too(registry: Registry) -> None:
    registry.record_events("chess", [{"n": n} for n in range(5)])
    token = registry.issue_resume_token("chess", "alice").token
    resumed = registry.resume(token, after=2, limit=2)
    assert resumed.replay.json() == registry.fetch_events_json("chess", 2, limit=2)


def test_a_damaged_payload_is_said_when_it_is_looked_at(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(4))
    token = registry.issue_resume_token("chess", "alice").token
    rows(conninfo, "UPDATE game_event SET payload = 'x' WHERE sequence = 3")
    with pytest.raises(PayloadUnreadable) as caught:
        list(registry.iter_events_since("chess", 0))
    assert (caught.value.game_id, caught.value.sequence) == ("chess", 3)
    resumed = registry.resume(token, after=0)
    assert resumed.token, "the client gets its token all the same"
    with pytest.raises(PayloadUnreadable):
        resumed.replay.events  # noqa: B018
    registry.prune_events("chess", 3)
    assert numbers(registry, "chess", 3) == [4]


def test_the_time_of_an_event_is_in_utc_whatever_the_server_or_the_callers_zone(
    conninfo: str,
) -> None:
    zone = f"{conninfo} options='-c TimeZone=Asia/Kathmandu'"
    with GameSessionRegistry.connect(zone) as registry:
        registry.record_event("chess", "e4")
        (event,) = registry.fetch_events_since("chess", 0).events
        made = registry.fetch_events_json("chess", 0)
    assert event.recorded_at.tzinfo is timezone.utc
    with ConnectionPool(zone, min_size=1, max_size=1, open=True) as pool:
        registry = GameSessionRegistry(pool)
        (same,) = registry.fetch_events_since("chess", 0).events
        assert same == event
        assert same.recorded_at.tzinfo is timezone.utc
        assert registry.fetch_events_json("chess", 0) == made
        with pool.connection() as connection:
            assert connection.info.parameter_status("TimeZone") == "Asia/Kathmandu"


def test_a_reader_never_waits_for_a_writer(registry: Registry, conninfo: str) -> None:
    registry.record_event("chess", 1)
    with hold_game(conninfo, "chess"):
        assert registry.fetch_events_since("chess", 0).head == 1


# resume and the continuity of what a client saw


def test_continuity_says_how_the_clients_position_fits(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    registry.prune_events("chess", 4)
    epoch = registry.fetch_events_since("chess", 4).epoch
    token = registry.issue_resume_token("chess", "alice").token
    gap, reset, continuous = Continuity.GAP, Continuity.RESET, Continuity.CONTINUOUS
    for after, of, continuity, missed, first in [
        (0, None, gap, 4, 5),
        (3, epoch, gap, 1, 5),
        (4, epoch, continuous, 0, 5),
        (7, None, continuous, 0, 8),
        (10, epoch, continuous, 0, None),
        (11, epoch, reset, 4, 5),
        (2**63 - 1, None, reset, 4, 5),
        (7, uuid4(), reset, 4, 5),
        (0, uuid4(), reset, 4, 5),
        (10, uuid4(), reset, 4, 5),
    ]:
        resumed = registry.resume(token, after=after, epoch=of)
        token = resumed.token
        assert resumed.continuity is continuity, after
        assert resumed.missed == missed
        expected = [] if first is None else list(range(first, 11))
        assert [event.sequence for event in resumed.replay.events] == expected
        replay = resumed.replay
        assert (replay.head, replay.floor, replay.epoch, replay.more) == (10, 4, epoch, False)


def test_a_client_of_a_fully_pruned_log_is_told_what_it_missed(registry: Registry) -> None:
    registry.record_events("chess", range(6))
    registry.prune_events("chess", 6)
    token = registry.issue_resume_token("chess", "alice").token
    resumed = registry.resume(token, after=2)
    assert (resumed.continuity, resumed.missed, resumed.replay.events) == (Continuity.GAP, 4, ())


def test_a_resume_goes_on_page_by_page(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    token = registry.issue_resume_token("chess", "alice").token
    resumed = registry.resume(token, after=2, limit=3)
    assert [event.sequence for event in resumed.replay.events] == [3, 4, 5]
    assert resumed.replay.more
    rest = registry.fetch_events_since("chess", 5, epoch=resumed.replay.epoch)
    assert [event.sequence for event in rest.events] == [6, 7, 8, 9, 10]


def test_the_epoch_stays_while_the_log_does(registry: Registry) -> None:
    epochs = set()
    registry.record_event("chess", 1)
    for _ in range(3):
        issued = registry.issue_resume_token("chess", "alice")
        epochs.add(registry.resume(issued.token, after=0).replay.epoch)
        registry.record_event("chess", 1)
        epochs.add(registry.fetch_events_since("chess", 0).epoch)
    registry.record_event("go", 1)
    assert len(epochs) == 1
    assert registry.fetch_events_since("go", 0).epoch not in epochs


# acknowledge


def test_an_acknowledgement_moves_forward_only(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    session(registry, "chess", "laggard")
    mine = session(registry, "chess", "alice")
    assert registry.acknowledge(mine, 6) == Acknowledgement(6, 0, 0)
    for sequence in (0, 3, 6):
        assert registry.acknowledge(mine, sequence).sequence == 6
    assert registry.get_session(mine).last_acknowledged == 6
    assert registry.acknowledge(mine, 7).sequence == 7


def test_beyond_the_head_nothing_can_be_acknowledged(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(3))
    mine = session(registry, "chess", "alice")
    before = dump(conninfo)
    for sequence in (4, 2**63 - 1):
        with pytest.raises(AheadOfLog) as caught:
            registry.acknowledge(mine, sequence)
        assert caught.value.head == 3
    assert dump(conninfo) == before


def test_only_what_every_live_session_has_is_pruned(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(10))
    first, second, third = (session(registry, "chess", name) for name in "abc")
    assert registry.acknowledge(first, 8) == Acknowledgement(8, 0, 0)
    assert registry.acknowledge(second, 5) == Acknowledgement(5, 0, 0)
    assert registry.acknowledge(third, 3) == Acknowledgement(3, 3, 3)
    assert sequences(conninfo, "chess") == list(range(4, 11))
    assert registry.acknowledge(third, 10) == Acknowledgement(10, 5, 2)
    assert registry.acknowledge(second, 9) == Acknowledgement(9, 8, 3)
    assert registry.acknowledge(first, 10) == Acknowledgement(10, 9, 1)
    assert registry.acknowledge(second, 10) == Acknowledgement(10, 10, 1)
    assert sequences(conninfo, "chess") == []
    assert registry.record_event("chess", "next") == 11


def test_a_laggard_holds_the_floor_for_as_long_as_it_lives(
    registry: Registry, clock: Clock
) -> None:
    registry.record_events("chess", range(10))
    laggard = session(registry, "chess", "laggard")
    quick = registry.issue_resume_token("chess", "quick", ttl=100_000).session.session_id
    registry.acknowledge(quick, 9)
    assert registry.fetch_events_since("chess", 0).floor == 0
    clock.advance(800)
    registry.heartbeat(laggard)
    clock.advance(800)
    assert registry.acknowledge(quick, 9).floor == 0
    clock.advance(200)  # now it has expired
    assert registry.acknowledge(quick, 9) == Acknowledgement(9, 9, 9)


def test_a_revoked_session_does_not_hold_the_floor(registry: Registry) -> None:
    registry.record_events("chess", range(10))
    laggard = session(registry, "chess", "laggard")
    quick = session(registry, "chess", "quick")
    registry.acknowledge(quick, 7)
    registry.revoke_session(laggard)
    assert registry.acknowledge(quick, 7) == Acknowledgement(7, 7, 7)


def test_a_session_that_a_prune_stopped_waiting_for_cannot_come_back(
    registry: Registry, clock: Clock, conninfo: str
) -> None:
    registry.record_events("chess", range(5))
    issued = registry.issue_resume_token("chess", "laggard")
    laggard = issued.session.session_id
    quick = registry.issue_resume_token("chess", "quick", ttl=100_000).session.session_id
    clock.advance(901)
    registry.acknowledge(quick, 5)
    # Its beat was under way since before it expired: time goes back for it.
    rows(conninfo, "UPDATE game_session SET expires_at = now() + '1 hour'")
    assert registry.get_session(laggard).state is SessionState.EXPIRED
    for call in (
        lambda: registry.heartbeat(laggard),
        lambda: registry.acknowledge(laggard, 5),
        lambda: registry.resume(issued.token, after=0),
    ):
        with pytest.raises(SessionExpired):
            call()
    assert registry.heartbeat_many([laggard]).gone == (laggard,)


def test_an_expired_session_whose_beat_is_under_way_still_holds_the_floor(
    registry: Registry, clock: Clock, conninfo: str
) -> None:
    registry.record_events("chess", range(5))
    laggard = session(registry, "chess", "laggard")
    quick = registry.issue_resume_token("chess", "quick", ttl=100_000).session.session_id
    clock.advance(901)
    game_id, _, uuid = laggard.rpartition("/")
    beat = "UPDATE game_session SET expires_at = now() + '900 s' WHERE game_id = %s AND id = %s"
    with held(conninfo, beat, [game_id, uuid]):
        assert registry.acknowledge(quick, 5) == Acknowledgement(5, 0, 0)
    assert registry.heartbeat(laggard).state is SessionState.LIVE
    assert numbers(registry, "chess") == [1, 2, 3, 4, 5]


def test_a_session_begun_while_a_prune_waits_sees_all_that_is_left(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(5))
    quick = session(registry, "chess", "quick")
    with hold_game(conninfo, "chess"):
        begun = in_thread(lambda: registry.issue_resume_token("chess", "new"))
        until_blocked(conninfo, 1, "issue_resume_token")
        acknowledged = in_thread(lambda: registry.acknowledge(quick, 5))
        until_blocked(conninfo, 1, "acknowledge")
    new = begun.result(30)
    acknowledged.result(30)
    assert new.session.last_acknowledged >= registry.fetch_events_since("chess", 5).floor
    resumed = registry.resume(new.token, after=new.session.last_acknowledged)
    assert resumed.continuity is Continuity.CONTINUOUS


def test_a_prune_takes_many_batches_if_it_must(conninfo: str) -> None:
    with configured(conninfo, batch_size=3) as registry:
        registry.record_events("chess", range(20))
        mine = session(registry, "chess", "alice")
        assert registry.acknowledge(mine, 17) == Acknowledgement(17, 17, 17)
        assert sequences(conninfo, "chess") == [18, 19, 20]


def test_a_prune_leaves_no_row_below_the_floor_though_others_went_ahead_meanwhile(
    conninfo: str,
) -> None:
    with configured(conninfo, batch_size=3) as registry:
        registry.record_events("chess", range(5))
        mine = session(registry, "chess", "alice")
        game_id, _, uuid = mine.rpartition("/")
        with psycopg.connect(conninfo) as ahead:
            # Another connection of the session appends and acknowledges more than this one's
            # snapshot shows, and has pruned its first batch only.
            for n in range(5):
                registry.record_event("chess", n, connection=ahead)
            behind = in_thread(lambda: registry.acknowledge(mine, 5))
            until_blocked(conninfo, 1, "acknowledge")
            params = {
                "game_id": game_id,
                "id": uuid,
                "sequence": 10,
                "generation": None,
                "epoch": None,
            }
            execute(ahead, queries.acknowledge, {**params, "batch_size": 3})
        behind.result(30)
        floor = value(conninfo, "SELECT floor FROM game")
        assert sequences(conninfo, "chess") == list(range(floor + 1, 11))
        registry.acknowledge(mine, 10)
        assert sequences(conninfo, "chess") == []


def test_players_acknowledging_at_once_lose_nothing_and_leave_little(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(60))
    players = [session(registry, "chess", f"user {n}") for n in range(6)]

    def acknowledge(player: str) -> None:
        for sequence in range(1, 61, 2):
            registry.acknowledge(player, sequence)

    outcomes = at_once([lambda player=player: acknowledge(player) for player in players])
    assert outcomes == [None] * 6
    last = registry.acknowledge(players[0], 60)
    assert last.floor == 59
    assert sequences(conninfo, "chess") == [60]


@pytest.mark.parametrize("sequence", [-1, 2**63, "1", 1.0, True, None])
def test_what_can_be_no_sequence_is_not_acknowledged(registry: Registry, sequence: object) -> None:
    mine = session(registry, "chess", "alice")
    with pytest.raises(InvalidArgument):
        registry.acknowledge(mine, sequence)


def test_an_acknowledgement_of_a_closed_session_is_refused(registry: Registry) -> None:
    mine = session(registry, "chess", "alice")
    registry.revoke_session(mine)
    with pytest.raises(SessionRevoked):
        registry.acknowledge(mine, 0)
    registry.end_game("chess")
    with pytest.raises(SessionNotFound):
        registry.acknowledge(mine, 0)


def test_a_session_is_found_gone_before_its_sequence_is_found_wrong(registry: Registry) -> None:
    mine = session(registry, "chess", "alice")
    registry.revoke_session(mine)
    with pytest.raises(SessionRevoked):
        registry.acknowledge(mine, 99)


def test_a_beat_of_many_and_an_acknowledgement_do_not_deadlock(
    registry: Registry, conninfo: str
) -> None:
    """An acknowledgement closes an expired session that a beat of many wants to beat."""
    registry.record_events("chess", range(3))
    ids = sorted(session(registry, "chess", f"user {n}") for n in range(2))
    mine, other = ids  # a beat of both locks mine first
    soon = "UPDATE game_session SET expires_at = clock_timestamp() + '400 ms' WHERE id = %s"
    rows(conninfo, soon, [other.rpartition("/")[2]])
    with hold_session(conninfo, mine):
        beat = in_thread(lambda: registry.heartbeat_many(ids))
        until_blocked(conninfo, 1, "heartbeat_many")
        wait_until(lambda: registry.get_session(other).state is SessionState.EXPIRED)
        acknowledged = in_thread(lambda: registry.acknowledge(mine, 3))
        until_blocked(conninfo, 1, "acknowledge")
    circle = """
        SELECT count(*) FROM pg_stat_activity AS a JOIN pg_stat_activity AS b
            ON b.pid = ANY (pg_blocking_pids(a.pid)) AND a.pid = ANY (pg_blocking_pids(b.pid))
        WHERE a.datname = current_database()
    """
    while not (beat.done() and acknowledged.done()):
        assert value(conninfo, circle) == 0, "each waits for the other"
    assert beat.result().alive >= 1
    assert acknowledged.result().sequence == 3


# prune_events


def test_the_operator_prunes_whatever_anybody_acknowledged(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(10))
    laggard = session(registry, "chess", "laggard")
    assert registry.prune_events("chess", 0) == 0
    assert registry.prune_events("chess", 4) == 4
    assert registry.prune_events("chess", 4) == 0
    assert registry.prune_events("chess", 2) == 0
    assert sequences(conninfo, "chess") == list(range(5, 11))
    assert registry.get_session(laggard).last_acknowledged == 0
    assert registry.acknowledge(laggard, 3) == Acknowledgement(3, 4, 0)
    assert registry.acknowledge(laggard, 6) == Acknowledgement(6, 6, 2)


def test_beyond_the_head_nothing_is_pruned(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(3))
    before = dump(conninfo)
    with pytest.raises(AheadOfLog) as caught:
        registry.prune_events("chess", 4)
    assert caught.value.head == 3
    assert dump(conninfo) == before
    with pytest.raises(GameNotFound):
        registry.prune_events("no game", 0)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 11, 1000])
def test_a_prune_in_batches_prunes_the_same(conninfo: str, batch_size: int) -> None:
    with configured(conninfo, batch_size=batch_size) as registry:
        registry.record_events("chess", range(12))
        assert registry.prune_events("chess", 10) == 10
        assert registry.fetch_events_since("chess", 10).floor == 10
    assert sequences(conninfo, "chess") == [11, 12]


def test_appends_go_on_while_a_log_is_pruned(conninfo: str) -> None:
    with configured(conninfo, batch_size=2) as registry:
        registry.record_events("chess", range(60))
        outcomes = at_once(
            [
                lambda: registry.prune_events("chess", 60),
                lambda: registry.prune_events("chess", 60),
                *[lambda: len([registry.record_event("chess", 0) for _ in range(20)])] * 3,
            ]
        )
        assert outcomes[0] + outcomes[1] == 60
        assert outcomes[2:] == [20] * 3
        assert numbers(registry, "chess", 60) == list(range(61, 121))


# max_events_per_game


def test_a_log_nobody_acknowledges_stays_bounded(conninfo: str) -> None:
    with configured(conninfo, max_events_per_game=32) as registry:
        token = registry.issue_resume_token("chess", "laggard").token
        for n in range(100):
            registry.record_event("chess", n)
            if n % 7 == 0 or n in range(30, 40):
                assert min(n + 1, 32) <= len(sequences(conninfo, "chess")) <= 34
        with pytest.raises(HistoryPruned) as caught:
            registry.fetch_events_since("chess", 0)
        floor = caught.value.floor
        assert numbers(registry, "chess", floor) == list(range(floor + 1, 101))
        assert registry.resume(token, after=0).continuity is Continuity.GAP


def test_a_block_larger_than_the_cap_is_cut_to_the_newest(conninfo: str) -> None:
    with configured(conninfo, max_events_per_game=10, batch_size=2) as registry:
        assert registry.record_events("chess", range(50)) == range(1, 51)
        assert sequences(conninfo, "chess") == list(range(41, 51))


def test_the_smallest_cap_keeps_the_newest_event(conninfo: str) -> None:
    with configured(conninfo, max_events_per_game=1) as registry:
        for sequence in range(1, 6):
            assert registry.record_event("chess", sequence) == sequence
            assert sequences(conninfo, "chess") == [sequence]


def test_the_cap_holds_in_the_callers_transaction_too(conninfo: str) -> None:
    with configured(conninfo, max_events_per_game=5) as registry:
        with psycopg.connect(conninfo) as connection:
            for n in range(20):
                registry.record_event("chess", n, connection=connection)
        assert sequences(conninfo, "chess") == list(range(16, 21))


def test_a_log_that_outgrew_a_smaller_cap_shrinks_as_events_come(conninfo: str) -> None:
    with configured(conninfo) as registry:
        registry.record_events("chess", range(300))
    with configured(conninfo, max_events_per_game=5, batch_size=20) as registry:
        for n in range(20):
            registry.record_event("chess", n)
    assert len(sequences(conninfo, "chess")) <= 6


# end_game


def test_an_ended_game_leaves_nothing_and_no_token(registry: Registry, conninfo: str) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    registry.issue_resume_token("go", "alice")
    registry.record_event("go", 1, event_id=uuid4())
    kept = dump(conninfo)
    registry.record_event("chess 2", 1)
    registry.end_game("chess 2")
    registry.record_event("chess", 1, event_id=uuid4())
    registry.end_game("chess")
    for table, content in dump(conninfo).items():
        assert content == [row for row in kept[table] if "(chess," not in row[0]]
    for call in (
        lambda: registry.validate_resume_token(issued.token),
        lambda: registry.resume(issued.token, after=0),
    ):
        with pytest.raises(InvalidToken):
            call()
    for call in (registry.end_game, lambda game_id: registry.fetch_events_since(game_id, 0)):
        with pytest.raises(GameNotFound):
            call("chess")


def test_a_game_that_sessions_begin_again_is_another_log(registry: Registry) -> None:
    """No event is recorded in either, so nothing else tells them apart."""
    logs = []
    for _ in range(2):
        registry.issue_resume_token("chess", "alice")
        logs.append(registry.fetch_events_since("chess", 0).epoch)
        registry.end_game("chess")
    assert logs[0] != logs[1]


def test_a_game_begun_again_is_another_log(registry: Registry) -> None:
    registry.record_events("chess", range(5))
    old = registry.fetch_events_since("chess", 0).epoch
    registry.end_game("chess")
    assert registry.record_event("chess", "again") == 1
    token = registry.issue_resume_token("chess", "alice").token
    with pytest.raises(EpochMismatch) as caught:
        registry.fetch_events_since("chess", 1, epoch=old)
    assert caught.value.epoch == registry.fetch_events_since("chess", 1).epoch != old
    resumed = registry.resume(token, after=1, epoch=old)
    assert resumed.continuity is Continuity.RESET
    assert [event.payload for event in resumed.replay.events] == ["again"]


def test_a_long_game_ends_in_batches(conninfo: str) -> None:
    with configured(conninfo, batch_size=3) as registry:
        registry.record_events("chess", range(20))
        registry.end_game("chess")
    assert not any(dump(conninfo).values())


def test_an_append_that_commits_while_the_end_waits_for_it_leaves_no_orphan(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(3))
    event_id = uuid4()
    with psycopg.connect(conninfo) as connection:
        registry.record_event("chess", "late", event_id=event_id, connection=connection)
        end = in_thread(lambda: registry.end_game("chess"))
        until_blocked(conninfo, 1)
    end.result(30)
    assert not any(dump(conninfo).values())
    assert registry.record_event("chess", "anew", event_id=event_id) == 1
    assert sequences(conninfo, "chess") == [1]


def test_a_session_begun_while_the_end_waits_for_it_is_ended_too(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(3))
    with hold_game(conninfo, "chess"):
        issue = in_thread(lambda: registry.issue_resume_token("chess", "late"))
        until_blocked(conninfo, 1, "issue_resume_token")
        end = in_thread(lambda: registry.end_game("chess"))
        until_blocked(conninfo, 2)
    issued = issue.result(30)
    end.result(30)
    left = dump(conninfo)
    if left["game"]:  # the player came after the end: a new game
        assert registry.validate_resume_token(issued.token) == issued.session
    else:
        assert not any(left.values())


def test_appends_that_wait_for_the_end_begin_a_new_game_at_one(
    registry: Registry, conninfo: str
) -> None:
    registry.record_events("chess", range(3))
    with several(conninfo, 4) as registries:
        with held(conninfo, "SELECT 1") as ending:
            ending.execute("DELETE FROM game_event WHERE game_id = 'chess'")
            ending.execute("DELETE FROM game WHERE game_id = 'chess'")
            appends = [
                in_thread(lambda each=each: each.record_event("chess", "anew"))
                for each in registries
            ]
            until_blocked(conninfo, 4, "record_event")
        assert sorted(append.result(30) for append in appends) == [1, 2, 3, 4]
    assert numbers(registry, "chess") == [1, 2, 3, 4]


def test_appends_and_ends_at_once_never_leave_a_log_with_a_hole(
    registry: Registry, conninfo: str
) -> None:
    def append() -> None:
        for n in range(30):
            registry.record_event("chess", n, event_id=uuid4())

    def end() -> None:
        for _ in range(10):
            try:
                registry.end_game("chess")
            except GameNotFound:
                continue

    assert at_once([append, append, append, end, end]) == [None] * 5
    registry.record_event("chess", "last")
    head = registry.fetch_events_since("chess", 0).head
    assert sequences(conninfo, "chess") == list(range(1, head + 1))
    assert value(conninfo, "SELECT count(*) FROM game_event_id") == head - 1


def test_one_of_two_who_end_a_game_at_once_ended_it(registry: Registry) -> None:
    registry.record_events("chess", range(3))
    outcomes = at_once([lambda: registry.end_game("chess")] * 4)
    assert outcomes.count(None) == 1
    assert {type(outcome) for outcome in outcomes} == {type(None), GameNotFound}


# LogCorrupted


@pytest.mark.parametrize("hole", [3, 4, 10])
def test_a_hole_made_by_hand_is_said_and_never_skipped(
    registry: Registry, conninfo: str, hole: int
) -> None:
    registry.record_events("chess", range(10))
    registry.prune_events("chess", 2)
    token = registry.issue_resume_token("chess", "alice").token
    rows(conninfo, "DELETE FROM game_event WHERE sequence = %s", [hole])
    with pytest.raises(LogCorrupted) as caught:
        registry.fetch_events_since("chess", hole - 1)
    assert (caught.value.game_id, caught.value.sequence) == ("chess", hole - 1)
    events = registry.iter_events_since("chess", hole, page_size=2)
    assert [event.sequence for event in events] == list(range(hole + 1, 11))
    seen = []
    with suppress(LogCorrupted):
        for event in registry.iter_events_since("chess", 2, page_size=1):
            seen.append(event.sequence)
        pytest.fail("the hole was not noticed")
    assert seen == list(range(3, hole))
    with pytest.raises(LogCorrupted):
        registry.resume(token, after=hole - 1)


def test_an_event_beyond_the_head_is_said_too(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(5))
    rows(conninfo, "UPDATE game SET head = 3")
    with pytest.raises(LogCorrupted):
        registry.fetch_events_since("chess", 0)


def test_past_a_hole_a_log_can_be_mended_by_pruning_it(registry: Registry, conninfo: str) -> None:
    registry.record_events("chess", range(10))
    rows(conninfo, "DELETE FROM game_event WHERE sequence = 5")
    registry.prune_events("chess", 5)
    assert numbers(registry, "chess", 5) == [6, 7, 8, 9, 10]


def test_events_keep_their_times_in_order(registry: Registry) -> None:
    for _ in range(10):
        registry.record_event("chess", 1)
    times = [event.recorded_at for event in registry.iter_events_since("chess", 0)]
    assert times == sorted(times)
    assert times[-1] - times[0] < timedelta(minutes=1)
