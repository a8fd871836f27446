"""The upkeep that runs by itself: one at a time, in nobody's way, whatever becomes of it."""

from __future__ import annotations

import json
import logging
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from integration.test_upkeep import fill
from probes import (
    ADVISORY_LOCKS,
    PATIENCE,
    configured,
    held,
    hold_game,
    in_thread,
    until_blocked,
    value,
)
from support import wait_until

import registry as library
from registry import (
    Cleanup,
    EmbeddedPostgres,
    GameSessionRegistry,
    InvalidArgument,
    Maintenance,
    RegistryConfig,
    RegistryUnavailable,
    maintenance,
    migrate,
)
from registry.cli import main
from registry.maintenance import Outcome
from registry.queries import queries

TURN = queries.lock_cleanup.decode()
CHECKOUT = str(Path(library.__file__).parent.parent)


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def at_work(registry: GameSessionRegistry) -> Iterator[Maintenance]:
    """One whose runs follow each other at once."""
    with Maintenance(registry, interval=0.01) as at_work:
        yield at_work


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "registry.maintenance"]


def left(conninfo: str) -> int:
    return int(value(conninfo, "SELECT count(*) FROM game_session"))


def test_what_becomes_due_goes_by_itself(at_work: Maintenance, conninfo: str) -> None:
    fill(conninfo, games=3, sessions=2, events=3, age="2 days")
    wait_until(lambda: left(conninfo) == 0)
    wait_until(lambda: value(conninfo, "SELECT count(*) FROM game_event") == 0)


def test_it_stops_at_once_and_starts_again(registry: GameSessionRegistry, conninfo: str) -> None:
    upkeep = Maintenance(registry, interval=3600.0)
    assert upkeep.stop()
    for _ in range(2):
        upkeep.start()
        upkeep.start()
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("registry-maintenance") == 1
        assert in_thread(upkeep.stop).result(PATIENCE)
    assert "registry-maintenance" not in [thread.name for thread in threading.enumerate()]
    fill(conninfo, games=1, sessions=1, events=0, age="2 days")
    Maintenance(registry).run_once()
    assert left(conninfo) == 0


def test_it_stops_after_the_batch_under_way(registry: GameSessionRegistry, conninfo: str) -> None:
    fill(conninfo, games=1, sessions=0, events=50, age="2 days")
    upkeep = Maintenance(registry, interval=0.01, batch_size=10)
    with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
        upkeep.start()
        until_blocked(conninfo, 1, "sweep_events")
        assert not upkeep.stop(timeout=0.01)
    assert upkeep.stop()
    assert value(conninfo, "SELECT count(*) FROM game_event") == 40


def test_a_closed_registry_ends_it(conninfo: str) -> None:
    with configured(conninfo) as registry:
        upkeep = Maintenance(registry, interval=0.01)
        upkeep.start()
    assert upkeep._thread is not None
    upkeep._thread.join(PATIENCE)
    assert not upkeep._thread.is_alive()


