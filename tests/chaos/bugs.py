"""Bugs to plant in the library, each of which a run has to notice."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mutants import Mutant, copy_tree

UNLOCKED: Final = "(SELECT head FROM game WHERE game_id = {})"
"""The head as the statement's snapshot shows it, which no lock holds still."""

BUGS: Final = [
    Mutant(
        "no-lock-on-the-game",
        "1: two appends take the head that both have read, and no key of the table is in the way",
        [
            (
                "migrations/0001_registry_tables.sql",
                "PRIMARY KEY (game_id, sequence)",
                "CHECK (sequence > 0)",
            ),
            (
                "sql/record_event.sql",
                "SET head = g.head + 1,",
                f"SET head = {UNLOCKED.format('%(game_id)s')} + 1,",
            ),
            (
                "sql/record_event_checked.sql",
                "SET head = g.head + 1,",
                f"SET head = {UNLOCKED.format('%(game_id)s')} + 1,",
            ),
            (
                "sql/record_events.sql",
                "SET head = g.head + excluded.head,",
                f"SET head = {UNLOCKED.format('%(game_id)s')} + excluded.head,",
            ),
        ],
        [],
    ),
    Mutant(
        "acknowledgement-can-fall",
        "3: the sequence given is taken for the session's, be it lower than the one before",
        [
            (
                "sql/acknowledge.sql",
                "SET last_acknowledged = greatest(s.last_acknowledged, %(sequence)s)",
                "SET last_acknowledged = %(sequence)s",
            ),
            (
                "sql/acknowledge.sql",
                "AND %(sequence)s > me.last_acknowledged AND (SELECT count(*) FROM locked) >= 0",
                "AND (SELECT count(*) FROM locked) >= 0",
            ),
            (
                "sql/acknowledge.sql",
                "SELECT id, last_acknowledged FROM me WHERE %(sequence)s <= last_acknowledged",
                "SELECT id, last_acknowledged FROM me WHERE false",
            ),
        ],
        [],
    ),
    Mutant(
        "retry-without-an-id",
        "1: what may have been recorded before the connection broke is recorded again",
        [
            (
                "registry/database.py",
                "answer = self._ask(query, receipt, until, if_unknown)",
                "answer = None",
            ),
        ],
        [],
    ),
    Mutant(
        "what-is-known-stands-for-the-log",
        "7: who comes back is answered from memory or Redis, wherever the database says the log is",
        [
            (
                "registry/reading.py",
                "Found(epoch, head, floor, known.then(run), known.end)",
                "Found(epoch, known.end, floor, known, known.end)",
            ),
        ],
        [],
    ),
    Mutant(
        "token-rotated-outside-the-transaction-that-checks-it",
        "5: of two resumes at once each rotates what the other has rotated",
        [
            (
                "registry/sessions.py",
                "        return self._insist(queries.resume, params, ",
                "        self._refuse(presented)\n"
                "        return self._insist(queries.resume, params, ",
            ),
            (
                "sql/resume.sql",
                "            WHERE sha256(s.token_hash || %(nonce)s::bytea) = %(blinded)s::bytea\n"
                "            UNION ALL",
                "            WHERE true\n            UNION ALL",
            ),
            (
                "sql/resume.sql",
                "            WHERE sha256(s.token_hash || %(nonce)s::bytea) <> %(blinded)s::bytea",
                "            WHERE false",
            ),
            (
                "sql/resume.sql",
                "      AND (sha256(s.token_hash || %(nonce)s::bytea) = %(blinded)s::bytea\n"
                "           OR sha256(s.previous_token_hash || %(nonce)s::bytea)"
                " = %(blinded)s::bytea)\n",
                "",
            ),
            (
                "sql/resume_batch.sql",
                "WHERE (sha256(s.token_hash",
                "WHERE false AND (sha256(s.token_hash",
            ),
        ],
        [],
    ),
    Mutant(
        "floor-past-a-live-player",
        "3: the log is pruned up to the highest acknowledgement and not to the lowest",
        [
            (
                "sql/acknowledge.sql",
                "least(min(coalesce(mine.last_acknowledged, s.last_acknowledged)), log.head)",
                "least(max(coalesce(mine.last_acknowledged, s.last_acknowledged)), log.head)",
            ),
        ],
        [],
    ),
    Mutant(
        "floor-raised-before-the-rows-are-gone",
        "3: the floor is raised all the way at once, the events are deleted batch by batch",
        [
            (
                "sql/acknowledge.sql",
                "UPDATE game SET floor = target.through",
                "UPDATE game SET floor = target.low",
            ),
        ],
        [],
    ),
]
"""The tests of a mutant are none here: what has to notice is the run."""


def run_with(name: str, arguments: Sequence[str]) -> int:
    """Runs all this with other arguments on a copy of the library that has the bug."""
    bug = next((bug for bug in BUGS if bug.name == name), None)
    if bug is None:
        raise SystemExit(f"there is no bug {name}: {', '.join(bug.name for bug in BUGS)}")
    with tempfile.TemporaryDirectory(prefix="chaos-bug-") as folder:
        tree = copy_tree(Path(folder))
        for file, old, new in bug.edits:
            path = tree / file
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise SystemExit(f"{name}: {file} has {text.count(old)} times {old!r}")
            path.write_text(text.replace(old, new), encoding="utf-8")
        paths = os.pathsep.join([str(tree), str(tree / "tests")])
        environment = {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "chaos", *arguments]
        return subprocess.run(command, cwd=tree, env=environment).returncode
