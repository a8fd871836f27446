"""What Prometheus gets: each query of the dashboard and each alert, on a real exporter's output.

The dashboard is asked of a real Prometheus. Where the machine has none that is skipped, but not on
CI; that every metric and label it names is exposed is looked at everywhere.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from probes import until_writers_rest
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from relay import relayed
from support import Server, free_port, wait_until

from registry import GameSessionRegistry, RegistryConfig, RegistryError, standing
from registry.prometheus import PrometheusObserver, StandingCollector

EXAMPLES = Path(__file__).parents[2] / "examples"
DASHBOARD = json.loads((EXAMPLES / "grafana" / "game-session-registry.json").read_text())
ALERTS = EXAMPLES / "prometheus" / "alerts.yml"
CASES = EXAMPLES / "prometheus" / "alerts_test.yml"
EVERY = "200ms"

TITLES = [panel["title"] for panel in DASHBOARD["panels"]]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

SELECTOR = re.compile(r"\b(game_registry_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*=~?|(\w+)\s*!=")
ADDED = {"job", "instance"}
"""Labels that Prometheus itself adds."""


class Play:
    """A registry that is watched, and calls of every kind."""

    def __init__(self, conninfo: str, exposed: CollectorRegistry) -> None:
        self.exposed = exposed
        self._stack = relayed(conninfo)
        self._relay = self._stack.__enter__()
        config = RegistryConfig(max_events_per_game=64, pool_min_size=1, pool_max_size=4)
        self.registry = GameSessionRegistry.connect(
            self._relay.conninfo, config=config, observer=PrometheusObserver(exposed)
        )
        exposed.register(StandingCollector(self.registry, every=0.1))

    def round(self) -> None:
        """Some of everything, once."""
        registry = self.registry
        game = f"game-{uuid4()}"
        issued = registry.issue_resume_token(game, "alice")
        threads = [
            threading.Thread(target=self._append, args=(f"{game}-{n % 2}",)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        registry.record_events(game, range(80))
        resumed = registry.resume(issued.token, after=20)
        registry.resume(resumed.token, after=0)
        registry.resume(resumed.token, after=20, epoch=uuid4())
        registry.acknowledge(issued.session.session_id, 30)
        registry.heartbeat(issued.session.session_id)
        registry.fetch_events_since(game, 40)
        with suppress(RegistryError):
            registry.resume(issued.token, after=0)
        until_writers_rest(registry._writer.combiner)  # else it may be recorded in a batch
        self._relay.arm("record_event", "request lost")
        registry.record_event(game, 1)

    def _append(self, game: str) -> None:
        for n in range(10):
            self.registry.record_event(game, n)

    def close(self) -> None:
        self.registry.close()
        self._stack.__exit__(None, None, None)


@pytest.fixture(scope="module")
def play(server: Server) -> Iterator[Play]:
    conninfo = server.create_migrated()
    play = Play(conninfo, CollectorRegistry())
    play.round()
    yield play
    play.close()
    server.drop(conninfo)


def samples(exposed: CollectorRegistry) -> dict[str, set[str]]:
    """The labels of each series that is exposed, by its name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(exposed).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def named(query: str) -> Iterator[tuple[str, set[str]]]:
    """The series that a query names, each with the labels that it selects by."""
    for name, selected in SELECTOR.findall(query):
        yield name, {one or other for one, other in LABEL.findall(selected)}


def expressions() -> list[str]:
    """The queries of the alerts."""
    return re.findall(r"expr: (?:>-\n)?(.*?)(?=\n +(?:for|labels):)", ALERTS.read_text(), re.DOTALL)


def test_each_metric_and_label_that_is_asked_for_is_exposed(play: Play) -> None:
    exposed = samples(play.exposed)
    queries = [*QUERIES, *expressions(), CASES.read_text()]
    assert len(expressions()) == ALERTS.read_text().count("- alert:")
    for query in queries:
        for name, labels in named(query):
            assert name in exposed, query
            assert labels <= exposed[name] | ADDED, query
        for grouped in re.findall(r"\bby \(([^)]*)\)", query):
            names = set(grouped.replace(" ", "").split(","))
            assert names <= set().union(ADDED, *(exposed[name] for name, _ in named(query)))


def test_each_metric_is_asked_for_by_some_panel(play: Play) -> None:
    asked = {name for query in QUERIES for name, _ in named(query)}
    families = text_string_to_metric_families(generate_latest(play.exposed).decode())
    for family in families:
        names = {sample.name for sample in family.samples}
        assert names & asked or family.name in UNASKED or family.name.endswith("_created"), names


UNASKED = {"game_registry_pool_connections_opened"}
"""Not worth a panel."""


