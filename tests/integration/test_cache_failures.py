"""Redis slow, full, flushed, gone or out of its mind: every call is answered, and rightly, in time.

How long a call may take is `cache_timeout` for each batch that it has a part in: the one under way
that it waits for, its own, and once more alone. SLACK is what a busy machine takes for the rest.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from probes import PATIENCE, as_just_opened, at_once, empty, in_thread
from redis_server import RedisServer
from support import wait_until

from registry import GameSessionRegistry, RegistryConfig, Replay, breaker, keeping
from registry.breaker import FAILURES
from registry.cache import RedisReplayCache

pytestmark = pytest.mark.usefixtures("patient_keeper")

Registry = GameSessionRegistry
TIMEOUT = 0.3
SLACK = 1.0
EVENTS = 8


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@contextmanager
def opened(conninfo: str, url: str, **given: Any) -> Iterator[Registry]:
    config = RegistryConfig(**{"pool_min_size": 1, "cache_timeout": TIMEOUT, **given})
    with (
        RedisReplayCache(url) as cache,
        Registry.connect(conninfo, config=config, cache=cache) as registry,
    ):
        yield registry


@pytest.fixture
def registry(conninfo: str, own_redis: RedisServer) -> Iterator[Registry]:
    """With a game of a few events, which Redis has."""
    with opened(conninfo, own_redis.url) as registry:
        registry.record_events("game", range(EVENTS))
        read(registry)
        until_filled(own_redis)
        yield registry


def until_filled(redis: RedisServer, end: int = EVENTS) -> None:
    wait_until(lambda: redis.holds("game") == (0, end), timeout=10)


def read(registry: Registry, events: int = EVENTS) -> Replay:
    """Reads the game as if memory were empty; the answer has to be right."""
    as_just_opened(registry)
    replay = registry.fetch_events_since("game", 0)
    assert [event.payload for event in replay.events] == list(range(events))
    assert (replay.head, replay.floor, replay.more) == (events, 0, False)
    return replay


def timed(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def read_from_everywhere(registry: Registry, threads: int = 32, times: int = 10) -> list[float]:
    """How long each call of many threads took, all of which were answered rightly."""
    took: list[float] = []

    def reader() -> None:
        for _ in range(times):
            took.append(timed(lambda: read(registry)))

    assert at_once([reader] * threads) == [None] * threads
    return took


# a relay to Redis


class Line:
    """Passes on to a Redis, as slowly as it is told to or not at all."""

    def __init__(self, port: int, pace: Callable[[socket.socket, bytes], None] | None) -> None:
        self._port = port
        self._pace = pace
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.opened = 0
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.opened += 1
                self._ends.append(client)
                if self._pace is None:
                    continue
                server = socket.create_connection(("127.0.0.1", self._port))
                self._ends.append(server)
                for source, target, pace in (
                    (client, server, socket.socket.sendall),
                    (server, client, self._pace),
                ):
                    arguments = (source, target, pace)
                    threading.Thread(target=self._copy, args=arguments, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, pace: Any) -> None:
        with suppress(OSError, ValueError):
            while data := source.recv(2**16):
                pace(target, data)

    def close(self) -> None:
        for end in [self._listener, *self._ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def line(port: int, pace: Callable[[socket.socket, bytes], None] | None) -> Iterator[Line]:
    line = Line(port, pace)
    try:
        yield line
    finally:
        line.close()


def a_byte_at_a_time(target: socket.socket, data: bytes) -> None:
    for place in range(len(data)):
        target.sendall(data[place : place + 1])
        time.sleep(0.005)


def for_ever(target: socket.socket, _: bytes) -> None:
    """Says a text that has no end, as fast as it is read."""
    target.sendall(b"$500000000\r\n")
    for _ in range(20_000):
        target.sendall(b"x" * 2**16)


# slow


def test_a_frozen_redis_costs_its_timeout_and_after_a_few_calls_nothing(
    registry: Registry, own_redis: RedisServer
) -> None:
    wait_until(lambda: read(registry).source == "cache")
    own_redis.freeze()
    for _ in range(FAILURES):
        took = timed(lambda: read(registry))
        assert took < TIMEOUT + SLACK
    begin = time.monotonic()
    replays = [read(registry) for _ in range(20)]
    assert time.monotonic() - begin < 3 * TIMEOUT + SLACK  # and not 20 times
    assert {replay.source for replay in replays} == {"database"}
    own_redis.thaw()
    wait_until(lambda: read(registry).source == "cache", timeout=10)


def test_many_threads_at_a_frozen_redis_wait_only_a_little(
    registry: Registry, own_redis: RedisServer
) -> None:
    own_redis.freeze()
    assert max(read_from_everywhere(registry)) < 3 * TIMEOUT + SLACK


@pytest.mark.parametrize(
    "pace", [a_byte_at_a_time, for_ever, None], ids=["trickling", "endless", "silent"]
)
def test_the_time_is_for_the_whole_call_whatever_trickles_in(
    registry: Registry, conninfo: str, own_redis: RedisServer, pace: Any
) -> None:
    with line(own_redis.port, pace) as slow, opened(conninfo, slow.url) as other:
        for _ in range(FAILURES):
            assert timed(lambda: read(other)) < TIMEOUT + SLACK
        assert slow.opened >= 1


def test_a_server_that_never_agrees_on_tls_costs_no_more(
    registry: Registry, conninfo: str, own_redis: RedisServer
) -> None:
    with line(own_redis.port, None) as silent:
        url = silent.url.replace("redis://", "rediss://")
        with opened(conninfo, url) as other:
            assert timed(lambda: read(other)) < TIMEOUT + SLACK
            assert silent.opened >= 1


def test_to_drop_what_is_damaged_takes_no_time_of_its_own(
    registry: Registry, conninfo: str, own_redis: RedisServer
) -> None:
    """Redis answers late that what it has is damaged, and is not heard again."""

    def late(target: socket.socket, data: bytes) -> None:
        if b"WRONGTYPE" in data:
            time.sleep(2.0)
            target.sendall(data)
            time.sleep(PATIENCE)
        target.sendall(data)

    own_redis.client.set("registry:game", "text")
    with (
        line(own_redis.port, late) as slow,
        RedisReplayCache(slow.url) as cache,
    ):
        assert timed(lambda: cache.read({"game": (0, 10)}, 3.0)) < 4.5


# full, locked, flushed, restarted, killed


def test_a_full_redis_is_read_and_not_written(registry: Registry, own_redis: RedisServer) -> None:
    own_redis.fill_up()
    wait_until(lambda: read(registry).source == "cache")
    registry.record_event("game", EVENTS)
    wait_until(lambda: own_redis.calls("evalsha") > 0)
    read(registry, EVENTS + 1)
    own_redis.make_room()
    registry.record_event("game", EVENTS + 1)
    wait_until(
        lambda: read(registry, EVENTS + 2) and own_redis.holds("game") == (0, EVENTS + 2),
        timeout=10,
    )


def test_without_rights_in_redis_the_database_answers_and_nothing_is_dropped(
    registry: Registry, conninfo: str, own_redis: RedisServer
) -> None:
    read_only = own_redis.lock_out("+@all -eval -evalsha")
    with opened(conninfo, read_only) as other:
        for _ in range(5):
            assert read(other).source == "database"
    assert own_redis.holds("game") == (0, EVENTS)
    with opened(conninfo, own_redis.lock_out("-@all")) as other:
        for _ in range(5):
            assert read(other).source == "database"
    assert own_redis.holds("game") == (0, EVENTS)


def test_flushed_scripts_are_loaded_again(registry: Registry, own_redis: RedisServer) -> None:
    for _ in range(3):
        own_redis.client.script_flush()
        read(registry)
        wait_until(lambda: read(registry).source == "cache", timeout=10)


def test_a_flushed_redis_is_filled_again(registry: Registry, own_redis: RedisServer) -> None:
    events = EVENTS
    for _ in range(3):
        own_redis.client.flushall()
        assert read(registry, events).source == "database"
        registry.record_event("game", events)  # what is new goes to Redis in any case
        events += 1
        wait_until(lambda end=events: (own_redis.holds("game") or (0, 0))[1] == end, timeout=10)
        read(registry, events)


def test_a_restarted_redis_is_used_again_at_once(
    registry: Registry, conninfo: str, own_redis: RedisServer
) -> None:
    own_redis.client.save()
    with opened(conninfo, own_redis.url, cache_timeout=10.0) as patient:
        for _ in range(3):
            own_redis.restart()
            assert read(patient).source == "cache"


def test_old_data_that_a_restart_brings_back_is_not_believed(
    registry: Registry, own_redis: RedisServer
) -> None:
    own_redis.client.save()
    registry.end_game("game")
    registry.record_events("game", range(EVENTS))
    registry.prune_events("game", 2)
    registry._reads.known.close()  # else what it still has to say might drop the old data
    own_redis.restart()
    assert own_redis.holds("game") == (0, EVENTS)
    as_just_opened(registry)
    replay = registry.fetch_events_since("game", 2)
    assert [event.payload for event in replay.events] == list(range(2, EVENTS))
    assert {run.epoch for run in own_redis.runs("game")} <= {replay.epoch} or replay.source == (
        "database"
    )


def test_a_redis_that_is_not_there_costs_next_to_nothing(conninfo: str) -> None:
    with opened(conninfo, "redis://127.0.0.1:1") as registry:
        registry.record_events("game", range(EVENTS))
        assert timed(lambda: [read(registry) for _ in range(50)]) < SLACK + TIMEOUT


def test_a_redis_killed_under_many_threads_fails_no_call(
    registry: Registry, own_redis: RedisServer
) -> None:
    stop = threading.Event()
    worst: list[float] = []

    def reader() -> int:
        calls = 0
        while not stop.is_set():
            worst.append(timed(lambda: read(registry)))
            calls += 1
        return calls

    readers = [in_thread(reader) for _ in range(32)]
    try:
        for fault in (own_redis.kill, own_redis.start, own_redis.freeze, own_redis.thaw,
                      own_redis.client.flushall, own_redis.client.script_flush,
                      own_redis.restart):  # fmt: skip
            done = len(worst)
            fault()
            wait_until(lambda done=done: len(worst) > done + 64, timeout=PATIENCE)
    finally:
        stop.set()
    assert sum(future.result(PATIENCE) for future in readers) > 0
    assert max(worst) < 3 * TIMEOUT + SLACK


# the circuit breaker


def test_a_dead_redis_is_left_alone_and_tried_again_by_one_call(
    registry: Registry, conninfo: str, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with line(own_redis.port, None) as silent:
        cache = RedisReplayCache(silent.url)
        monkeypatch.setattr(breaker, "REST", 60.0)
        for _ in range(FAILURES):
            assert cache.read({"game": (0, 10)}, 0.05) == {}
        wait_until(lambda: silent.opened == FAILURES)
        for _ in range(100):
            assert cache.read({"game": (0, 10)}, 0.05) == {}
        assert silent.opened == FAILURES  # nobody asked
        cache._breaker._try_again_at = 0.0  # the rest is over
        at_once([lambda: cache.read({"game": (0, 10)}, 0.05)] * 16)
        with socket.create_connection(("127.0.0.1", silent.port)):  # behind all others
            wait_until(lambda: silent.opened > FAILURES + 1)
        assert silent.opened == FAILURES + 2  # one tried, for all
        cache.close()


def test_a_redis_that_is_back_is_asked_by_every_call_again(
    registry: Registry, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "REST", 60.0)
    own_redis.client.save()
    with RedisReplayCache(own_redis.tcp_url) as cache:
        own_redis.kill()
        for _ in range(FAILURES + 2):
            assert cache.read({"game": (0, 10)}, TIMEOUT) == {}
        own_redis.start()
        received = own_redis.connections_received()
        assert cache.read({"game": (0, 10)}, TIMEOUT) == {}
        assert own_redis.connections_received() == received
        cache._breaker._try_again_at = 0.0  # the rest is over
        asked = own_redis.calls("evalsha")
        for _ in range(10):
            assert list(cache.read({"game": (0, 10)}, 5.0)) == ["game"]
        assert own_redis.calls("evalsha") == asked + 10


# forks and ends


def test_a_forked_child_shares_no_connection_with_its_parent(
    registry: Registry, own_redis: RedisServer
) -> None:
    wanted = {"game": (0, 10)}
    with RedisReplayCache(own_redis.url) as cache:
        assert cache.read(wanted, 5.0)
        child = os.fork()
        if child == 0:
            good = all(cache.read(wanted, 5.0) for _ in range(20))
            cache.close()
            os._exit(0 if good else 1)
        assert all(cache.read(wanted, 5.0) for _ in range(20))
        assert ended(child) == 0
        assert cache.read(wanted, 5.0)


def test_a_child_forked_while_locks_are_held_waits_for_none(
    registry: Registry, own_redis: RedisServer
) -> None:
    cache = registry._reads.known._cache  # type: ignore[attr-defined]
    held = [cache._breaker._lock, registry._reads.known._lock]
    for lock in held:
        lock.acquire()
    child = os.fork()
    if child == 0:
        cache._breaker._failures = FAILURES  # so that the lock is asked for
        cache.read({"game": (0, 10)}, 5.0)
        registry.close()
        os._exit(0)
    for lock in held:
        lock.release()
    assert ended(child) == 0


def ended(child: int) -> int:
    """How a child process ends; killed if it does not."""
    with suppress(AssertionError):
        wait_until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT),
                   timeout=10)  # fmt: skip
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def others(redis: RedisServer) -> list[str]:
    """What the connections to it did last, but for the test's own."""
    return [c["cmd"] for c in redis.client.client_list() if c["cmd"] != "client|list"]


