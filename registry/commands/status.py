"""Says which migrations are applied, and since when."""

from __future__ import annotations

import argparse
import json

from .. import schema
from . import add_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def run(options: argparse.Namespace) -> int:
    rows = schema.status(options.database)
    if options.json:
        print(json.dumps([{"id": n, "applied_at": t and t.isoformat()} for n, t in rows], indent=2))
        return 0
    for name, when in rows:
        print(f"{name:40} {f'{when:%Y-%m-%d %H:%M:%S} UTC' if when else 'pending'}")
    return 0
