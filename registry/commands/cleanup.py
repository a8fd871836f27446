"""Cleans up once: for cron, or a CronJob of Kubernetes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

from ..config import RegistryConfig
from ..maintenance import BATCH_SIZE, SHARE, Maintenance, Outcome, Run
from ..model import Cleanup
from . import add_database, ended_by_sigterm, positive_seconds, positive_whole, registry_of, share
from .progress import progress

TIME_UP: Final = 3
EXIT_CODES: Final = {
    0: "nothing that was due is left, or another process is at work on the rest",
    1: "an error, said in one line on stderr; what was cleaned up before stays so",
    TIME_UP: "--max-seconds, or SIGTERM, came before all was done: the next run goes on",
}

Show = Callable[[Cleanup, "int | None"], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    defaults = RegistryConfig()
    parser.description = (
        "Delete what has had its time: expired sessions, events past the retention, games with "
        "nothing left. Of many that are run at once, one works and the others leave it to that one."
    )
    parser.add_argument(
        "--retention",
        type=positive_seconds,
        default=defaults.replay_retention,
        metavar="SECONDS",
        help="the replay_retention of your servers (default: %(default)g)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_whole,
        default=BATCH_SIZE,
        metavar="ROWS",
        help="at most deleted by one statement (default: %(default)s)",
    )
    parser.add_argument(
        "--max-seconds",
        type=positive_seconds,
        metavar="SECONDS",
        help="begin no further batch after that",
    )
    parser.add_argument(
        "--share",
        type=share,
        default=SHARE,
        help="of the time, what it is at work; in between it pauses (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> int:
    config = RegistryConfig(
        replay_retention=options.retention,
        pool_min_size=1,
        pool_max_size=1,
    )
    with registry_of(options.database, config) as registry:
        maintenance = Maintenance(
            registry,
            batch_size=options.batch_size,
            max_seconds=options.max_seconds,
            share=options.share,
        )
        seen = sys.stderr.isatty() and not options.json
        with ended_by_sigterm(maintenance.end), _shown() if seen else nullcontext() as show:
            done = maintenance.run_once(show)
    print(_document(done) if options.json else _sentence(done))
    return TIME_UP if done.outcome is Outcome.TIME_UP else 0


def _document(done: Run) -> str:
    return json.dumps(
        {
            "outcome": done.outcome.name.lower(),
            "sessions": done.cleanup.sessions,
            "events": done.cleanup.events,
            "games": done.cleanup.games,
            "seconds": round(done.seconds, 3),
        }
    )


def _sentence(done: Run) -> str:
    deleted = done.cleanup
    said = {
        Outcome.DONE: "nothing more is due",
        Outcome.TIME_UP: "ended before all was done: more is due",
        Outcome.ANOTHER_AT_WORK: "another process is at work on the rest",
    }[done.outcome]
    return (
        f"deleted {deleted.sessions:,} sessions, {deleted.events:,} events and "
        f"{deleted.games:,} games "
        f"in {done.seconds:.1f} s; {said}"
    )


@contextmanager
def _shown() -> Iterator[Show]:
    """Shows what a run has deleted so far."""
    rows = 0
    with progress().stage("cleaning up", None, "rows") as advance:

        def show(deleted: Cleanup, due: int | None) -> None:
            nonlocal rows
            before, rows = rows, deleted.sessions + deleted.events
            # Not all of a game's events need be old: `due` is the most.
            advance(rows - before, due and max(due, rows))

        yield show
