"""Long replays from a streaming standby: current, lagging, paused, ahead, broken, promoted.

Whatever the standby says or does not say, each answer is the primary's. Where an event was changed
by hand on the primary while the standby is paused, the answer shows which of the two it came from.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID

import psutil
import psycopg
import pytest
from attrs import evolve, frozen
from integration.plans import explain
from pooler import pgbouncer
from probes import at_once, empty, in_thread, rows, value
from psycopg.conninfo import make_conninfo
from psycopg.types.numeric import Int8
from psycopg_pool import ConnectionPool
from relay import relayed
from replica import following
from support import Server, name_of, wait_until

from registry import (
    Continuity,
    EmbeddedPostgres,
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    InvalidArgument,
    InvalidToken,
    RegistryConfig,
    Replay,
    breaker,
    lease,
    standby,
)
from registry.queries import queries

Registry = GameSessionRegistry
SETTINGS = {"fsync": "off", "max_connections": 60, "wal_keep_size": "256MB"}
AFTER = 5
"""Events of a page that the primary sends in any case."""
PATIENT = 10.0
"""A time limit that no busy machine exceeds."""
TIMEOUT = 0.3
SLACK = 10.0


@frozen
class Pair:
    """A primary, as conninfo, and the standby that follows it."""

    primary: str
    standby: str
    follower: EmbeddedPostgres

    def catch_up(self) -> None:
        """Waits until the standby has all that the primary has."""
        ((reached,),) = rows(self.primary, "SELECT pg_current_wal_flush_lsn()::text")
        behind = "SELECT pg_last_wal_replay_lsn() < %s::pg_lsn"
        wait_until(lambda: not value(self.standby, behind, [reached]))

    def pause(self) -> None:
        self.catch_up()
        rows(self.standby, "SELECT pg_wal_replay_pause()")
        paused = "SELECT pg_get_wal_replay_pause_state() = 'paused'"
        wait_until(lambda: value(self.standby, paused))

    def go_on(self) -> None:
        rows(self.standby, "SELECT pg_wal_replay_resume()")

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.go_on()

    def change_by_hand(self, game_id: str = "game") -> None:
        """Has the primary say of each event that it came from there."""
        query = "UPDATE game_event SET payload = '\"primary\"' WHERE game_id = %s"
        rows(self.primary, query, [game_id])


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with EmbeddedPostgres(settings=SETTINGS) as embedded:
        server = Server(embedded.conninfo)
        yield server
        server.close()


@pytest.fixture(scope="module")
def database(primary: Server) -> str:
    return primary.create_migrated()


@contextmanager
def paired(conninfo: str) -> Iterator[Pair]:
    with following(conninfo, SETTINGS) as follower:
        yield Pair(conninfo, make_conninfo(follower.conninfo, dbname=name_of(conninfo)), follower)


@pytest.fixture(scope="module")
def shared(database: str) -> Iterator[Pair]:
    with paired(database) as pair:
        yield pair


@pytest.fixture
def pair(shared: Pair) -> Pair:
    """A pair of which the standby is not to be harmed; empty."""
    empty(shared.primary)
    return shared


@pytest.fixture
def own(database: str) -> Iterator[Pair]:
    """A pair of which the standby is the test's own; empty."""
    empty(database)
    with paired(database) as pair:
        yield pair


@contextmanager
def opened(pair: Pair, read_conninfo: str | None = None, **given: Any) -> Iterator[Registry]:
    config = RegistryConfig(
        **{
            "pool_min_size": 1,
            "cache_bytes": 0,
            "standby_after": AFTER,
            "standby_timeout": PATIENT,
            **given,
        }
    )
    through = pair.standby if read_conninfo is None else read_conninfo
    with Registry.connect(pair.primary, config=config, read_conninfo=through) as registry:
        yield registry


@pytest.fixture
def registry(pair: Pair) -> Iterator[Registry]:
    with opened(pair) as registry:
        yield registry


