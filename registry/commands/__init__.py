"""The commands of `python -m registry`, a module each, named as the command.

Each has `add_arguments(parser)` and `run(options)`, which returns the exit code; `registry.cli`
lists them and loads the one that is called.
"""

from __future__ import annotations

import argparse
import os


def add_database(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says which database."""
    url = os.environ.get("DATABASE_URL")
    parser.add_argument(
        "--database",
        metavar="URL",
        default=url,
        required=not url,
        help="postgresql://user@host/name, or any libpq connection string (default: DATABASE_URL)",
    )
