"""The two small C programs that make a machine worse than it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .peers import Unavailable

HERE = Path(__file__).parent


def compiled(name: str, target: Path, *flags: str) -> Path:
    """Compiles NAME.c to the target."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        raise Unavailable("not run: needs Linux and a C compiler (Debian: apt-get install gcc)")
    command = [compiler, "-O2", *flags, "-o", str(target), str(HERE / f"{name}.c"), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"not run: {compiler} failed: {done.stderr.strip()[-300:]}")
    return target
