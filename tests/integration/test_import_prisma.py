"""Games carried over from Prisma's tables: whatever interrupts it, all of them, nothing guessed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from attrs import define
from probes import ADVISORY_LOCKS, hold_game, in_thread, rows, sequences, until_blocked, value
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import Jsonb
from support import RUN, Server

from registry import (
    Continuity,
    GameSessionRegistry,
    HistoryPruned,
    InvalidToken,
    SessionState,
    schema,
)
from registry.cli import main
from registry.prisma import plan
from registry.prisma.target import Batch, Target
from registry.tokens import ResumeToken

pytestmark = pytest.mark.owner

HERE = Path(__file__).parent
TABLES = (HERE / "prisma_tables.sql").read_text("utf-8")
ROWS = (HERE / "prisma_rows.sql").read_text("utf-8")
NOON = datetime(2026, 1, 2, 12, 0, 0, 123_000, tzinfo=timezone.utc)


@define
class Source:
    """A database with Prisma's tables."""

    conninfo: str

    def execute(self, statement: str, params: list[object] | None = None) -> None:
        with psycopg.connect(self.conninfo) as connection:
            connection.execute(statement.encode(), params)

    def events(self, game: object, *numbers: int | None, payload: object = None) -> None:
        """An event of each of these sequences; payloads of their own if none is given."""
        with psycopg.connect(self.conninfo) as connection:
            connection.cursor().executemany(
                'INSERT INTO "gameEvent" (id, "gameId", sequence, payload, "createdAt") '
                "VALUES (gen_random_uuid(), %s, %s, %s, %s)",
                [
                    (
                        game,
                        n,
                        Jsonb({"n": n}) if payload is None else payload,
                        NOON.replace(tzinfo=None) + timedelta(seconds=n or 0),
                    )
                    for n in numbers
                ],
            )

    def session(
        self, game: object, user: str | None, acknowledged: int = 0, **more: object
    ) -> None:
        """A session whose player has beaten just now."""
        with psycopg.connect(self.conninfo) as connection:
            connection.execute(
                'INSERT INTO "gameSession" (id, "gameId", "userId", "tokenHash", '
                '"lastAckSequence", "lastHeartbeat", "expiresAt") '
                "VALUES (gen_random_uuid(), %s, %s, %s, %s, "
                "coalesce(%s, now() AT TIME ZONE 'UTC'), %s)",
                [game, user, "ab" * 32, acknowledged, more.get("beat"), more.get("expires")],
            )


@pytest.fixture
def source(server: Server) -> Iterator[Source]:
    source = Source(server.create_blank())
    source.execute(TABLES)
    yield source
    server.drop(source.conninfo)


@pytest.fixture(scope="module")
def module_source(server: Server) -> Iterator[Source]:
    """One that nobody changes."""
    source = Source(server.create_blank())
    source.execute(TABLES)
    yield source
    server.drop(source.conninfo)


