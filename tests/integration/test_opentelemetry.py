"""What OpenTelemetry's own SDK gets: spans and metrics as its conventions for databases say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import db_attributes as db
from opentelemetry.semconv._incubating.metrics import db_metrics
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import SpanKind, StatusCode
from probes import empty
from relay import relayed
from support import wait_until

from registry import GameSessionRegistry, InvalidToken, SessionNotFound
from registry import opentelemetry as ours
from registry.opentelemetry import OpenTelemetryObserver, observe_standing
from registry.standing import pool_stats

Registry = GameSessionRegistry


class Telemetry:
    """The SDK, with what it would send kept in memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])
        self.observer = OpenTelemetryObserver(
            tracer_provider=self.tracers, meter_provider=self.meters
        )

    def spans(self) -> list[Any]:
        return list(self._spans.get_finished_spans())

    def points(self) -> dict[str, list[Any]]:
        """The data points of each metric."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def all_available(registry: Registry) -> bool:
    stats = pool_stats(registry)
    return stats["pool_available"] == stats["pool_size"]


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def registry(conninfo: str, telemetry: Telemetry) -> Iterator[Registry]:
    with Registry.connect(conninfo, observer=telemetry.observer) as registry:
        yield registry


def test_the_names_are_those_of_the_conventions() -> None:
    assert ours.SYSTEM == db.DB_SYSTEM_NAME
    assert db.DbSystemNameValues.POSTGRESQL.value == ours.POSTGRESQL
    assert ours.OPERATION == db.DB_OPERATION_NAME
    assert ours.ERROR_TYPE == ERROR_TYPE
    assert ours.POOL_NAME == db.DB_CLIENT_CONNECTION_POOL_NAME
    assert ours.POOL_STATE == db.DB_CLIENT_CONNECTION_STATE
    assert ours.DURATION == "db.client.operation.duration"
    assert ours.WAIT_TIME == db_metrics.DB_CLIENT_CONNECTION_WAIT_TIME
    assert ours.CONNECTIONS == db_metrics.DB_CLIENT_CONNECTION_COUNT
    assert ours.MOST_CONNECTIONS == db_metrics.DB_CLIENT_CONNECTION_MAX
    assert ours.PENDING == db_metrics.DB_CLIENT_CONNECTION_PENDING_REQUESTS
    assert ours.TIMEOUTS == db_metrics.DB_CLIENT_CONNECTION_TIMEOUTS


def test_a_call_is_a_span_below_that_of_its_caller(
    registry: Registry, telemetry: Telemetry
) -> None:
    with telemetry.tracers.get_tracer("host").start_as_current_span("move") as move:
        registry.record_event("chess", "e4")
        assert trace.get_current_span() is move
        with pytest.raises(SessionNotFound):
            registry.get_session("chess/no")
        assert trace.get_current_span() is move
    recorded, failed, _ = telemetry.spans()
    assert recorded.name == "record_event"
    assert recorded.kind is SpanKind.CLIENT
    assert recorded.attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": "record_event",
    }
    assert recorded.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "SessionNotFound"
    assert not failed.events  # no message, which names the session
    for span in (recorded, failed):
        assert span.parent.span_id == move.get_span_context().span_id
        assert 0 < span.end_time - span.start_time < 60e9


def test_a_call_within_a_call_is_a_span_below_it(registry: Registry, telemetry: Telemetry) -> None:
    registry.record_event("chess", "e4")
    registry.end_game("chess")
    _, prune, end = telemetry.spans()
    assert (prune.name, end.name) == ("prune_events", "end_game")
    assert prune.parent.span_id == end.get_span_context().span_id


def test_what_is_measured(conninfo: str, telemetry: Telemetry) -> None:
    with (
        relayed(conninfo) as relay,
        Registry.connect(relay.conninfo, observer=telemetry.observer) as registry,
    ):
        token = registry.issue_resume_token("chess", "alice").token
        registry.record_events("chess", range(5))
        relay.arm("record_event", "request lost")
        registry.record_event("chess", 6)
        registry.resume(token, after=4)
        with pytest.raises(InvalidToken):
            registry.resume("forged", after=4)
        registry.prune_events("chess", 3)
        telemetry.observer.combined("record_event", 7)
        observe_standing(registry, meter_provider=telemetry.meters)
        # A connection in the place of the one that broke counts as used until it is there.
        wait_until(lambda: all_available(registry))
        points = telemetry.points()

    def counted(name: str, **attributes: str) -> float:
        (value,) = [p.value for p in points[name] if dict(p.attributes) == attributes]
        return float(value)

    assert counted("game_registry.events.recorded") == 6
    assert counted("game_registry.events.replayed", source="database") == 2
    assert counted("game_registry.replays", source="database") == 1
    assert counted("game_registry.events.pruned", cause="operator") == 3
    assert counted("game_registry.resumes", outcome="continuous") == 1
    assert counted("game_registry.resumes", outcome="InvalidToken") == 1
    assert counted("game_registry.retries", reason="OperationalError") == 1
    assert counted("game_registry.settlings", statement="record_event", settled="run again") == 1
    assert counted("game_registry.live_sessions") == 1
    assert 0 < counted("game_registry.oldest_unacknowledged") < 60
    pool = {"db.client.connection.pool.name": "game-session-registry"}
    assert counted("db.client.connection.max", **pool) == 16
    assert counted("db.client.connection.pending_requests", **pool) == 0
    assert counted("db.client.connection.timeouts", **pool) == 0
    used = counted("db.client.connection.count", **pool, **{"db.client.connection.state": "used"})
    assert used == 0
    durations = {
        (p.attributes["db.operation.name"], p.attributes.get("error.type")): p
        for p in points["db.client.operation.duration"]
    }
    assert durations["resume", None].count == durations["resume", "InvalidToken"].count == 1
    assert durations["resume", None].explicit_bounds == ours.SECONDS
    (waits,) = points["db.client.connection.wait_time"]
    assert waits.count >= 5
    (together,) = points["game_registry.combined_calls"]
    assert (together.sum, together.explicit_bounds) == (7, ours.CALLS)
