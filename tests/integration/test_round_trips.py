"""What each call sends: statements and round trips, counted in libpq's own protocol trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from attrs import define, evolve
from layouts import LAYOUT
from probes import empty
from psycopg import Connection
from psycopg.pq import Trace
from psycopg_pool import ConnectionPool

from registry import GameSessionRegistry, InvalidToken, RegistryConfig, TokenReused

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="psycopg traces on Linux only")

CONFIG = RegistryConfig(pool_min_size=1, pool_max_size=1, batch_size=10, max_events_per_game=100)


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@define
class Sent:
    """What one call sent."""

    statements: int
    """Execute messages: each runs one statement."""
    round_trips: int
    """Sync messages: after each the client waits for the answer."""
    others: int
    """Messages of the simple protocol, which are both."""


class Wire:
    """The only connection of a registry, listened to."""

    def __init__(self, registry: GameSessionRegistry, folder: Path) -> None:
        self.registry = registry
        self._file = folder / "trace"
        self._pool: ConnectionPool[Connection[Any]] = registry._database.pool.current

    @contextmanager
    def _only(self) -> Iterator[Connection[Any]]:
        connection = self._pool.getconn()
        try:
            yield connection
        finally:
            self._pool.putconn(connection)

    def sent(self, call: Callable[[], object]) -> Sent:
        with self._file.open("wb") as file:
            with self._only() as connection:
                connection.pgconn.trace(file.fileno())
                connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
            with suppress(InvalidToken, TokenReused):
                call()
            with self._only() as connection:
                connection.pgconn.untrace()
        lines = self._file.read_text(errors="replace").splitlines()
        kinds = [line.split("\t")[2] for line in lines if line.startswith("F\t")]
        return Sent(kinds.count("Execute"), kinds.count("Sync"), kinds.count("Query"))


@pytest.fixture
def owned(conninfo: str, tmp_path: Path) -> Iterator[Wire]:
    with GameSessionRegistry.connect(conninfo, config=CONFIG) as registry:
        registry.record_event("warm", 1)
        yield Wire(registry, tmp_path)


@pytest.fixture
def callers(conninfo: str, tmp_path: Path) -> Iterator[Wire]:
    with ConnectionPool(conninfo, min_size=1, max_size=1, open=True) as pool:
        registry = GameSessionRegistry(pool, config=CONFIG)
        registry.record_event("warm", 1)
        yield Wire(registry, tmp_path)


ONE_STATEMENT = [
    "issue_resume_token",
    "validate_resume_token",
    "resume",
    "resume again",
    "heartbeat",
    "heartbeat_many",
    "record_event",
    "record_event with an id",
    "record_event with a known id",
    "record_event as expected",
    "record_event begins a game",
    "record_events",
    "fetch_events_since",
    "fetch_events_json",
    "iter_events_since",
    "acknowledge",
    "acknowledge and prune",
    "acknowledge again",
    "prune_events",
    "get_session",
    "find_session",
    "list_sessions",
    "stale_sessions",
    "revoke_session",
    "a forged token validated",
]


def prepared(registry: GameSessionRegistry) -> dict[str, Callable[[], object]]:
    """The calls of the table, on a game with nine events, two players and a revoked one."""
    registry.record_events("chess", range(8))
    event_id = uuid4()
    registry.record_event("chess", 9, event_id=event_id)
    alice = registry.issue_resume_token("chess", "alice")
    bob = registry.issue_resume_token("chess", "bob").session.session_id
    used = registry.issue_resume_token("chess", "carol")
    carol = used.session.session_id
    registry.resume(used.token, after=0)
    alone = registry.issue_resume_token("alone", "dave").session.session_id
    registry.record_events("alone", range(5))
    session = alice.session.session_id
    ids = [session, bob, carol, alone]
    return {
        "issue_resume_token": lambda: registry.issue_resume_token("chess", "new"),
        "validate_resume_token": lambda: registry.validate_resume_token(alice.token),
        "resume": lambda: registry.resume(alice.token, after=0),
        "resume again": lambda: registry.resume(used.token, after=3, limit=2),
        "heartbeat": lambda: registry.heartbeat(bob, generation=1),
        "heartbeat_many": lambda: registry.heartbeat_many(ids * 500),
        "record_event": lambda: registry.record_event("chess", {"a": 1}),
        "record_event with an id": lambda: registry.record_event("chess", 1, event_id=uuid4()),
        "record_event with a known id": lambda: registry.record_event(
            "chess", 1, event_id=event_id
        ),
        "record_event as expected": lambda: registry.record_event("chess", 1, expected_sequence=10),
        "record_event begins a game": lambda: registry.record_event("new game", 1),
        "record_events": lambda: registry.record_events("chess", [b"x"] * 50),
        "fetch_events_since": lambda: registry.fetch_events_since("chess", 0),
        "fetch_events_json": lambda: registry.fetch_events_json("chess", 0),
        "iter_events_since": lambda: list(registry.iter_events_since("chess", 0)),
        "acknowledge": lambda: registry.acknowledge(bob, 5),
        "acknowledge and prune": lambda: registry.acknowledge(alone, 5),
        "acknowledge again": lambda: registry.acknowledge(bob, 0),
        "prune_events": lambda: registry.prune_events("chess", 5),
        "get_session": lambda: registry.get_session(bob),
        "find_session": lambda: registry.find_session("chess", "bob"),
        "list_sessions": lambda: registry.list_sessions("chess"),
        "stale_sessions": lambda: registry.stale_sessions(0),
        "revoke_session": lambda: registry.revoke_session(bob),
        "a forged token validated": lambda: registry.validate_resume_token(forged(alice.token)),
    }


def forged(token: str) -> str:
    return token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBA")


@pytest.mark.parametrize("call", ONE_STATEMENT)
def test_on_its_own_pool_a_call_is_one_statement_in_one_round_trip(owned: Wire, call: str) -> None:
    assert owned.sent(prepared(owned.registry)[call]) == Sent(1, 1, 0)


@pytest.mark.parametrize("call", ONE_STATEMENT)
def test_on_a_callers_pool_a_call_is_one_round_trip_too(callers: Wire, call: str) -> None:
    sent = callers.sent(prepared(callers.registry)[call])
    assert (sent.round_trips, sent.others) == (1, 0)


def test_the_table_of_calls_is_complete() -> None:
    several = {"end_game", "cleanup_expired_sessions", "renew_epochs", "train_dictionary"}
    not_calls = {"connect", "migrate", "close", "closed", "config"}
    public = {name for name in dir(GameSessionRegistry) if not name.startswith("_")}
    assert public - several - not_calls == {name.split()[0] for name in ONE_STATEMENT[:-1]}


@pytest.mark.parametrize("call", ["record_event", "fetch_events_since", "heartbeat"])
def test_a_statement_is_prepared_once_and_is_one_round_trip_ever_after(
    owned: Wire, call: str
) -> None:
    function = prepared(owned.registry)[call]
    sent = [owned.sent(function) for _ in range(20)]
    assert sent.count(Sent(1, 1, 0)) >= 19
    assert sum(each.round_trips for each in sent) <= 21


def test_a_prune_is_one_round_trip_for_each_batch(owned: Wire) -> None:
    registry = owned.registry
    registry.record_events("chess", range(95))
    assert owned.sent(lambda: registry.prune_events("chess", 30)) == Sent(3, 3, 0)
    session = registry.issue_resume_token("chess", "alice").session.session_id
    assert owned.sent(lambda: registry.acknowledge(session, 65)) == Sent(4, 4, 0)


def test_a_page_is_one_round_trip(owned: Wire) -> None:
    registry = owned.registry
    registry.record_events("chess", range(10))
    for _ in range(10):  # until it is prepared
        registry.fetch_events_since("chess", 0)
    for page_size, pages in [(3, 4), (5, 2), (10, 1), (100, 1)]:
        read = partial(registry.iter_events_since, "chess", 0, page_size=page_size)
        assert owned.sent(lambda read=read: list(read())) == Sent(pages, pages, 0)


def test_only_the_append_that_outgrows_the_cap_pays_for_it(owned: Wire) -> None:
    registry = owned.registry
    registry.record_events("chess", range(100))
    sent = [owned.sent(lambda: registry.record_event("chess", 1)) for _ in range(20)]
    # Preparing the statement for the rest of the connection's life is a round trip, once.
    assert [each.statements for each in sent].count(1) == 18
    assert [each.statements for each in sent].count(2) == 2
    assert sum(each.round_trips for each in sent) <= 23


def test_a_token_reused_is_found_out_and_answered_in_three(owned: Wire) -> None:
    registry = owned.registry
    first = registry.issue_resume_token("chess", "alice").token
    registry.resume(registry.resume(first, after=0).token, after=0)
    assert owned.sent(lambda: registry.resume(first, after=0)) == Sent(3, 3, 0)
    assert owned.sent(lambda: registry.resume(forged(first), after=0)) == Sent(2, 2, 0)


@pytest.mark.parametrize("token", ["", "x", "not a token", "A" * 500])
def test_what_is_no_token_is_refused_without_a_round_trip(owned: Wire, token: str) -> None:
    assert owned.sent(lambda: owned.registry.resume(token, after=0)) == Sent(0, 0, 0)


def test_the_end_of_a_game_is_a_few_round_trips(owned: Wire) -> None:
    registry = owned.registry
    registry.record_events("chess", range(25))
    sent = owned.sent(lambda: registry.end_game("chess"))
    assert sent.others == 0
    assert sent.round_trips == 1 + 3 + 1  # where it stands, three batches, the rest


def test_compression_asks_once_for_the_newest_dictionary_and_once_for_each_unseen(
    conninfo: str, tmp_path: Path
) -> None:
    pytest.importorskip("zstandard")
    config = evolve(CONFIG, compression="zstd", max_events_per_game=10_000)
    moves = [{"move": "e4", "by": "white", "n": n} for n in range(2_000)]
    with GameSessionRegistry.connect(conninfo, config=config) as trainer:
        trainer.record_events("chess", moves)
        trainer.train_dictionary(size=1_024)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        registry.fetch_events_since("chess", 2_000)
        writer = Wire(registry, tmp_path)
        token = registry.issue_resume_token("chess", "alice").token
        for trips in (2, 1, 1):
            assert (
                writer.sent(lambda: registry.record_event("chess", moves[0])).round_trips == trips
            )
    with GameSessionRegistry.connect(conninfo, config=CONFIG) as registry:
        registry.get_session(registry.list_sessions("chess")[0].session_id)
        reader = Wire(registry, tmp_path)
        for call, trips in [
            (lambda: registry.fetch_events_since("chess", 1_990, limit=10), 1),
            (lambda: registry.resume(token, after=2_000), 2),
            (lambda: registry.resume(token, after=2_000), 1),
            (lambda: registry.fetch_events_json("chess", 2_000), 1),
        ]:
            assert reader.sent(call).round_trips == trips


def test_a_cleanup_of_nothing_is_a_few_round_trips(owned: Wire) -> None:
    sent = owned.sent(owned.registry.cleanup_expired_sessions)
    # The time, sessions, event ids, receipts, whether partitions are to be looked after; then the
    # games in a transaction: begin, claim, commit. By time, what partitions there are, besides.
    assert sent.round_trips + sent.others == 8 + (5 if LAYOUT == "time" else 0)
