"""Gives every log a new epoch, after the database was put back to an older state."""

from __future__ import annotations

import argparse

from ..api import GameSessionRegistry
from . import add_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)


def run(options: argparse.Namespace) -> int:
    with GameSessionRegistry.connect(options.database) as registry:
        registry.renew_epochs()
    print("every game's log has a new epoch")
    return 0
