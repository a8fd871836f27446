"""The invariants of the contract, one property each, on a real PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from soundness import EVERYONE_WAITED_FOR, RULES, unsound
from workload import in_threads

from registry import (
    AheadOfLog,
    EmbeddedPostgres,
    GameSessionRegistry,
    HistoryPruned,
    InvalidToken,
    RegistryConfig,
    RegistryError,
    SessionTakenOver,
    TokenReused,
    migrate,
)

CONFIG = RegistryConfig(
    batch_size=3, lock_timeout=30, statement_timeout=30, pool_timeout=30, pool_max_size=8
)


@pytest.fixture(scope="module")
def registry(module_conninfo: str) -> Iterator[GameSessionRegistry]:
    with GameSessionRegistry.connect(module_conninfo, config=CONFIG) as registry:
        yield registry


def game() -> str:
    """Each example has a game of its own."""
    return f"game {uuid4()}"


# 1. Sequences are 1..head, each given once, in commit order as any reader sees them.

batches = st.lists(st.integers(1, 4), min_size=1, max_size=8)


@given(writers=st.lists(batches, min_size=1, max_size=4), page=st.integers(1, 5))
def test_sequences_are_1_to_head_and_a_reader_never_finds_a_new_event_behind_itself(
    registry: GameSessionRegistry, writers: list[list[int]], page: int
) -> None:
    game_id, total = game(), sum(map(sum, writers))
    registry.issue_resume_token(game_id, "host")
    given: list[int] = []
    readers: list[list[tuple[int, object]]] = [[], []]

    def write(sizes: list[int]) -> None:
        for size in sizes:
            if size == 1:
                given.append(registry.record_event(game_id, str(uuid4())))
            else:
                given.extend(registry.record_events(game_id, [str(uuid4())] * size))

    def read(seen: list[tuple[int, object]]) -> None:
        while len(seen) < total:
            events = registry.fetch_events_since(game_id, len(seen), limit=page).events
            seen.extend((event.sequence, event.payload) for event in events)

    jobs = [partial(write, sizes) for sizes in writers] + [partial(read, seen) for seen in readers]
    assert in_threads(jobs) == []
    assert sorted(given) == list(range(1, total + 1))
    log = [(event.sequence, event.payload) for event in registry.iter_events_since(game_id, 0)]
    assert [sequence for sequence, _ in log] == sorted(given)
    assert readers == [log, log]


# 2. A returned record_event survives any crash of the server.


@settings(max_examples=max(2, settings().max_examples // 20))
@given(crashes=st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=9), max_size=2))
@example(crashes=[[b"one", b"two"], [b"three"]])
def test_what_was_recorded_survives_a_crash_of_the_server(
    crashing: EmbeddedPostgres, crashes: list[list[bytes]]
) -> None:
    game_id = game()
    recorded: list[tuple[int, object]] = []
    for payloads in crashes:
        with GameSessionRegistry.connect(crashing.conninfo) as registry:
            for payload in payloads:
                recorded.append((registry.record_event(game_id, payload), payload))
            crashing.crash()
        crashing.start()
        with GameSessionRegistry.connect(crashing.conninfo) as registry:
            log = [(e.sequence, e.payload) for e in registry.iter_events_since(game_id, 0)]
        assert log == recorded
        assert [sequence for sequence, _ in log] == list(range(1, len(log) + 1))


@pytest.fixture(scope="module")
def crashing() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres() as server:
        migrate(server.conninfo)
        yield server


# 3. Acknowledgements and floors never fall; the floor waits for everyone alive; no hole above it.

acknowledgements = st.tuples(st.integers(0, 2), st.integers(0, 14))


@given(events=st.integers(0, 12), moves=st.lists(acknowledgements, max_size=12))
def test_the_floor_is_the_lowest_acknowledgement_of_all_and_neither_ever_falls(
    registry: GameSessionRegistry,
    module_conninfo: str,
    events: int,
    moves: list[tuple[int, int]],
) -> None:
    game_id, reached = game(), [0, 0, 0]
    players = [registry.issue_resume_token(game_id, f"player {n}").session for n in range(3)]
    registry.record_events(game_id, range(events))
    for player, sequence in moves:
        session_id = players[player].session_id
        if sequence > events:
            with pytest.raises(AheadOfLog):
                registry.acknowledge(session_id, sequence)
            continue
        before = min(reached)
        reached[player] = max(reached[player], sequence)
        done = registry.acknowledge(session_id, sequence)
        assert (done.sequence, done.floor) == (reached[player], min(reached))
        assert done.pruned == min(reached) - before
        page = registry.fetch_events_since(game_id, done.floor)
        assert [event.sequence for event in page.events] == list(range(done.floor + 1, events + 1))
    assert unsound(module_conninfo, {**RULES, **EVERYONE_WAITED_FOR}) == []


@given(moves=st.lists(acknowledgements, min_size=2, max_size=12))
def test_acknowledgements_at_once_leave_a_floor_that_is_nobodys_loss(
    registry: GameSessionRegistry, module_conninfo: str, moves: list[tuple[int, int]]
) -> None:
    game_id = game()
    players = [registry.issue_resume_token(game_id, f"player {n}").session for n in range(3)]
    registry.record_events(game_id, range(14))
    calls = [partial(registry.acknowledge, players[who].session_id, upto) for who, upto in moves]
    assert in_threads(calls) == []
    assert unsound(module_conninfo, {**RULES, **EVERYONE_WAITED_FOR}) == []
    reached = [max([upto for who, upto in moves if who == n], default=0) for n in range(3)]
    sessions = registry.list_sessions(game_id)
    assert [session.last_acknowledged for session in sessions] == reached
    # Whatever two of them left to each other, the next acknowledgement prunes.
    assert registry.acknowledge(players[0].session_id, 0).floor == min(reached)


# 4. Pages put together give each event once, in order, or the reader is told what it missed.

between = st.sampled_from(["append", "append many", "prune", "nothing"])


@given(
    events=st.integers(0, 15),
    begin=st.integers(0, 18),
    pages=st.lists(st.tuples(st.integers(1, 6), between, st.integers(0, 20)), max_size=12),
)
@example(events=3, begin=0, pages=[(1, "prune", 2), (1, "nothing", 0)])
@example(events=3, begin=3, pages=[(2, "append many", 0), (6, "append", 0)])
def test_pages_from_anywhere_give_each_event_once_in_order_or_a_typed_error(
    registry: GameSessionRegistry,
    events: int,
    begin: int,
    pages: list[tuple[int, str, int]],
) -> None:
    game_id, head, floor = game(), events, 0
    registry.issue_resume_token(game_id, "host")
    registry.record_events(game_id, range(1, events + 1))
    position, seen = begin, []
    for limit, what, through in [*pages, (1_000, "nothing", 0)]:
        try:
            page = registry.fetch_events_since(game_id, position, limit=limit)
        except (HistoryPruned, AheadOfLog) as error:
            refusal = error
        else:
            refusal = None
        if isinstance(refusal, HistoryPruned):
            assert position < refusal.floor == floor
            position = floor
            continue
        if isinstance(refusal, AheadOfLog):
            assert position > refusal.head == head
            position = head
            continue
        assert floor <= position <= head
        expected = list(range(position + 1, min(position + limit, head) + 1))
        assert [event.sequence for event in page.events] == expected
        assert [event.payload for event in page.events] == expected
        assert page.more == (position + limit < head)
        seen += expected
        position += len(expected)
        if what.startswith("append"):
            more = 1 if what == "append" else 5
            registry.record_events(game_id, range(head + 1, head + more + 1))
            head += more
        elif what == "prune" and through <= head:
            assert registry.prune_events(game_id, through) == max(0, through - floor)
            floor = max(floor, through)
    assert seen == sorted(set(seen))


@given(
    events=st.integers(1, 30),
    page_size=st.integers(1, 7),
    appends=st.integers(0, 5),
    prune_at=st.integers(1, 30),
    prune_to=st.integers(0, 30),
)
def test_an_iterator_ends_at_the_head_it_began_with_or_says_that_it_was_overtaken(
    registry: GameSessionRegistry,
    events: int,
    page_size: int,
    appends: int,
    prune_at: int,
    prune_to: int,
) -> None:
    game_id, seen = game(), []
    registry.record_events(game_id, range(1, events + 1))
    iterator = registry.iter_events_since(game_id, 0, page_size=page_size)
    overtaken: HistoryPruned | None = None
    try:
        for event in iterator:
            assert event.payload == event.sequence
            seen.append(event.sequence)
            if appends:
                registry.record_events(game_id, [0] * appends)
            if event.sequence == prune_at:
                registry.prune_events(game_id, min(prune_to, events))
    except HistoryPruned as pruned:
        overtaken = pruned
    assert seen == list(range(1, len(seen) + 1))
    if overtaken is None:
        assert len(seen) == events
    else:
        assert seen[-1] < overtaken.floor == min(prune_to, events)


# 5. At most one generation of a session acts; at most two of its tokens are valid.


@given(st.lists(st.sampled_from(["issue", "newest", "previous"]), max_size=14), st.randoms())
def test_one_generation_acts_and_two_tokens_at_most_are_valid(
    registry: GameSessionRegistry, steps: list[str], chance: random.Random
) -> None:
    game_id = game()
    issued = registry.issue_resume_token(game_id, "ann")
    session, ever = issued.session, [issued.token]
    for step in steps:
        held = _valid(registry, ever)
        assert 1 <= len(held) <= 2
        if step == "issue":
            answer: Any = registry.issue_resume_token(game_id, "ann")
        else:
            answer = registry.resume(held[-1 if step == "newest" else 0], after=0)
        if answer.token not in ever:
            ever.append(answer.token)
        assert answer.token in _valid(registry, ever)
        assert answer.session.generation == session.generation + 1
        session = answer.session
        for generation in chance.sample(
            range(1, session.generation), min(2, session.generation - 1)
        ):
            with pytest.raises(SessionTakenOver):
                registry.heartbeat(session.session_id, generation=generation)
            with pytest.raises(SessionTakenOver):
                registry.acknowledge(session.session_id, 0, generation=generation)
        registry.heartbeat(session.session_id, generation=session.generation)
    assert len(_valid(registry, ever)) <= 2


def _valid(registry: GameSessionRegistry, tokens: list[str]) -> list[str]:
    valid = []
    for token in tokens:
        try:
            registry.validate_resume_token(token)
        except (InvalidToken, TokenReused):
            continue
        valid.append(token)
    return valid


# 6. Two calls never deadlock.

CALLS = [
    "issue", "beat", "beat many", "beat many", "record", "record many", "acknowledge", "prune",
    "revoke", "end", "cleanup",
]  # fmt: skip


@given(st.lists(st.lists(st.sampled_from(CALLS), max_size=6), min_size=2, max_size=6), st.randoms())
def test_calls_of_every_kind_at_once_never_deadlock(
    registry: GameSessionRegistry,
    module_conninfo: str,
    threads: list[list[str]],
    chance: random.Random,
) -> None:
    games = sorted(game() for _ in range(2))
    players = [(g, user) for g in games for user in ("ann", "ben", "cid")]
    ids = [registry.issue_resume_token(g, user).session.session_id for g, user in players]
    before = _deadlocks(module_conninfo)

    def run(calls: list[str], chance: random.Random) -> None:
        for call in calls:
            game_id, user = chance.choice(players)
            session_id = chance.choice(ids)
            act = {
                "issue": lambda: registry.issue_resume_token(game_id, user, ttl=0.01),  # noqa: B023
                "beat": lambda: registry.heartbeat(session_id),  # noqa: B023
                "beat many": lambda: registry.heartbeat_many(chance.sample(ids, 4)),
                "record": lambda: registry.record_event(game_id, 0),  # noqa: B023
                "record many": lambda: registry.record_events(game_id, [0] * 5),  # noqa: B023
                "acknowledge": lambda: registry.acknowledge(session_id, 1),  # noqa: B023
                "prune": lambda: registry.prune_events(game_id, 1),  # noqa: B023
                "revoke": lambda: registry.revoke_session(session_id),  # noqa: B023
                "end": lambda: registry.end_game(game_id),  # noqa: B023
                "cleanup": lambda: registry.cleanup_expired_sessions(batch_size=2),
            }[call]
            try:
                act()
            except RegistryError as answer:
                assert type(answer).__name__ in TYPED  # noqa: PT017

    seeds = [random.Random(chance.random()) for _ in threads]
    jobs = [partial(run, calls, seed) for calls, seed in zip(threads, seeds, strict=True)]
    assert in_threads(jobs) == []
    assert unsound(module_conninfo) == []
    assert _deadlocks(module_conninfo) == before


TYPED = {"GameNotFound", "SessionNotFound", "SessionExpired", "SessionRevoked", "AheadOfLog"}


def _deadlocks(conninfo: str) -> int:
    """Reported by each backend within a second; a late one is found by the next example."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


# What the state machine and the storms have found.


def test_an_event_id_ages_no_slower_than_the_log_it_belongs_to(
    registry: GameSessionRegistry, module_conninfo: str
) -> None:
    """Or the cleanup forgets the log first, and a retry is told a sequence of the next one.

    Here the game begins in a transaction that itself had begun some time before.
    """
    game_id = game()
    with psycopg.connect(module_conninfo) as own:
        own.execute("SELECT pg_sleep(0.05)")
        registry.record_event(game_id, "in it", event_id=uuid4(), connection=own)
    registry.record_event(game(), "first", event_id=uuid4())
    registry.record_event(game_id, "next", event_id=uuid4())
    with psycopg.connect(module_conninfo) as own:
        younger = own.execute(
            "SELECT i.game_id, i.recorded_at - g.head_at"
            " FROM game_event_id AS i JOIN game AS g USING (game_id)"
            " WHERE i.recorded_at > g.head_at"
        ).fetchall()
    assert younger == []
