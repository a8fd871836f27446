"""The command line: finds the command that is called, in a module of its own.

Exit codes are in `EXIT_CODES`; a command's module may have an `EXIT_CODES` of its own beside them.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

from .commands import Help
from .errors import RegistryError
from .extras import install

COMMANDS: Final = {
    "migrate": ("registry.commands.migrate", "bring the schema up to date"),
    "grant": ("registry.commands.grant", "let a role read and write, but not alter the schema"),
    "rollback": ("registry.commands.rollback", "take migrations back, and the data they hold"),
    "status": ("registry.commands.status", "say which migrations are applied"),
    "cleanup": ("registry.commands.cleanup", "delete what has had its time"),
    "partition": (
        "registry.commands.partition",
        "lay the table of events out anew, while it is in use",
    ),
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
    "demo": ("registry.commands.demo", "play the demonstration"),
}
"""For each command its module, loaded when it is called, and what `--help` says of it."""

EXIT_CODES: Final = {
    0: "done",
    1: "an error, said in one line on stderr",
    2: "wrong usage",
    130: "interrupted",
}
"""Those of every command. One whose reader went away (`| head`) ends with 141, as by SIGPIPE."""

EXTRAS: Final = {"chess": "demo", "redis": "redis", "rich": "demo"}
"""Packages that a command cannot do without, and the extra that brings each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default that of `sys.argv`, and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    # The pool tells at length of each try to connect: a command says in a line what came of it.
    logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
    try:
        try:
            code = _run(argv)
        except SystemExit:  # behind a help text
            sys.stdout.flush()
            raise
        sys.stdout.flush()
        return code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        print(f"error: {argv[0]} needs {package}: {install(EXTRAS[package])}", file=sys.stderr)
        return 1
    except RegistryError as error:
        lines = filter(None, map(str.strip, str(error).splitlines()))
        print(f"error: {'; '.join(lines)}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        _let_go_of_output()
        return 141
    except OSError as error:  # such as a full disk that the output goes to
        print(f"error: {error}", file=sys.stderr)
        _let_go_of_output()
        return 1
    except KeyboardInterrupt:
        return 130


def _let_go_of_output() -> None:
    """What cannot be written would fail again, with a traceback, when the interpreter ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m registry",
        description="Look after the registry's database.",
        epilog=(
            "Each command explains itself: `python -m registry migrate --help`. The beginning is "
            "`migrate`; docs/operating.md goes on from there.\n\n" + _listed(EXIT_CODES)
        ),
        formatter_class=Help,
    )
    parser.set_defaults(error=parser.error, needs_database=False)
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (module, about) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            formatter_class=Help,
        )
        if [name] == list(argv[:1]):
            called = import_module(module)
            called.add_arguments(command)
            codes = {**EXIT_CODES, **getattr(called, "EXIT_CODES", {})}
            command.epilog = "\n\n".join(filter(None, [command.epilog, _listed(codes)]))
            command.set_defaults(command=called.run, error=command.error)
    options, unknown = parser.parse_known_args(argv)
    if unknown:  # said with the usage of the command, and not of all of them
        options.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.needs_database and not options.database:
        options.error("say which database: --database URL, or DATABASE_URL in the environment")
    code: int = options.command(options)
    return code


def _listed(codes: Mapping[int, str]) -> str:
    """Exit codes for a help text."""
    return "\n".join(["exit codes:", *(f"  {code:<4} {codes[code]}" for code in sorted(codes))])