@pytest.fixture
def carry(
    source: Source, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Imports, and returns the report; the exit code says whether all was carried over."""

    def carry(*options: str, into: str = conninfo) -> dict[str, Any]:
        code = main(["import-prisma", *command(source.conninfo, into), "--json", *options])
        out, err = capsys.readouterr()
        assert err == ""
        report: dict[str, Any] = json.loads(out)
        assert code == (0 if report["complete"] else 3)
        assert report["unsound"] == []
        return report

    return carry


def command(source: str, target: str) -> list[str]:
    return ["--from", source, "--database", target]


def carried(conninfo: str) -> list[list[tuple[Any, ...]]]:
    """All that an import writes, without what is drawn at random."""
    return [
        rows(
            conninfo,
            "SELECT game_id, floor, head, head > floor AND oldest_at = (SELECT min(recorded_at) "
            "FROM game_event AS e WHERE e.game_id = game.game_id) FROM game ORDER BY 1",
        ),
        rows(conninfo, "SELECT * FROM game_event ORDER BY 1, 2"),
        rows(
            conninfo,
            "SELECT game_id, user_id, token_hash, generation, last_acknowledged, ttl, created_at, "
            "heartbeat_at, expires_at, closed FROM game_session ORDER BY 1, 2",
        ),
    ]


def standing(conninfo: str, game: str) -> tuple[int, int]:
    (found,) = rows(conninfo, "SELECT floor, head FROM game WHERE game_id = %s", [game])
    return found[0], found[1]


def replayed(conninfo: str, game: str, after: int) -> list[tuple[int, object]]:
    with GameSessionRegistry.connect(conninfo) as registry:
        return [(e.sequence, e.payload) for e in registry.iter_events_since(game, after)]


def problems(report: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((problem["game_id"], problem["kind"]) for problem in report["problems"])


def test_what_a_prisma_client_wrote_comes_out_equal(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.execute(ROWS)
    report = carry()
    assert report["done"] == report["source"] == {"games": 2, "events": 12, "sessions": 4}
    query = 'SELECT sequence, payload, "createdAt" FROM "gameEvent" WHERE "gameId" = %s ORDER BY 1'
    wrote = [
        (n, p, at.replace(tzinfo=timezone.utc))
        for n, p, at in rows(source.conninfo, query, ["game-1"])
    ]
    with GameSessionRegistry.connect(conninfo) as registry:
        replay = registry.fetch_events_since("game-1", 0)
        assert [(e.sequence, e.payload, e.recorded_at) for e in replay.events] == wrote
        assert [event.payload for event in replay.events][1][3:] == [5e-324, 0.1 + 0.2, 0]
        assert registry.record_event("game-1", "goes on") == 7
        session = registry.find_session("game-2", "alice")
        assert session is not None
        assert session.last_acknowledged == 2


def test_a_player_gets_a_token_and_goes_on(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.events("g", 1, 2, 3)
    source.session("g", "alice", 2)
    source.session("g", "bob", 1)
    carry()
    with GameSessionRegistry.connect(conninfo) as registry:
        issued = registry.issue_resume_token("g", "alice")
        assert (issued.session.last_acknowledged, issued.session.generation) == (2, 2)
        # The old system's position is taken at its word, or not.
        back = registry.resume(issued.token, after=1)
        assert back.continuity is Continuity.CONTINUOUS
        assert [event.sequence for event in back.replay.events] == [2, 3]
        reset = registry.resume(back.token, after=1, epoch=UUID(int=0))
        assert reset.continuity is Continuity.RESET
        # Bob has not come back yet, and holds the floor.
        assert registry.acknowledge(issued.session.session_id, 3).floor == 1


def test_no_token_opens_a_session_that_had_none(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.session("g", "alice")
    carry()
    (uuid,) = rows(conninfo, "SELECT id FROM game_session")[0]
    with GameSessionRegistry.connect(conninfo) as registry:
        for secret in (b"", bytes(32), bytes.fromhex("ab" * 32)):
            text = ResumeToken("g", uuid, secret).text
            with pytest.raises(InvalidToken):
                registry.validate_resume_token(text)
            with pytest.raises(InvalidToken):
                registry.resume(text, after=0)
        issued = registry.issue_resume_token("g", "alice")
        with pytest.raises(InvalidToken):
            registry.resume(ResumeToken("g", uuid, bytes(32)).text, after=0)
        assert registry.resume(issued.token, after=0).session.generation == 3


def test_history_that_was_pruned_is_below_the_floor(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.events("some", 41, 42)
    source.session("all", "alice", 7)
    source.session("none", "alice")
    carry()
    assert standing(conninfo, "some") == (40, 42)
    assert standing(conninfo, "all") == (7, 7)
    assert standing(conninfo, "none") == (0, 0)
    with GameSessionRegistry.connect(conninfo) as registry:
        with pytest.raises(HistoryPruned):
            registry.fetch_events_since("some", 39)
        assert registry.record_event("all", 1) == 8


def test_a_session_expires_as_in_the_source(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    source.session("g", "by its own time", expires=now + timedelta(hours=3))
    source.session("g", "by its heartbeat", beat=now - timedelta(seconds=899))
    source.session("g", "too late", beat=now - timedelta(seconds=3_000))
    with GameSessionRegistry.connect(conninfo) as registry:
        carry("--session-ttl", "1000")
        live = {session.user_id for session in registry.list_sessions("g")}
        assert live == {"by its own time", "by its heartbeat"}
        late = registry.find_session("g", "too late")
        assert late is not None
        assert late.state is SessionState.EXPIRED
        carry("--session-ttl", "1000", "--grace", "3600")
        assert len(registry.list_sessions("g")) == 3
        # A new one lives as long after each beat.
        assert value(conninfo, "SELECT DISTINCT ttl FROM game_session") == timedelta(seconds=1_000)


def without(source: Source, game: str, column: str) -> None:
    source.execute(f'UPDATE "gameEvent" SET "{column}" = NULL WHERE "gameId" = %s', [game])


FLAWS: dict[str, tuple[str, Callable[[Source, str], object], int | None]] = {
    # What is reported, how it comes about, and the floor of what can be had all the same.
    "hole": ("hole", lambda s, g: s.events(g, 1, 2, 5, 6, 9, 10), 8),
    "duplicate": ("duplicate", lambda s, g: s.events(g, 1, 2, 2, 3), 2),
    "duplicate at the end": ("duplicate", lambda s, g: s.events(g, 1, 2, 3, 3), 3),
    "begins at 0": ("unnumbered", lambda s, g: s.events(g, 0, 1, 2), None),
    "no sequence": ("unnumbered", lambda s, g: s.events(g, 1, None), None),
    "too large": ("payload", lambda s, g: s.events(g, 1, payload=Jsonb("x" * 65_535)), 1),
    "too deep": ("payload", lambda s, g: s.events(g, 1, payload="[" * 101 + "]" * 101), 1),
    "many digits": ("payload", lambda s, g: s.events(g, 1, payload="0.1234567890123456789"), 1),
    "too long": ("payload", lambda s, g: s.events(g, 1, payload="9" * 5_000), 1),
    "too high": ("payload", lambda s, g: s.events(g, 1, payload="1" * 310 + ".5"), 1),
    "missing": ("payload", lambda s, g: [s.events(g, 4, 5), without(s, g, "payload")], 5),
    "ahead": ("ahead", lambda s, g: [s.events(g, 1, 2), s.session(g, "alice", 3)], 3),
    "no time": ("untimed", lambda s, g: [s.events(g, 1), without(s, g, "createdAt")], None),
}


@pytest.fixture
def loose(source: Source) -> Source:
    """A source that lets anything in."""
    for column in ("gameId", "sequence", "payload", "createdAt"):
        source.execute(f'ALTER TABLE "gameEvent" ALTER "{column}" DROP NOT NULL')
    source.execute('ALTER TABLE "gameSession" ALTER "userId" DROP NOT NULL')
    source.execute('DROP INDEX "gameSession_gameId_userId_key"')
    return source


def test_a_game_that_is_not_whole_is_left_out_and_said(
    loose: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    for game, (_, make, _) in FLAWS.items():
        make(loose, game)
    loose.events("good", 1, 2)
    expected = sorted((game, kind) for game, (kind, _, _) in FLAWS.items())
    stopped = carry("--flawed", "stop")
    assert stopped["stopped"]
    assert problems(stopped) == expected
    assert rows(conninfo, "SELECT FROM game") == []
    report = carry()
    assert problems(report) == expected
    assert all(problem["remedy"] for problem in report["problems"])
    assert report["left_out"]["games"] == len(FLAWS)
    assert [game for (game,) in rows(conninfo, "SELECT game_id FROM game")] == ["good"]


def test_what_comes_after_the_last_flaw_is_above_the_floor(
    loose: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    for game, (_, make, _) in FLAWS.items():
        make(loose, game)
    report = carry("--flawed", "suffix")
    assert problems(report) == sorted((game, kind) for game, (kind, _, _) in FLAWS.items())
    floors = {game: floor for game, (_, _, floor) in FLAWS.items() if floor is not None}
    assert dict(rows(conninfo, "SELECT game_id, floor FROM game")) == floors
    assert sequences(conninfo, "hole") == [9, 10]
    assert carry("--flawed", "suffix")["done"] == {"games": 0, "events": 0, "sessions": 0}
    again = carry()  # which would leave them out, were they not there
    assert again["done"] == {"games": 0, "events": 0, "sessions": 0}
    assert again["left_out"]["games"] == len(FLAWS) - len(floors)
    assert again["there"]["games"] == again["suffix_games"] == len(floors)
    assert not again["complete"]
    for problem in again["problems"]:
        assert ("--flawed suffix" in problem["remedy"]) == (problem["remedy"] == plan.SUFFIX)
        assert (problem["remedy"] == plan.TAKEN) == (problem["game_id"] in floors)
    with GameSessionRegistry.connect(conninfo) as registry:
        for game, floor in floors.items():
            with pytest.raises(HistoryPruned):
                registry.fetch_events_since(game, floor - 1)


def test_a_number_that_only_looks_long_is_kept(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    numbers = {
        "0.14285714285714285": 1 / 7,
        "1e21": 10**21,
        "12345678901234567890": 12345678901234567890,
    }
    for n, digits in enumerate(numbers, 1):
        source.events("g", n, payload=digits)
    carry()
    assert replayed(conninfo, "g", 0) == list(enumerate(numbers.values(), 1))


def test_names_that_do_not_fit_and_sessions_that_do_not(
    loose: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    loose.events("x" * 201, 1)
    loose.events(None, 1)
    loose.events("g", 1, 2)
    loose.session("g", "alice", 1)
    loose.session("g", None)
    loose.session("g", "")
    loose.session("g", "twice", 1)
    loose.session("g", "twice", 2)
    report = carry()
    assert report["kinds"] == {"name": 2, "session": 4}
    assert [user for (user,) in rows(conninfo, "SELECT user_id FROM game_session")] == ["alice"]
    assert sequences(conninfo, "g") == [1, 2]


def test_other_names_and_types(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.execute("""
        CREATE SCHEMA app;
        CREATE TABLE app."Log of %s" (
            game integer, "no" bigint, body json, at timestamptz, PRIMARY KEY (game, "no"));
        CREATE TABLE app.seats (game integer, player uuid, ack bigint, beat timestamptz);
        INSERT INTO app."Log of %s" VALUES
            (7, 1, '{"a": "\\u00e9",  "b": 1E2}', '2026-01-02 03:04:05.678901+00'),
            (7, 2, '"\\ud83d\\ude00"', '2026-01-02 03:04:06+00');
        INSERT INTO app.seats VALUES
            (7, '5e1c5d7e-0000-4000-8000-00000000000a', 1, '2026-01-02 03:04:07+00');
    """)
    names = {
        "event": "app.Log of %s", "event.gameId": "game", "event.sequence": "no",
        "event.payload": "body", "event.createdAt": "at", "session": "app.seats",
        "session.gameId": "game", "session.userId": "player", "session.lastAckSequence": "ack",
        "session.lastHeartbeat": "beat",
    }  # fmt: skip
    maps = [f"--map={key}={name}" for key, name in names.items()]
    assert carry(*maps)["done"] == {"games": 1, "events": 2, "sessions": 1}
    assert replayed(conninfo, "7", 0) == [(1, {"a": "é", "b": 100.0}), (2, "😀")]
    assert carry(*maps)["done"]["events"] == 0
    assert value(conninfo, "SELECT max(recorded_at) FROM game_event") == datetime(
        2026, 1, 2, 3, 4, 6, tzinfo=timezone.utc
    )
    query = "SELECT user_id FROM game_session WHERE last_acknowledged = 1"
    assert value(conninfo, query) == "5e1c5d7e-0000-4000-8000-00000000000a"


def test_json_that_only_the_type_json_can_hold(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.execute('ALTER TABLE "gameEvent" ALTER payload TYPE json')
    for game, text in {"surrogate": '"\\ud800"', "infinite": "1e999", "null": '"\\u0000"'}.items():
        source.events(game, 1, payload=text)
    report = carry()
    assert problems(report) == [("infinite", "payload"), ("surrogate", "payload")]
    assert replayed(conninfo, "null", 0) == [(1, "\0")]


def test_bytes_and_events_without_a_time(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.execute('ALTER TABLE "gameEvent" DROP "createdAt", ALTER payload TYPE bytea USING NULL')
    source.execute("""INSERT INTO "gameEvent" VALUES ('1', 'g', 1, '\\x00ff')""")
    carry()
    assert replayed(conninfo, "g", 0) == [(1, b"\x00\xff")]
    age = "SELECT now() - recorded_at < interval '1 minute' FROM game_event"
    assert value(conninfo, age)
    assert carry()["done"]["events"] == 0


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.events("whole", 1, 2, 3)
    source.events("hole", 1, 3)
    source.session("whole", "alice", 1)
    before = carried(conninfo)
    report = carry("--dry-run")
    assert report["todo"] == {"games": 1, "events": 3, "sessions": 1}
    assert report["done"] == {"games": 0, "events": 0, "sessions": 0}
    assert problems(report) == [("hole", "hole")]
    assert carried(conninfo) == before
    done = carry()
    assert done["done"] == report["todo"]


def test_the_next_run_brings_what_has_come_since(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.events("g", 1, 2)
    source.session("g", "alice", 1)
    source.session("g", "bob", 1)
    carry()
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.issue_resume_token("g", "bob")
    source.events("g", 3, 4)
    source.events("new", 1)
    source.execute('UPDATE "gameSession" SET "lastAckSequence" = 4')
    assert carry()["done"] == {"games": 2, "events": 3, "sessions": 1}
    assert sequences(conninfo, "g") == [1, 2, 3, 4]
    acknowledged = "SELECT user_id, last_acknowledged FROM game_session ORDER BY 1"
    # Bob has a connection of the registry's own by now; what an older one says counts no more.
    assert rows(conninfo, acknowledged) == [("alice", 4), ("bob", 1)]


def test_what_the_source_has_pruned_meanwhile_is_pruned(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.events("behind", 1, 2)
    source.events("gone", 1, 2)
    for game in ("behind", "gone"):
        source.session(game, "alice")
    carry()
    source.execute('DELETE FROM "gameEvent"')
    source.events("behind", 5, 6)
    source.execute('UPDATE "gameSession" SET "lastAckSequence" = 2')
    carry()
    assert (standing(conninfo, "behind"), sequences(conninfo, "behind")) == ((4, 6), [5, 6])
    assert (standing(conninfo, "gone"), sequences(conninfo, "gone")) == ((0, 2), [1, 2])


def test_games_that_have_gone_on_in_the_registry_are_left_alone(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.events("g", 1, 2)
    source.events("pruned", 1, 2)
    carry()
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.record_events("g", ["own", "own"])
        registry.prune_events("pruned", 2)
        before = carried(conninfo)
        assert carry()["done"] == {"games": 0, "events": 0, "sessions": 0}
        assert carried(conninfo) == before
        # Then the old system recorded once more.
        source.events("g", 3, 4, 5)
        assert problems(carry()) == [("g", "conflict")]
        assert carried(conninfo) == before


@pytest.mark.parametrize("swept", [True, False])
def test_what_lies_below_a_floor_is_gone_though_a_cleanup_has_not_swept_it_yet(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]], swept: bool
) -> None:
    for game in ("behind", "on", "over"):
        source.events(game, 1, 2)
    source.session("behind", "alice")
    carry()
    rows(conninfo, "UPDATE game SET floor = CASE game_id WHEN 'over' THEN 2 ELSE 1 END")
    if swept:
        rows(
            conninfo,
            "DELETE FROM game_event AS e USING game AS g "
            "WHERE g.game_id = e.game_id AND sequence <= floor",
        )
    source.execute('DELETE FROM "gameEvent" WHERE "gameId" = \'behind\'')
    source.events("behind", 5, 6)
    source.events("on", 3)
    source.execute('UPDATE "gameSession" SET "lastAckSequence" = 2')
    report = carry()
    assert problems(report) == []
    assert report["done"] == {"games": 2, "events": 3, "sessions": 1}
    assert [standing(conninfo, game) for game in ("behind", "on", "over")] == [
        (4, 6), (1, 3), (2, 2)
    ]  # fmt: skip
    assert replayed(conninfo, "behind", 4) == [(n, {"n": n}) for n in (5, 6)]
    assert replayed(conninfo, "on", 1) == [(n, {"n": n}) for n in (2, 3)]
    # What the cleanup was about to delete is left to it.
    left = [] if swept else [1]
    assert sequences(conninfo, "behind") == [*left, 5, 6]
    assert sequences(conninfo, "on") == [*left, 2, 3]
    assert sequences(conninfo, "over") == ([] if swept else [1, 2])


def test_a_game_of_the_registry_with_the_same_id_is_never_mixed_up(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.record_events("own", [{"n": 1}])
        registry.record_events("acknowledged", [1, 2, 3])
        registry.prune_events("acknowledged", 3)
        registry.issue_resume_token("empty", "alice")
    source.events("own", 1, 2)
    source.events("acknowledged", 3, 4)
    source.events("empty", 3, 4)
    report = carry()
    assert problems(report) == [("acknowledged", "conflict"), ("own", "conflict")]
    assert sequences(conninfo, "own") == [1]
    assert (standing(conninfo, "empty"), sequences(conninfo, "empty")) == ((2, 4), [3, 4])


SOME = {"a": 7, "b": 25, "c": 3, "d": 30, "e": 1}


def fill(source: Source) -> None:
    for game, number in SOME.items():
        source.events(game, *range(3, 3 + number))
        source.session(game, "alice", 3)
        source.session(game, "bob", number)
    source.session("only", "alice", 4)


def test_interrupted_at_any_point_the_next_run_goes_on(
    source: Source,
    conninfo: str,
    server: Server,
    carry: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(source)
    carry()
    whole = carried(conninfo)
    put = Target.put
    interrupted = 0
    for batches in range(1, 20):
        for after in (False, True):
            left = batches

            def stop(self: Target, batch: Batch, ttl: float, after: bool = after) -> None:
                nonlocal left
                left -= 1
                if left or after:
                    put(self, batch, ttl)
                if not left:
                    raise KeyboardInterrupt

            with ExitStack() as stack:
                other = server.create_migrated()
                stack.callback(server.drop, other)
                monkeypatch.setattr(Target, "put", stop)
                argv = ["import-prisma", *command(source.conninfo, other), "--batch-size", "15"]
                code = main([*argv, "--json"])
                monkeypatch.setattr(Target, "put", put)
                if code == 0:
                    assert interrupted >= 8
                    return
                assert code == 130
                interrupted += 1
                with GameSessionRegistry.connect(other) as registry:  # what is there is sound
                    for (game,) in rows(other, "SELECT game_id FROM game"):
                        floor, head = standing(other, game)
                        events = registry.fetch_events_since(game, floor).events
                        assert [e.sequence for e in events] == list(range(floor + 1, head + 1))
                carry("--batch-size", "7", into=other)
                assert carried(other) == whole
    pytest.fail("it never came to its end")


def test_killed_in_the_middle_and_gone_on_with(
    source: Source,
    conninfo: str,
    carry: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fill(source)
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.issue_resume_token("d", "carol")
    argv = [sys.executable, "-m", "registry", "import-prisma", "--batch-size", "10"]
    with hold_game(conninfo, "d"):
        process = subprocess.Popen([*argv, *command(source.conninfo, conninfo)])
        until_blocked(conninfo, 1, "import_heads")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        copied = sequences(conninfo, "b")
        assert copied == list(range(3, 3 + len(copied)))
        assert 0 < len(copied) < 25
        assert sequences(conninfo, "d") == []
    deadline = time.monotonic() + 30
    while value(conninfo, ADVISORY_LOCKS):  # its server process ends once it notices
        assert time.monotonic() < deadline
    assert carry()["complete"]
    assert {game: len(sequences(conninfo, game)) for game in SOME} == SOME


def test_two_at_once_are_told_apart(
    source: Source, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(source)
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.issue_resume_token("d", "carol")
    argv = ["import-prisma", *command(source.conninfo, conninfo)]
    with hold_game(conninfo, "d"):
        first = in_thread(lambda: main(argv))
        until_blocked(conninfo, 1, "import_heads")
        assert main(argv) == 1
        assert "another import into this database is running" in capsys.readouterr().err
    assert first.result(30) == 0
    assert {game: len(sequences(conninfo, game)) for game in SOME} == SOME


def test_a_server_that_records_meanwhile_is_not_mixed_in(
    source: Source, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(source)
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.issue_resume_token("d", "carol")
        argv = ["import-prisma", "--json", *command(source.conninfo, conninfo)]
        with psycopg.connect(conninfo) as holder:
            holder.execute("SELECT FROM game WHERE game_id = 'd' FOR UPDATE")
            running = in_thread(lambda: main(argv))
            until_blocked(conninfo, 1, "import_heads")
            # As record_event does, while the import waits for the game.
            holder.execute("INSERT INTO game_event VALUES ('d', 1, now(), 1, '1')")
            holder.execute("UPDATE game SET head = 1 WHERE game_id = 'd'")
        assert running.result(30) == 3
        report = json.loads(capsys.readouterr().out)
        assert problems(report) == [("d", "conflict")]
        assert report["unsound"] == []
        assert sequences(conninfo, "d") == [1]
        assert sequences(conninfo, "b") == list(range(3, 28))


def test_a_change_by_hand_is_found_by_the_check(
    source: Source, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source.events("hole", 1, 2, 3)
    source.events("times", 1, 2, 3)
    argv = ["import-prisma", *command(source.conninfo, conninfo)]
    assert main(argv) == 0
    rows(conninfo, "DELETE FROM game_event WHERE game_id = 'hole' AND sequence = 2")
    swap = (
        "UPDATE game_event SET recorded_at = recorded_at + interval '1 s' WHERE game_id = 'times' "
    )
    rows(conninfo, f"{swap} AND sequence = 2")
    capsys.readouterr()
    assert main(argv) == 3
    out = capsys.readouterr().out
    assert "'hole': it has 2 events, from 1 to 3, for (0, 3]" in out
    assert "'times': its events have other times" in out


def test_what_a_person_is_told(
    source: Source, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(30):
        source.events(f"bad-{n:02}", 1, 3)
    source.events("good", 1, payload=Jsonb("a secret move"))
    source.session("good", "alice")
    assert main(["import-prisma", *command(source.conninfo, conninfo)]) == 3
    out, err = capsys.readouterr()
    assert err == ""
    assert "left out   30 games, 60 events" in out
    assert "'bad-00': 1 event missing in 1 hole, the first at sequence 2" in out
    assert "--flawed suffix" in out
    assert "and 10 more" in out
    assert "checked    1 game:" in out
    assert "secret" not in out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--map", "event=nowhere"], 'no table "nowhere"'),
        (["--map", "event.payload=body"], "it has createdAt, gameId, id, payload, sequence"),
        (["--map", "session.expiresAt=never"], "--map session.expiresAt=NAME"),
        (["--map", "event.payload=id"], "of type text"),
        (["--map", "event.sequence=payload"], "of type jsonb"),
        (["--batch-size", "0"], "batch_size"),
        (["--grace", "-1"], "grace"),
        (["--from", "postgresql://x:hunter2@[/"], "connection string"),
        (["--from", "host=/nonexistent password=hunter2"], "/nonexistent"),
    ],
)
def test_a_wrong_call_is_explained_in_a_line(
    options: list[str],
    why: str,
    module_source: Source,
    module_conninfo: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["import-prisma", *command(module_source.conninfo, module_conninfo)]
    assert main([*argv, *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert why in err
    assert err.count("\n") == 1
    assert "hunter2" not in err


def test_a_schema_that_does_not_fit(
    source: Source, blank_conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import-prisma", *command(source.conninfo, blank_conninfo)]) == 1
    assert "migrate" in capsys.readouterr().err


def test_the_url_of_prisma_will_do(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.execute('CREATE SCHEMA app; ALTER TABLE "gameEvent" SET SCHEMA app')
    source.execute('ALTER TABLE "gameSession" SET SCHEMA app')
    given = conninfo_to_dict(source.conninfo)
    url = (
        f"postgresql://{given['user']}@localhost:{given.get('port', 5432)}/{given['dbname']}"
        f"?host={given['host']}&schema=app&connection_limit=5&pgbouncer=true"
    )
    assert carry("--from", url)["complete"]


def test_a_role_that_was_let_in_can_import(
    source: Source, conninfo: str, server: Server, carry: Callable[..., dict[str, Any]]
) -> None:
    importer = f"importer_{RUN}"
    server.execute("CREATE ROLE {role} LOGIN", role=importer)
    try:
        schema.grant(conninfo, importer)
        source.events("g", 1, 2)
        source.session("g", "alice")
        assert carry(into=make_conninfo(conninfo, user=importer))["complete"]
        source.events("g", 3)
        assert carry(into=make_conninfo(conninfo, user=importer))["done"]["events"] == 1
    finally:
        rows(conninfo, f"DROP OWNED BY {importer}")
        server.execute("DROP ROLE {role}", role=importer)


def test_the_source_is_only_read_and_in_one_snapshot(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    source.events("g", 1, 2)
    put = Target.put

    def late(self: Target, batch: Batch, ttl: float) -> None:
        source.events("g", 3)
        put(self, batch, ttl)

    monkeypatch.setattr(Target, "put", late)
    assert carry()["done"]["events"] == 2
    monkeypatch.undo()
    assert carry()["done"]["events"] == 1


def test_without_rich_a_line_is_written_over(source: Source, conninfo: str) -> None:
    source.events("g", 1, 2)
    program = (
        "import sys; sys.modules['rich'] = None; sys.stderr.isatty = lambda: True; "
        "from registry.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    argv = ["import-prisma", *command(source.conninfo, conninfo)]
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True)
    assert done.returncode == 0
    assert b"\rcopying: 2 of at most 2 events\n" in done.stderr


def test_the_bar_goes_to_standard_error(source: Source, conninfo: str) -> None:
    source.events("g", 1, 2)
    program = (
        "import sys; sys.stderr.isatty = lambda: True; "
        "from registry.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    argv = ["import-prisma", "--json", *command(source.conninfo, conninfo)]
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True)
    assert json.loads(done.stdout)["complete"]
    assert "copying" in done.stderr
    assert "2/2" in done.stderr


def test_the_documents_statements_for_those_who_stay(source: Source) -> None:
    source.events("g", 1, 2)
    document = (HERE.parents[1] / "docs" / "prisma.md").read_text("utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", document, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        for statement in block.split(";"):
            if statement.strip():
                with psycopg.connect(source.conninfo, autocommit=True) as connection:
                    connection.execute(statement.encode())
    query = "SELECT indexdef FROM pg_indexes WHERE tablename = 'gameEvent'"
    defined = [index for (index,) in rows(source.conninfo, query)]
    assert any("UNIQUE" in index and '("gameId", sequence)' in index for index in defined)
    with pytest.raises(psycopg.errors.UniqueViolation):
        source.events("g", 2)


@pytest.mark.slow
def test_a_million_events(
    source: Source, conninfo: str, carry: Callable[..., dict[str, Any]]
) -> None:
    source.execute(
        """
        INSERT INTO "gameEvent" (id, "gameId", sequence, payload, "createdAt")
        SELECT 'c' || n, 'game-' || n %% 2000, n / 2000 + 1,
               jsonb_build_object('move', 'e' || n %% 8, 'clock', n %% 1000 / 7.0::float8, 'n', n),
               timestamp '2026-01-02' + make_interval(secs => n / 1000.0)
        FROM generate_series(0, 999999) AS n;
        INSERT INTO "gameSession" (id, "gameId", "userId", "tokenHash", "lastAckSequence")
        SELECT 's' || n, 'game-' || n / 2, 'player-' || n %% 2, md5(n::text), n %% 400
        FROM generate_series(0, 3999) AS n;
    """.replace("%%", "%")
    )
    begun = time.monotonic()
    report = carry()
    took = time.monotonic() - begun
    assert report["done"] == {"games": 2_000, "events": 1_000_000, "sessions": 4_000}
    assert took < 180, f"it took {took:.0f} s"
    assert replayed(conninfo, "game-7", 497) == [
        (n + 1, {"move": "e7", "clock": (n * 2_000 + 7) % 1_000 / 7, "n": n * 2_000 + 7})
        for n in (497, 498, 499)
    ]
