"""Logs that lie across partitions: read, acknowledged, pruned, aged and ended as those in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from layouts import LAYOUTS, lay_out
from probes import rows, sequences, value
from support import Server

from registry import GameSessionRegistry, HistoryPruned, RegistryConfig

EVENTS = 60
STEP = 1_200.0
"""Seconds from an event to the next: sixty of them are twenty hours."""

# From the oldest to the newest as a clock tells the time, or as one that jumps back and forth.
IN_ORDER, JUMPING = "sequence", "1 + mod(sequence * 37, 60)"


BY_TIME = "SELECT EXISTS (SELECT FROM pg_partitioned_table WHERE partstrat = 'r')"


@pytest.fixture(params=LAYOUTS)
def laid_out(request: pytest.FixtureRequest, server: Server) -> Iterator[str]:
    """A fresh migrated database in each layout, whichever the others have."""
    conninfo = server.create_migrated()
    lay_out(conninfo, request.param)
    yield conninfo
    server.drop(conninfo)


@pytest.fixture
def registry(laid_out: str) -> Iterator[GameSessionRegistry]:
    """A registry that remembers nothing of what it recorded, so that it has to read."""
    config = RegistryConfig(cache_bytes=0, replay_retention=10 * STEP)
    with GameSessionRegistry.connect(laid_out, config=config) as registry:
        yield registry


def record(registry: GameSessionRegistry, conninfo: str, ages: str, game: str = "chess") -> None:
    """A log whose events have been recorded over hours."""
    registry.record_events(game, list(range(1, EVENTS + 1)))
    rows(
        conninfo,
        f"UPDATE game_event SET recorded_at = now() - ({EVENTS + 1} - ({ages}))"
        " * make_interval(secs => %s) WHERE game_id = %s",
        [STEP, game],
    )
    rows(conninfo, "UPDATE game SET oldest_at = now() - make_interval(secs => 86400)")
    parts = "SELECT count(DISTINCT tableoid) FROM game_event WHERE game_id = %s"
    assert value(conninfo, parts, [game]) >= (6 if value(conninfo, BY_TIME) else 1)


@pytest.mark.parametrize("ages", [IN_ORDER, JUMPING], ids=["in order", "jumping"])
def test_a_log_is_read_in_order_in_pages_of_any_size(
    ages: str, registry: GameSessionRegistry, laid_out: str
) -> None:
    record(registry, laid_out, ages)
    for size in (1, 7, EVENTS):
        for start in (0, 13, EVENTS):
            read = [e.payload for e in registry.iter_events_since("chess", start, page_size=size)]
            assert read == list(range(start + 1, EVENTS + 1))
    issued = registry.issue_resume_token("chess", "alice")
    replay = registry.resume(issued.token, after=31, limit=20).replay
    assert [event.sequence for event in replay.events] == list(range(32, 52))


@pytest.mark.parametrize("ages", [IN_ORDER, JUMPING], ids=["in order", "jumping"])
def test_what_is_acknowledged_or_pruned_goes_from_every_partition(
    ages: str, registry: GameSessionRegistry, laid_out: str
) -> None:
    record(registry, laid_out, ages)
    alice = registry.issue_resume_token("chess", "alice").session.session_id
    bob = registry.issue_resume_token("chess", "bob").session.session_id
    assert registry.acknowledge(alice, 40).pruned == 0
    assert registry.acknowledge(bob, 25).pruned == 25
    assert sequences(laid_out, "chess") == list(range(26, EVENTS + 1))
    assert registry.prune_events("chess", 50) == 25
    assert sequences(laid_out, "chess") == list(range(51, EVENTS + 1))
    with pytest.raises(HistoryPruned):
        registry.fetch_events_since("chess", 49)
    registry.end_game("chess")
    assert sequences(laid_out, "chess") == []


def test_what_is_past_the_retention_goes_and_only_that(
    registry: GameSessionRegistry, laid_out: str
) -> None:
    for game in ("chess", "go"):
        record(registry, laid_out, IN_ORDER, game)
    registry.cleanup_expired_sessions()
    # Partitions that go whole stay until they are past: here up to six hours, or 18 events, longer.
    longer = 18 if value(laid_out, BY_TIME) else 0
    for game in ("chess", "go"):
        floor = value(laid_out, "SELECT floor FROM game WHERE game_id = %s", [game])
        assert EVENTS - 9 - longer <= floor <= EVENTS - 9
        assert sequences(laid_out, game) == list(range(floor + 1, EVENTS + 1))


def test_a_clock_that_jumped_lets_the_cleanup_go_no_further_than_the_first_young_event(
    registry: GameSessionRegistry, laid_out: str
) -> None:
    record(registry, laid_out, JUMPING)
    # 38, 15, then 52 of 60: the third is young enough.
    assert registry.cleanup_expired_sessions().events == 2
    assert sequences(laid_out, "chess") == list(range(3, EVENTS + 1))


def test_a_connection_plans_each_statement_once(laid_out: str) -> None:
    """Planning anew, for sixteen tables to delete from, would take longer than the statement."""
    config = RegistryConfig(cache_bytes=0, pool_min_size=1, pool_max_size=1)
    with GameSessionRegistry.connect(laid_out, config=config) as registry:
        session = registry.issue_resume_token("chess", "alice").session.session_id
        for _ in range(12):
            last = registry.record_event("chess", "e4")
            registry.fetch_events_since("chess", last - 1)
            registry.heartbeat(session)
            registry.acknowledge(session, last)
        with registry._database.connection() as connection:
            plans = connection.execute(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
            ).fetchall()
    assert len(plans) >= 4
    assert all(generic and not custom for generic, custom in plans)