@pytest.fixture
def never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby is asked however often it failed."""
    monkeypatch.setattr(breaker, "FAILURES", 2**31)


def payloads(replay: Replay) -> list[object]:
    return [event.payload for event in replay.events]


def right(replay: Replay, begin: int, end: int, head: int) -> None:
    """The events of a game in which each event is its sequence."""
    assert payloads(replay) == list(range(begin, end + 1))
    assert [event.sequence for event in replay.events] == list(range(begin, end + 1))
    assert (replay.head, replay.more) == (head, end < head)


def asked(registry: Registry) -> int:
    """How often it has asked for a connection to the standby."""
    assert registry._standby is not None
    return registry._standby._pool.current.get_stats().get("requests_num", 0)


def timed(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


# what comes from where


def test_a_long_page_is_the_standbys_but_for_its_beginning(registry: Registry, pair: Pair) -> None:
    issued = registry.issue_resume_token("game", "ann")
    registry.record_events("game", ["standby"] * 20)
    with pair.paused():
        pair.change_by_hand()
        page = registry.fetch_events_since("game", 2, limit=10)
        assert payloads(page) == ["primary"] * AFTER + ["standby"] * (10 - AFTER)
        assert (page.source, page.head, page.more) == ("standby", 20, True)
        document = json.loads(registry.fetch_events_json("game", 2, limit=10).document)
        assert [event["payload"] for event in document["events"]] == payloads(page)
        every = [event.payload for event in registry.iter_events_since("game", 0, page_size=10)]
        assert every == 2 * payloads(page)
        resumed = registry.resume(issued.token, after=0)
        assert payloads(resumed.replay) == ["primary"] * AFTER + ["standby"] * (20 - AFTER)
        assert resumed.replay.source == "standby"


def test_calls_of_many_threads_share_the_standbys_answer(registry: Registry, pair: Pair) -> None:
    games = [f"game {n}" for n in range(4)]
    tokens = []
    for game_id in games:
        registry.record_events(game_id, ["standby"] * 20)
        tokens += [registry.issue_resume_token(game_id, str(user)).token for user in range(8)]
    with pair.paused():
        for game_id in games:
            pair.change_by_hand(game_id)
        fetches = [partial(registry.fetch_events_since, games[n % 4], 0) for n in range(32)]
        resumes = [partial(registry.resume, token, after=0) for token in tokens]
        pages = [getattr(got, "replay", got) for got in at_once([*fetches, *resumes])]
    for page in pages:
        assert payloads(page) == ["primary"] * AFTER + ["standby"] * (20 - AFTER)
    assert asked(registry) < len(pages)


def test_a_page_that_the_primary_sends_whole_asks_no_standby(
    registry: Registry, pair: Pair
) -> None:
    issued = registry.issue_resume_token("game", "ann")
    registry.record_events("game", range(1, 21))
    right(registry.fetch_events_since("game", 15), 16, 20, 20)
    right(registry.fetch_events_since("game", 3, limit=AFTER), 4, 3 + AFTER, 20)
    assert payloads(registry.fetch_events_since("game", 20)) == []
    right(registry.resume(issued.token, after=16).replay, 17, 20, 20)
    with suppress(InvalidToken):
        registry.resume(issued.token[:-6] + "AAAAAA", after=0)
    assert asked(registry) == 0
    pair.catch_up()
    assert registry.fetch_events_since("game", 0).source == "standby"
    assert asked(registry) == 1


def test_memory_is_asked_before_and_learns_after(pair: Pair) -> None:
    with opened(pair, cache_bytes=2**20) as registry:
        registry.record_events("game", range(1, 31))
        pair.catch_up()
        first = registry.fetch_events_since("game", 0, limit=15)
        right(first, 1, 15, 30)
        right(registry.fetch_events_since("game", 0, limit=15), 1, 15, 30)
        assert asked(registry) == 1
        longer = registry.fetch_events_since("game", 0)
        right(longer, 1, 30, 30)
        assert (longer.source, asked(registry)) == ("standby", 2)
        again = registry.fetch_events_since("game", 0)
        assert (again, again.source, asked(registry)) == (longer, "cache", 2)


def test_a_callers_own_pool_is_given_back_as_it_was(pair: Pair) -> None:
    def settings(pool: ConnectionPool) -> list[Any]:
        names = ["statement_timeout", "enable_seqscan", "TimeZone"]
        with pool.connection() as connection:
            shown = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in names]
            return [*shown, connection.autocommit, connection.prepare_threshold]

    with (
        ConnectionPool(pair.primary, min_size=1, open=True) as pool,
        ConnectionPool(pair.standby, min_size=1, max_size=1, open=True) as read_pool,
    ):
        config = RegistryConfig(standby_after=AFTER, standby_timeout=PATIENT, cache_bytes=0)
        registry = Registry(pool, config=config, read_pool=read_pool)
        registry.record_events("game", range(1, 21))
        pair.catch_up()
        before = settings(read_pool)
        for _ in range(8):  # as often as psycopg needs to prepare a statement
            page = registry.fetch_events_since("game", 0)
            right(page, 1, 20, 20)
            assert page.source == "standby"
        assert settings(read_pool) == before
        registry.close()
        assert settings(read_pool) == before
    with pytest.raises(InvalidArgument):
        Registry(pool, read_pool=pair.standby)  # type: ignore[arg-type]


def test_a_pooler_before_the_standby_is_fine(pair: Pair) -> None:
    with pgbouncer(pair.standby) as through, opened(pair, through) as registry:
        registry.record_events("game", range(1, 21))
        pair.catch_up()
        for _ in range(8):
            page = registry.fetch_events_since("game", 0)
            right(page, 1, 20, 20)
            assert page.source == "standby"


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
def test_the_standby_reads_by_index_and_no_more_than_it_needs(
    registry: Registry, pair: Pair, mode: str
) -> None:
    for game_id in ("game", "other"):
        registry.record_events(game_id, range(3_000))
    epochs = [registry.fetch_events_since(game, 0, limit=1).epoch for game in ("game", "other")]
    rows_autocommit(pair.primary, "VACUUM ANALYZE game, game_event")
    pair.catch_up()
    params = {
        "game_ids": ["game", "other", "game", "none"],
        "epochs": [*epochs, UUID(int=1), UUID(int=1)],
        "afters": [Int8(100), Int8(2_950), Int8(0), Int8(0)],
        "limits": [Int8(50), Int8(100), Int8(100), Int8(100)],
    }
    with psycopg.connect(pair.standby, autocommit=True) as connection:
        plan = explain(connection, "fetch_events_standby", params, mode=mode)
    assert plan.faults() == []
    assert 100 <= plan.rows_read <= 110
    assert "game_event_pkey" in plan.indexes


# a standby that knows less, or more


@pytest.mark.usefixtures("never_rests")
def test_what_a_paused_standby_lacks_the_primary_sends(registry: Registry, pair: Pair) -> None:
    issued = registry.issue_resume_token("game", "ann")
    registry.record_events("game", range(1, 11))
    with pair.paused():
        registry.record_events("game", range(11, 21))
        page = registry.fetch_events_since("game", 0)
        right(page, 1, 20, 20)
        assert page.source == "standby"  # some of it
        later = registry.fetch_events_since("game", 10)
        right(later, 11, 20, 20)
        assert later.source == "database"
        right(registry.resume(issued.token, after=2).replay, 3, 20, 20)
        every = [event.payload for event in registry.iter_events_since("game", 0, page_size=7)]
        assert every == list(range(1, 21))
        registry.record_events("new", range(1, 21))
        right(registry.fetch_events_since("new", 0), 1, 20, 20)


@pytest.mark.usefixtures("never_rests")
def test_a_standby_paused_across_a_prune_brings_nothing_back(
    registry: Registry, pair: Pair
) -> None:
    token = registry.issue_resume_token("game", "ann").token
    registry.record_events("game", range(1, 31))
    with pair.paused():
        registry.prune_events("game", 10)
        with pytest.raises(HistoryPruned) as refused:
            registry.fetch_events_since("game", 9)
        assert (refused.value.floor, refused.value.head) == (10, 30)
        page = registry.fetch_events_since("game", 10)
        right(page, 11, 30, 30)
        assert (page.source, page.floor) == ("standby", 10)
        resumed = registry.resume(token, after=3)
        right(resumed.replay, 11, 30, 30)
        assert (resumed.continuity, resumed.missed) == (Continuity.GAP, 7)


@pytest.mark.usefixtures("never_rests")
def test_a_game_begun_again_is_never_mixed_with_the_old_one(registry: Registry, pair: Pair) -> None:
    old = registry.record_events("game", ["old"] * 20) and registry.fetch_events_since("game", 0)
    with pair.paused():
        registry.end_game("game")
        with pytest.raises(GameNotFound):
            registry.fetch_events_since("game", 0)
        token = registry.issue_resume_token("game", "ann").token
        registry.record_events("game", ["new"] * 20)
        page = registry.fetch_events_since("game", 0)
        assert payloads(page) == ["new"] * 20
        assert page.source == "database"
        assert page.epoch != old.epoch
        resumed = registry.resume(token, after=12, epoch=old.epoch)
        assert resumed.continuity == Continuity.RESET
        assert payloads(resumed.replay) == ["new"] * 20


@pytest.mark.usefixtures("never_rests")
def test_renewed_epochs_make_a_paused_standby_another_database(
    registry: Registry, pair: Pair
) -> None:
    registry.record_events("game", range(1, 21))
    with pair.paused():
        registry.renew_epochs()
        page = registry.fetch_events_since("game", 0)
        right(page, 1, 20, 20)
        assert page.source == "database"
    pair.catch_up()
    assert registry.fetch_events_since("game", 0).source == "standby"


def test_a_prune_between_the_primary_and_the_standby_is_an_answer_of_before(
    registry: Registry, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is that of the moment in which the primary said where the log stands."""
    registry.record_events("game", range(1, 31))
    assert registry._standby is not None
    read = registry._standby.read

    def meanwhile(asked: Any) -> Any:
        registry.prune_events("game", 20)
        pair.catch_up()
        return read(asked)

    with monkeypatch.context() as patched:
        patched.setattr(registry._standby, "read", meanwhile)
        with pytest.raises(HistoryPruned):  # and if it cannot be, that of a later one
            registry.fetch_events_since("game", 0)
    page = registry.fetch_events_since("game", 20)
    right(page, 21, 30, 30)


