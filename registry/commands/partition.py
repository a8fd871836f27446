"""Turns the table of events from one layout into another, while it is in use."""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import timedelta
from time import monotonic
from typing import Any, Final

from psycopg import Connection

from .. import schema
from ..errors import InvalidArgument
from ..looking import size
from ..partitioning import ByHash, ByTime, Layout, Plain
from ..partitioning.locking import Pace
from ..partitioning.moving import Mover, Outcome
from . import add_database, ended_by_sigterm, positive_seconds, positive_whole, share
from .progress import progress

TIME_UP: Final = 3

EPILOG: Final = """\
what can be asked for:
  --by hash --partitions 16    games spread over so many partitions
  --by time --every 1day       one for so many minutes, hours, days or weeks
  --by nothing                 back to one table

Appends, acknowledgements and replays go on meanwhile. It takes about as much disk as the events
have, until it is done. Interrupt it whenever you like: the same command goes on from there. Connect
directly to the server, as the owner of the tables. More in docs/partitioning.md.
"""

EXIT_CODES: Final = {
    0: "the table is laid out as was asked",
    1: "an error, said in one line on stderr; what was done stays",
    TIME_UP: "--max-seconds, or SIGTERM, came before the end; run it again to go on",
    130: "interrupted; likewise",
}

_UNITS: Final = {"minute": 1, "hour": 60, "day": 1440, "week": 10_080}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_database(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--by", choices=("hash", "time", "nothing"), help="the layout wanted")
    what.add_argument(
        "--abandon", action="store_true", help="give up the conversion that is under way"
    )
    parser.add_argument(
        "--partitions", type=positive_whole, metavar="N", help="how many, --by hash"
    )
    parser.add_argument(
        "--every", type=interval, metavar="INTERVAL", help="how much time each has, --by time"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the SQL that would be run; change nothing"
    )
    defaults = Pace()
    parser.add_argument(
        "--lock-timeout",
        type=positive_seconds,
        default=defaults.lock_timeout,
        metavar="SECONDS",
        help="how long appends may wait while it waits for a lock of the whole table "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--patience",
        type=positive_seconds,
        default=defaults.patience,
        metavar="SECONDS",
        help="how long it tries again to get one, and waits for old transactions "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--hold",
        type=positive_seconds,
        default=defaults.hold,
        metavar="SECONDS",
        help="how long a batch should hold the games that it copies (default: %(default)g)",
    )
    parser.add_argument(
        "--share",
        type=share,
        default=defaults.share,
        help="of the time, what it is at work; in between it pauses (default: %(default)s)",
    )
    parser.add_argument(
        "--max-seconds",
        type=positive_seconds,
        metavar="SECONDS",
        help="begin nothing further after that",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def interval(text: str) -> timedelta:
    """An option that is an interval, such as 1day, 6hours or 30 minutes."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*(minute|hour|day|week)s?\s*", text)
    if found is None:
        raise argparse.ArgumentTypeError("write it as 1day, 6hours, 30minutes or 1week")
    return timedelta(minutes=int(found[1]) * _UNITS[found[2]])


def run(options: argparse.Namespace) -> int:
    target = _target(options)
    pace = Pace(
        lock_timeout=options.lock_timeout,
        patience=options.patience,
        hold=options.hold,
        share=options.share,
        max_seconds=options.max_seconds,
    )
    with schema.working(options.database) as connection:
        schema.check(connection, schema.AS_OWNER)
        mover = Mover(connection, target, pace, progress())
        if not options.json:
            mover.announce = _announce
        if options.dry_run:
            _print_script(connection, mover, options.abandon)
            return 0
        if options.abandon:
            return _abandon(mover, options.json)
        return _convert(mover, options.json)


def _target(options: argparse.Namespace) -> Layout:
    wanted = {"hash": "--partitions", "time": "--every"}.get(options.by)
    for option, value in (("--partitions", options.partitions), ("--every", options.every)):
        if (value is not None) != (option == wanted):
            options.error(
                f"--by {options.by} needs {wanted}"
                if option == wanted
                else f"{option} is for --by {'hash' if option == '--partitions' else 'time'}"
            )
    try:
        if options.by == "hash":
            return ByHash(options.partitions)
        return ByTime(options.every) if options.by == "time" else Plain()
    except InvalidArgument as error:
        options.error(str(error))
        raise


def _convert(mover: Mover, as_json: bool) -> int:
    began = monotonic()
    try:
        with ended_by_sigterm(mover.end):
            outcome = mover.run()
    except KeyboardInterrupt:
        print(f"interrupted: {_so_far(mover)}", file=sys.stderr)
        raise
    seconds = monotonic() - began
    if as_json:
        found = {
            "outcome": outcome.name.lower(),
            "layout": str(mover.target),
            "copied": mover.copied,
            "copied_before": mover.copied_before,
            "added": mover.added,
            "total": mover.total,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(found))
    elif outcome is Outcome.TIME_UP:
        print(f"ended after {seconds:.1f} s: {_so_far(mover)}")
    elif outcome is Outcome.ALREADY:
        done = f"added {mover.added} that were missing" if mover.added else "nothing was to be done"
        print(f"game_event is laid out in {mover.target} already; {done}")
    else:
        before = f", {mover.copied_before:,} before that" if mover.copied_before else ""
        print(
            f"game_event is laid out in {mover.target}; copied {mover.copied:,} events in "
            f"{seconds:.1f} s{before}"
        )
    return TIME_UP if outcome is Outcome.TIME_UP else 0


def _so_far(mover: Mover) -> str:
    there = mover.copied_before + mover.copied
    if not there:
        return "nothing was copied; run the same command again"
    copied = f"{there:,} of at most {mover.total:,} events are copied"
    return f"{copied}; the same command goes on from there"


def _announce(bytes_: int) -> None:
    print(
        f"the events take {size(bytes_)}; the copy takes about as much beside them until it is "
        "done",
        file=sys.stderr,
    )


def _abandon(mover: Mover, as_json: bool) -> int:
    there_was = mover.abandon()
    if as_json:
        print(json.dumps({"outcome": "abandoned" if there_was else "nothing to abandon"}))
    else:
        dropped = "given up; what had been copied is dropped"
        print(dropped if there_was else "no conversion is under way")
    return 0


def _print_script(connection: Connection[Any], mover: Mover, abandon: bool) -> None:
    steps = list(mover.script_of_abandon() if abandon else mover.script())
    if not steps:
        print("-- Nothing is to be done.")
    for said, statements in steps:
        print(f"-- {said}")
        for statement in statements:
            text = (
                statement.decode()
                if isinstance(statement, bytes)
                else statement.as_string(connection)
            )
            print(f"{text};")
        print()
