"""Says which migrations are applied, and since when."""

from __future__ import annotations

import argparse
import json
from typing import Final

from .. import schema
from . import add_database

EXIT_CODES: Final = {
    0: "all are applied, and this version knows them all",
    3: "one is pending, or there is one that only a newer version knows",
}
"""The schema is not that of this version."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> int:
    rows = schema.status(options.database)
    known = schema.known()
    if options.json:
        print(json.dumps([{"id": n, "applied_at": t and t.isoformat()} for n, t in rows], indent=2))
    else:
        for name, when in rows:
            newer = "" if name in known else "  of a newer version"
            print(f"{name:40} {f'{when:%Y-%m-%d %H:%M:%S} UTC{newer}' if when else 'pending'}")
    return 0 if all(when and name in known for name, when in rows) else 3