def test_a_connection_in_use_when_the_cache_is_closed_is_closed_behind_its_call(
    own_redis: RedisServer,
) -> None:
    cache = RedisReplayCache(own_redis.url)
    cache.read({"game": (0, 10)}, 5.0)
    own_redis.freeze()
    reading = in_thread(lambda: cache.read({"game": (0, 10)}, 30.0))
    wait_until(lambda: not cache._idle)
    cache.close()
    own_redis.thaw()
    assert reading.result(30) == {}
    assert cache._idle == []
    wait_until(lambda: others(own_redis) == [])


def test_a_closed_cache_answers_nothing_and_its_registry_goes_on(
    conninfo: str, own_redis: RedisServer
) -> None:
    cache = RedisReplayCache(own_redis.url)
    with Registry.connect(conninfo, config=RegistryConfig(), cache=cache) as registry:
        registry.record_events("game", range(EVENTS))
        read(registry)
        until_filled(own_redis)
        cache.close()
        cache.close()
        assert read(registry).source == "database"
        assert cache.read({"game": (0, 10)}, 5.0) == {}
        registry.close()
        registry.close()
    wait_until(
        lambda: others(own_redis) == []
    )  # the server sees the end of a connection a little later


def test_a_registry_closes_in_time_though_redis_is_frozen(
    conninfo: str, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "PATIENCE", 1.0)
    with RedisReplayCache(own_redis.url) as cache:
        registry = Registry.connect(conninfo, cache=cache)
        registry.record_events("game", range(EVENTS))
        own_redis.freeze()
        read(registry)
        assert timed(registry.close) < 2 + SLACK
        own_redis.thaw()


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """The port of something that gives one answer to each script and OK to all else."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=converse, args=(connection,), daemon=True).start()

    def converse(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(lines.readline()[1:])
                    words.append(lines.read(size + 2))
                connection.sendall(answer if words[0] == b"EVALSHA\r\n" else b"+OK\r\n")

    threading.Thread(target=serve, daemon=True).start()
    with listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "answer",
    [
        b"*1\r\n:3\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b":7\r\n",
        b"*-1\r\n",
        b"$1\r\nx\r\n",
    ],
)
def test_a_redis_that_answers_nonsense_is_not_believed(conninfo: str, answer: bytes) -> None:
    with (
        answering(answer) as port,
        RedisReplayCache(f"redis://127.0.0.1:{port}?protocol=2") as cache,
        GameSessionRegistry.connect(conninfo, cache=cache) as registry,
    ):
        registry.record_events("chess", range(3))
        token = registry.issue_resume_token("chess", "alice").token
        page = registry.fetch_events_since("chess", 0)
        assert (len(page.events), page.source) == (3, "database")
        assert len(registry.resume(token, after=1).replay.events) == 2
