"""Bugs to plant in the library, each of which a run has to notice."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mutants import ROOT, Mutant, copy_tree

BUGS: list[Mutant] = []


def run_with(name: str, arguments: Sequence[str]) -> int:
    """Runs all this on a copy of the library that has the bug."""
    (bug,) = [bug for bug in BUGS if bug.name == name] or [None]
    if bug is None:
        raise SystemExit(f"there is no bug {name}: {', '.join(bug.name for bug in BUGS)}")
    arguments = list(arguments)
    at = arguments.index("--bug")
    del arguments[at : at + 2]
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


__all__ = ["BUGS", "ROOT", "run_with"]
