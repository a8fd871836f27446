"""Lets a role use the registry, and says what it may do now."""

from __future__ import annotations

import argparse

from .. import schema
from . import add_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.add_argument("--role", required=True, metavar="NAME", help="the one servers connect as")


def run(options: argparse.Namespace) -> int:
    for statement in schema.grant(options.database, options.role):
        print(statement)
    return 0
