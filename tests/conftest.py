"""What the tests share: a real server, a fresh database for each test, a clock to move.

The server is an embedded one, or the one that DATABASE_URL names (a role that may create
databases). A database for a test is a copy of one that was migrated once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from layouts import LAYOUT, PLAIN, lay_out
from probes import PATIENCE, PATIENT
from redis_server import RedisServer, running
from support import Clock, Server

from registry import EmbeddedPostgres, GameSessionRegistry, RegistryConfig, combining, keeping

# No test cuts the power: what a crash of the server alone loses is the same without fsync.
# Deadlocks are looked for at once: by default after a second, and who gives up before hides one.
SETTINGS = {"max_connections": 300, "fsync": "off", "deadlock_timeout": "20ms"}


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server that the tests of this run share."""
    given = os.environ.get("DATABASE_URL")
    embedded = None if given else EmbeddedPostgres(settings=SETTINGS).start()
    server = Server(given or (embedded.conninfo if embedded else ""))
    try:
        yield server
    finally:
        server.close()
        if embedded is not None:
            embedded.stop()


@pytest.fixture
def conninfo(server: Server) -> Iterator[str]:
    """A fresh migrated database of the test's own."""
    conninfo = server.create_migrated()
    yield conninfo
    server.drop(conninfo)


@pytest.fixture
def plain_conninfo(conninfo: str) -> str:
    """A fresh migrated database with the events in one table, however they are laid out else."""
    lay_out(conninfo, PLAIN)
    return conninfo


@pytest.fixture
def cleaned_by_rows(conninfo: str) -> None:
    """The cleanup deletes old events to the second, instead of whole partitions when all of each is
    past: by time a table is laid out plain for that."""
    if LAYOUT == "time":
        lay_out(conninfo, PLAIN)


@pytest.fixture(scope="module")
def module_conninfo(server: Server) -> Iterator[str]:
    """A migrated database that the tests of a module share."""
    conninfo = server.create_migrated()
    yield conninfo
    server.drop(conninfo)


@pytest.fixture
def blank_conninfo(server: Server) -> Iterator[str]:
    """A fresh database with nothing in it."""
    conninfo = server.create_blank()
    yield conninfo
    server.drop(conninfo)


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """An embedded server of the test's own, to crash and restart; nothing is migrated."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """The Redis that the tests of this run share."""
    with running() as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """A Redis with nothing in it, not to be harmed."""
    shared_redis.client.flushall()
    return shared_redis


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, to kill, freeze and restart."""
    with running() as server:
        yield server


@pytest.fixture
def registry(conninfo: str) -> Iterator[GameSessionRegistry]:
    """A registry on a fresh database."""
    with GameSessionRegistry.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        yield registry


@pytest.fixture
def patient_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to go to Redis behind a call has time: it is not tried again before the next one."""
    monkeypatch.setattr(keeping, "PATIENCE", 10.0)


@pytest.fixture
def clock(conninfo: str) -> Clock:
    """The clock of the test's own database."""
    return Clock(conninfo)


@pytest.fixture
def one_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call asks for a second writer, so that all that comes behind the first one waits."""
    monkeypatch.setattr(combining, "PATIENCE", 2 * PATIENCE)
