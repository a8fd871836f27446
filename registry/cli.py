"""The command line: finds the command that is called, in a module of its own.

Exit codes: 0 done, 1 an error (one message on stderr), 2 wrong usage, 130 interrupted; a command
may have more.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from .errors import RegistryError

COMMANDS: Final = {
    "migrate": ("registry.commands.migrate", "bring the schema up to date"),
    "grant": ("registry.commands.grant", "let a role read and write, but not alter the schema"),
    "rollback": ("registry.commands.rollback", "take migrations back, and the data they hold"),
    "status": ("registry.commands.status", "say which migrations are applied"),
    "cleanup": ("registry.commands.cleanup", "delete what has had its time"),
    "renew-epochs": (
        "registry.commands.renew_epochs",
        "after a restore in place: no client goes on from it",
    ),
    "train-dictionary": (
        "registry.commands.train_dictionary",
        "learn from recorded events to compress them",
    ),
    "top": ("registry.commands.top", "show which games are busy, again every second"),
    "inspect": ("registry.commands.inspect", "say all about one game or session"),
    "doctor": ("registry.commands.doctor", "find what needs attention, and say the remedy"),
    "import-prisma": (
        "registry.commands.import_prisma",
        "carry games over from tables that a Prisma client made",
    ),
    "demo": ("registry.demo.cli", "play the demonstration"),
}
"""For each command its module, loaded when it is called, and what `--help` says of it."""

EXTRAS: Final = {"chess": "demo", "redis": "redis", "rich": "cli"}
"""Packages that a plain installation lacks, and the extra that brings each; who plays the
demonstration gets rich by its extra."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default that of `sys.argv`, and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # The pool tells at length of each try to connect: a command says in a line what came of it.
    logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
    try:
        return _run(argv)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        extra = "demo" if (argv[0], package) == ("demo", "rich") else EXTRAS[package]
        need = f"pip install 'game-session-registry[{extra}]'"
        print(f"error: {argv[0]} needs {package}: {need}", file=sys.stderr)
        return 1
    except RegistryError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m registry", description="Look after the registry's database."
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}."
        )
        if [name] == list(argv[:1]):
            called = import_module(module)
            called.add_arguments(command)
            command.set_defaults(command=called.run)
    options = parser.parse_args(argv)
    if hasattr(options, "without_database") and not options.database:
        options.without_database(
            "say which database: --database URL, or DATABASE_URL in the environment"
        )
    code: int = options.command(options)
    return code
