"""Says all about one game, or one session and its game."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from attrs import asdict

from .. import schema
from ..arguments import session_key
from ..errors import GameNotFound, RegistryError, SessionNotFound
from ..inspection import (
    CHECKED,
    InspectedEvent,
    InspectedSession,
    Inspection,
    inspect_game,
    inspect_session,
)
from ..looking import clip, columns, count, printable, span
from . import add_database, folded, positive_whole, width

HOLES: Final = 3
EXIT_CODES: Final = {
    1: "an error, or there is no such game or session; said in one line on stderr",
    HOLES: "the log of the game has holes",
}

LONGEST_LINE = 1_000

EPILOG: Final = """\
a game's log has the events above its floor through its head. Of each session:
  gen      how many tokens it has had; a new one ends the one before
  has      the last sequence it acknowledged
  lacks    events behind that, through the head
  gone     of those, the ones at or below the floor, which are pruned
  beat     time since its last heartbeat
  expires  time until it does, negative once it has
  id       its UUID: `inspect session GAME_ID/UUID` says more of it

Changes nothing. Never shows a token or a hash of one.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument(
        "kind", choices=["game", "session"], metavar="game|session", help="what ID names"
    )
    parser.add_argument("id", metavar="ID", help="a game_id, or a session_id (game_id/uuid)")
    add_database(parser)
    parser.add_argument(
        "--events", type=positive_whole, default=10, metavar="N", help="the last N (default: 10)"
    )
    parser.add_argument(
        "--sessions",
        type=positive_whole,
        default=20,
        metavar="N",
        help="those that lack most, at most N (default: 20)",
    )
    parser.add_argument(
        "--show-payloads", action="store_true", help="of the events, which may hold secrets"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(options: argparse.Namespace) -> int:
    session = None
    wanted = {"events": options.events, "payloads": options.show_payloads}
    with schema.reading(options.database) as connection:
        schema.check(connection)
        try:
            if options.kind == "game":
                inspection = inspect_game(connection, options.id, **wanted)
            else:
                session, inspection = inspect_session(connection, options.id, **wanted)
        except GameNotFound:
            hint = "; `inspect session` takes a session_id" if _names_session(options.id) else ""
            raise RegistryError(f"there is no game {options.id!r}, or no more{hint}") from None
        except SessionNotFound:
            form = "" if _names_session(options.id) else "write GAME_ID/UUID; "
            raise RegistryError(
                f"there is no session {options.id!r}, or no more: {form}`inspect game` lists those "
                "of a game, with their UUIDs"
            ) from None
    if options.json:
        found = document(inspection, session, options.sessions, options.show_payloads)
        print(json.dumps(found, indent=2))
    else:
        for line in _lines(inspection, session, options.sessions, options.show_payloads):
            print(line)
    return 0 if inspection.log.sound else HOLES


def _names_session(id_: str) -> bool:
    """Whether it has the form of a session_id."""
    try:
        session_key(id_)
    except SessionNotFound:
        return False
    return True


def document(
    inspection: Inspection, session: InspectedSession | None, most: int, payloads: bool
) -> dict[str, Any]:
    """What was found, for programs. Bytes are in base64."""

    def of(one: InspectedSession) -> dict[str, Any]:
        return {
            **asdict(one),
            "id": f"{inspection.game_id}/{one.id}",
            "behind": inspection.behind(one),
            "missed": inspection.missed(one),
            "holds_floor": one in inspection.holders,
        }

    shown = inspection.sessions[:most]
    return {
        **asdict(inspection, filter=lambda a, _: a.name not in ("sessions", "events", "log")),
        "at": inspection.at.isoformat(),
        "epoch": str(inspection.epoch),
        "log": {**asdict(inspection.log), "sound": inspection.log.sound},
        "held": inspection.held,
        "session": None if session is None else of(session),
        "sessions": [of(one) for one in shown],
        "live_sessions": len(inspection.live),
        "all_sessions": inspection.all_sessions and len(shown) == len(inspection.sessions),
        "events": [_event(event, payloads) for event in inspection.events],
    }


def _event(event: InspectedEvent, payloads: bool) -> dict[str, Any]:
    found = {
        "sequence": event.sequence,
        "age": event.age,
        "codec": event.codec,
        "encoding": event.encoding,
        "size": event.size,
    }
    if payloads:
        raw = isinstance(event.payload, bytes)
        found["payload"] = (
            {"base64": base64.b64encode(event.payload).decode()}  # type: ignore[arg-type]
            if raw
            else event.payload
        )
    return found


def _lines(
    found: Inspection, session: InspectedSession | None, most: int, payloads: bool
) -> Iterator[str]:
    if session is not None:
        yield f"session {printable(found.game_id)}/{session.id}"
        yield from _about(found, session)
        yield ""
    yield f"game {printable(found.game_id)}"
    yield _item("epoch", f"{found.epoch}; tokens issued: {count(found.issued)}")
    yield _item(
        "log",
        f"head {count(found.head)}, floor {count(found.floor)}: "
        f"{count(found.log.expected)} events, the last append {span(found.idle)} ago, "
        f"none older than {span(found.oldest)}",
    )
    yield _item("check", _check(found))
    yield _item("floor", _floor(found))
    yield ""
    live = len(found.live)
    more = "" if found.all_sessions else ", and more that were not looked at"
    number = f"{count(len(found.sessions))}, {count(live)} of them live{more}"
    passed = any(found.missed(one) for one in found.holders)
    star = "lacks what is gone" if passed else "holds the floor down"
    yield f"sessions: {number}{f' (* {star})' if live else ''}"
    if found.sessions:
        yield from _sessions(found, session, most)
    yield ""
    yield "the last events" if found.events else "no events"
    if found.events:
        yield from _events(found.events, payloads)


def _item(name: str, text: str) -> str:
    return f"  {name:8}  {folded(text, 12)}"


def _about(found: Inspection, session: InspectedSession) -> Iterator[str]:
    ended = span(abs(session.expires_in))
    until = f"expires in {ended}" if session.expires_in > 0 else f"its time ended {ended} ago"
    yield _item("player", f"{printable(session.user_id)}, {session.state}, {until}")
    yield _item(
        "began",
        f"{span(session.age)} ago, generation {count(session.generation)}, "
        f"last beat {span(session.silent)} ago",
    )
    yield _item(
        "has",
        f"all up to {count(session.last_acknowledged)}, lacks {count(found.behind(session))} "
        f"events, {count(found.missed(session))} of them gone",
    )


def _check(found: Inspection) -> str:
    log = found.log
    faults = []
    if log.holes:
        named = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in log.holes)
        faults.append(f"events are missing: {named}")
    if log.beyond_head:
        faults.append("there are rows beyond the head")
    if faults:
        return f"BROKEN: {'; '.join(faults)}"
    if log.whole:
        unswept = ", older ones still to be deleted" if log.below_floor else ""
        return f"sound: {count(log.found)} rows, no hole{unswept}"
    return f"sound as far as was looked, the newest {count(CHECKED)} rows"


