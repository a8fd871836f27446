"""Shows which games are busy and how the server does, again every second."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from attrs import asdict

from .. import schema
from ..activity import SORTS, STRETCH, View, Watch
from ..errors import RegistryError, RegistryUnavailable
from ..extras import install
from . import add_database, positive_seconds, positive_whole

if TYPE_CHECKING:
    from . import _top_screen

MOST = 200
"""Games that a screen may show."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"Each look reads a bounded number of rows. Where there are more than {STRETCH:,} games, a "
        f"game that becomes busy is met after games/{STRETCH:,} looks at the latest, at once if it "
        "began lately. Its own connection is counted. Ctrl-C ends it. Not on a terminal it shows "
        "one look, as with --once."
    )
    add_database(parser)
    parser.add_argument(
        "--interval",
        type=positive_seconds,
        default=1.0,
        metavar="SECONDS",
        help="between two looks (default: 1)",
    )
    parser.add_argument(
        "--limit", type=positive_whole, metavar="N", help="games (default: what fits, or 20)"
    )
    parser.add_argument(
        "--sort",
        choices=list(SORTS),
        default="rate",
        help="events a second, what the slowest player lacks, or events kept (default: rate)",
    )
    parser.add_argument(
        "--stale",
        type=positive_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long a live session is silent to count as stale (default: 60)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="show one look, an interval after a first one",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, of one look")


def run(options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(document(_once(options)), indent=2))
        return 0
    try:
        from . import _top_screen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise RegistryError(
            f"top needs rich to draw: {install('cli')}; or say --json, which does without"
        ) from None

    if options.once or not sys.stdout.isatty():
        _top_screen.show(_once(options))
    else:
        _live(options, _top_screen.Screen())
    return 0


def document(view: View) -> dict[str, Any]:
    """A look for programs. Rates are a second's, and null where they are not known."""
    server = asdict(view.server)
    for counter in ("recorded", "deleted", "appends", "games"):
        del server[counter]
    return {
        **server,
        "at": view.server.at.isoformat(),
        "record_rate": view.record_rate,
        "delete_rate": view.delete_rate,
        "append_rate": view.append_rate,
        "batch": view.batch,
        "games_seen": view.seen,
        "games_total": view.of,
        "games": [{**asdict(game), "log": game.log, "lag": game.lag} for game in view.games],
    }


def _once(options: argparse.Namespace) -> View:
    """The second of two looks, so that it has rates."""
    watch = _watch(options, 20)
    with schema.reading(options.database) as connection:
        schema.check(connection)
        watch.look(connection)
        time.sleep(options.interval)
        return watch.look(connection)


def _live(options: argparse.Namespace, screen: _top_screen.Screen) -> None:
    """Until interrupted, and over a database that goes away and comes back."""
    watch = _watch(options, MOST)
    connected = False
    with screen:
        while True:
            try:
                with schema.reading(options.database) as connection:
                    schema.check(connection)
                    connected = True
                    while True:
                        screen.draw(watch.look(connection))
                        time.sleep(options.interval)
            except RegistryUnavailable as error:
                if not connected:
                    raise
                screen.say(f"{error}; trying again")
                time.sleep(options.interval)


def _watch(options: argparse.Namespace, limit: int) -> Watch:
    return Watch(sort=options.sort, limit=options.limit or limit, stale=options.stale)
