"""Runs clients under faults and judges what they saw.

    tox -e chaos                                   # each fault once, in about a minute
    tox -e chaos -- --minutes 10 --seed 7          # all faults, in an order that the seed says
    tox -e chaos -- --faults half-open,throttled   # these alone
    tox -e chaos -- --layout hash                  # with the events in partitions
    tox -e chaos -- --bug floor-past-a-player      # in a copy of the library with that bug

Exits with 0 if the checker accepts the history, and with 1 if not: then the history is kept.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence

from layouts import LAYOUT, LAYOUTS

from . import bugs
from .faults import FAULTS, disk
from .report import printed, progress
from .run import run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=None, help="how long (each once)")
    parser.add_argument("--seed", type=int, default=None, help="of all dice (the time)")
    parser.add_argument("--faults", default="", metavar="NAME,…", help="these alone")
    parser.add_argument("--without", default="", metavar="NAME,…", help="all but these")
    parser.add_argument(
        "--layout", choices=LAYOUTS, default=LAYOUT, help="of the events (%(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="only name the faults and the bugs")
    parser.add_argument("--bug", default="", metavar="NAME", help="plant a bug in the library")
    parser.add_argument("--keep", action="store_true", help="keep the history in any case")
    options = parser.parse_args(arguments)
    if options.list:
        for name, fault in FAULTS.items():
            print(f"{name:24} {(fault.__doc__ or '').splitlines()[0]}")
        for bug in bugs.BUGS:
            print(f"--bug {bug.name:32} {bug.breaks}")
        return 0
    names = options.faults.split(",") if options.faults else list(FAULTS)
    names = [name for name in names if name not in options.without.split(",")]
    if unknown := set(names) - set(FAULTS):
        parser.error(f"there is no such fault: {', '.join(sorted(unknown))}")
    seed = int(time.time()) if options.seed is None else options.seed
    if options.bug:
        again = [f"--seed={seed}", f"--faults={','.join(names)}", f"--layout={options.layout}"]
        again += [] if options.minutes is None else [f"--minutes={options.minutes}"]
        return bugs.run_with(options.bug, again)
    if {"disk-full", "wal-disk-full"} & set(names) and (why := disk.why_impossible()):
        print(f"NO DISK CAN BE FULL: {why}. Leave it out with --without disk-full,wal-disk-full.")
        return 1
    seconds = None if options.minutes is None else 60 * options.minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that is to be undone
    with progress(seconds or 4.0 * len(names)) as say:
        outcome = run(names, seed, seconds, say, layout=options.layout)
    printed(outcome)
    if outcome.passed and not options.keep:
        shutil.rmtree(outcome.folder)
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