def test_no_label_has_a_game_a_player_or_a_session(play: Play) -> None:
    allowed = {"operation", "outcome", "le", "reason", "settled", "source", "cause"}
    assert set().union(*samples(play.exposed).values()) <= allowed
    text = generate_latest(play.exposed).decode()
    assert "game-" not in text
    assert "alice" not in text


def test_nothing_is_asked_of_the_database_when_the_collector_is_registered(play: Play) -> None:
    before = play.registry._database.pool.current.get_stats()["requests_num"]
    CollectorRegistry().register(StandingCollector(play.registry))
    assert play.registry._database.pool.current.get_stats()["requests_num"] == before


def test_the_metrics_of_a_database_that_is_away_are_those_of_the_pool(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "PATIENCE", 0.1)
    conninfo = server.create_migrated()
    exposed = CollectorRegistry()
    with relayed(conninfo) as relay, GameSessionRegistry.connect(relay.conninfo) as registry:
        exposed.register(StandingCollector(registry, every=0))
        assert exposed.get_sample_value("game_registry_up") == 1
        assert exposed.get_sample_value("game_registry_live_sessions") == 0
        relay.go_down()
        wait_until(lambda: exposed.get_sample_value("game_registry_up") == 0, timeout=5)
        assert exposed.get_sample_value("game_registry_live_sessions") is None
        assert exposed.get_sample_value("game_registry_pool_connections_max") == 16
    server.drop(conninfo)


def test_two_registries_may_share_an_observer(play: Play) -> None:
    exposed = CollectorRegistry()
    observer = PrometheusObserver(exposed)
    conninfo = play.registry._database.pool.conninfo
    for _ in range(2):
        with GameSessionRegistry.connect(conninfo, observer=observer) as registry:
            registry.record_event("shared", 1)
    assert exposed.get_sample_value("game_registry_events_recorded_total") == 2


# With a real Prometheus.


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        assert "CI" not in os.environ, f"install prometheus: there is no {name}"
        pytest.skip("there is no Prometheus on this machine")
    return found


class Prometheus:
    """A real server that scrapes one exporter."""

    def __init__(self, folder: Path, target: int) -> None:
        self._port = free_port()
        config = folder / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {EVERY}, evaluation_interval: 1s}}\n"
            f"rule_files: ['{ALERTS}']\n"
            "scrape_configs:\n"
            f"  - {{job_name: game, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}\n"
        )
        self._log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def get(self, what: str, **params: str) -> dict[str, Any]:
        """An answer of its HTTP API."""
        query = urllib.parse.urlencode(params)
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{query}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # not yet
                raise
            raise AssertionError(f"{params}: {error.read().decode()}") from None

    def values(self, query: str) -> list[float]:
        found = self.get("query", query=query)["result"]
        return [float(series["value"][1]) for series in found]

    def rules(self) -> list[dict[str, Any]]:
        (group,) = self.get("rules")["groups"]
        return list(group["rules"])

    def ready(self) -> bool:
        assert self.process.poll() is None, Path(self._log.name).read_text()
        with suppress(OSError):
            return bool(self.get("targets")["activeTargets"])
        return False

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen a registry at work, which goes on working."""
    program("prometheus")
    exporter, serving = start_http_server(0, "127.0.0.1", play.exposed)
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), exporter.server_port)
    try:
        wait_until(prometheus.ready)
        wait_until(lambda: prometheus.values("game_registry_up") == [1])
        yield prometheus
    finally:
        prometheus.close()
        exporter.shutdown()
        exporter.server_close()
        serving.join(10)


@pytest.mark.slow  # Prometheus takes five seconds until its first scrape
def test_every_query_of_the_dashboard_shows_something(play: Play, prometheus: Prometheus) -> None:
    left = {query.replace("$__rate_interval", "30s").replace("$job", "game") for query in QUERIES}

    def all_answered() -> bool:
        play.round()
        for query in sorted(left):
            values = prometheus.values(query)
            if values and not all(map(math.isnan, values)):
                left.discard(query)
        return not left

    with suppress(AssertionError):
        wait_until(all_answered, timeout=20)
    assert left == set()
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job"}
    assert prometheus.values("count(game_registry_up{job=~'.*'})") == [1]


@pytest.mark.slow
def test_the_alerts_are_loaded_and_none_pages_while_all_is_well(prometheus: Prometheus) -> None:
    wait_until(lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()))
    assert len(prometheus.rules()) == len(expressions())
    for rule in prometheus.rules():
        assert rule["health"] == "ok", rule
        assert rule["state"] != "firing" or rule["labels"]["severity"] != "page", rule


def test_every_alert_goes_off_when_it_should() -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(CASES)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text())
    assert re.findall(r'alertname="(\w+)"', CASES.read_text()) == alerts
