"""A soak of seconds: too short for anything to be flat, long enough for all to be measured."""

from __future__ import annotations

from collections import defaultdict

import pytest

from soak.pace import TABLES, Pace
from soak.run import run

CALLS = {
    "acknowledge",
    "end_game",
    "heartbeat",
    "issue_resume_token",
    "lateness",
    "record_event",
    "resume",
}
INDEXES = {
    "game_event_id_age",
    "game_event_id_pkey",
    "game_event_pkey",
    "game_oldest",
    "game_pkey",
    "game_session_expiry",
    "game_session_game_id_user_id_key",
    "game_session_heartbeat",
    "game_session_pkey",
    "game_session_user",
}
EXPECTED = {
    "rate": {"all calls", "record_event"},
    "latency p50": CALLS,
    "latency p99": CALLS,
    "cleanup": {"median"},
    "memory": {"client 1", "client 2", "server, for the clients"},
    "connections": {"of the registries", "other"},
    "rows": set(TABLES),
    "table size": set(TABLES),
    "index size": INDEXES,
    "dead rows": set(TABLES),
    "dead share": set(TABLES),
    "leaf density": INDEXES,
    "HOT share": {"game", "game_session"},
    "autovacuum": set(TABLES),
}


@pytest.mark.slow
def test_a_short_soak_measures_everything() -> None:
    pace = Pace(seconds=20, rate=300, games=30)
    outcome = run(pace, seed=7, say=lambda gone: None)
    assert outcome.trouble == []
    found = defaultdict(set)
    for sample in outcome.samples:
        for kind, name in sample:
            found[kind].add(name)
    assert found == EXPECTED
    assert outcome.times[-1] >= 20
    assert outcome.samples[-1]["memory", "client 1"] > 2**20
    assert outcome.samples[-1]["memory", "server, for the clients"] > 2**20
    assert outcome.samples[-1]["connections", "of the registries"] == 16
    assert all(outcome.samples[-1]["rows", table] > 0 for table in TABLES)
    assert max(sample["rate", "record_event"] for sample in outcome.samples) > 200
    assert {(verdict.kind, verdict.name) for verdict in outcome.verdicts} >= {
        ("memory", "client 1"),
        ("index size", "game_event_pkey"),
    }
