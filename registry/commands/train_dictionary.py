"""Trains a compression dictionary on recorded events, and says what it does for others."""

from __future__ import annotations

import argparse

from ..zstd import SIZES
from . import add_database, positive_whole, registry_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_database(parser)
    parser.description = (
        "Learn from recorded events how to compress those to come, and store it for the servers "
        "that have compression on. Needs the extra `compression`, and a thousand events or so. "
        "Servers compress by it from when they are next started. Each run stores one more, for "
        "good: train again only when payloads have become others. Connect "
        "as the role of your servers, or as the owner of the tables."
    )
    parser.add_argument(
        "--size",
        type=dictionary_size,
        default=16_384,
        metavar="BYTES",
        help="at most, from {:,} to {:,} (default: %(default)s)".format(*SIZES),
    )


def dictionary_size(text: str) -> int:
    """An option that is a size which a dictionary can have."""
    number, (smallest, largest) = positive_whole(text), SIZES
    if not smallest <= number <= largest:
        raise argparse.ArgumentTypeError(f"it must be from {smallest:,} to {largest:,}")
    return number


def run(options: argparse.Namespace) -> int:
    with registry_of(options.database) as registry:
        made = registry.train_dictionary(size=options.size)
    print(
        f"dictionary {made.number} of {made.size:,} bytes: {made.events:,} events that it was not "
        f"trained on take {made.compressed:,} bytes with it, {made.without:,} compressed without, "
        f"{made.plain:,} as they are"
    )
    return 0