def until_commits_wait(conninfo: str) -> Future[None]:
    """Waits until a commit waits for a synchronous standby, some time after the server was told to
    have them wait."""
    seen = threading.Event()

    def commit() -> None:
        while not seen.is_set():
            rows(conninfo, "SELECT pg_logical_emit_message(true, 'test', '')")

    last = in_thread(commit)
    try:
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_until(lambda: value(conninfo, waiting))
    finally:
        seen.set()
    return last


def test_what_only_the_standby_shows_has_not_happened_yet(registry: Registry, pair: Pair) -> None:
    """A commit that still waits for a synchronous standby is to be seen there already."""
    registry.record_events("game", range(1, 11))
    rows_autocommit(pair.primary, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    rows(pair.primary, "SELECT pg_reload_conf()")
    try:
        with opened(pair, statement_timeout=60.0) as another:
            last = until_commits_wait(pair.primary)
            late = in_thread(lambda: another.record_events("game", range(11, 21)))
            ahead = "SELECT count(*) FROM game_event"
            wait_until(lambda: value(pair.standby, ahead) == 20)
            page = registry.fetch_events_since("game", 0)
            right(page, 1, 10, 10)
            assert page.source == "standby"
            assert not late.done()
            rows_autocommit(pair.primary, "ALTER SYSTEM RESET synchronous_standby_names")
            rows(pair.primary, "SELECT pg_reload_conf()")
            assert late.result(30) == range(11, 21)
            last.result(30)
    finally:
        rows_autocommit(pair.primary, "ALTER SYSTEM RESET synchronous_standby_names")
        rows(pair.primary, "SELECT pg_reload_conf()")
    right(registry.fetch_events_since("game", 0), 1, 20, 20)


def rows_autocommit(conninfo: str, command: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(command.encode())


def test_with_epochs_kept_through_failovers_the_last_event_is_compared(pair: Pair) -> None:
    """A standby of the old primary may have what the promoted one never got, in the same epoch."""
    with opened(pair, lossless_failover=True) as registry:
        registry.record_events("game", range(1, 21))
        pair.catch_up()
        page = registry.fetch_events_since("game", 0)
        right(page, 1, 20, 20)
        assert page.source == "standby"
        with pair.paused():
            query = "UPDATE game_event SET payload = '-1' WHERE game_id = 'game' AND sequence > 15"
            rows(pair.primary, query)
            page = registry.fetch_events_since("game", 0)
            assert payloads(page) == [*range(1, 16), *[-1] * 5]
            assert page.source == "database"


# a standby in trouble


def test_a_standby_that_is_away_delays_a_call_by_its_time_limit_and_then_none(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "registry.standby")
    away = make_conninfo(host="/nowhere", user="postgres", password="wonderland")
    patient = {"pool_timeout": 60.0, "statement_timeout": 60.0}
    with opened(pair, away, standby_timeout=TIMEOUT, **patient) as registry:
        registry.record_events("game", range(1, 21))
        for n in range(10):
            took = timed(lambda: right(registry.fetch_events_since("game", 0), 1, 20, 20))
            assert took < (TIMEOUT if n < breaker.FAILURES else 0) + SLACK
        assert asked(registry) in range(breaker.FAILURES, breaker.FAILURES + 3)
    said = [r.getMessage() for r in caplog.records if r.name == "registry.standby"]
    (line,) = said
    assert "the standby is of no use: no connection to the database within 0.3 s" in line
    assert "wonderland" not in caplog.text


@pytest.mark.parametrize("wrong", [{"user": "nobody"}, {"dbname": "nothing"}])
def test_a_standby_that_lets_nobody_in_is_done_without(pair: Pair, wrong: dict[str, str]) -> None:
    through = make_conninfo(pair.standby, **wrong)
    with opened(pair, through, standby_timeout=TIMEOUT) as registry:
        registry.record_events("game", range(1, 21))
        right(registry.fetch_events_since("game", 0), 1, 20, 20)


@pytest.mark.parametrize("wrong", [7, "port=none port", "\ud800"])
def test_a_conninfo_that_is_none_is_refused_without_showing_it(pair: Pair, wrong: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Registry.connect(pair.primary, read_conninfo=wrong)
    assert "none port" not in str(refused.value)


def test_the_primary_itself_is_no_standby(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    with opened(pair, pair.primary) as registry:
        registry.record_events("game", range(1, 21))
        for _ in range(breaker.FAILURES):
            page = registry.fetch_events_since("game", 0)
            right(page, 1, 20, 20)
            assert page.source == "database"
    assert "of no use: NoStandby" in caplog.text


@pytest.mark.usefixtures("never_rests")
@pytest.mark.parametrize("fault", ["request lost", "answer lost"])
def test_a_connection_that_breaks_in_the_middle_costs_nothing_but_time(
    pair: Pair, fault: Any
) -> None:
    with relayed(pair.standby) as relay, opened(pair, relay.conninfo) as registry:
        registry.record_events("game", range(1, 21))
        pair.catch_up()
        sprung = relay.arm("fetch_events_standby", fault)
        page = registry.fetch_events_since("game", 0)
        assert sprung.is_set()
        right(page, 1, 20, 20)
        assert page.source == "database"
        assert registry.fetch_events_since("game", 0).source == "standby"


def test_a_query_cancelled_by_the_recovery_is_the_primarys_to_answer(
    own: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = queries.fetch_events_standby + b" CROSS JOIN LATERAL (SELECT pg_sleep(30)) AS slow"
    monkeypatch.setattr(standby, "queries", evolve(queries, fetch_events_standby=slow))
    rows_autocommit(own.standby, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
    rows(own.standby, "SELECT pg_reload_conf()")
    with opened(own, standby_timeout=60.0) as registry:
        registry.record_events("game", range(1, 21))
        registry.record_events("other", range(1, 21))
        own.catch_up()
        call = in_thread(lambda: registry.fetch_events_since("game", 0))
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_until(lambda: value(own.standby, sleeping))
        rows(own.primary, "DELETE FROM game_event WHERE game_id = 'other'")
        rows_autocommit(own.primary, "VACUUM game_event")
        page = call.result(20)
        right(page, 1, 20, 20)
        assert page.source == "database"


def test_a_frozen_standby_is_left_alone_and_used_again_when_it_thaws(
    own: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "registry.standby")
    monkeypatch.setattr(breaker, "REST", 0.5)
    monkeypatch.setattr(lease, "GRACE", 60.0)  # what a silent primary would have
    with opened(own, standby_timeout=TIMEOUT) as registry:
        registry.record_events("game", range(1, 21))
        own.catch_up()
        until_read_from_the_standby(registry)
        with frozen_server(own):
            for _ in range(breaker.FAILURES + 2):
                took = timed(lambda: right(registry.fetch_events_since("game", 0), 1, 20, 20))
                assert took < TIMEOUT + SLACK
        until_read_from_the_standby(registry)
    said = [r.getMessage() for r in caplog.records if r.name == "registry.standby"]
    begins, ends = said
    assert "the standby is of no use" in begins
    assert ends == "replays are read from the standby again"


def until_read_from_the_standby(registry: Registry) -> None:
    wait_until(lambda: registry.fetch_events_since("game", 0).source == "standby")


@contextmanager
def frozen_server(pair: Pair) -> Iterator[None]:
    server = psutil.Process(value(pair.standby, POSTMASTER))
    server.suspend()  # first: it begins no further process, and leaves the ended ones for known
    every = [server, *server.children(recursive=True)]
    try:
        for process in every[1:]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        yield
    finally:
        for process in every:
            with suppress(psutil.NoSuchProcess):
                process.resume()


POSTMASTER = "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int"


def test_a_standby_killed_under_many_readers_fails_none_of_them(
    own: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "REST", 0.2)
    with opened(own, standby_timeout=TIMEOUT) as registry:
        registry.record_events("game", range(1, 101))
        own.catch_up()
        until_read_from_the_standby(registry)
        until = time.monotonic() + 1.5

        def reader() -> int:
            times = 0
            while time.monotonic() < until:
                right(registry.fetch_events_since("game", 0), 1, 100, 100)
                times += 1
            return times

        def killer() -> int:
            time.sleep(0.4)
            own.follower.crash()
            return 1

        assert all(isinstance(times, int) and times for times in at_once([*[reader] * 8, killer]))
        assert registry.fetch_events_since("game", 0).source == "database"
        own.follower.start()
        until_read_from_the_standby(registry)


def test_a_promoted_standby_is_not_believed_whatever_others_wrote_there(own: Pair) -> None:
    with opened(own) as registry:
        registry.record_events("game", range(1, 21))
        own.catch_up()
        until_read_from_the_standby(registry)
        rows(own.standby, "SELECT pg_promote()")
        rows(own.standby, "UPDATE game_event SET payload = '\"elsewhere\"'")
        page = registry.fetch_events_since("game", 0)
        right(page, 1, 20, 20)
        assert page.source == "database"


def test_a_forked_child_leaves_the_standby_to_its_parent(registry: Registry, pair: Pair) -> None:
    registry.record_events("game", range(1, 21))
    pair.catch_up()
    until_read_from_the_standby(registry)
    child = os.fork()
    if child == 0:
        registry.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert registry.fetch_events_since("game", 0).source == "standby"


# all of it at once


@pytest.mark.usefixtures("never_rests")
def test_readers_see_each_event_once_and_in_order_whatever_the_standby_does(pair: Pair) -> None:
    until = time.monotonic() + 2.5
    sources = set()

    def play(registry: Registry) -> None:
        chance = random.Random(1)
        while time.monotonic() < until:
            head = registry.record_events("game", range(chance.randint(1, 20)))[-1]
            if chance.random() < 0.1:
                registry.prune_events("game", max(0, head - 50))

    def pause() -> None:
        while time.monotonic() < until:
            pair.pause()
            time.sleep(0.05)
            pair.go_on()
            time.sleep(0.05)

    def read(registry: Registry, seed: int) -> None:
        chance = random.Random(seed)
        seen = 0
        while time.monotonic() < until:
            try:
                page = registry.fetch_events_since("game", seen, limit=chance.randint(1, 40))
            except HistoryPruned as pruned:
                seen, before = pruned.floor, seen
                if seen <= before:
                    raise
                continue
            except GameNotFound:
                continue
            got = [event.sequence for event in page.events]
            assert all(after == before + 1 for before, after in pairwise([seen, *got]))
            assert bool(got) == (page.head > seen)
            seen = got[-1] if got else seen
            sources.add(page.source)
            if not got and chance.random() < 0.5:
                seen = page.floor

    with ExitStack() as stack:
        writer = stack.enter_context(opened(pair))
        readers = [stack.enter_context(opened(pair, cache_bytes=size)) for size in (0, 2**16)]
        calls: list[Callable[[], object]] = [partial(play, writer), pause]
        calls += [partial(read, readers[n % 2], n) for n in range(6)]
        try:
            assert at_once(calls) == [None] * len(calls)
        finally:
            pair.go_on()
    assert "standby" in sources
    assert "database" in sources
