"""What an operator meets: every command on every kind of database, questions, pipes, documents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
import psycopg
import pytest
from probes import PATIENCE, rows, value
from psycopg.conninfo import make_conninfo
from support import RUN, Server, name_of

from registry import EmbeddedPostgres, GameSessionRegistry, migrate, schema
from registry.cli import COMMANDS, main

SESSION = "chess/6aaf12f8-ca8a-4fa1-a0a5-3b6cd4b569ee"
CALLS = [
    ["migrate"],
    ["grant", "--role", "postgres"],
    ["rollback", "--yes"],
    ["status"],
    ["cleanup"],
    ["renew-epochs", "--yes"],
    ["train-dictionary"],
    ["top", "--once"],
    ["inspect", "session", SESSION],
    ["doctor"],
    ["import-prisma", "--from", "dbname=nowhere"],
    ["partition", "--by", "hash", "--partitions", "2"],
    ["demo", "--games", "1"],
]
"""Each command, as an operator may call it; the database is put behind."""

ANSWERS = {"status", "doctor"}
"""They say of a schema that does not fit what is wrong with it, as their answer."""


@pytest.fixture(autouse=True)
def no_database_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Calls commands that have to end with one clear line and an exit code that says so."""

    def refused(conninfo: str, *why: str, but: tuple[str, ...] = ()) -> None:
        for call in CALLS:
            if call[0] in but:
                continue
            code = main([*call, "--database", conninfo])
            out, err = capsys.readouterr()
            if call[0] in ANSWERS and not err:
                assert code == 3, call
                assert out, call
                continue
            assert code == 1, call
            assert err.startswith("error: "), call
            assert err.count("\n") == 1, call
            assert any(text in err for text in why), err
            assert "hunter2" not in err, call
            assert call[0] == "demo" or out == "", call

    return refused


def test_no_command_is_left_out() -> None:
    assert {call[0] for call in CALLS} == COMMANDS.keys()


def test_nobody_answers(refused: Callable[..., None]) -> None:
    refused("host=/nonexistent password=hunter2", "/nonexistent")


def test_no_such_database(conninfo: str, refused: Callable[..., None]) -> None:
    refused(make_conninfo(conninfo, dbname="nowhere"), '"nowhere" does not exist')


def test_no_connection_string(refused: Callable[..., None]) -> None:
    refused("postgresql://a:hunter2@[/", "not a PostgreSQL connection string")


def test_a_wrong_password(own_server: EmbeddedPostgres, refused: Callable[..., None]) -> None:
    there = own_server.conninfo
    rows(there, "CREATE ROLE guarded LOGIN PASSWORD 'swordfish'")
    rules = Path(value(there, "SHOW hba_file"))
    rules.write_text(f"local all guarded scram-sha-256\n{rules.read_text()}")
    rows(there, "SELECT pg_reload_conf()")
    guarded = make_conninfo(there, user="guarded", password="hunter2")
    refused(guarded, 'password authentication failed for user "guarded"')


@pytest.fixture
def stranger(server: Server) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"stranger_{RUN}"
    server.execute("CREATE ROLE {name} LOGIN", name=name)
    yield name
    server.execute("DROP ROLE {name}", name=name)


@pytest.mark.owner
def test_no_rights(conninfo: str, stranger: str, refused: Callable[..., None]) -> None:
    refused(make_conninfo(conninfo, user=stranger), "as the owner", "python -m registry grant")


