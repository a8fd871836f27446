"""Gives every log a new epoch, after the database was put back to an older state."""

from __future__ import annotations

import argparse

from .. import schema
from . import add_database, registry_of
from .confirming import add_yes, confirm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    add_yes(parser)
    parser.description = (
        "Give the log of every game a new epoch, after the database was put back to an older state "
        "by a snapshot of its disk: clients may have seen events that it lost, and must not go on "
        "from them. Each client then gets RESET at its next resume, and needs the full state of "
        "its game. No event is deleted. Stop the game servers before. "
        "Connect as the role of your servers, or as the owner of the tables."
    )


def run(options: argparse.Namespace) -> int:
    with schema.reading(options.database) as connection:
        schema.check(connection)
        confirm(
            options,
            connection,
            "All of it stays, but each client will be told RESET and need the full state of its "
            "game anew.",
        )
    with registry_of(options.database) as registry:
        registry.renew_epochs()
    print("every game's log has a new epoch")
    return 0
