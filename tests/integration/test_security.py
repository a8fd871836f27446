"""Ids and payloads that are SQL, formats and escapes to somebody, and only text to us."""

from __future__ import annotations

from uuid import uuid4

import pytest
from probes import rows, value
from support import TABLES

from registry import GameSessionRegistry, InvalidToken, RegistryError, SessionNotFound

HOSTILE = [
    "'; DROP TABLE game_event; --",
    '"; DROP TABLE game_event; --',
    "' OR '1'='1",
    "\\'; SELECT pg_sleep(9); --",
    "$$; DROP TABLE game; $$",
    "%s %(game_id)s %% $1 :name ?",
    "{0} {game_id} ${PATH} `id` $(id)",
    "/* */ -- #",
    "\\x41\\101\u0000"[:-1],
    "chess' UNION SELECT token_hash::text FROM game_session --",
    "*/ DELETE FROM game; /*",
    "NULL",
    "{1,2,NULL}",
    "\u2028\u202e\ufeff\r\n\t\b\x1b[2J",
    "../../etc/passwd",
    "a/b/99c33da9-9deb-4a5d-941a-bb974c7e1301",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_ids_tokens_and_payloads_are_data_never_sql(
    registry: GameSessionRegistry, conninfo: str, text: str
) -> None:
    bystander = registry.issue_resume_token("bystander", "bob")
    registry.record_event("bystander", "untouched")
    issued = registry.issue_resume_token(text, text)
    assert (issued.session.game_id, issued.session.user_id) == (text, text)
    payload = {text: [text, {"nested": text}]}
    assert registry.record_event(text, payload, event_id=uuid4()) == 1
    assert registry.record_events(text, [text, text.encode()]) == range(2, 4)
    events = registry.resume(issued.token, after=0).replay.events
    assert [event.payload for event in events] == [payload, text, text.encode()]
    found = registry.find_session(text, text)
    assert found is not None
    assert registry.heartbeat(found.session_id).user_id == text
    assert registry.heartbeat_many([found.session_id, text]).gone == (text,)
    assert [session.user_id for session in registry.list_sessions(text)] == [text]
    assert registry.acknowledge(found.session_id, 2).pruned == 2
    assert registry.prune_events(text, 3) == 1
    for call, error in (
        (lambda: registry.resume(text, after=0), InvalidToken),
        (lambda: registry.validate_resume_token(text), InvalidToken),
        (lambda: registry.revoke_session(text), SessionNotFound),
        (lambda: registry.get_session(f"{text}/{uuid4()}"), SessionNotFound),
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        assert type(caught.value) is error
    registry.end_game(text)
    there = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY (%s)"
    assert value(conninfo, there, [TABLES]) == len(TABLES)
    assert rows(conninfo, "SELECT game_id FROM game") == [("bystander",)]
    assert registry.validate_resume_token(bystander.token) == bystander.session
    assert registry.fetch_events_since("bystander", 0).events[0].payload == "untouched"
