"""Finds what needs attention in a database, and says the remedy of each in a line."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from attrs import asdict, fields

from .. import schema
from ..diagnosis import ADVICE, ATTENTION, Finding, Limits, diagnose
from ..looking import span
from . import add_database, folded, positive_seconds, positive_whole

UNHEALTHY: Final = 3
EXIT_CODES: Final = {
    0: "nothing needs attention",
    1: "an error, said in one line on stderr",
    UNHEALTHY: "something needs attention",
}

_DEFAULTS: dict[str, Any] = {limit.name: limit.default for limit in fields(Limits)}
_SIGNS = {ATTENTION: "!!", ADVICE: " ?"}
_INDENT = 16
_COLOURS = {ATTENTION: "\033[1;31m", ADVICE: "\033[33m"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "!! needs attention, ? is advice: worth a thought. It does not look for holes in logs: "
        "`inspect game` does. Changes nothing. Connect as the role of your "
        "servers to have its settings judged; it sees other roles' transactions with pg_monitor."
    )
    add_database(parser)
    _limit(parser, "retention", "the servers' replay_retention")
    _limit(parser, "grace", "how much later the cleanup may come")
    _limit(parser, "longest", "how long a transaction may be open")
    _limit(parser, "behind", "bytes of the write-ahead log that a standby may be behind")
    _limit(parser, "skew", "between this machine's clock and the server's")
    _limit(parser, "lag", "events that a player may lack")
    _limit(parser, "dead", "dead rows of a table, above a fifth of the live ones")
    _limit(parser, "connections", "that should be left")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _limit(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    """An option for one of the limits."""
    default = _DEFAULTS[name]
    seconds = isinstance(default, float)
    shown = f"{default:g} s, {span(default)}" if seconds and default > 60 else f"{default:,}"
    parser.add_argument(
        f"--{name}",
        type=positive_seconds if seconds else positive_whole,
        default=default,
        metavar="SECONDS" if seconds else "N",
        help=f"{about} (default: {shown})",
    )


def run(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in _DEFAULTS if name in options}
    with schema.reading(options.database) as connection:
        diagnosis = diagnose(connection, Limits(**given))
    if options.json:
        found = {
            "healthy": diagnosis.healthy,
            "findings": [asdict(finding) for finding in diagnosis.findings],
        }
        print(json.dumps(found, indent=2))
    else:
        for finding in diagnosis.findings:
            _print(finding)
    return 0 if diagnosis.healthy else UNHEALTHY


def _print(finding: Finding) -> None:
    """What was found and, below, the remedy: in one line, to be copied."""
    sign = _SIGNS.get(finding.level, "ok")
    if sys.stdout.isatty() and finding.level in _COLOURS:
        sign = f"{_COLOURS[finding.level]}{sign}\033[0m"
    print(f"{sign} {finding.check:{_INDENT - 4}} {folded(finding.said, _INDENT)}")
    if finding.remedy is not None:
        print(f"{'':{_INDENT - 3}}-> {finding.remedy}")
