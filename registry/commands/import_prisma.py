"""Carries over games, sessions and events from tables that a Prisma client made and wrote."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final, get_args

from .. import arguments
from ..config import RegistryConfig
from ..prisma import Import, Options
from ..prisma.names import COLUMNS, TABLES, Names
from ..prisma.plan import Flawed
from ..prisma.source import Source
from ..prisma.target import Target
from . import add_database, checked
from .progress import progress

INCOMPLETE: Final = 3
EXIT_CODES: Final = {
    0: "all is in the registry",
    INCOMPLETE: "something was left out, or is not as it should be; it was said what",
}

EPILOG = f"""
KEY is a table ({", ".join(TABLES)}) or a column of one:
{chr(10).join(f"  {table}.{name}" for table in TABLES for name in COLUMNS[table])}
event.createdAt, session.expiresAt and session.createdAt need not be there.
A table's name may have its schema in front: --map event=app.game_events

A run that was ended in whatever way is gone on with by the next one.
The whole way over is in docs/prisma.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="URL",
        help="the database with Prisma's tables; only read. Prisma's own URL will do",
    )
    add_database(parser)
    parser.add_argument(
        "--map",
        action="append",
        type=mapping,
        default=[],
        metavar="KEY=NAME",
        help="what a table or column is called there, such as event.gameId=game_id",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="look and say what would be done; write nothing"
    )
    parser.add_argument(
        "--flawed",
        choices=get_args(Flawed),
        default="skip",
        help="a game with holes, duplicates or payloads that cannot be stored is left out (skip, "
        "the default), has nothing imported at all (stop), or is imported from behind its last "
        "flaw on (suffix)",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="let sessions expire this much later: how long players could not beat (default: 0)",
    )
    parser.add_argument(
        "--session-ttl",
        type=float,
        default=900.0,
        metavar="SECONDS",
        help="how long a session lives after its heartbeat (default: 900)",
    )
    parser.add_argument(
        "--max-payload-bytes",
        type=int,
        default=65_536,
        metavar="BYTES",
        help="as in the RegistryConfig of your servers (default: 65536)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=10_000,
        metavar="N",
        help="events in one transaction (default: 10000)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def mapping(text: str) -> str:
    """An option that says what a table or column is called."""
    with checked():
        Names.parse([text])
    return text


def run(options: argparse.Namespace) -> int:
    # Its bounds are those of a registry that is to read what is imported.
    config = RegistryConfig(
        max_payload_bytes=options.max_payload_bytes,
        replay_limit=1,
        session_ttl=options.session_ttl,
        batch_size=options.batch_size,
    )
    wanted = Options(
        dry_run=options.dry_run,
        flawed=options.flawed,
        batch_size=config.batch_size,
        session_ttl=config.session_ttl,
        grace=arguments.seconds("grace", options.grace, least=0.0),
    )
    limit = config.max_payload_bytes
    with (
        Target.open(options.database) as target,
        Source.open(options.source, options.map, limit) as source,
    ):
        report = Import(source, target, wanted, progress(), limit).run()
    if options.json:
        print(json.dumps(report.as_json(), indent=2, default=_plain))
    else:
        print(*report.lines(), sep="\n")
    return 0 if report.complete else INCOMPLETE


def _plain(value: Any) -> Any:
    return str(value)
