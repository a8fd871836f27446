"""`partition`: from any layout to any other while everything goes on, and from any interruption."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import layouts
import psycopg
import pytest
from attrs import evolve
from probes import dump, held, hold_game, in_thread, rows, sequences, several, until_blocked, value
from psycopg.conninfo import make_conninfo
from support import Server, wait_until

from registry import (
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    RegistryConfig,
    RegistryError,
    RegistryUnavailable,
    SchemaMismatch,
    migrate,
    schema,
)
from registry.cli import main
from registry.partitioning import (
    ByHash,
    ByTime,
    Layout,
    Plain,
    bring_empty,
    conversion,
    copying,
    locking,
    moving,
    read,
)
from registry.partitioning import layouts as asking
from registry.partitioning.layouts import describe
from registry.partitioning.locking import Pace
from registry.partitioning.moving import Mover, Outcome
from registry.partitioning.queries import filled, queries
from registry.progress import Advance, Silent
from registry.queries import queries as main_queries
from registry.resources import folder
from registry.settings import server_settings

pytestmark = pytest.mark.owner

DAILY = ByTime(timedelta(days=1))
LAYOUTS: dict[str, Layout] = {
    "plain": Plain(),
    "hash": ByHash(3),
    "more": ByHash(5),
    "daily": DAILY,
    "hourly": ByTime(timedelta(hours=1)),
}


def quick(names: list[Any], *chosen: Any) -> list[Any]:
    """All of these, those that were not chosen marked slow."""
    return [
        pytest.param(*name, marks=() if name in chosen else pytest.mark.slow)
        for name in ((name,) if isinstance(name, str) else name for name in names)
    ]


WAYS = [
    ("plain", "hash"), ("hash", "daily"), ("daily", "plain"), ("hash", "more"),
    ("daily", "hourly"), ("plain", "daily"), ("daily", "hash"), ("hash", "plain"),
]  # fmt: skip

QUICK = Pace(lock_timeout=0.2, patience=20.0, share=1.0)


@pytest.fixture
def conninfo(plain_conninfo: str) -> str:
    """Each test says itself in which layout it begins."""
    return plain_conninfo


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even a small table takes many."""
    monkeypatch.setattr(copying, "FIRST_BATCH", 50)
    monkeypatch.setattr(copying, "LARGEST_BATCH", 50)


@contextmanager
def mover(conninfo: str, target: Layout, pace: Pace = QUICK) -> Iterator[Mover]:
    with schema.working(conninfo) as connection:
        yield Mover(connection, target, pace)


def convert(conninfo: str, target: Layout, pace: Pace = QUICK) -> Outcome:
    with mover(conninfo, target, pace) as working:
        return working.run()


def begin_in(conninfo: str, layout: Layout) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        bring_empty(connection, layout)


def layout(conninfo: str) -> Layout:
    with psycopg.connect(conninfo) as connection:
        return read(connection)


def fill(conninfo: str, games: int = 12, events: int = 40) -> None:
    """Games with as many events each, half of them two days old, the first few pruned; and one
    that is much longer than a batch."""
    rows(
        conninfo,
        """
        WITH log AS (
            INSERT INTO game (game_id, head, floor, oldest_at)
            SELECT 'game ' || n, CASE n WHEN 7 THEN 10 ELSE 1 END * %(events)s, 3,
                   now() - interval '2 days'
            FROM generate_series(1, %(games)s) AS n
            RETURNING *
        )
        INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
        SELECT game_id, n, now() - CASE WHEN n < head / 2 THEN interval '2 days' ELSE '0' END,
               1, convert_to(to_json(game_id || n)::text, 'UTF8')
        FROM log, generate_series(4, head) AS n
        """,
        {"games": games, "events": events},
    )


CATALOGUE = """
SELECT 'table', c.relname, c.relkind::text, c.reloptions::text, c.relacl::text,
       pg_get_userbyid(c.relowner)::text, pg_get_expr(c.relpartbound, c.oid)
FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid),
       indisvalid::text, indisprimary::text, NULL, NULL
FROM pg_index JOIN pg_class AS c ON c.oid = indrelid
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(k.oid),
       NULL, NULL, NULL
FROM pg_constraint AS k WHERE k.connamespace = 'public'::regnamespace AND contype <> 'n'
UNION ALL
SELECT 'trigger', tgrelid::regclass::text, tgname::text, tgtype::text, NULL, NULL, NULL
FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function', proname::text, prosrc, NULL, NULL, NULL, NULL
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT 'column', attrelid::regclass::text, attname::text, attnum::text,
       format_type(atttypid, atttypmod), attnotnull::text, attcollation::regcollation::text
FROM pg_attribute WHERE attrelid = 'game_event'::regclass AND attnum > 0
ORDER BY 1, 2, 3, 4
"""


def catalogue(conninfo: str) -> list[tuple[Any, ...]]:
    """All that there is in the schema."""
    return rows(conninfo, CATALOGUE)


