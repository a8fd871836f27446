"""For OpenTelemetry: spans, histograms and counters by its semantic conventions for databases.

    from registry.opentelemetry import OpenTelemetryObserver, observe_standing

    registry = GameSessionRegistry.connect(conninfo, observer=OpenTelemetryObserver())
    observe_standing(registry)

Needs the extra `opentelemetry`, which is the API; where the figures go is set up with the SDK. What
each metric means is in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from .extras import install

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
    from opentelemetry.util.types import Attributes
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: {install('opentelemetry')}", name=error.name) from None

from .api import GameSessionRegistry
from .metrics import Observer
from .standing import Standing, Standings, pool_stats

SCOPE: Final = "game-session-registry"
PREFIX: Final = "game_registry"

# Names that the semantic conventions give.
SYSTEM: Final = "db.system.name"
OPERATION: Final = "db.operation.name"
ERROR_TYPE: Final = "error.type"
POOL_NAME: Final = "db.client.connection.pool.name"
POOL_STATE: Final = "db.client.connection.state"
DURATION: Final = "db.client.operation.duration"
WAIT_TIME: Final = "db.client.connection.wait_time"
CONNECTIONS: Final = "db.client.connection.count"
MOST_CONNECTIONS: Final = "db.client.connection.max"
PENDING: Final = "db.client.connection.pending_requests"
TIMEOUTS: Final = "db.client.connection.timeouts"

POSTGRESQL: Final = "postgresql"

SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
CALLS: Final = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The upper bounds of the histograms' buckets; the first as the semantic conventions advise."""


class OpenTelemetryObserver(Observer):
    """A span for each call, and metrics of all. Safe from any thread.

    A span has the operation and, if there was one, the type of the error; it is the current one
    during the call, so that those of an instrumented driver come below it.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        """The global providers if None."""
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._seconds = meter.create_histogram(
            DURATION,
            unit="s",
            description="Duration of calls of the registry.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._connection = meter.create_histogram(
            WAIT_TIME,
            unit="s",
            description="How long statements waited for a connection.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._combined = meter.create_histogram(
            f"{PREFIX}.combined_calls",
            unit="{call}",
            description="Calls done by one statement together.",
            explicit_bucket_boundaries_advisory=CALLS,
        )
        counter = partial(_counter, meter)
        self._retries = counter("retries", "{retry}", "Statements tried again.")
        self._settlings = counter(
            "settlings", "{settling}", "Appends asked for after their connection broke."
        )
        self._recorded = counter("events.recorded", "{event}", "Events recorded.")
        self._pages = counter("replays", "{page}", "Pages of events read.")
        self._replayed = counter("events.replayed", "{event}", "Events in pages that were read.")
        self._pruned = counter("events.pruned", "{event}", "Events deleted.")
        self._resumes = counter("resumes", "{resume}", "Resumes, continued or not or refused.")

    def call_began(self, operation: str) -> object:
        attributes = {SYSTEM: POSTGRESQL, OPERATION: operation}
        span = self._tracer.start_span(operation, kind=SpanKind.CLIENT, attributes=attributes)
        return span, context.attach(trace.set_span_in_context(span))

    def call_ended(self, operation: str, began: Any, seconds: float, error: str | None) -> None:
        attributes = {SYSTEM: POSTGRESQL, OPERATION: operation}
        if error is not None:
            attributes[ERROR_TYPE] = error
        self._seconds.record(seconds, attributes)
        span: Span
        span, token = began
        context.detach(token)
        if error is not None:
            span.set_attribute(ERROR_TYPE, error)
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def combined(self, operation: str, calls: int) -> None:
        self._combined.record(calls, {OPERATION: operation})

    def connected(self, seconds: float) -> None:
        self._connection.record(seconds, {POOL_NAME: SCOPE})

    def retried(self, reason: str) -> None:
        self._retries.add(1, {"reason": reason})

    def settled(self, statement: str, outcome: str) -> None:
        self._settlings.add(1, {"statement": statement, "settled": outcome})

    def recorded(self, events: int) -> None:
        self._recorded.add(events)

    def replayed(self, events: int, source: str) -> None:
        self._pages.add(1, {"source": source})
        self._replayed.add(events, {"source": source})

    def pruned(self, events: int, cause: str) -> None:
        self._pruned.add(events, {"cause": cause})

    def resumed(self, outcome: str) -> None:
        self._resumes.add(1, {"outcome": outcome})


def observe_standing(
    registry: GameSessionRegistry,
    *,
    meter_provider: MeterProvider | None = None,
    every: float = 30.0,
) -> None:
    """Has the registry's pool and database asked how they stand, whenever metrics are read.

    The database is asked by one bounded query, which waits for a connection for no longer than a
    second. When it does not answer there is no figure of it.

    Args:
        registry: whose pool and database they are; it is kept for as long as the provider.
        meter_provider: the global one if None.
        every: seconds for which the database's answer is good for the next reading.
    """
    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    standings = Standings(registry, every)
    pool: Attributes = {POOL_NAME: SCOPE}

    def of_pool(key: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [Observation(pool_stats(registry).get(key, 0), pool)]

    def connections(_: CallbackOptions) -> Iterable[Observation]:
        stats = pool_stats(registry)
        idle = stats["pool_available"]
        used = stats["pool_size"] - idle
        for state, count in (("idle", idle), ("used", used)):
            yield Observation(count, {POOL_NAME: SCOPE, POOL_STATE: state})

    def of_database(
        figure: Callable[[Standing], float],
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            standing = standings.now()
            return [] if standing is None else [Observation(figure(standing))]

        return observe

    meter.create_observable_up_down_counter(CONNECTIONS, [connections], unit="{connection}")
    meter.create_observable_up_down_counter(
        MOST_CONNECTIONS, [of_pool("pool_max")], unit="{connection}"
    )
    meter.create_observable_up_down_counter(
        PENDING, [of_pool("requests_waiting")], unit="{request}"
    )
    meter.create_observable_counter(TIMEOUTS, [of_pool("requests_errors")], unit="{timeout}")
    meter.create_observable_gauge(
        f"{PREFIX}.live_sessions",
        [of_database(lambda standing: standing.live_sessions)],
        unit="{session}",
        description="Live sessions of all games.",
    )
    meter.create_observable_gauge(
        f"{PREFIX}.oldest_unacknowledged",
        [of_database(lambda standing: standing.oldest_unacknowledged)],
        unit="s",
        description="Age of the oldest event that a live session has not acknowledged.",
    )


def _counter(meter: Meter, name: str, unit: str, description: str) -> metrics.Counter:
    return meter.create_counter(f"{PREFIX}.{name}", unit=unit, description=description)
