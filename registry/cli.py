"""The command line: migrate, grant, rollback, status, renew-epochs, train-dictionary, demo.

Exit codes: 0 done, 1 an error (one message on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from . import schema
from .api import GameSessionRegistry
from .errors import RegistryError

_EXTRA = {"chess", "rich"}  # what the demo imports and a plain installation lacks


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default that of `sys.argv`, and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        if argv and argv[0] == "demo":
            return demo(argv[1:])
        parser = _parser()
        options = parser.parse_args(argv)
        if not options.database:
            parser.error("say which database: --database URL, or DATABASE_URL in the environment")
        _COMMANDS[options.command](options)
    except RegistryError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def migrate(options: argparse.Namespace) -> None:
    """Bring the schema up to date."""
    done = schema.migrate(options.database)
    for name in done:
        print(f"applied {name}")
    if not done:
        print("the schema is up to date")


def grant(options: argparse.Namespace) -> None:
    """Let a role use the registry, and say what it may do now."""
    for statement in schema.grant(options.database, options.role):
        print(statement)


def rollback(options: argparse.Namespace) -> None:
    """Take migrations back."""
    done = schema.rollback(options.database, steps=options.steps, to=options.to)
    for name in done:
        print(f"rolled back {name}")
    if not done:
        print("there was nothing to roll back")


def status(options: argparse.Namespace) -> None:
    """Say which migrations are applied, and since when."""
    rows = schema.status(options.database)
    if options.json:
        print(json.dumps([{"id": n, "applied_at": t and t.isoformat()} for n, t in rows], indent=2))
        return
    for name, when in rows:
        print(f"{name:40} {f'{when:%Y-%m-%d %H:%M:%S} UTC' if when else 'pending'}")


def renew_epochs(options: argparse.Namespace) -> None:
    """Give every log a new epoch, after the database was put back to an older state."""
    with GameSessionRegistry.connect(options.database) as registry:
        registry.renew_epochs()
    print("every game's log has a new epoch")


def train_dictionary(options: argparse.Namespace) -> None:
    """Train a compression dictionary on recorded events, and say what it does for others."""
    with GameSessionRegistry.connect(options.database) as registry:
        made = registry.train_dictionary(size=options.size)
    print(
        f"dictionary {made.number} of {made.size} bytes: {made.events} events that it was not "
        f"trained on take {made.compressed} bytes with it, {made.without} compressed without, "
        f"{made.plain} as they are"
    )


def demo(argv: Sequence[str]) -> int:
    """Play the demonstration, which has its own options and needs the extra `demo`."""
    try:
        from .demo import cli

        parser = argparse.ArgumentParser(prog="python -m registry demo")
        cli.add_arguments(parser)
        return cli.run(parser.parse_args(argv))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        raise RegistryError(
            f"the demo needs {package}: pip install 'game-session-registry[demo]'"
        ) from error


_COMMANDS = {
    "migrate": migrate,
    "grant": grant,
    "rollback": rollback,
    "status": status,
    "renew-epochs": renew_epochs,
    "train-dictionary": train_dictionary,
}


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("DATABASE_URL"),
        help="postgresql://user@host/name, or any libpq connection string (default: DATABASE_URL)",
    )
    parser = argparse.ArgumentParser(
        prog="python -m registry", description="Look after the registry's database."
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    commands.add_parser("migrate", parents=[common], help="bring the schema up to date")
    role = commands.add_parser(
        "grant", parents=[common], help="let a role read and write, but not alter the schema"
    )
    role.add_argument("--role", required=True, metavar="NAME", help="the one servers connect as")
    back = commands.add_parser(
        "rollback", parents=[common], help="take migrations back, and the data they hold"
    )
    which = back.add_mutually_exclusive_group()
    which.add_argument("--steps", type=int, metavar="N", help="how many (default: 1)")
    which.add_argument("--to", metavar="ID", help="the migration that shall be the last one")
    state = commands.add_parser("status", parents=[common], help="say which are applied")
    state.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser(
        "renew-epochs", parents=[common], help="after a restore in place: no client goes on from it"
    )
    train = commands.add_parser(
        "train-dictionary", parents=[common], help="learn from recorded events to compress them"
    )
    train.add_argument(
        "--size", type=int, default=16_384, metavar="BYTES", help="at most (default: 16384)"
    )
    commands.add_parser("demo", help="play the demonstration (demo --help says how)")
    return parser