def _floor(found: Inspection) -> str:
    holders = found.holders
    if not holders:
        return "held down by nobody: no session is live; the retention and the cap prune"
    who = printable(holders[0].user_id)
    others = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
    lowest = holders[0].last_acknowledged
    if lowest < found.floor:
        return (
            f"held down by nobody: the retention, the cap or prune_events raised it over what "
            f"{who}{others} acknowledged, {count(lowest)}; the next resume is told of that gap"
        )
    if lowest == found.head:
        return "every live session has acknowledged everything"
    silent = min(one.silent for one in holders)
    return (
        f"held down by {who}{others} at {count(lowest)}, last beat {span(silent)} ago; without "
        f"that {count(found.held)} more events could be pruned"
    )


def _sessions(found: Inspection, session: InspectedSession | None, most: int) -> Iterator[str]:
    holders = found.holders
    rows = [
        (
            f"{'>' if one is session else ' '}{'*' if one in holders else ' '} "
            + clip(one.user_id, 24),
            one.state,
            count(one.generation),
            count(one.last_acknowledged),
            count(found.behind(one)),
            count(found.missed(one)),
            span(one.silent),
            span(one.expires_in),
            str(one.id),
        )
        for one in found.sessions[:most]
    ]
    header = ("   player", "state", "gen", "has", "lacks", "gone", "beat", "expires", "id")
    lines = columns(header, rows, "  rrrrrr")
    if max(map(len, lines)) <= (width() or LONGEST_LINE):
        yield from lines
    else:  # the id below, so that it can be copied
        narrow = columns(header[:-1], [row[:-1] for row in rows], "  rrrrrr")
        yield narrow[0]
        for line, row in zip(narrow[1:], rows, strict=True):
            yield line
            yield f"     {row[-1]}"
    if len(found.sessions) > most:
        yield f"  … and {count(len(found.sessions) - most)} that lack less or have ended"


def _events(events: tuple[InspectedEvent, ...], payloads: bool) -> Iterator[str]:
    rows = [
        (
            count(event.sequence),
            span(event.age),
            event.encoding,
            count(event.size),
            *([_payload(event.payload)] if payloads else []),
        )
        for event in events
    ]
    header = ("  sequence", "age", "encoding", "bytes", *(["payload"] if payloads else []))
    yield from columns(header, rows, "rr r")


def _payload(payload: object) -> str:
    return payload.hex() if isinstance(payload, bytes) else json.dumps(payload)