class Play:
    """Players of all kinds, each in a thread with a registry of its own, until it ends.

    They know what each event was that they recorded, and what they may not see: a replay with a
    hole, or out of order. Registries live through the conversion, with what they have prepared.
    """

    def __init__(self, registries: list[GameSessionRegistry]) -> None:
        self._registries = registries
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.recorded: dict[str, dict[int, str]] = defaultdict(dict)
        self.said: set[str] = set()
        self.calls = 0
        self.slowest = 0.0
        self.faults: list[BaseException] = []

    @contextmanager
    def going_on(self) -> Iterator[Play]:
        parts = [self._append, self._many, self._acknowledge, self._prune, self._end, self._replay]
        threads = [
            threading.Thread(target=self._until_the_end, args=[part, registry], daemon=True)
            for part, registry in zip(parts, self._registries * len(parts), strict=False)
        ]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: self.calls > 20 or self.faults)
            yield self
            seen = self.calls
            wait_until(lambda: self.calls > seen + 20 or self.faults)
        finally:
            self._ended.set()
            for thread in threads:
                thread.join(30)
        assert self.faults == []

    def _until_the_end(
        self, part: Callable[[GameSessionRegistry, int], None], registry: GameSessionRegistry
    ) -> None:
        try:
            for turn in count():
                if self._ended.is_set():
                    return
                began = time.monotonic()
                part(registry, turn)
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.calls += 1
        except BaseException as fault:
            self.faults.append(fault)

    def _append(self, registry: GameSessionRegistry, turn: int) -> None:
        game, payload = f"game {turn % 9}", f"one {turn}"
        self.recorded[game][registry.record_event(game, payload)] = payload

    def _many(self, registry: GameSessionRegistry, turn: int) -> None:
        game, payloads = f"new {turn % 5}", [f"many {turn} {n}" for n in range(5)]
        for sequence, payload in zip(registry.record_events(game, payloads), payloads, strict=True):
            self.recorded[game][sequence] = payload

    def _acknowledge(self, registry: GameSessionRegistry, turn: int) -> None:
        game = f"followed {turn % 3}"
        registry.record_events(game, ["a", "b", "c"])
        session = registry.issue_resume_token(game, f"player {turn % 2}").session
        head = registry.fetch_events_since(game, session.last_acknowledged).head
        registry.acknowledge(session.session_id, max(session.last_acknowledged, head - 1))

    def _prune(self, registry: GameSessionRegistry, turn: int) -> None:
        game = f"game {turn % 12}"
        head = registry.record_event(game, f"pruned {turn}")
        with self._lock:
            self.recorded[game][head] = f"pruned {turn}"
        registry.prune_events(game, max(0, head - 30))

    def _end(self, registry: GameSessionRegistry, turn: int) -> None:
        game, payload = f"brief {turn % 2}", str(uuid4())
        self.said.add(payload)
        registry.record_events(game, [payload, payload])
        if turn % 3 == 0:
            registry.end_game(game)

    def _replay(self, registry: GameSessionRegistry, turn: int) -> None:
        game, after = f"game {turn % 12}", 0
        try:
            replay = registry.fetch_events_since(game, after, limit=100)
        except HistoryPruned as gone:
            after = gone.floor
            try:
                replay = registry.fetch_events_since(game, after, limit=100)
            except HistoryPruned:  # again, in between
                return
        except GameNotFound:  # nobody has begun it yet
            return
        found = [event.sequence for event in replay.events]
        assert found == list(range(after + 1, after + 1 + len(found)))
        assert replay.more or after + len(found) == replay.head

    def check(self, conninfo: str) -> None:
        """Each log has exactly what it should."""
        for game, floor, head in rows(conninfo, "SELECT game_id, floor, head FROM game"):
            assert sequences(conninfo, game) == list(range(floor + 1, head + 1)), game
        there = rows(conninfo, "SELECT game_id, sequence, payload FROM game_event")
        for game, sequence, payload in there:
            text = json.loads(payload)
            if game.startswith("brief"):
                assert text in self.said
            elif not game.startswith("followed"):
                assert text == self.recorded[game].get(sequence, f"{game}{sequence}")
        assert (
            rows(
                conninfo,
                "SELECT FROM game_event AS e WHERE NOT EXISTS "
                "(SELECT FROM game AS g WHERE g.game_id = e.game_id)",
            )
            == []
        )


@pytest.mark.parametrize(("before", "after"), quick(WAYS, ("hash", "daily"), ("daily", "plain")))
def test_everything_goes_on_meanwhile_and_nothing_is_lost(
    before: str, after: str, conninfo: str, small_batches: None
) -> None:
    begin_in(conninfo, LAYOUTS[before])
    fill(conninfo)
    with several(conninfo, 3) as registries, Play(registries).going_on() as play:
        assert convert(conninfo, LAYOUTS[after]) is Outcome.DONE
    play.check(conninfo)
    assert layout(conninfo) == LAYOUTS[after]


@pytest.mark.parametrize(("before", "after"), quick(WAYS, ("plain", "hash")))
def test_what_is_there_is_the_same_afterwards(
    before: str, after: str, conninfo: str, server: Server, small_batches: None
) -> None:
    fresh = server.create_migrated()
    try:
        begin_in(conninfo, LAYOUTS[before])
        fill(conninfo)
        events = dump(conninfo)
        assert convert(conninfo, LAYOUTS[after]) is Outcome.DONE
        assert dump(conninfo) == events
        if "time" not in str(LAYOUTS[after]):  # there it depends on the data
            begin_in(fresh, LAYOUTS[after])
            assert catalogue(conninfo) == catalogue(fresh)
    finally:
        server.drop(fresh)


def test_a_layout_that_is_there_is_left_as_it_is(conninfo: str) -> None:
    before = catalogue(conninfo)
    assert convert(conninfo, Plain()) is Outcome.ALREADY
    assert catalogue(conninfo) == before


def test_partitions_by_time_reach_from_the_oldest_event_to_two_ahead(conninfo: str) -> None:
    this_day = "SELECT date_trunc('day', now(), 'UTC')"
    same = f"{this_day} = date_trunc('day', now() + '1 min', 'UTC')"
    wait_until(lambda: value(conninfo, same), timeout=90)
    fill(conninfo)
    today = value(conninfo, this_day)
    convert(conninfo, DAILY)
    with psycopg.connect(conninfo) as connection:
        table = describe(connection)
        assert table is not None
        bounds = [leaf.lower for leaf in table.leaves if leaf.lower]
    assert bounds == [today + timedelta(days=day) for day in range(-2, 3)]
    assert value(conninfo, "SELECT count(*) FROM game_event_default") == 0
    assert f"game_event_{today:%Y%m%d}" in [leaf.name for leaf in table.leaves]


class Cut(Exception):
    """The connection went."""


