"""For Prometheus: an observer that counts and times, and a collector that asks the database.

    from prometheus_client import REGISTRY, start_http_server
    from registry.prometheus import PrometheusObserver, StandingCollector

    registry = GameSessionRegistry.connect(conninfo, observer=PrometheusObserver())
    REGISTRY.register(StandingCollector(registry))
    start_http_server(9100)

Needs the extra `prometheus`. What each metric means is in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .extras import install

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: {install('prometheus')}", name=error.name) from None

from .api import GameSessionRegistry
from .errors import LogCorrupted
from .metrics import Observer
from .receipts import COMMITTED, RUN_AGAIN, UNKNOWN
from .standing import Standings, pool_stats

PREFIX: Final = "game_registry"

SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
CALLS: Final = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""The upper bounds of the histograms' buckets."""


class PrometheusObserver(Observer):
    """Keeps the metrics of any number of registries together. Safe from any thread."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """`registry`: where they are exposed, Prometheus's own default one or another."""

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"{PREFIX}_{name}", about, labels, registry=registry)

        def histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"{PREFIX}_{name}", about, labels, buckets=buckets, registry=registry)

        self._seconds = histogram(
            "operation_seconds", "How long calls took.", SECONDS, "operation", "outcome"
        )
        self._combined = histogram(
            "combined_calls", "Calls done by one statement together.", CALLS, "operation"
        )
        self._connection = histogram(
            "connection_wait_seconds", "How long statements waited for a connection.", SECONDS
        )
        self._retries = counter("retries", "Statements tried again.", "reason")
        self._settlings = counter(
            "settlings", "Appends asked for after their connection broke.", "settled"
        )
        self._recorded = counter("events_recorded", "Events recorded.")
        self._pages = counter("replays", "Pages of events read.", "source")
        self._replayed = counter("events_replayed", "Events in pages that were read.", "source")
        self._pruned = counter("events_pruned", "Events deleted.", "cause")
        self._resumes = counter("resumes", "Resumes, continued or not or refused.", "outcome")
        # Their own look-up takes several times as long as to count.
        self._children: dict[tuple[str, str | None], Histogram] = {}
        # An increase is seen from the second value on: what must not be missed once begins at zero.
        for outcome in COMMITTED, RUN_AGAIN, UNKNOWN:
            self._settlings.labels(outcome)
        for operation in "resume", "fetch_events_since":
            self._seconds.labels(operation, LogCorrupted.__name__)

    def call_ended(self, operation: str, began: object, seconds: float, error: str | None) -> None:
        timed = self._children.get((operation, error))
        if timed is None:
            timed = self._seconds.labels(operation, error or "ok")
            self._children[operation, error] = timed
        timed.observe(seconds)

    def combined(self, operation: str, calls: int) -> None:
        self._combined.labels(operation).observe(calls)

    def connected(self, seconds: float) -> None:
        self._connection.observe(seconds)

    def retried(self, reason: str) -> None:
        self._retries.labels(reason).inc()

    def settled(self, statement: str, outcome: str) -> None:
        self._settlings.labels(outcome).inc()

    def recorded(self, events: int) -> None:
        self._recorded.inc(events)

    def replayed(self, events: int, source: str) -> None:
        self._pages.labels(source).inc()
        self._replayed.labels(source).inc(events)

    def pruned(self, events: int, cause: str) -> None:
        self._pruned.labels(cause).inc(events)

    def resumed(self, outcome: str) -> None:
        self._resumes.labels(outcome).inc()


class StandingCollector(Collector):
    """Asks a registry's pool and its database how they stand, whenever Prometheus asks.

    The database is asked by one bounded query, which waits for a connection for no longer than a
    second. Safe from any thread.
    """

    def __init__(self, registry: GameSessionRegistry, *, every: float = 30.0) -> None:
        """`every`: seconds for which the database's answer is good for who asks again."""
        self._registry = registry
        self._standings = Standings(registry, every)

    def describe(self) -> list[Metric]:
        """Nothing, so that to be registered does not take a query."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment; of the database none but `up` when it does not answer."""
        stats = pool_stats(self._registry)
        for key, name, about in POOL_GAUGES:
            yield GaugeMetricFamily(f"{PREFIX}_pool_{name}", about, stats.get(key, 0))
        for key, name, about in POOL_COUNTERS:
            yield CounterMetricFamily(f"{PREFIX}_pool_{name}", about, stats.get(key, 0))
        standing = self._standings.now()
        yield GaugeMetricFamily(
            f"{PREFIX}_up", "1 if the database answers, 0 if not.", standing is not None
        )
        if standing is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_live_sessions", "Live sessions of all games.", standing.live_sessions
            )
            yield GaugeMetricFamily(
                f"{PREFIX}_oldest_unacknowledged_seconds",
                "Age of the oldest event that a live session has not acknowledged.",
                standing.oldest_unacknowledged,
            )


# What psycopg_pool counts, and what it is called here.
POOL_GAUGES: Final = (
    ("pool_max", "connections_max", "The most connections of the pool."),
    ("pool_size", "connections", "Connections of the pool."),
    ("pool_available", "connections_idle", "Connections that nobody uses."),
    ("requests_waiting", "requests_waiting", "Statements that wait for a connection."),
)
POOL_COUNTERS: Final = (
    ("requests_num", "requests", "Connections asked for."),
    ("requests_queued", "requests_queued", "Of these, those that had to wait."),
    ("requests_errors", "requests_failed", "Of these, those that got none."),
    ("connections_num", "connections_opened", "Connections that the pool tried to open."),
    ("connections_errors", "connections_failed", "Of these, those that failed."),
    ("connections_lost", "connections_lost", "Connections found broken when they came back."),
)
