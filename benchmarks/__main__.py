"""`python -m benchmarks`: measures, prints tables, writes RESULTS.md, results.json and plots."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import psycopg
from rich.console import Console

from registry import RegistryError

from .cases import CASES
from .lab import Lab
from .machine import describe
from .options import Options
from .peers import NAMES
from .report import Report
from .results import Results
from .server import server
from .view import View

HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    options = _options(argv)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    try:
        report = (
            Report.read(options.out / "results.json")
            if options.redraw
            else _measure(options, console, _command(argv))
        )
    except (RegistryError, psycopg.OperationalError, FileNotFoundError) as error:
        print("error:", *str(error).split(), file=sys.stderr)
        return 1
    report.show(console)
    if report.interrupted:
        return 130
    for path in report.write(options.out):
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    return 0


def _measure(options: Options, console: Console, command: str) -> Report:
    begun = time.monotonic()
    results, interrupted = Results(), False
    with server(options.database) as postgres, View(console, len(options.only)) as view:
        lab = Lab(options, postgres, results, view)
        try:
            for name in options.only:
                view.case(name)
                CASES[name].run(lab)
                view.case_done(name)
        except KeyboardInterrupt:
            interrupted = True
            results.note("the rest", "the run was interrupted: nothing is written")
        machine = describe(postgres)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Report(results, machine, command, time.monotonic() - begun, date, interrupted)


def _command(argv: Sequence[str]) -> str:
    """For the report: without what may hold a password or names somebody's folders."""
    shown = ["python -m benchmarks"]
    for before, word in zip(["", *argv], argv, strict=False):
        private = before in ("--database", "--out")
        name, given, _ = word.partition("=")
        if given and name in ("--database", "--out"):
            word = f"{name}=…"
        shown.append("…" if private else word)
    return " ".join(shown)


def _options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes, rough figures")
    parser.add_argument(
        "--only", type=_names(CASES), metavar="CASE,…", default=tuple(CASES),
        help=f"cases to run, of: {', '.join(CASES)}",
    )  # fmt: skip
    parser.add_argument(
        "--peers", type=_names(NAMES), metavar="PEER,…", default=NAMES,
        help=f"contenders, of: {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, metavar="S",
        help="measured time of each contender at each point, over all rounds (4; quick: 0.9)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=_count, metavar="N", help="turns of each (5; quick: 3)")
    for name in ("threads", "games", "processes"):
        parser.add_argument(
            f"--{name}", type=_counts, metavar="N,…", help="instead of the case's own"
        )
    parser.add_argument(
        "--rows", type=_count, metavar="N",
        help="length of the longest log in the case growth (1000000; quick: 100000)",
    )  # fmt: skip
    parser.add_argument(
        "--database", metavar="URL",
        help="another PostgreSQL, as a role that may create databases (default: embedded)",
    )  # fmt: skip
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (benchmarks/; benchmarks/partial/ if not everything is measured)",
    )
    parser.add_argument(
        "--redraw", action="store_true",
        help="measure nothing: write the tables and plots of DIR/results.json again",
    )  # fmt: skip
    given = parser.parse_args(argv)
    whole = given.redraw or (
        given.only == tuple(CASES) and given.peers == NAMES and not given.quick
        and not (given.threads or given.games or given.processes)
    )  # fmt: skip
    out = given.out or (HERE if whole else HERE / "partial")
    quick = given.quick
    return Options(
        only=given.only,
        peers=given.peers,
        seconds=given.seconds or (0.9 if quick else 4.0),
        rounds=given.rounds or (3 if quick else 5),
        threads=given.threads,
        games=given.games,
        processes=given.processes,
        rows=given.rows or (100_000 if quick else 1_000_000),
        quick=quick,
        database=given.database,
        out=out.absolute(),
        redraw=given.redraw,
    )


class _names:
    """An option's type: several of the known names, in the order of those."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known = list(known)

    def __call__(self, text: str) -> tuple[str, ...]:
        given = text.split(",")
        for name in given:
            if name not in self._known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(self._known)}")
        return tuple(name for name in self._known if name in given)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_count(part) for part in text.split(","))


if __name__ == "__main__":
    raise SystemExit(main())
