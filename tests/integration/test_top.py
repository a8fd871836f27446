"""`top`: what it counts, how little it reads, and how it looks on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pexpect
import pyte
import pytest
from probes import configured, hold_game, in_thread, rows, until_blocked
from psycopg import Connection
from support import Clock, wait_until

from registry import GameSessionRegistry, activity, schema
from registry.activity import Activity, Watch
from registry.cli import main
from registry.extras import install

PATIENCE = 20.0


@pytest.fixture
def connection(conninfo: str) -> Iterator[Connection[Any]]:
    with schema.reading(conninfo) as connection:
        yield connection


def of(view: activity.View, game_id: str) -> Activity:
    return next(game for game in view.games if game.game_id == game_id)


def many_games(conninfo: str, number: int) -> None:
    """Games of which the first one, by id, began last."""
    rows(
        conninfo,
        "INSERT INTO game (game_id, head, head_at, oldest_at) "
        "SELECT 'game-' || lpad(n::text, 4, '0'), 5, now() - interval '1 hour', "
        "now() - interval '1 day' - make_interval(mins => n) FROM generate_series(1, %s) AS n",
        [number],
    )


@contextmanager
def appending(registry: GameSessionRegistry, game_id: str) -> Iterator[Callable[[], None]]:
    """Events go in all the while; what it yields waits for the next one."""
    over = threading.Event()
    last = 0

    def append() -> None:
        nonlocal last
        while not over.is_set():
            last = registry.record_event(game_id, 1)

    def another() -> None:
        before = last
        wait_until(lambda: last > before + 1)  # one of them may have begun before

    done = in_thread(append)
    try:
        yield another
    finally:
        over.set()
        done.result(PATIENCE)


def looks_until(
    watch: Watch, connection: Connection[Any], condition: Callable[[activity.View], bool]
) -> int:
    """How many looks it takes; each is taken at once."""
    for number in range(1, 101):
        if condition(watch.look(connection)):
            return number
    raise AssertionError("a hundred looks did not show it")


def test_a_look_counts_events_players_and_what_they_lack(
    registry: GameSessionRegistry, connection: Connection[Any], clock: Clock
) -> None:
    silent = registry.issue_resume_token("chess", "alice", ttl=3600).session
    clock.advance(100)
    ahead = registry.issue_resume_token("chess", "bob").session
    registry.record_events("chess", list(range(10)))
    registry.acknowledge(silent.session_id, 2)
    registry.acknowledge(ahead.session_id, 9)
    registry.record_event("go", 1)
    view = Watch(sort="lag").look(connection)
    assert [game.game_id for game in view.games] == ["chess", "go"]
    chess = of(view, "chess")
    assert (chess.head, chess.floor, chess.log, chess.lag) == (10, 2, 8, 8)
    assert (chess.live, chess.stale, chess.lowest) == (2, 1, 2)
    assert chess.rate is None
    assert 0 <= chess.idle < PATIENCE
    go = of(view, "go")
    assert (go.live, go.lag, go.log) == (0, None, 1)
    assert (view.server.live, view.server.stale, view.server.capped) == (2, 1, False)
    assert view.complete
    assert (view.seen, view.of) == (2, 2)


def test_sessions_that_are_over_count_nowhere(
    registry: GameSessionRegistry, connection: Connection[Any], clock: Clock
) -> None:
    registry.issue_resume_token("chess", "alice")
    clock.advance(1_000)
    revoked = registry.issue_resume_token("chess", "bob").session
    registry.revoke_session(revoked.session_id)
    view = Watch().look(connection)
    assert view.server.live == 0
    assert of(view, "chess").live == 0
    assert of(view, "chess").lag is None


def test_rates_are_those_between_the_looks(
    registry: GameSessionRegistry, connection: Connection[Any]
) -> None:
    registry.record_event("busy", 0)
    registry.record_event("quiet", 0)
    watch = Watch()
    before = watch.look(connection)
    registry.record_events("busy", list(range(500)))
    after = watch.look(connection)
    seconds = (after.server.at - before.server.at).total_seconds()
    assert of(after, "busy").rate == pytest.approx(500 / seconds)
    assert of(after, "quiet").rate == 0
    assert [game.game_id for game in after.games] == ["busy", "quiet"]
    assert after.record_rate == pytest.approx(500 / seconds)
    assert before.record_rate is None


def test_a_log_begun_again_has_no_rate_at_first(
    registry: GameSessionRegistry, connection: Connection[Any]
) -> None:
    registry.record_events("chess", [1, 2, 3])
    watch = Watch()
    watch.look(connection)
    registry.end_game("chess")
    registry.record_events("chess", [1, 2, 3, 4])
    assert of(watch.look(connection), "chess").rate is None


@pytest.mark.parametrize(("sort", "first"), [("lag", "slow"), ("log", "long")])
def test_games_are_sorted_as_asked(
    sort: str, first: str, registry: GameSessionRegistry, connection: Connection[Any]
) -> None:
    slow = registry.issue_resume_token("slow", "alice").session
    registry.record_events("slow", list(range(20)))
    registry.acknowledge(slow.session_id, 1)
    quick = registry.issue_resume_token("long", "bob").session
    registry.record_events("long", list(range(30)))
    other = registry.issue_resume_token("long", "carol").session
    registry.revoke_session(other.session_id)
    rows_of_log = "UPDATE game_session SET last_acknowledged = 25 WHERE id = %s"
    rows(connection.info.dsn, rows_of_log, [quick.session_id.rpartition("/")[2]])
    watch = Watch(sort=sort, limit=1)
    assert [game.game_id for game in watch.look(connection).games] == [first]


def test_among_very_many_games_a_busy_one_is_met_within_a_round_and_then_stays(
    registry: GameSessionRegistry,
    conninfo: str,
    connection: Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "STRETCH", 20)
    monkeypatch.setattr(activity, "WATCHED", 5)
    many_games(conninfo, 200)
    with appending(registry, "game-0150") as another:
        watch = Watch(limit=3)
        most = 0

        def met(view: activity.View) -> bool:
            nonlocal most
            another()  # or it has no rate in the next one
            assert not view.complete
            most = max(most, view.seen)
            return view.games[0].game_id == "game-0150" and bool(view.games[0].rate)

        another()
        assert 2 <= looks_until(watch, connection, met) <= 200 / 20 + 2
        for _ in range(25):  # two more rounds
            view = watch.look(connection)
            assert met(view)
        assert most <= 20 + 20 + 5 + 5
        assert view.of >= 200


def test_a_busier_game_is_met_although_others_lead_with_a_rate(
    conninfo: str, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own rate is not known when it is first met, so it cannot lead then."""
    monkeypatch.setattr(activity, "STRETCH", 20)
    monkeypatch.setattr(activity, "WATCHED", 2)
    many_games(conninfo, 100)
    watch = Watch()
    for _ in range(100 // 20 + 2):
        append = (
            "UPDATE game SET head = head + %s, head_at = now() WHERE game_id = ANY (%s::text[])"
        )
        rows(conninfo, append, [1, ["game-0001", "game-0002", "game-0003"]])
        rows(conninfo, append, [100, ["game-0090"]])
        first = watch.look(connection).games[0]
    assert first.game_id == "game-0090"
    assert first.rate


def test_among_very_many_games_one_that_began_just_now_is_met_at_once(
    registry: GameSessionRegistry,
    conninfo: str,
    connection: Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(activity, "STRETCH", 20)
    monkeypatch.setattr(activity, "WATCHED", 5)
    many_games(conninfo, 200)
    watch = Watch()
    watch.look(connection)
    registry.record_event("zzz", 1)
    assert watch.look(connection).games[0].game_id == "zzz"


def test_sessions_are_counted_up_to_a_limit_and_that_is_said(
    registry: GameSessionRegistry, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "SESSIONS", 4)
    monkeypatch.setattr(activity, "SESSIONS_OF_A_GAME", 3)
    for n in range(6):
        registry.issue_resume_token("chess", f"player {n}")
    view = Watch().look(connection)
    assert (view.server.live, view.server.capped) == (4, True)
    assert (of(view, "chess").live, of(view, "chess").capped) == (3, True)


def test_statements_that_wait_and_transactions_that_idle_are_counted(
    registry: GameSessionRegistry, conninfo: str, connection: Connection[Any]
) -> None:
    registry.record_event("chess", 1)
    with configured(conninfo, lock_timeout=PATIENCE, statement_timeout=PATIENCE) as patient:
        with hold_game(conninfo, "chess"):
            waits = in_thread(lambda: patient.record_event("chess", 2))
            until_blocked(conninfo)
            server = Watch().look(connection).server
        assert waits.result(PATIENCE) == 2
    assert server.blocked == 1
    assert server.idle_in_transaction == 1
    assert server.blocked_for is not None
    assert server.oldest_transaction is not None
    assert server.oldest_transaction >= server.blocked_for >= 0
    assert server.sees_all
    assert server.connections >= 3
    assert server.max_connections == int(rows(conninfo, "SHOW max_connections")[0][0])


def test_the_server_counts_what_is_recorded_deleted_and_stored(
    conninfo: str, connection: Connection[Any]
) -> None:
    def server() -> activity.Server:
        return Watch().look(connection).server

    before = now = server()

    def counted() -> tuple[int, int, int]:
        nonlocal now
        now = server()
        return (
            now.recorded - before.recorded,
            now.deleted - before.deleted,
            now.appends - before.appends,
        )

    with configured(conninfo) as registry:  # a connection that is closed has told all
        registry.record_events("chess", list(range(1_000)))
        registry.prune_events("chess", 400)
    wait_until(lambda: counted() == (1_000, 400, 1), timeout=PATIENCE)
    assert now.event_bytes > before.event_bytes
    assert min(now.game_bytes, now.session_bytes) > 0


def test_a_look_for_programs(
    registry: GameSessionRegistry, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    session = registry.issue_resume_token("chess", "alice").session
    command = ["top", "--once", "--json", "--interval", "0.2", "--limit", "1"]
    registry.record_event("quiet", 1)
    with appending(registry, "chess"):
        assert main([*command, "--database", conninfo]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: type(value) for name, value in found.items()} == {
        "at": str,
        "live": int,
        "stale": int,
        "capped": bool,
        "connections": int,
        "max_connections": int,
        "active": int,
        "idle_in_transaction": int,
        "blocked": int,
        "blocked_for": type(None),
        "oldest_transaction": type(found["oldest_transaction"]),
        "sees_all": bool,
        "game_bytes": int,
        "session_bytes": int,
        "event_bytes": int,
        "record_rate": float,
        "delete_rate": float,
        "append_rate": float,
        "batch": type(found["batch"]),
        "games_seen": int,
        "games_total": int,
        "games": list,
    }
    assert found["games_seen"] == found["games_total"] == 2
    (game,) = found["games"]
    assert game["game_id"] == "chess"
    assert game["rate"] > 0
    assert game["lag"] == game["log"] == game["head"] > 0
    assert (game["live"], game["stale"], game["lowest"]) == (1, 0, 0)
    assert session.last_acknowledged == 0


def test_what_is_not_a_terminal_gets_one_look(
    registry: GameSessionRegistry, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.record_event("a game\x1b[31m of [bold]red[/bold]", 1)
    assert main(["top", "--interval", "0.01", "--database", conninfo]) == 0
    out = capsys.readouterr().out
    assert r"a game\x1b[31m of [bold]red[/bold]" in out
    assert "\x1b" not in out


class Terminal:
    """`top` on a terminal of 80 by 24, and what it shows there."""

    def __init__(self, conninfo: str) -> None:
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "registry", "top", "--interval", "0.05", "--database", conninfo],
            dimensions=(24, 80),
            env={**os.environ, "TERM": "xterm-256color"},
            timeout=PATIENCE,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)

    @property
    def lines(self) -> list[str]:
        return [str(line) for line in self.screen.display]

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits until the terminal shows what it should."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.lines
            self._stream.feed(self.child.read_nonblocking(65_536, timeout=PATIENCE))

    def until_shown(self, text: str) -> None:
        self.until(lambda: text in "\n".join(self.lines))


def test_on_a_terminal_it_refreshes_until_interrupted(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    for n in range(30):
        registry.record_event(f"game-{n}", n)
    with Terminal(conninfo) as terminal:
        terminal.until(lambda: bool(terminal.lines[23].strip()))
        assert "games 30; sessions 0 live" in terminal.lines[1]
        columns = ["game", "events/s", "head", "log", "lag", "live", "stale", "idle"]
        assert terminal.lines[5].split() == columns
        assert all(line.startswith("game-") for line in terminal.lines[6:])
        with appending(registry, "game-3"):
            terminal.until(lambda: terminal.lines[6].split()[0] == "game-3")
        terminal.child.sendintr()
        rest = terminal.child.read()
        terminal.child.wait()
        assert terminal.child.exitstatus == 130
        assert b"\x1b[?1049l" in rest  # the terminal is as it was
        assert b"Traceback" not in rest


def test_on_a_terminal_it_goes_on_after_its_connection_broke(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    with Terminal(conninfo) as terminal:
        terminal.until_shown("games 0")
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        assert rows(conninfo, end)
        registry.record_event("afterwards", 1)
        terminal.until_shown("afterwards")


def test_without_a_database_it_says_so_at_once() -> None:
    command = [sys.executable, "-m", "registry", "top", "--database", "host=/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code"), [(["--once"], 1), (["--once", "--json"], 0)], ids=["text", "json"]
)
def test_without_rich_it_says_what_to_install_and_programs_do_without(
    options: list[str], code: int, conninfo: str
) -> None:
    argv = ["top", "--interval", "0.01", "--database", conninfo, *options]
    program = (
        "import sys; sys.modules['rich'] = None; "
        f"from registry.cli import main; sys.exit(main({argv!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code
    assert (f"{install('cli')}; or say --json" in done.stderr) == bool(code)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "options", [["--interval", "0"], ["--limit", "0"], ["--sort", "name"], ["--stale", "x"]]
)
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["top", "--database", "host=/nowhere", *options])
    assert raised.value.code == 2
    assert options[0] in capsys.readouterr().err
