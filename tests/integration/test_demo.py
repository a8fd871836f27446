"""The demonstration as a user runs it: to its end, interrupted, killed, on a spoilt log."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from support import KEPT, wait_until


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for temporary files that any user can reach, which those of pytest are not."""
    base = Path(tempfile.mkdtemp(prefix="demo-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


def start(*options: object, **environment: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "registry", "demo", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **{name: str(value) for name, value in environment.items()}},
        # A shell that runs the tests in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and the output."""
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, output


def table(output: str) -> dict[str, str]:
    """The final table."""
    rows = re.findall(r"^  +(\S.*?)  +(\S+(?: s)?)(?:  <-- WRONG)?$", output, re.MULTILINE)
    return dict(rows)


def assert_all_well(output: str, clients: int) -> dict[str, str]:
    rows = table(output)
    assert rows["duplicates"] == "0", output
    assert rows["gaps"] == "0", output
    assert rows["boards equal"] == f"{clients}/{clients}", output
    assert "WRONG" not in output
    return rows


def count(conninfo: str, what: str) -> int:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(f"SELECT count(*) FROM {what}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def served_from(folder: Path) -> list[psutil.Process]:
    """The processes that have something to do with the folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in argument for argument in process.info["cmdline"] or ()):
            found.append(process)
    return found


def test_a_run_with_all_kinds_of_trouble(scratch: Path) -> None:
    status, output = end(start("--games", 2, "--drop-rate", 0.2, TMPDIR=scratch))
    assert status == 0, output
    rows = assert_all_well(output, 8)
    assert int(rows["events received"]) == 4 * int(rows["moves recorded"])
    for trouble in ("connections dropped", "in the middle of a line", "twin resumes",
                    "thefts refused", "forgeries refused", "ghosts refused",
                    "that were in the log already", "events replayed"):  # fmt: skip
        assert int(rows[trouble]) > 0, trouble
    assert list(scratch.iterdir()) == []
    assert served_from(scratch) == []


def test_interrupted_it_leaves_nothing_behind(scratch: Path) -> None:
    process = start("--games", 100, TMPDIR=scratch)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("play: "):
        assert process.poll() is None
    assert served_from(scratch) != []
    process.send_signal(signal.SIGINT)
    status, output = end(process)
    assert status == 130, output
    assert "Traceback" not in output
    assert list(scratch.iterdir()) == []
    assert served_from(scratch) == []


def test_killed_and_run_again_it_goes_on(conninfo: str) -> None:
    options = ("--games", 5, "--threads", 5, "--drop-rate", 0.1, "--database", conninfo)
    process = start(*options)
    wait_until(lambda: count(conninfo, "game_event") >= 100, timeout=60)
    process.kill()
    end(process)
    recorded = count(conninfo, "game_event")
    status, output = end(start(*options))
    assert status == 0, output
    rows = assert_all_well(output, 20)
    assert int(rows["begun by an earlier run"]) > 0
    assert int(rows["moves found in the logs"]) >= recorded
    assert {table: count(conninfo, table) for table in KEPT} == dict.fromkeys(KEPT, 0)


def test_a_spoilt_log_is_detected(conninfo: str) -> None:
    options = ("--games", 2, "--keep", "--database", conninfo)
    status, output = end(start(*options))
    assert status == 0, output
    moves = int(table(output)["moves recorded"])
    assert count(conninfo, "game_event") == moves

    status, output = end(start(*options))
    assert status == 0, output
    rows = assert_all_well(output, 8)
    assert rows["finished by an earlier run"] == "2"
    assert rows["moves found in the logs"] == str(moves)
    assert "moves recorded" not in rows

    spoil = "UPDATE game_event SET payload = %s WHERE sequence = 1 AND game_id = (%s)"
    one = "SELECT min(game_id) FROM game"
    with psycopg.connect(conninfo) as connection:
        connection.execute(spoil.replace("(%s)", f"({one})").encode(), [b'{"move":"a2a3"}'])
    status, output = end(start(*options))
    assert status == 1, output
    assert "event 1 of the log is not" in output
    assert table(output)["boards equal"] == "4/8"

    with psycopg.connect(conninfo) as connection:
        connection.execute(
            f"DELETE FROM game_event WHERE sequence = 3 AND game_id = ({one})".encode()
        )
    status, output = end(start(*options))
    assert status == 1, output
    assert "LogCorrupted" in output
    assert "Traceback" not in output
