"""The benchmarks run to their end and write what they should. Nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support import Server

pytestmark = pytest.mark.owner

CHECKOUT = Path(__file__).parents[2]


def run(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--out", str(folder), *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def measure(
    server: Server, folder: Path, *cases: str, rows: int = 10_000, seconds: float = 0.1
) -> list[dict[str, Any]]:
    """Runs the cases, tiny, and returns their figures."""
    output = run(
        folder,
        *("--database", server.conninfo, "--quick", "--seconds", str(seconds), "--rounds", "2"),
        *("--peers", "ours,plain", "--threads", "2", "--games", "1", "--rows", str(rows)),
        *("--only", ",".join(cases)),
    )
    assert "failed" not in output, output
    figures: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())["figures"]
    assert {figure["case"] for figure in figures} == set(cases)
    return figures


def test_it_measures_and_writes_everything_down(server: Server, tmp_path: Path) -> None:
    figures = measure(server, tmp_path, "append", seconds=2)
    assert [figure["contender"] for figure in figures] == ["ours", "plain"]
    for figure in figures:
        assert figure["point"] == {"processes": 1, "threads": 2, "games": 1}
        for metric in ("rate", "p50", "p99"):
            assert len(figure["metrics"][metric]) == 2
            assert min(figure["metrics"][metric]) > 0

    text = (tmp_path / "RESULTS.md").read_text()
    assert "## Append" in text
    assert "| plain | 1 | 2 | 1 |" in text
    for plot in (tmp_path / "plots").glob("*.svg"):
        assert f"](plots/{plot.name})" in text

    with psycopg.connect(server.conninfo) as connection:
        left = connection.execute("SELECT FROM pg_database WHERE datname ~ '^benchmark_'")
        assert left.fetchall() == []

    (tmp_path / "RESULTS.md").unlink()
    run(tmp_path, "--redraw")
    assert (tmp_path / "RESULTS.md").read_text() == text


@pytest.mark.slow
def test_every_case_of_ours_runs(server: Server, tmp_path: Path) -> None:
    cases = (
        "alone",
        "resume",
        "replay",
        "acknowledge",
        "heartbeat",
        "combined",
        "growth",
        "memory",
    )
    figures = measure(server, tmp_path, *cases)
    for case in cases:
        assert "ours" in {figure["contender"] for figure in figures if figure["case"] == case}


@pytest.mark.slow
def test_appends_are_measured_beside_a_cleanup(server: Server, tmp_path: Path) -> None:
    figures = measure(server, tmp_path, "cleanup", rows=200_000)
    assert [figure["contender"] for figure in figures] == ["ours", "ours+cleanup"] * 2