@pytest.mark.owner
def test_who_may_not_change_the_schema_is_told_to_be_its_owner(
    conninfo: str, stranger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Being let in by `grant` would not do."""
    through = make_conninfo(conninfo, user=stranger)
    for argv in (["partition", "--by", "hash", "--partitions", "2"], ["grant", "--role", stranger]):
        assert main([*argv, "--database", through]) == 1
        said = capsys.readouterr().err
        assert "connect as the owner of the tables" in said
        assert "registry grant" not in said


@pytest.mark.owner
def test_no_rights_in_an_empty_database(
    blank_conninfo: str, stranger: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate", "--database", make_conninfo(blank_conninfo, user=stranger)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: permission denied for ")
    assert "connect as the owner" in said


@pytest.mark.owner
def test_nothing_migrated(blank_conninfo: str, refused: Callable[..., None]) -> None:
    refused(blank_conninfo, "python -m registry migrate", but=("migrate", "rollback", "demo"))


@pytest.mark.owner
def test_too_old(conninfo: str, refused: Callable[..., None]) -> None:
    schema.rollback(conninfo)
    refused(conninfo, "python -m registry migrate", but=("migrate", "rollback"))


@pytest.mark.owner
def test_too_new(conninfo: str, refused: Callable[..., None]) -> None:
    rows(
        conninfo,
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
        "VALUES ('x', '9999_registry_future', now())",
    )
    refused(conninfo, "too new")


def test_the_status_tells_what_a_newer_version_did(
    conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--database", conninfo]) == 0
    rows(
        conninfo,
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
        "VALUES ('x', '9999_registry_future', now())",
    )
    assert "newer" not in capsys.readouterr().out
    assert main(["status", "--database", conninfo]) == 3
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("9999_registry_future")
    assert last.endswith("of a newer version")


@pytest.fixture
def filled(conninfo: str, registry: GameSessionRegistry) -> str:
    """A database with two games, a session and five events."""
    registry.record_events("chess", range(4))
    registry.record_event("go", 1)
    registry.issue_resume_token("chess", "alice")
    return conninfo


def on_terminal(conninfo: str, *argv: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "registry", *argv, "--database", conninfo],
        dimensions=(40, 100),
        encoding="utf-8",
        timeout=PATIENCE,
    )


def answered(child: pexpect.spawn[str], answer: str) -> tuple[str, int | None]:
    """What a command said before it asked, once it has been answered, and its exit code."""
    child.expect_exact("Type the name of the database to go on: ")
    said = " ".join(child.before.split())
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    return said, child.exitstatus


def epoch(conninfo: str) -> Any:
    query = "SELECT known_epoch(epoch, (SELECT mark FROM lineage_mark)) FROM game LIMIT 1"
    return value(conninfo, query)


@pytest.mark.parametrize("command", ["rollback", "renew-epochs"])
def test_another_name_than_the_databases_changes_nothing(filled: str, command: str) -> None:
    before = schema.status(filled), epoch(filled)
    for answer in ("yes", name_of(filled).upper()):
        said, code = answered(on_terminal(filled, command), answer)
        assert code == 1
        assert f"Database {name_of(filled)} on " in said
        assert "holds 2 games, 1 sessions and 5 events" in said
    assert (schema.status(filled), epoch(filled)) == before


def test_ctrl_c_at_the_question_changes_nothing(filled: str) -> None:
    child = on_terminal(filled, "rollback")
    child.expect_exact("to go on: ")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert "Traceback" not in child.before
    assert "nothing was done" in child.before
    assert all(when for _, when in schema.status(filled))


def test_the_name_of_the_database_renews_its_epochs(filled: str) -> None:
    before = epoch(filled)
    said, code = answered(on_terminal(filled, "renew-epochs"), name_of(filled))
    assert code == 0
    assert "RESET" in said
    assert epoch(filled) != before


@pytest.mark.owner
def test_it_is_said_what_a_rollback_takes(filled: str) -> None:
    *_, last = ids = [name for name, _ in schema.status(filled)]
    said, code = answered(on_terminal(filled, "rollback"), name_of(filled))
    assert code == 0
    assert f"To be taken back: {last}. Games, sessions and events stay" in said
    assert value(filled, "SELECT count(*) FROM game_event") == 5
    every = ["--steps", str(len(ids))]
    said, code = answered(on_terminal(filled, "rollback", *every), name_of(filled))
    assert code == 0
    assert "ALL GAMES, SESSIONS AND EVENTS WILL BE LOST" in said
    assert [when for _, when in schema.status(filled)] == [None] * len(ids)


@pytest.mark.parametrize("command", ["rollback", "renew-epochs"])
def test_without_a_terminal_they_need_to_be_told(
    filled: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = schema.status(filled), epoch(filled)
    assert main([command, "--database", filled]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "--yes" in err
    assert (schema.status(filled), epoch(filled)) == before


def test_who_reads_no_further_ends_a_command_quietly(filled: str) -> None:
    with GameSessionRegistry.connect(filled) as registry:
        registry.record_events("long", range(5_000))
    command = [sys.executable, "-m", "registry", "inspect", "game", "long", "--events", "5000"]
    process = subprocess.Popen(
        [*command, "--database", filled],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(PATIENCE) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("argv", [["status"], ["cleanup", "--json"], ["inspect", "game", "chess"]])
def test_output_that_cannot_be_written_is_an_error_in_one_line(
    filled: str, argv: list[str]
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "registry", *argv, "--database", filled],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


DOCUMENTS: list[tuple[list[str], set[str]]] = [
    (["cleanup"], {"outcome", "sessions", "events", "games", "seconds"}),
    (["doctor"], {"healthy", "findings"}),
    (
        ["inspect", "game", "chess"],
        {
            "game_id", "at", "epoch", "head", "floor", "issued", "idle", "oldest", "log", "held",
            "session", "sessions", "live_sessions", "all_sessions", "events",
        },
    ),
    (
        ["top", "--interval", "0.01"],
        {
            "at", "live", "stale", "capped", "connections", "max_connections", "active",
            "idle_in_transaction", "blocked", "blocked_for", "oldest_transaction", "sees_all",
            "game_bytes", "session_bytes", "event_bytes", "record_rate", "delete_rate",
            "append_rate", "batch", "games_seen", "games_total", "games",
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("command", "keys"), DOCUMENTS, ids=[c[0] for c, _ in DOCUMENTS])
def test_a_document_has_always_the_same_keys(
    command: list[str], keys: set[str], filled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json", "--database", filled]) in (0, 3)
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out).keys() == keys


def test_migrating_again_is_done_in_a_pipe_too(blank_conninfo: str) -> None:
    """What a deployment does: no terminal, and nothing is asked."""
    command = [sys.executable, "-m", "registry", "migrate"]
    environment = {**os.environ, "DATABASE_URL": blank_conninfo}
    for said in ("applied 0001", "up to date"):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
    with psycopg.connect(blank_conninfo):
        assert migrate(blank_conninfo) == []