def breaking(after: int) -> type[psycopg.Cursor[Any]]:
    """Cursors that end their connection behind so many statements."""
    ran = count(1)

    class Breaking(psycopg.Cursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            result = super().execute(*args, **kwargs)
            if next(ran) == after:
                self.connection.close()
                raise Cut
            return result

    return Breaking


def interrupted(conninfo: str, target: Layout, after: int) -> bool:
    """Whether a run was, by the end of its connection behind so many statements."""
    with (
        pytest.MonkeyPatch.context() as patch,
        psycopg.connect(conninfo, autocommit=True) as connection,
    ):
        patch.setattr(asking, "Cursor", breaking(after))
        try:
            Mover(connection, target, QUICK).run()
        except (Cut, psycopg.OperationalError):
            return True
    return False


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), pytest.param(23)], ids=["each", "some"]
)
def test_whereever_it_is_interrupted_it_goes_on(
    step: int, conninfo: str, small_batches: None
) -> None:
    fill(conninfo, games=4, events=12)
    before = dump(conninfo)
    ways = [ByHash(2), DAILY, Plain()]
    cuts = 0
    for after in range(1, 1000, step):
        target = ways[after // step % len(ways)]
        if interrupted(conninfo, target, after):
            cuts += 1
            # What goes on meanwhile reaches the one table or both.
            with GameSessionRegistry.connect(conninfo) as registry:
                registry.record_event("game 1", after)
            before = dump(conninfo)
        assert convert(conninfo, target) is not Outcome.TIME_UP
        assert layout(conninfo) == target
        assert dump(conninfo) == before
        assert (
            value(
                conninfo,
                "SELECT count(*) FROM pg_class WHERE relname ~ '^game_event_(next|old|conv)'",
            )
            == 0
        )
        if cuts < after // step:
            break
    assert cuts * step > 60


def command(conninfo: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "registry", "partition", "--database", conninfo, *options]


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_goes_on_from(conninfo: str) -> None:
    fill(conninfo, games=300, events=300)
    before = dump(conninfo)
    kills = 0
    for options in (
        ["--by", "hash", "--partitions", "8"], ["--by", "time", "--every", "1day"],
        ["--by", "nothing"],
    ):  # fmt: skip
        for _ in range(6):
            child = subprocess.Popen(
                command(conninfo, *options, "--share", "0.2"),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                child.wait(random.uniform(0.3, 1.2))
            except subprocess.TimeoutExpired:
                child.kill()
                kills += 1
                child.wait()
            if child.returncode == 0:
                break
        else:
            assert main(["partition", "--database", conninfo, *options]) == 0
        assert dump(conninfo) == before
    assert kills > 2


def test_its_time_is_up_and_the_next_run_goes_on(conninfo: str, small_batches: None) -> None:
    fill(conninfo)
    before = dump(conninfo)
    with mover(conninfo, ByHash(4), evolve(QUICK, share=0.01, max_seconds=0.3)) as first:
        assert first.run() is Outcome.TIME_UP
    assert layout(conninfo) == Plain()
    with mover(conninfo, ByHash(4)) as second:
        assert second.run() is Outcome.DONE
    assert 0 < first.copied < first.copied + second.copied == len(before["game_event"])
    assert dump(conninfo) == before


def copied(conninfo: str) -> int:
    """How far a conversion has come."""
    if value(conninfo, "SELECT to_regclass('game_event_conversion')") is None:
        return 0
    return int(value(conninfo, "SELECT copied FROM game_event_conversion"))


class OneBatch(Silent):
    """Ends a mover when it has copied something."""

    def __init__(self, mover: Mover) -> None:
        self._mover = mover

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda number, total=None: self._mover.end() if number else None


def begun(conninfo: str, target: Layout) -> None:
    """A conversion that has copied a part."""
    with mover(conninfo, target) as beginning:
        beginning.progress = OneBatch(beginning)
        assert beginning.run() is Outcome.TIME_UP
    assert copied(conninfo) > 0


def test_what_was_begun_can_be_given_up(conninfo: str, small_batches: None) -> None:
    fill(conninfo)
    events, before = dump(conninfo), catalogue(conninfo)
    begun(conninfo, ByHash(4))
    with mover(conninfo, Plain()) as giving_up:
        assert giving_up.abandon()
        assert not giving_up.abandon()
    assert (dump(conninfo), catalogue(conninfo)) == (events, before)
    assert convert(conninfo, DAILY) is Outcome.DONE


def test_another_target_while_one_is_under_way_is_refused(
    conninfo: str, small_batches: None
) -> None:
    fill(conninfo)
    begun(conninfo, ByHash(4))
    with pytest.raises(RegistryError, match=r"to 4 partitions by hash is under way.*--abandon"):
        convert(conninfo, ByHash(8))
    with pytest.raises(RegistryError, match="--abandon"):
        convert(conninfo, Plain())
    assert convert(conninfo, ByHash(4)) is Outcome.DONE


def test_one_at_a_time(conninfo: str, small_batches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(conninfo)
    monkeypatch.setattr(locking, "LINGERING", 0.2)
    with mover(conninfo, ByHash(4), evolve(QUICK, share=0.001)) as first:
        running = in_thread(first.run)
        wait_until(lambda: value(conninfo, "SELECT to_regclass('game_event_conversion')"))
        with pytest.raises(RegistryUnavailable, match="another process is converting"):
            convert(conninfo, ByHash(4))
        with pytest.raises(RegistryUnavailable, match="another process is converting"):
            convert(conninfo, ByHash(4), evolve(QUICK, max_seconds=0.001))
        first.end()
        assert running.result(30) is Outcome.TIME_UP


def test_a_lost_trigger_or_table_is_noticed(conninfo: str, small_batches: None) -> None:
    fill(conninfo)
    begun(conninfo, ByHash(4))
    rows(conninfo, "DROP TRIGGER game_event_mirror_delete ON game_event")
    with pytest.raises(RegistryError, match=r"lost its triggers.*--abandon"):
        convert(conninfo, ByHash(4))
    with mover(conninfo, Plain()) as giving_up:
        assert giving_up.abandon()
    assert convert(conninfo, ByHash(4)) is Outcome.DONE


def test_a_copy_that_is_not_the_same_is_noticed(conninfo: str, small_batches: None) -> None:
    fill(conninfo)
    begun(conninfo, ByHash(4))
    # As if an earlier change had not been mirrored.
    rows(
        conninfo,
        "INSERT INTO game_event_next SELECT game_id, 999, recorded_at, codec, payload "
        "FROM game_event WHERE game_id = 'game 9' AND sequence = 4",
    )
    with pytest.raises(RegistryError, match="has to be the same"):
        convert(conninfo, ByHash(4))
    assert layout(conninfo) == Plain()


def test_what_lies_at_or_below_the_floor_is_left_behind(conninfo: str) -> None:
    """A cleanup may delete it at any time, and without a lock on the game."""
    fill(conninfo)
    rows(conninfo, "UPDATE game SET floor = 20 WHERE game_id IN ('game 2', 'game 7')")
    convert(conninfo, ByHash(4))
    assert sequences(conninfo, "game 2") == list(range(21, 41))
    assert sequences(conninfo, "game 7") == list(range(21, 401))


def test_changes_of_every_kind_are_mirrored(conninfo: str, small_batches: None) -> None:
    fill(conninfo)
    begun(conninfo, DAILY)
    rows(conninfo, "UPDATE game_event SET recorded_at = recorded_at - interval '1 day'")
    rows(conninfo, "DELETE FROM game_event WHERE game_id IN ('game 1', 'game 9')")
    with (
        psycopg.connect(conninfo) as connection,
        connection.cursor() as cursor,
        cursor.copy("COPY game_event FROM STDIN") as copy,
    ):
        copy.write_row(("game 1", 41, "2020-01-01 00:00:00+00", 1, b"1"))
    before = dump(conninfo)
    assert convert(conninfo, DAILY) is Outcome.DONE
    assert dump(conninfo) == before
    begun(conninfo, Plain())
    rows(conninfo, "TRUNCATE game_event")
    assert convert(conninfo, Plain()) is Outcome.DONE
    assert dump(conninfo)["game_event"] == []


def test_nothing_but_the_registrys_own_may_hang_on_the_table(conninfo: str) -> None:
    rows(conninfo, "CREATE VIEW mine AS SELECT count(*) FROM game_event")
    rows(conninfo, "CREATE INDEX theirs ON game_event (recorded_at)")
    before = catalogue(conninfo)
    with pytest.raises(RegistryError, match=r"index theirs.* view mine"):
        convert(conninfo, ByHash(2))
    assert catalogue(conninfo) == before


@pytest.mark.parametrize("name", ["game_event_next", "game_event_old"])
def test_a_table_of_somebody_elses_is_not_touched(name: str, conninfo: str) -> None:
    rows(conninfo, f"CREATE TABLE {name} (n int)")
    with pytest.raises(RegistryError, match=f"a table {name} of somebody else's"):
        convert(conninfo, ByHash(2))


class Appending:
    """A player who appends all the time, and how long he had to wait."""

    def __init__(self, registry: GameSessionRegistry) -> None:
        self._registry = registry
        self._ended = threading.Event()
        self.sequences: list[int] = []
        self.slowest = 0.0

    def __enter__(self) -> Appending:
        self._thread = in_thread(self._run)
        wait_until(lambda: self.sequences)
        return self

    def _run(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            self.sequences.append(self._registry.record_event("busy", 1))
            self.slowest = max(self.slowest, time.monotonic() - began)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.result(30)
        assert self.sequences == list(range(1, len(self.sequences) + 1))


HINDRANCES = {
    "one who has recorded": "INSERT INTO game_event VALUES ('theirs', 1, now(), 1, '1')",
    "one who has read": "SELECT FROM game_event LIMIT 1",
    "one who holds a game": "SELECT FROM game WHERE game_id = 'game 7' FOR UPDATE",
}


@pytest.mark.parametrize("hindrance", quick([*HINDRANCES], ("one who has recorded",)))
def test_it_gives_way_to_a_long_transaction_and_appends_go_on(
    hindrance: str, conninfo: str, registry: GameSessionRegistry
) -> None:
    fill(conninfo)
    statement = HINDRANCES[hindrance]
    pace = Pace(lock_timeout=0.05, patience=0.5, share=1.0)
    with Appending(registry) as appending, held(conninfo, statement) as connection:
        before = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="let that end") as refusal:
            convert(conninfo, ByHash(4), pace)
        assert time.monotonic() - before < 10
        if "game_event" in statement:
            assert f"process {connection.info.backend_pid}" in str(refusal.value)
        seen = len(appending.sequences)
        wait_until(lambda: len(appending.sequences) > seen)
        assert layout(conninfo) == Plain()
        connection.rollback()
        assert convert(conninfo, ByHash(4)) is Outcome.DONE
    assert appending.slowest < 5.0
    assert sequences(conninfo, "busy") == appending.sequences


def test_a_snapshot_older_than_the_copy_is_waited_for(conninfo: str) -> None:
    """In the new table it would see nothing of what was copied."""
    fill(conninfo)
    before = value(conninfo, "SELECT count(*) FROM game_event")
    with psycopg.connect(conninfo) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT FROM game LIMIT 1")
        with pytest.raises(RegistryUnavailable, match=f"process {reader.info.backend_pid}"):
            convert(conninfo, ByHash(4), Pace(patience=0.2, share=1.0))
        with mover(conninfo, ByHash(4)) as waiting:
            running = in_thread(waiting.run)
            wait_until(lambda: copied(conninfo) > 0)
            assert reader.execute("SELECT count(*) FROM game_event").fetchone() == (before,)
            reader.rollback()
            assert running.result(30) is Outcome.DONE
        assert reader.execute("SELECT count(*) FROM game_event").fetchone() == (before,)


ROLE = f'player "{os.getpid()}"'
ROLE_QUOTED = f'"player ""{os.getpid()}"""'


@pytest.fixture
def role(server: Server) -> Iterator[str]:
    server.execute("CREATE ROLE {role} LOGIN", role=ROLE)
    yield ROLE
    server.execute("DROP ROLE {role}", role=ROLE)


@pytest.fixture
def roles_database(server: Server, role: str) -> Iterator[str]:
    conninfo = server.create_migrated()
    schema.grant(conninfo, role)
    yield conninfo
    server.drop(conninfo)


def test_a_role_without_rights_of_its_own_goes_on(
    roles_database: str, role: str, small_batches: None
) -> None:
    conninfo = roles_database
    fill(conninfo)
    rights = "SELECT relacl::text FROM pg_class WHERE oid = 'game_event'::regclass"
    before = value(conninfo, rights)
    confined = make_conninfo(conninfo, user=role)
    with several(confined, 3) as registries:
        with Play(registries).going_on():
            assert convert(conninfo, DAILY) is Outcome.DONE
        assert value(conninfo, rights) == before
    with (
        psycopg.connect(confined) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("TRUNCATE game_event")


def test_rights_that_change_meanwhile_are_right_afterwards(
    roles_database: str, role: str, server: Server, small_batches: None
) -> None:
    """A role let in while it lasts writes at once, though it has no right to the copy."""
    conninfo = roles_database
    fill(conninfo)
    begun(conninfo, ByHash(3))
    newcomer = f"newcomer_{os.getpid()}"
    server.execute("CREATE ROLE {name} LOGIN", name=newcomer)
    try:
        rows(conninfo, f"GRANT SELECT, INSERT ON game_event TO {newcomer} WITH GRANT OPTION")
        rows(conninfo, f"REVOKE DELETE ON game_event FROM {ROLE_QUOTED}")
        with psycopg.connect(make_conninfo(conninfo, user=newcomer)) as connection:
            connection.execute("INSERT INTO game_event VALUES ('game 1', 41, now(), 1, '1')")
        rights = (
            "SELECT grantee::regrole::text, privilege_type, is_grantable FROM pg_class, "
            "aclexplode(relacl) WHERE oid = 'game_event'::regclass ORDER BY 1, 2"
        )
        before = rows(conninfo, rights)
        assert convert(conninfo, ByHash(3)) is Outcome.DONE
        assert rows(conninfo, rights) == before
        assert sequences(conninfo, "game 1") == list(range(4, 42))
    finally:
        rows(conninfo, f"DROP OWNED BY {newcomer}")
        server.execute("DROP ROLE {name}", name=newcomer)


def test_nobody_forges_events_by_the_mirror(
    roles_database: str, role: str, small_batches: None
) -> None:
    fill(roles_database)
    begun(roles_database, ByHash(3))
    rows(roles_database, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    with psycopg.connect(make_conninfo(roles_database, user=role)) as connection:
        connection.execute("CREATE TABLE forged (LIKE game_event)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "CREATE TRIGGER forge AFTER INSERT ON forged REFERENCING NEW TABLE AS added "
                "FOR EACH STATEMENT EXECUTE FUNCTION game_event_mirror()"
            )


def test_only_the_owner_converts(roles_database: str, role: str) -> None:
    with pytest.raises(RegistryError, match="be the owner of the tables: connect as"):
        convert(make_conninfo(roles_database, user=role), ByHash(3))


def test_run_by_a_superuser_all_belongs_to_the_owner(
    server: Server, roles_database: str, role: str
) -> None:
    conninfo = roles_database
    for kind, name in (("TABLE", "game_event"), ("TABLE", "game"), ("SCHEMA", "public")):
        server_side = psycopg.sql.SQL("ALTER {} {} OWNER TO {}").format(
            psycopg.sql.SQL(kind), psycopg.sql.Identifier(name), psycopg.sql.Identifier(role)
        )
        with psycopg.connect(conninfo) as connection:
            connection.execute(server_side)
    fill(conninfo)
    assert convert(conninfo, ByHash(3)) is Outcome.DONE
    owners = rows(
        conninfo,
        "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class "
        "WHERE oid IN (SELECT relid FROM pg_partition_tree('game_event'))",
    )
    assert owners == [(role,)]
    assert convert(make_conninfo(conninfo, user=role), Plain()) is Outcome.DONE


@pytest.mark.parametrize(("before", "after"), quick(WAYS, ("hash", "daily")))
def test_a_dry_run_changes_nothing_and_its_sql_does_the_same(
    before: str, after: str, conninfo: str, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_in(conninfo, LAYOUTS[before])
    there = catalogue(conninfo)
    assert main(["partition", "--database", conninfo, "--dry-run", *options(LAYOUTS[after])]) == 0
    script = capsys.readouterr().out
    assert catalogue(conninfo) == there
    other = server.create_migrated()
    try:
        begin_in(other, LAYOUTS[before])
        assert convert(other, LAYOUTS[after]) is Outcome.DONE
        text = re.sub(r"^--.*\n", "", script, flags=re.MULTILINE)
        for statement in re.findall(r"(?:\$\$.*?\$\$|[^;$])+;", text, re.DOTALL):
            run_as_psql(conninfo, statement)
        assert catalogue(conninfo) == catalogue(other)
    finally:
        server.drop(other)
        close_psql(conninfo)


_sessions: dict[str, psycopg.Connection[Any]] = {}


def run_as_psql(conninfo: str, statement: str) -> None:
    """One statement after another, in one session."""
    if conninfo not in _sessions:
        _sessions[conninfo] = psycopg.connect(conninfo, autocommit=True)
    _sessions[conninfo].execute(statement.encode())


def close_psql(conninfo: str) -> None:
    _sessions.pop(conninfo).close()


def findings(
    conninfo: str, capsys: pytest.CaptureFixture[str], check: str = "partitions"
) -> list[tuple[str, str, str | None]]:
    """What `doctor` finds: level, what it says and the remedy."""
    capsys.readouterr()
    main(["doctor", "--json", "--database", conninfo])
    found = json.loads(capsys.readouterr().out)["findings"]
    return [(f["level"], f["said"], f["remedy"]) for f in found if f["check"] == check]


def apply(conninfo: str, remedy: str | None) -> None:
    """Runs the command that a remedy names."""
    assert remedy is not None
    words = remedy.partition(",")[0].removeprefix("python -m registry ").split()
    assert main([*words, "--database", conninfo]) == 0


@pytest.mark.parametrize("name", quick([*LAYOUTS], ("hash",), ("daily",)))
def test_the_doctor_is_content_with_every_layout(
    name: str, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_in(conninfo, LAYOUTS[name])
    said = [("ok", f"game_event: {LAYOUTS[name]}", None)]
    assert findings(conninfo, capsys) == said
    ((level, _, _),) = findings(conninfo, capsys, "indexes")
    assert level == "ok"


def test_the_doctor_misses_a_key_of_a_partition_by_time(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_in(conninfo, DAILY)
    rows(conninfo, "ALTER TABLE game_event_default DROP CONSTRAINT game_event_default_pkey")
    ((level, said, remedy),) = findings(conninfo, capsys, "indexes")
    assert (level, said) == ("attention", "game_event_default_pkey is missing")
    assert remedy is not None
    rows(conninfo, remedy)
    ((level, _, _),) = findings(conninfo, capsys, "indexes")
    assert level == "ok"


def test_the_doctor_misses_the_partitions_ahead_and_the_command_adds_them(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_in(conninfo, DAILY)
    before = catalogue(conninfo)
    with psycopg.connect(conninfo) as connection:
        table = describe(connection)
        assert table is not None
    for leaf in table.leaves[-3:-1]:
        rows(conninfo, f"DROP TABLE {leaf.name}")
    ((level, said, remedy),) = findings(conninfo, capsys)
    assert level == "attention"
    assert said.startswith("2 of the 2 partitions ahead are missing")
    assert remedy == "python -m registry partition --by time --every 1day"
    main(["partition", "--dry-run", "--by", "time", "--every", "1day", "--database", conninfo])
    assert capsys.readouterr().out.count("ATTACH PARTITION") == 2
    apply(conninfo, remedy)
    assert [level for level, _, _ in findings(conninfo, capsys)] == ["ok"]
    assert catalogue(conninfo) == before


def test_no_partition_is_added_for_a_time_that_the_rest_has_rows_of(
    conninfo: str, registry: GameSessionRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_in(conninfo, DAILY)
    today = value(conninfo, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    rows(conninfo, f"DROP TABLE game_event_{today}")
    registry.record_event("chess", 1)
    assert convert(conninfo, DAILY) is Outcome.ALREADY
    assert value(conninfo, f"SELECT to_regclass('game_event_{today}')") is None
    rows(conninfo, "ANALYZE game_event_default")
    ((level, said, _),) = findings(conninfo, capsys)
    assert (level, said.split(" of ")[0]) == ("advice", "rows in game_event_default: 1")
    assert sequences(conninfo, "chess") == [1]


@pytest.mark.slow
def test_the_doctor_names_partitions_past_their_time(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(conninfo)
    rows(conninfo, "UPDATE game SET oldest_at = now() - interval '3 days'")
    convert(conninfo, DAILY)
    ((level, said, _),) = findings(conninfo, capsys)
    assert level == "attention"
    assert re.match(r"[12] partitions are past their time, the oldest is game_event_\d{8}", said)
    assert main(["cleanup", "--database", conninfo]) == 0
    assert [level for level, _, _ in findings(conninfo, capsys)] == ["ok"]


def test_the_doctor_sees_a_conversion_that_is_not_done(
    conninfo: str, capsys: pytest.CaptureFixture[str], small_batches: None
) -> None:
    fill(conninfo)
    begun(conninfo, ByHash(4))
    ((level, said, remedy),) = findings(conninfo, capsys)
    assert level == "attention"
    assert re.match(r"a conversion to 4 partitions by hash, begun at .*, is not done, \d+ ", said)
    with mover(conninfo, ByHash(4)) as running, running._locking.alone():
        ((level, said, _),) = findings(conninfo, capsys)
        assert (level, "is running" in said) == ("advice", True)
    rows(conninfo, "DROP TRIGGER game_event_mirror_insert ON game_event")
    ((level, said, lost),) = findings(conninfo, capsys)
    assert (level, lost) == ("attention", "python -m registry partition --abandon")
    apply(conninfo, lost)
    assert findings(conninfo, capsys) == [("ok", "game_event: one table", None)]
    apply(conninfo, remedy)
    assert findings(conninfo, capsys) == [("ok", "game_event: 4 partitions by hash", None)]


def test_the_doctor_sees_what_a_conversion_left_behind(
    conninfo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(conninfo)
    with monkeypatch.context() as patched:
        patched.setattr(moving, "drop", lambda table: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert(conninfo, ByHash(4))
    ((level, said, remedy),) = findings(conninfo, capsys)
    assert (level, "is still there, game_event_old" in said) == ("attention", True)
    apply(conninfo, remedy)
    assert [level for level, _, _ in findings(conninfo, capsys)] == ["ok"]
    rows(conninfo, "CREATE TABLE game_event_old (n int)")
    ((level, said, remedy),) = findings(conninfo, capsys)
    assert (level, remedy) == ("attention", "rename or drop it")


def options(layout: Layout) -> list[str]:
    """Those of the command that ask for a layout."""
    if isinstance(layout, ByHash):
        return ["--by", "hash", "--partitions", str(layout.partitions)]
    if isinstance(layout, ByTime):
        return ["--by", "time", "--every", f"{layout.every // timedelta(minutes=1)} minutes"]
    return ["--by", "nothing"]


def test_the_command_says_what_it_did(conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(conninfo)
    number = value(conninfo, "SELECT count(*) FROM game_event")
    base = ["partition", "--database", conninfo, "--share", "1"]
    assert main([*base, "--by", "hash", "--partitions", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"game_event is laid out in 4 partitions by hash; copied {number:,} ev")
    assert "KiB; the copy takes about as much" in err
    assert main([*base, "--by", "hash", "--partitions", "4"]) == 0
    out, err = capsys.readouterr()
    assert out == "game_event is laid out in 4 partitions by hash already; nothing was to be done\n"
    assert err == ""
    assert main([*base, "--by", "nothing", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["outcome"], said["layout"], said["copied"]) == ("done", "one table", number)
    assert main([*base, "--abandon"]) == 0
    assert capsys.readouterr().out == "no conversion is under way\n"


@pytest.mark.parametrize(
    "wrong",
    [
        "", "--by hash", "--by time", "--by hash --every 1day", "--by nothing --partitions 4",
        "--by hash --partitions 1", "--by hash --partitions 16 --every 1day", "--by size",
        "--by time --every 30seconds", "--by time --every 0days", "--by time --every day",
        "--abandon --by nothing",
    ],
)  # fmt: skip
def test_wrong_usage_is_said_before_anything_is_done(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["partition", "--database", "host=nowhere", *wrong.split()])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_run_gets_on_however_short_its_time_is(
    conninfo: str, capsys: pytest.CaptureFixture[str], small_batches: None
) -> None:
    fill(conninfo)
    before, there = dump(conninfo), 0
    brief = ["--share", "1", "--max-seconds", "0.001", "--by", "hash", "--partitions", "4"]
    while main(["partition", "--database", conninfo, *brief]) == 3:
        assert copied(conninfo) > there
        there = copied(conninfo)
        assert f": {there:,} of at most" in capsys.readouterr().out
    assert there > 0
    assert layout(conninfo) == ByHash(4)
    assert dump(conninfo) == before


def test_an_error_is_the_only_line_on_stderr(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows(conninfo, "CREATE TABLE game_event_next (n int)")
    asked = ["--by", "hash", "--partitions", "4"]
    assert main(["partition", "--database", conninfo, *asked]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: there is a table game_event_next of somebody else's")


@pytest.mark.slow
def test_sigterm_ends_it_after_the_batch_and_ctrl_c_at_once(conninfo: str) -> None:
    fill(conninfo, games=300, events=200)
    total = value(conninfo, "SELECT sum(head - floor) FROM game")
    before = dump(conninfo)
    for number, code in ((signal.SIGTERM, 3), (signal.SIGINT, 130)):
        with psycopg.connect(conninfo) as connection:
            child = subprocess.Popen(
                command(conninfo, "--by", "hash", "--partitions", "4", "--share", "0.02"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            wait_until(lambda: conversion.is_running(connection))
            before_it = copied(conninfo)
            wait_until(lambda: copied(conninfo) > before_it)  # noqa: B023
        os.kill(child.pid, number)
        out, err = child.communicate(timeout=30)
        assert child.returncode == code
        said = f"{copied(conninfo):,} of at most {total:,} events are copied; the same command"
        assert said in (out if number == signal.SIGTERM else err)
    assert convert(conninfo, ByHash(4)) is Outcome.DONE
    assert dump(conninfo) == before


@pytest.mark.parametrize("name", quick([*LAYOUTS], ("daily",)))
def test_migrations_go_back_and_forth_on_every_layout(name: str, conninfo: str) -> None:
    begin_in(conninfo, LAYOUTS[name])
    schema.rollback(conninfo, to="0001_registry_tables")
    migrate(conninfo)
    assert layout(conninfo) == LAYOUTS[name]
    schema.rollback(conninfo, to="0001_registry_tables")
    schema.rollback(conninfo)
    migrate(conninfo)
    assert layout(conninfo) == layouts.LAYOUTS[layouts.LAYOUT]


def until(stage: str, conninfo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion to partitions by day that was interrupted."""

    def interrupted(table: Any) -> Any:
        raise KeyboardInterrupt

    if stage == "copying":
        begun(conninfo, DAILY)
        return
    with monkeypatch.context() as patched:
        patched.setattr(moving, "drop", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert(conninfo, DAILY)
    assert value(conninfo, "SELECT count(*) FROM game_event_old") > 0


@pytest.mark.parametrize("stage", ["copying", "swapped"])
def test_the_events_take_their_conversion_with_them_when_they_are_rolled_back(
    stage: str, conninfo: str, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(conninfo)
    until(stage, conninfo, monkeypatch)
    schema.rollback(conninfo, steps=len(schema.known()))
    left = """
        SELECT relname FROM pg_class WHERE relname LIKE 'game%'
        UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'game%'
    """
    assert rows(conninfo, left) == []
    migrate(conninfo)
    fill(conninfo)
    assert convert(conninfo, ByHash(2)) is Outcome.DONE


@pytest.mark.parametrize("end", ["next", "old", "conversion"])
def test_a_rollback_leaves_a_table_of_somebody_elses(end: str, conninfo: str) -> None:
    rows(conninfo, f"CREATE TABLE game_event_{end} (n int)")
    schema.rollback(conninfo, steps=len(schema.known()))
    assert rows(conninfo, f"SELECT * FROM game_event_{end}") == []


@pytest.mark.parametrize("stage", ["copying", "swapped"])
def test_a_rollback_leaves_the_conversion_of_another_registry(
    stage: str, conninfo: str, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is in another schema, further behind in the search path."""
    rows(conninfo, "CREATE SCHEMA app")
    migrate(make_conninfo(conninfo, options="-c search_path=app"))
    fill(conninfo)
    until(stage, conninfo, monkeypatch)
    there = catalogue(conninfo)
    through = make_conninfo(conninfo, options="-c search_path=app,public")
    schema.rollback(through, steps=len(schema.known()))
    assert catalogue(conninfo) == there
    assert convert(conninfo, DAILY) is not Outcome.TIME_UP


def test_an_append_in_front_of_a_rollback_gets_through(conninfo: str, small_batches: None) -> None:
    """It has locked the events, and will want the next table, which the rollback drops too."""
    fill(conninfo)
    begun(conninfo, DAILY)
    with psycopg.connect(conninfo) as writer:
        writer.execute("SELECT FROM game_event LIMIT 1 FOR UPDATE")
        rollback = in_thread(partial(schema.rollback, conninfo, steps=len(schema.known())))
        until_blocked(conninfo)
        writer.execute("UPDATE game_event SET payload = '1' WHERE game_id = 'game 1'")
    assert len(rollback.result(30)) == len(schema.known())


def test_rows_are_in_the_way_of_doing_it_at_once(conninfo: str) -> None:
    fill(conninfo)
    with psycopg.connect(conninfo) as connection, pytest.raises(RegistryError, match="has rows"):
        bring_empty(connection, ByHash(2))


def test_another_way_of_partitioning_is_not_taken_for_ours(conninfo: str) -> None:
    rows(conninfo, "DROP TABLE game_event")
    rows(
        conninfo,
        "CREATE TABLE game_event (game_id text, sequence bigint, recorded_at timestamptz) "
        "PARTITION BY LIST (game_id)",
    )
    with pytest.raises(SchemaMismatch, match="in a way of its own"):
        layout(conninfo)


@pytest.mark.slow
def test_times_read_the_same_whatever_the_role_is_set_to(conninfo: str) -> None:
    fill(conninfo)
    convert(conninfo, ByTime(timedelta(hours=6)))
    odd = make_conninfo(
        conninfo,
        options="-c DateStyle=SQL,DMY -c TimeZone=Asia/Kathmandu -c IntervalStyle=iso_8601",
    )
    assert layout(odd) == ByTime(timedelta(hours=6))
    before = dump(conninfo)
    begin = evolve(QUICK, max_seconds=0.1, share=0.01)
    convert(odd, ByTime(timedelta(hours=12)), begin)
    assert convert(odd, ByTime(timedelta(hours=12))) is Outcome.DONE
    assert dump(conninfo) == before


def test_a_game_is_not_waited_for_by_the_others(
    conninfo: str, registry: GameSessionRegistry, small_batches: None
) -> None:
    fill(conninfo)
    with mover(conninfo, ByHash(3)) as working:
        with hold_game(conninfo, "game 3"):
            running = in_thread(working.run)
            until_blocked(conninfo)
            for n in range(1, 13):
                if n != 3:
                    registry.record_event(f"game {n}", "meanwhile")
        assert running.result(30) is Outcome.DONE


def partitions(conninfo: str) -> list[str]:
    with psycopg.connect(conninfo) as connection:
        table = describe(connection)
    assert table is not None
    return [leaf.name for leaf in table.leaves]


@pytest.fixture
def aged(conninfo: str) -> str:
    """By time, the first half of each log in a partition that is past its time."""
    fill(conninfo)
    assert convert(conninfo, DAILY) is Outcome.DONE
    return conninfo


def with_old_events(conninfo: str) -> list[str]:
    """The partitions of days that are past."""
    today = value(conninfo, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    return [name for name in partitions(conninfo) if name < f"game_event_{today}"]


def test_a_cleanup_by_the_owner_drops_partitions(
    aged: str, registry: GameSessionRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    old, *_ = with_old_events(aged)
    rows(aged, "UPDATE game SET oldest_at = now() - interval '3 days'")
    kept = rows(
        aged, f"SELECT game_id, sequence FROM game_event WHERE tableoid <> '{old}'::regclass"
    )
    rows(aged, "CREATE TABLE deleted (n bigint)")
    rows(
        aged,
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO deleted SELECT count(*) FROM gone; RETURN NULL; END'",
    )
    rows(
        aged,
        "CREATE TRIGGER tell AFTER DELETE ON game_event REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION tell()",
    )
    rows(aged, f"ANALYZE {old}")
    gone = value(aged, f"SELECT count(*) FROM {old}")
    assert registry.cleanup_expired_sessions().events == gone > 0
    assert old not in partitions(aged)
    assert value(aged, "SELECT coalesce(sum(n), 0) FROM deleted") == 0  # none row by row
    assert sorted(rows(aged, "SELECT game_id, sequence FROM game_event")) == sorted(kept)
    for game, floor, head in rows(aged, "SELECT game_id, floor, head FROM game"):
        assert sequences(aged, game) == list(range(floor + 1, head + 1))
        with pytest.raises(HistoryPruned):
            registry.fetch_events_since(game, floor - 1)
        assert registry.fetch_events_since(game, floor).head == head
    assert registry.cleanup_expired_sessions().events == 0
    assert [level for level, _, _ in findings(aged, capsys)] == ["ok"]


def test_a_cleanup_by_another_role_deletes_row_by_row(roles_database: str, role: str) -> None:
    fill(roles_database)
    convert(roles_database, DAILY)
    before = partitions(roles_database)
    old = value(
        roles_database,
        "SELECT count(*) FROM game_event WHERE recorded_at < now() - interval '1 day'",
    )
    with GameSessionRegistry.connect(make_conninfo(roles_database, user=role)) as registry:
        assert registry.cleanup_expired_sessions().events == old > 0
    assert partitions(roles_database) == before
    with GameSessionRegistry.connect(roles_database) as registry:
        registry.cleanup_expired_sessions()
    assert len(partitions(roles_database)) == len(before) - 1


def test_an_event_above_its_floor_keeps_its_partition(
    aged: str, registry: GameSessionRegistry
) -> None:
    """As when the clock was set back: behind a young event nothing has had its time."""
    old, *_ = with_old_events(aged)
    rows(
        aged,
        "INSERT INTO game (game_id, head, oldest_at) VALUES ('odd', 2, now() - '3d'::interval)",
    )
    rows(
        aged,
        "INSERT INTO game_event VALUES ('odd', 1, now(), 1, '1'), "
        "('odd', 2, now() - interval '2 days', 1, '2')",
    )
    registry.cleanup_expired_sessions()
    assert old in partitions(aged)
    assert [event.payload for event in registry.fetch_events_since("odd", 0).events] == [1, 2]
    with pytest.raises(psycopg.errors.CheckViolation):  # nor can another come into it
        rows(aged, "INSERT INTO game_event VALUES ('x', 1, now() - interval '2 days', 1, '1')")
    registry.prune_events("odd", 2)
    registry.cleanup_expired_sessions()
    assert old not in partitions(aged)


def test_who_reads_for_long_puts_it_off(aged: str, registry: GameSessionRegistry) -> None:
    old, *_ = with_old_events(aged)
    with held(aged, "SELECT FROM game_event LIMIT 1"):
        with Appending(registry) as appending:
            registry.cleanup_expired_sessions()
        assert appending.slowest < 5.0
        assert old in partitions(aged)
    registry.cleanup_expired_sessions()
    assert old not in partitions(aged)


def test_nothing_is_dropped_while_the_table_is_converted(
    aged: str, registry: GameSessionRegistry, small_batches: None
) -> None:
    old, *_ = with_old_events(aged)
    begun(aged, Plain())
    registry.cleanup_expired_sessions()
    assert old in partitions(aged)
    assert convert(aged, Plain()) is Outcome.DONE
    for game, floor, head in rows(aged, "SELECT game_id, floor, head FROM game"):
        assert sequences(aged, game) == list(range(floor + 1, head + 1))


def test_a_cleanup_adds_the_partitions_ahead(aged: str, registry: GameSessionRegistry) -> None:
    before = partitions(aged)
    for leaf in before[-3:-1]:
        rows(aged, f"DROP TABLE {leaf}")
    registry.cleanup_expired_sessions()
    assert partitions(aged)[-3:] == before[-3:]


def test_a_cleanup_drops_while_all_go_on(aged: str) -> None:
    old, *_ = with_old_events(aged)
    with several(aged, 3) as registries, Play(registries).going_on() as play:
        for _ in range(3):
            registries[0].cleanup_expired_sessions()
    play.check(aged)
    with GameSessionRegistry.connect(aged) as registry:
        registry.cleanup_expired_sessions()
    play.check(aged)
    assert old not in partitions(aged)


NAMED = {"name": "game_event"}
LOOKS: dict[str, dict[str, object]] = {
    "doctor_indexes": {"tables": ["game", "game_event"]},
    "doctor_tables": {"tables": ["game", "game_event"]},
    "top_server": {"most": 10, "stale": 30.0},
    "partitioning/foreign_objects": {**NAMED, "triggers": []},
    "partitioning/leaves": NAMED,
    "partitioning/size": NAMED,
    "partitioning/table": NAMED,
    "partitioning/users": {"names": ["game_event"]},
}
"""The queries that look at partitions as the catalogue has them."""


def test_all_that_look_at_partitions_are_tried() -> None:
    looking = [
        str(path.relative_to(folder("sql")).with_suffix(""))
        for path in folder("sql").rglob("*.sql")
        if re.search("pg_inherits|pg_partition_(tree|ancestors)", path.read_text())
    ]
    assert sorted(looking) == sorted(LOOKS)


@pytest.mark.parametrize("name", LOOKS)
def test_who_only_looks_holds_no_partition(name: str, aged: str) -> None:
    """Who drops one locks the table, then that, then the one for the rest: to hold any of them and
    want another, without the table, as pg_partition_tree does, would be a deadlock."""
    text = (folder("sql") / f"{name}.sql").read_bytes()
    leaves = partitions(aged)
    with psycopg.connect(aged) as connection:
        asking.ask(connection, text, LOOKS[name])
        locks = "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid()"
        locked = {table for (table,) in connection.execute(locks.encode())}
    assert len(leaves) > 3
    assert locked & {*leaves} == set()


SEGMENTS = {"game_ids": ["game 1", "game 7"], "afters": [3, 20], "throughs": [2**63 - 1, 60]}
BATCH: dict[str, dict[str, object]] = {
    "look": {"game_id": "game 1", "sequence": 4, "rows": 100},
    "lock_free": {"game_ids": ["game 1", "game 7"]},
    "lock_one": {"game_id": "game 1"},
    "copy": SEGMENTS,
    "count": SEGMENTS,
}
"""The statements of a batch that read what may be long."""


def reads(connection: psycopg.Connection[Any], query: Any, params: Any) -> dict[str, list[str]]:
    """By which conditions a query's plan looks into the index of each table, "all" by none."""
    found = defaultdict(list)

    def look(node: dict[str, Any]) -> None:
        if "Relation Name" in node and node["Node Type"].endswith("Scan"):
            found[node["Relation Name"]].append(node.get("Index Cond", "all"))
        for child in node.get("Plans", ()):
            look(child)

    text = query if isinstance(query, bytes) else query.as_string(connection).encode()
    cursor = psycopg.ClientCursor(connection)
    ((plan,),) = cursor.execute(b"EXPLAIN (FORMAT JSON) " + text, params)
    look(plan[0]["Plan"])
    return dict(found)


def unkeyed(found: dict[str, list[str]]) -> list[tuple[str, str]]:
    """What is not looked up by the game, and of events by the sequence too."""
    return [
        (table, condition)
        for table, conditions in found.items()
        for condition in conditions
        if "game_id" not in condition or ("sequence" not in condition and table != "game")
    ]


@pytest.mark.parametrize("target", [ByHash(3), DAILY], ids=str)
def test_a_batch_reads_by_the_key_however_small_the_tables(
    target: Layout, conninfo: str, small_batches: None
) -> None:
    fill(conninfo)
    begun(conninfo, target)
    rows(conninfo, "ANALYZE")
    with schema.working(conninfo) as connection:
        connection.execute(queries.configure)
        for name, params in BATCH.items():
            found = reads(connection, getattr(queries, name), params)
            assert found.keys() >= ({"game_event"} if params is SEGMENTS else {"game"})
            assert unkeyed(found) == [], name


def test_what_is_dropped_is_looked_through_by_the_key(aged: str) -> None:
    old, *_ = with_old_events(aged)
    rows(aged, "ANALYZE")
    with psycopg.connect(aged, autocommit=True) as connection:
        connection.execute(main_queries.configure, server_settings(RegistryConfig(), local=False))
        query = filled(queries.above_floor, leaf=psycopg.sql.Identifier(old))
        found = reads(connection, query, {"after": "game 1", "games": 2_000})
    assert found.keys() == {"game", old}
    assert unkeyed(found) == []


def test_other_columns_than_the_registrys_are_not_left_behind(
    conninfo: str, small_batches: None
) -> None:
    fill(conninfo)
    rows(conninfo, "ALTER TABLE game_event ADD COLUMN theirs integer")
    before = catalogue(conninfo)
    with pytest.raises(RegistryError, match=r"other columns.* theirs"):
        convert(conninfo, ByHash(3))
    assert catalogue(conninfo) == before
    assert convert(conninfo, Plain()) is Outcome.ALREADY  # nothing to do, nothing in the way
    rows(conninfo, "ALTER TABLE game_event DROP COLUMN theirs")
    begun(conninfo, ByHash(3))
    rows(conninfo, "ALTER TABLE game_event ADD COLUMN theirs integer")
    with pytest.raises(RegistryError, match=r"other columns.* theirs"):
        convert(conninfo, ByHash(3))


def test_all_that_it_makes_is_where_the_events_are(conninfo: str, small_batches: None) -> None:
    """Though the role has a schema of its own, which comes first."""
    fill(conninfo)
    rows(conninfo, "CREATE SCHEMA mine")
    own_first = make_conninfo(conninfo, options="-c search_path=mine,public")
    begun(own_first, ByHash(3))
    assert rows(conninfo, "SELECT FROM pg_class WHERE relnamespace = 'mine'::regnamespace") == []
    assert value(conninfo, "SELECT to_regproc('public.game_event_mirror')") is not None
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.record_event("game 1", 1)
        registry.prune_events("game 2", 20)
    before = dump(conninfo)
    assert convert(conninfo, ByHash(3)) is Outcome.DONE
    assert dump(conninfo) == before
