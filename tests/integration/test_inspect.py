"""`inspect`: all that is known of a game or session, and nothing that is secret."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from probes import configured, rows, value
from psycopg import Connection
from support import Clock

from registry import GameSessionRegistry, inspection, schema
from registry.cli import main
from registry.inspection import inspect_game, inspect_session

PAYLOAD = {"move": "the queen is in the cellar"}


@pytest.fixture
def connection(conninfo: str) -> Iterator[Connection[Any]]:
    with schema.reading(conninfo) as connection:
        yield connection


class Command:
    """`inspect`, run on the test's database."""

    def __init__(self, conninfo: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._database = ["--database", conninfo]
        self._capsys = capsys

    def __call__(self, *argv: str, code: int = 0) -> str:
        assert main(["inspect", *argv, *self._database]) == code
        out, err = self._capsys.readouterr()
        assert bool(err) == (code == 1)
        return str(out or err)

    def json(self, *argv: str, code: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*argv, "--json", code=code))
        return found


@pytest.fixture
def inspect(conninfo: str, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(conninfo, capsys)


def acknowledged(registry: GameSessionRegistry, game_id: str, user_id: str, sequence: int) -> str:
    """A session that has acknowledged that much."""
    session = registry.issue_resume_token(game_id, user_id).session
    registry.acknowledge(session.session_id, sequence)
    return session.session_id


@pytest.fixture
def chess(registry: GameSessionRegistry) -> dict[str, str]:
    """A game of 20 events, and its three sessions by player; alice holds it at 5."""
    registry.record_events("chess", [PAYLOAD] * 20)
    sessions = {name: registry.issue_resume_token("chess", name) for name in ("alice", "bob")}
    sessions["carol"] = registry.issue_resume_token("chess", "carol")
    ids = {name: issued.session.session_id for name, issued in sessions.items()}
    for name, sequence in (("alice", 5), ("bob", 12), ("carol", 20)):
        registry.acknowledge(ids[name], sequence)
    return ids


def test_a_game_for_programs(
    registry: GameSessionRegistry, inspect: Command, chess: dict[str, str]
) -> None:
    found = inspect.json("game", "chess", "--events", "2", "--sessions", "2")
    replay = registry.fetch_events_since("chess", 5)
    assert UUID(found["epoch"]) == replay.epoch
    assert (found["game_id"], found["head"], found["floor"]) == ("chess", 20, 5)
    assert found["log"] == {
        "expected": 15,
        "found": 15,
        "whole": True,
        "holes": [],
        "below_floor": False,
        "beyond_head": False,
        "sound": True,
    }
    assert found["issued"] == 3
    assert 0 <= found["idle"] <= found["oldest"] < 30
    assert found["held"] == 7  # up to bob's 12
    assert found["session"] is None
    assert found["live_sessions"] == 3
    assert found["all_sessions"] is False  # carol was not asked for
    alice, bob = found["sessions"]
    assert alice["id"] == chess["alice"]
    assert {key: alice[key] for key in alice if key not in ("age", "silent", "expires_in")} == {
        "id": chess["alice"],
        "user_id": "alice",
        "generation": 1,
        "last_acknowledged": 5,
        "state": "live",
        "behind": 15,
        "missed": 0,
        "holds_floor": True,
    }
    assert 0 <= alice["silent"] <= alice["age"] < 30 < alice["expires_in"]
    assert (bob["user_id"], bob["behind"], bob["holds_floor"]) == ("bob", 8, False)
    last, before = found["events"]
    assert (last["sequence"], before["sequence"]) == (20, 19)
    assert {key: last[key] for key in last if key != "age"} == {
        "sequence": 20,
        "codec": 1,
        "encoding": "json",
        "size": len(json.dumps(PAYLOAD, separators=(",", ":"))),
    }


def test_a_game_for_people(inspect: Command, chess: dict[str, str]) -> None:
    said = inspect("game", "chess")
    assert "head 20, floor 5: 15 events" in said
    assert "sound: 15 rows, no hole" in said
    assert re.search(r"held down by alice at 5, last beat .* ago; without that 7 more events", said)
    assert "sessions: 3, 3 of them live" in said
    listed = [line for line in said.splitlines() if re.search(r"(alice|bob|carol) .* live", line)]
    assert [line.split()[:2] for line in listed] == [
        ["*", "alice"],
        ["bob", "live"],
        ["carol", "live"],
    ]
    assert len(re.findall(r"^ +\d+ .* json +\d+$", said, re.MULTILINE)) == 10
    assert "cellar" not in said


def test_a_session_and_its_game(
    registry: GameSessionRegistry, inspect: Command, chess: dict[str, str]
) -> None:
    found = inspect.json("session", chess["bob"])
    assert found["session"]["id"] == chess["bob"]
    assert (found["session"]["behind"], found["session"]["missed"]) == (8, 0)
    assert found["head"] == 20
    registry.prune_events("chess", 15)
    found = inspect.json("session", chess["bob"])
    assert (found["session"]["behind"], found["session"]["missed"]) == (8, 3)
    said = inspect("session", chess["bob"])
    assert f"session {chess['bob']}" in said
    assert "player    bob, live, expires in" in said
    assert "has       all up to 12, lacks 8 events, 3 of them gone" in said
    assert re.search(r"^>  bob +live", said, re.MULTILINE)
    assert "held down by nobody: the retention, the cap or prune_events raised it over" in said


def test_states_and_who_holds_when_the_others_are_over(
    registry: GameSessionRegistry, inspect: Command, chess: dict[str, str], clock: Clock
) -> None:
    registry.revoke_session(chess["alice"])
    clock.advance(600)
    registry.heartbeat(chess["carol"])
    clock.advance(600)
    found = inspect.json("game", "chess")
    states = {session["user_id"]: session["state"] for session in found["sessions"]}
    assert states == {"alice": "revoked", "bob": "expired", "carol": "live"}
    assert [s["user_id"] for s in found["sessions"] if s["holds_floor"]] == ["carol"]
    assert found["held"] == 0
    assert "every live session has acknowledged everything" in inspect("game", "chess")
    clock.advance(900)
    assert "held down by nobody" in inspect("game", "chess")


@pytest.mark.parametrize(
    ("damage", "holes", "said"),
    [
        ("DELETE FROM game_event WHERE sequence IN (8, 9, 15)", [[15, 15], [8, 9]], "15, 8-9"),
        ("DELETE FROM game_event WHERE sequence IN (6, 7)", [[6, 7]], "6-7"),
        ("DELETE FROM game_event WHERE sequence = 20", [[20, 20]], "20"),
        ("DELETE FROM game_event", [[6, 20]], "6-20"),
    ],
)
def test_holes_are_found(
    damage: str,
    holes: list[list[int]],
    said: str,
    conninfo: str,
    inspect: Command,
    chess: dict[str, str],
) -> None:
    rows(conninfo, damage)
    log = inspect.json("game", "chess", code=3)["log"]
    assert log["holes"] == holes
    assert log["expected"] - log["found"] == sum(b - a + 1 for a, b in holes)
    assert f"BROKEN: events are missing: {said}\n" in inspect("session", chess["bob"], code=3)


def test_rows_outside_of_the_log_are_found(
    conninfo: str, inspect: Command, chess: dict[str, str]
) -> None:
    rows(conninfo, "UPDATE game_event SET sequence = 3 WHERE sequence = 20")
    log = inspect.json("game", "chess", code=3)["log"]
    assert (log["below_floor"], log["beyond_head"], log["holes"]) == (True, False, [[20, 20]])
    rows(conninfo, "UPDATE game_event SET sequence = 21 WHERE sequence = 3")
    log = inspect.json("game", "chess", code=3)["log"]
    assert (log["below_floor"], log["beyond_head"]) == (False, True)
    assert "beyond the head" in inspect("game", "chess", code=3)


def test_rows_that_a_cleanup_has_still_to_delete_are_no_fault(
    conninfo: str, inspect: Command, chess: dict[str, str]
) -> None:
    rows(conninfo, "UPDATE game SET floor = 7")
    log = inspect.json("game", "chess")["log"]
    assert (log["below_floor"], log["found"], log["holes"]) == (True, 13, [])
    said = inspect("game", "chess", "--events", "20")
    assert "sound: 13 rows, no hole, older ones still to be deleted" in said


def test_no_more_is_checked_than_a_bound(
    connection: Connection[Any],
    conninfo: str,
    chess: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "CHECKED", 5)
    rows(conninfo, "DELETE FROM game_event WHERE sequence = 10")
    log = inspect_game(connection, "chess").log
    assert (log.found, log.whole, log.holes, log.sound) == (5, False, (), True)
    rows(conninfo, "DELETE FROM game_event WHERE sequence = 17")
    log = inspect_game(connection, "chess").log
    assert (log.found, log.whole, log.holes) == (5, False, ((17, 17),))
    monkeypatch.setattr(inspection, "CHECKED", 15)
    log = inspect_game(connection, "chess").log
    assert (log.found, log.whole, log.holes) == (13, True, ((17, 17), (10, 10)))


def test_of_very_many_sessions_the_one_asked_for_is_there(
    registry: GameSessionRegistry,
    connection: Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inspection, "SESSIONS", 3)
    sessions = [acknowledged(registry, "chess", f"player {n}", 0) for n in range(6)]
    last, found = inspect_session(connection, sessions[-1])
    assert (last.user_id, found.all_sessions, len(found.sessions)) == ("player 5", False, 5)
    assert inspect_session(connection, sessions[0])[0].user_id == "player 0"


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_payloads_are_shown_only_if_asked_for(
    compression: str | None, conninfo: str, inspect: Command
) -> None:
    with configured(conninfo, compression=compression) as registry:
        if compression:
            similar = [{**PAYLOAD, "n": n} for n in range(1_000)]
            registry.record_events("others", similar)
            registry.train_dictionary(size=512)
        registry.record_events("chess", [PAYLOAD, b"cellar\x1b[31m" * 2])
    assert "cellar" not in inspect("game", "chess") + inspect("game", "chess", "--json")
    raw, moved = inspect.json("game", "chess", "--show-payloads")["events"]
    assert moved["payload"] == PAYLOAD
    assert base64.b64decode(raw["payload"]["base64"]) == b"cellar\x1b[31m" * 2
    assert moved["encoding"].startswith("json, zstd" if compression else "json")
    said = inspect("game", "chess", "--show-payloads")
    assert json.dumps(PAYLOAD) in said
    assert (b"cellar\x1b[31m" * 2).hex() in said


def test_payloads_that_were_not_asked_for_do_not_leave_the_server(
    connection: Connection[Any], chess: dict[str, str]
) -> None:
    unasked, asked = (inspect_game(connection, "chess", payloads=p).events for p in (False, True))
    assert {event.payload for event in unasked} == {None}
    assert asked[0].payload == PAYLOAD


def test_a_damaged_payload_is_said_and_stops_nothing(
    registry: GameSessionRegistry, conninfo: str, inspect: Command
) -> None:
    registry.record_events("chess", [1, 2, 3])
    rows(conninfo, "UPDATE game_event SET payload = 'x', codec = 7 WHERE sequence = 2")
    rows(conninfo, "UPDATE game_event SET payload = '{' WHERE sequence = 1")
    three, two, one = inspect.json("game", "chess", "--show-payloads")["events"]
    assert three["payload"] == 3
    assert "dictionary 2 is not in payload_dictionary" in two["payload"]
    assert two["encoding"] == "json, zstd dictionary 2"
    assert "damaged" in one["payload"]


def test_no_token_and_no_hash_of_one_is_ever_shown(
    registry: GameSessionRegistry, conninfo: str, inspect: Command
) -> None:
    issued = registry.issue_resume_token("chess", "alice")
    tokens = [issued.token]
    for _ in range(3):
        tokens.append(registry.resume(tokens[-1], after=0).token)
    session = issued.session.session_id
    hashes = value(
        conninfo,
        "SELECT token_hash || previous_token_hash || token_salt FROM game_session",
    )
    said = "".join(
        inspect(kind, name, "--show-payloads", *options)
        for kind, name in (("game", "chess"), ("session", session))
        for options in ([], ["--json"])
    )
    for token in tokens:
        assert token not in said
    for secret in (hashes[n : n + 32] for n in range(0, len(hashes), 32)):
        for form in (secret.hex(), base64.b64encode(secret).decode()[:-2], repr(secret)[2:-1]):
            assert form not in said


def test_ids_cannot_write_to_the_terminal(registry: GameSessionRegistry, inspect: Command) -> None:
    game = "chess\x1b[2J\n\u202e"
    session = acknowledged(registry, game, "alice\x1b]0;title\a", 0)
    said = inspect("game", game) + inspect("session", session)
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert r"chess\x1b[2J\n\u202e" in said


@pytest.mark.parametrize(
    "argv",
    [
        ["game", "nowhere"],
        ["session", "nowhere/00000000-0000-0000-0000-000000000000"],
        ["session", "chess/00000000-0000-0000-0000-000000000000"],
        ["session", "no session id"],
        ["game", ""],
    ],
    ids=str,
)
def test_what_is_not_there_is_an_error(
    argv: list[str], registry: GameSessionRegistry, inspect: Command
) -> None:
    registry.record_event("chess", 1)
    said = inspect(*argv, code=1)
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_an_id_of_the_other_kind_is_told(registry: GameSessionRegistry, inspect: Command) -> None:
    session_id = registry.issue_resume_token("chess", "alice").session.session_id
    assert "`inspect session` takes a session_id" in inspect("game", session_id, code=1)
    uuid = session_id.removeprefix("chess/")
    assert "write GAME_ID/UUID" in inspect("session", uuid, code=1)