def test_of_several_one_works_and_the_others_say_so(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    fill(conninfo, games=2, sessions=2, events=2, age="2 days")
    with held(conninfo, TURN):
        run = in_thread(Maintenance(registry).run_once).result(PATIENCE)
        assert (run.outcome, run.cleanup) == (Outcome.ANOTHER_AT_WORK, Cleanup(0, 0, 0))
    run = Maintenance(registry).run_once()
    assert (run.outcome, run.cleanup) == (Outcome.DONE, Cleanup(4, 4, 2))


def test_a_batch_has_the_turn_until_it_is_committed(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=1, events=3, age="2 days")
    with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
        first = in_thread(Maintenance(registry).run_once)
        until_blocked(conninfo, 1, "sweep_events")
        with configured(conninfo) as another:
            assert Maintenance(another).run_once().outcome is Outcome.ANOTHER_AT_WORK
    assert first.result(PATIENCE).cleanup == Cleanup(1, 3, 1)
    # Nothing of it stays behind with a pooled connection.
    assert value(conninfo, ADVISORY_LOCKS) == 0


def test_the_turn_is_that_of_the_tables(conninfo: str, registry: GameSessionRegistry) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA apart")
    apart = psycopg.conninfo.make_conninfo(conninfo, options="-c search_path=apart")
    migrate(apart)
    with held(apart, TURN):
        assert Maintenance(registry).run_once().outcome is Outcome.DONE


def test_threads_that_run_at_once_leave_nothing(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    fill(conninfo, games=20, sessions=10, events=10, age="2 days")
    runs = [in_thread(Maintenance(registry, batch_size=7).run_once) for _ in range(4)]
    done = [run.result(PATIENCE) for run in runs]
    assert Outcome.DONE in [run.outcome for run in done]
    assert sum(run.cleanup.sessions for run in done) == 200
    assert sum(run.cleanup.events for run in done) == 200
    assert sum(run.cleanup.games for run in done) == 20


def test_an_append_to_a_game_that_is_not_due_never_waits(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    fill(conninfo, games=1, sessions=1, events=3, age="2 days")
    registry.record_event("young", 1)
    with held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"):
        run = in_thread(Maintenance(registry).run_once)
        until_blocked(conninfo, 1, "sweep_events")
        assert in_thread(lambda: registry.record_event("young", 2)).result(PATIENCE) == 2
    assert run.result(PATIENCE).outcome is Outcome.DONE


def test_a_run_ends_when_its_time_is_up(registry: GameSessionRegistry, conninfo: str) -> None:
    fill(conninfo, games=0, sessions=0, events=0, age="2 days")
    fill(conninfo, games=1, sessions=0, events=100, age="2 days")
    run = Maintenance(registry, batch_size=10, max_seconds=0.001).run_once()
    assert run.outcome is Outcome.TIME_UP
    assert run.cleanup.events < 100
    assert Maintenance(registry).run_once().outcome is Outcome.DONE
    assert value(conninfo, "SELECT count(*) FROM game_event") == 0


def test_progress_comes_after_each_batch(registry: GameSessionRegistry, conninfo: str) -> None:
    fill(conninfo, games=2, sessions=5, events=20, age="2 days")
    seen: list[tuple[Cleanup, int | None]] = []
    run = Maintenance(registry, batch_size=10).run_once(lambda *now: seen.append(now))
    assert {due for _, due in seen} == {50}
    assert seen[-1][0] == run.cleanup == Cleanup(10, 40, 2)
    rows = [deleted.sessions + deleted.events for deleted, _ in seen]
    assert rows == sorted(rows)
    assert max(b - a for a, b in pairwise(rows)) <= 10


def test_it_survives_a_database_that_is_away(
    own_server: EmbeddedPostgres,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maintenance, "FIRST_RETRY", 0.01)
    migrate(own_server.conninfo)
    config = RegistryConfig(pool_timeout=2.0, statement_timeout=5.0)
    caplog.set_level(logging.INFO, "registry.maintenance")
    with (
        GameSessionRegistry.connect(own_server.conninfo, config=config) as registry,
        Maintenance(registry, interval=0.05),
    ):
        own_server.crash()
        wait_until(lambda: "failed" in [r.msg.split()[2] for r in ours(caplog)])
        own_server.start()
        fill(own_server.conninfo, games=1, sessions=1, events=3, age="2 days")
        wait_until(lambda: value(own_server.conninfo, "SELECT count(*) FROM game_event") == 0)
    done = [record for record in ours(caplog) if record.levelno == logging.INFO]
    assert sum(vars(record)["events"] for record in done) == 3


def test_whatever_fails_stays_in_the_log(
    registry: GameSessionRegistry,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(registry, "_cleaning", fails)
    with Maintenance(registry, interval=0.01) as upkeep:
        wait_until(lambda: len(caplog.records) > 1)
        assert upkeep._thread is not None
        assert upkeep._thread.is_alive()
    assert "RuntimeError" in caplog.text
    assert "hunter2" not in caplog.text


def test_the_host_that_asks_itself_gets_the_error(conninfo: str) -> None:
    with configured(conninfo) as registry:
        upkeep = Maintenance(registry)
    with pytest.raises(RegistryUnavailable):
        upkeep.run_once()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"interval": 0}, "interval"),
        ({"interval": "1"}, "interval"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_seconds": -1}, "max_seconds"),
    ],
)
def test_arguments(registry: GameSessionRegistry, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        Maintenance(registry, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="registry"):
        Maintenance(object())  # type: ignore[arg-type]


def cleanup(conninfo: str, *more: str) -> int:
    return main(["cleanup", "--database", conninfo, *more])


def test_the_command_cleans_up(conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
    fill(conninfo, games=2, sessions=3, events=4, age="2 days")
    assert cleanup(conninfo, "--retention", "259200") == 0
    assert "deleted 6 sessions, 0 events and 0 games" in capsys.readouterr().out
    assert cleanup(conninfo, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop("seconds") >= 0
    assert said == {"outcome": "done", "sessions": 0, "events": 8, "games": 2}


def test_the_command_leaves_it_to_another(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(conninfo, TURN):
        assert cleanup(conninfo, "--json") == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "another_at_work"


def test_the_command_whose_time_is_up_says_so(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(conninfo, games=1, sessions=0, events=30, age="2 days")
    assert cleanup(conninfo, "--batch-size", "10", "--max-seconds", "0.001") == 3
    assert "more is due" in capsys.readouterr().out
    for wrong in (("--batch-size", "0"), ("--share", "2"), ("--retention", "-1")):
        with pytest.raises(SystemExit) as usage:
            cleanup(conninfo, *wrong)
        assert usage.value.code == 2
        assert f"argument {wrong[0]}: it" in capsys.readouterr().err


def test_the_command_explains_its_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cleanup", "--help"])
    said = capsys.readouterr().out
    assert "exit codes:\n  0 " in said
    assert "--max-seconds" in said


def test_sigterm_ends_the_command_after_its_batch(conninfo: str) -> None:
    fill(conninfo, games=2, sessions=0, events=30, age="2 days")
    command = [sys.executable, "-m", "registry", "cleanup", "--batch-size", "10"]
    with (
        hold_game(conninfo, "none"),
        held(conninfo, "SELECT FROM game_event WHERE sequence = 2 FOR UPDATE"),
    ):
        process = subprocess.Popen(
            [*command, "--database", conninfo], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
        )
        until_blocked(conninfo, 1, "sweep_events")
        process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "10 events" in said


def everything(terminal: int) -> str:
    """What is written to a terminal until nobody has it open any more."""
    seen = b""
    with suppress(OSError):  # how a terminal says that it is at its end
        while more := os.read(terminal, 100_000):
            seen += more
    return seen.decode()


@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal_it_shows_how_far_it_is(conninfo: str, rich: bool) -> None:
    fill(conninfo, games=2, sessions=5, events=20, age="2 days")
    program = "import sys; from registry.cli import main\n"
    if not rich:
        program += "sys.modules['rich'] = sys.modules['rich.console'] = None\n"
    program += "sys.exit(main(['cleanup', '--batch-size', '10', '--database', sys.argv[1]]))"
    ours, theirs = pty.openpty()
    shown = in_thread(lambda: everything(ours))
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, conninfo],
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            cwd=CHECKOUT,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            timeout=PATIENCE,
        )
    finally:
        os.close(theirs)
    seen = shown.result(PATIENCE)
    os.close(ours)
    assert done.returncode == 0
    assert "deleted 10 sessions, 40 events and 2 games" in done.stdout
    assert "50/50" in seen if rich else "of at most 50 rows" in seen
