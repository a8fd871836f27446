"""`doctor`: each thing that it finds, provoked; and the remedy that it names, tried."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from probes import configured, event_table, held, rows, value
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus
from replica import following
from support import RUN, Clock, Server, wait_until

from registry import EmbeddedPostgres, GameSessionRegistry, migrate, schema
from registry.blueprint import blueprint
from registry.cli import main
from registry.diagnosis import Limits, diagnose
from registry.partitioning.copying import FIRST_BATCH
from registry.partitioning.layouts import events

Finding = dict[str, str]

WARD = f"ward_{RUN}"
STRANGER = f"stranger_{RUN}"

SETTINGS = {"max_prepared_transactions": 3}
CHECKS = [
    "migrations", "indexes", "partitions", "cleanup", "laggards", "vacuum", "snapshots",
    "durability", "autovacuum", "time limits", "connections", "clock",
]  # fmt: skip


class Command:
    """`doctor`, run on a database."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, conninfo: str, *options: str) -> list[Finding]:
        """All findings; the exit code has to fit them."""
        code = main(["doctor", "--json", "--database", conninfo, *options])
        found = json.loads(self._capsys.readouterr().out)
        findings: list[Finding] = found["findings"]
        ill = any(finding["level"] == "attention" for finding in findings)
        assert (code, found["healthy"]) == (3 if ill else 0, not ill)
        return findings

    def one(self, check: str, conninfo: str, *options: str) -> Finding:
        """The only finding of a check."""
        (found,) = [f for f in self(conninfo, *options) if f["check"] == check]
        assert (found["level"] == "ok") == (found["remedy"] is None)
        return found

    def level(self, check: str, conninfo: str, *options: str) -> str:
        return self.one(check, conninfo, *options)["level"]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture(scope="module")
def apart() -> Iterator[str]:
    """A migrated database on a server of the module's own, whose settings may be changed."""
    with EmbeddedPostgres(settings=SETTINGS) as server:
        migrate(server.conninfo)
        yield server.conninfo


def run(conninfo: str, statement: str) -> None:
    """As an operator does, outside of a transaction."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for part in statement.split(";"):
            connection.execute(part.encode())


def test_a_healthy_database_needs_nothing(apart: str, doctor: Command) -> None:
    findings = doctor(apart)
    assert [finding["check"] for finding in findings] == CHECKS
    advice = [finding["said"] for finding in findings if finding["level"] == "advice"]
    assert [said for said in advice if "forgotten transaction" not in said] == []
    assert all(set(finding) == {"check", "level", "said", "remedy"} for finding in findings)
    assert all(finding["level"] != "attention" for finding in findings)


def test_for_people_a_line_each_and_the_remedy_below(
    apart: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(apart, "DROP INDEX game_oldest")
    try:
        assert main(["doctor", "--database", apart]) == 3
        lines = capsys.readouterr().out.splitlines()
        place = lines.index("!! indexes      game_oldest is missing")
        assert lines[place + 1].strip() == f"-> {blueprint().indexes['game_oldest']}"
        assert lines[0] == "ok migrations   all are applied"
    finally:
        run(apart, blueprint().indexes["game_oldest"])
    assert main(["doctor", "--database", apart]) == 0


def test_the_blueprint_is_what_the_migrations_make(plain_conninfo: str) -> None:
    made = rows(
        plain_conninfo,
        "SELECT tablename, indexname FROM pg_indexes "
        "WHERE schemaname = current_schema() AND tablename !~ 'yoyo'",
    )
    assert sorted(blueprint().tables) == sorted({table for table, _ in made})
    assert sorted(blueprint().indexes) == sorted(index for _, index in made)


@pytest.mark.parametrize("name", sorted(blueprint().indexes))
def test_a_missing_index_is_named_and_the_remedy_makes_it(
    name: str, conninfo: str, doctor: Command
) -> None:
    with psycopg.connect(conninfo) as connection:
        wanted = blueprint().indexes_of(events(connection))
    if name not in wanted:  # by time each partition has its own instead
        name = "game_event_default_pkey"
    definition = "SELECT pg_get_indexdef(%s::regclass)"
    before = value(conninfo, definition, [name])
    remedy = wanted[name]
    table = remedy.split()[2 if remedy.startswith("ALTER") else 5]
    drop = (
        f"ALTER TABLE {table} DROP CONSTRAINT {name} CASCADE"
        if remedy.startswith("ALTER")
        else f"DROP INDEX {name}"
    )
    run(conninfo, drop)
    found = doctor.one("indexes", conninfo)
    assert found == {
        "check": "indexes",
        "level": "attention",
        "said": f"{name} is missing",
        "remedy": remedy,
    }
    run(conninfo, remedy)
    assert doctor.level("indexes", conninfo) == "ok"
    assert value(conninfo, definition, [name]) == before


def test_an_index_whose_creation_was_interrupted_is_invalid(
    registry: GameSessionRegistry, conninfo: str, doctor: Command
) -> None:
    registry.record_event("chess", 1)
    run(conninfo, "DROP INDEX game_oldest")
    with (
        held(conninfo, "UPDATE game SET head_at = now()"),
        psycopg.connect(conninfo, autocommit=True) as builder,
    ):
        builder.execute("SET statement_timeout = '2s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            builder.execute(blueprint().indexes["game_oldest"].encode())
    found = doctor.one("indexes", conninfo)
    assert found["level"] == "attention"
    assert "game_oldest of game is invalid" in found["said"]
    run(conninfo, found["remedy"])
    assert doctor.level("indexes", conninfo) == "ok"


def test_what_a_failed_creation_left_behind_is_to_be_dropped(
    registry: GameSessionRegistry, conninfo: str, doctor: Command
) -> None:
    registry.record_events("chess", [1, 2])
    table = event_table(conninfo, "chess")
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(conninfo, f"CREATE UNIQUE INDEX CONCURRENTLY mine ON {table} (game_id)")
    found = doctor.one("indexes", conninfo)
    assert f"mine of {table} is invalid" in found["said"]
    assert found["remedy"] == "DROP INDEX CONCURRENTLY mine"
    run(conninfo, found["remedy"])
    assert doctor.level("indexes", conninfo) == "ok"


@pytest.mark.owner
def test_missing_migrations(conninfo: str, blank_conninfo: str, doctor: Command) -> None:
    schema.rollback(conninfo)
    last = schema.status(conninfo)[-1][0]
    found = doctor.one("migrations", conninfo)
    assert last in found["said"]
    assert "python -m registry migrate" in found["remedy"]
    assert not {"indexes", "cleanup", "laggards"} & {f["check"] for f in doctor(conninfo)}
    assert "no registry in it" in doctor.one("migrations", blank_conninfo)["said"]
    migrate(conninfo)
    assert doctor.level("migrations", conninfo) == "ok"
    rows(
        conninfo,
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
        "VALUES ('x', '9999_registry_future', now())",
    )
    assert "9999_registry_future" in doctor.one("migrations", conninfo)["said"]


@pytest.mark.parametrize(
    ("check", "setting"),
    [
        ("durability", "fsync"),
        ("durability", "full_page_writes"),
        ("durability", "synchronous_commit"),
        ("autovacuum", "autovacuum"),
        ("autovacuum", "track_counts"),
    ],
)
def test_a_setting_that_is_off(check: str, setting: str, apart: str, doctor: Command) -> None:
    assert doctor.level(check, apart) == "ok"
    set_on_server(apart, setting, "off")
    found = doctor.one(check, apart)
    assert found["level"] == "attention"
    assert found["said"].startswith(f"{setting} is off")
    assert found["remedy"].startswith(f"ALTER SYSTEM SET {setting} = on")
    set_on_server(apart, setting, "on")
    assert doctor.level(check, apart) == "ok"


def set_on_server(conninfo: str, setting: str, to: str) -> None:
    run(conninfo, f"ALTER SYSTEM SET {setting} = {to}; SELECT pg_reload_conf()")
    wait_until(lambda: value(conninfo, f"SHOW {setting}") == to)


@pytest.mark.usefixtures("plain_conninfo")
def test_a_table_without_autovacuum_and_its_dead_rows(conninfo: str, doctor: Command) -> None:
    with configured(conninfo) as first:
        first.record_event("chess", 0)
    table = event_table(conninfo, "chess")
    run(conninfo, f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    off = doctor.one("vacuum", conninfo)
    assert off["said"] == f"autovacuum is off for {table}"
    with configured(conninfo) as busy:
        busy.record_events("chess", list(range(1, 500)))
        busy.prune_events("chess", 400)
    counted = f"SELECT n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relname = '{table}'"
    wait_until(lambda: rows(conninfo, counted) == [(100, 400)])
    assert doctor.level("vacuum", conninfo, "--dead", "500") == "attention"
    found = [f for f in doctor(conninfo, "--dead", "300") if f["check"] == "vacuum"]
    assert [f["said"] for f in found] == [
        f"autovacuum is off for {table}",
        f"{table} has 400 dead rows and 100 live ones, vacuumed last: never",
    ]
    assert found[1]["remedy"] == f"VACUUM {table}"
    with held(conninfo, "UPDATE game SET head_at = now()"):
        options = ["--dead", "300", "--longest", "0.001"]
        held_back = [f for f in doctor(conninfo, *options) if f["check"] == "vacuum"][1]
        assert "end what holds vacuum back" in held_back["remedy"]
    for finding in found:
        run(conninfo, finding["remedy"])
    wait_until(lambda: rows(conninfo, counted) == [(100, 0)])
    assert doctor.level("vacuum", conninfo, "--dead", "300") == "ok"


@pytest.mark.parametrize(
    "statements",
    [
        ["UPDATE game SET head_at = now()"],
        ["SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT FROM game"],
    ],
    ids=["written", "snapshot"],
)
def test_a_forgotten_transaction(
    statements: list[str],
    registry: GameSessionRegistry,
    conninfo: str,
    blank_conninfo: str,
    doctor: Command,
) -> None:
    registry.record_event("chess", 1)
    options = [conninfo, "--longest", "0.001"]
    with held(conninfo, statements[0]) as forgotten:
        for statement in statements[1:]:
            forgotten.execute(statement.encode())
        found = doctor.one("snapshots", *options)
        pid = forgotten.info.backend_pid
        assert found["said"].startswith(f"process {pid} has a transaction open for ")
        assert found["remedy"].endswith(f"SELECT pg_terminate_backend({pid})")
        assert doctor.level("snapshots", conninfo) == "ok"  # not for a minute yet
        run(conninfo, found["remedy"].partition("or ")[2])
        wait_until(lambda: doctor.level("snapshots", *options) == "ok")
        forgotten.close()
    with held(blank_conninfo, "CREATE TABLE elsewhere ()"):  # not in this database
        assert doctor.level("snapshots", *options) == "ok"


def test_a_prepared_transaction(apart: str, doctor: Command) -> None:
    run(apart, "BEGIN; INSERT INTO game (game_id) VALUES ('x'); PREPARE TRANSACTION 'forgotten'")
    found = doctor.one("snapshots", apart, "--longest", "0.001")
    assert found["said"].startswith("the transaction 'forgotten' was prepared ")
    run(apart, found["remedy"].partition(" or ")[2])
    assert doctor.level("snapshots", apart, "--longest", "0.001") == "ok"


def test_a_replication_slot_without_a_reader(apart: str, doctor: Command) -> None:
    run(apart, "SELECT pg_create_physical_replication_slot('forgotten', true)")
    found = doctor.one("slots", apart)
    assert "forgotten keeps log or dead rows (physical, inactive" in found["said"]
    run(apart, found["remedy"].partition(", or ")[2])
    assert "slots" not in {f["check"] for f in doctor(apart)}


def test_a_standby_with_an_old_snapshot(apart: str) -> None:
    def said() -> list[str]:
        with schema.reading(apart) as connection:
            findings = diagnose(connection, Limits(transactions=3)).findings
        return [f.said for f in findings if f.check == "snapshots"]

    xmin = int(value(apart, "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"))
    start = f"START_REPLICATION PHYSICAL {value(apart, 'SELECT pg_current_wal_lsn()')}"
    standby = psycopg.connect(
        make_conninfo(apart, application_name="berlin"), replication="true", autocommit=True
    )
    try:
        started = standby.pgconn.exec_(start.encode())
        assert started.status == ExecStatus.COPY_BOTH
        feedback = struct.pack("!cqIIII", b"h", 0, xmin, 0, 0, 0)
        standby.pgconn.put_copy_data(feedback)
        standby.pgconn.flush()
        for _ in range(5):
            rows(apart, "SELECT pg_current_xact_id()")
        wait_until(lambda: any("standby berlin reports a snapshot" in line for line in said()))
    finally:
        standby.pgconn.finish()
    wait_until(lambda: said() == ["nothing holds vacuum back"])


@pytest.mark.owner
def test_a_standby_that_is_paused_and_falls_behind(apart: str, doctor: Command) -> None:
    assert "replication" not in {f["check"] for f in doctor(apart)}
    with following(apart, {"fsync": "off", **SETTINGS}) as follower:
        there = follower.conninfo
        replied = "SELECT pid FROM pg_stat_replication WHERE replay_lsn IS NOT NULL"
        wait_until(lambda: rows(apart, replied))
        wait_until(lambda: " 0 B behind" in doctor.one("replication", apart)["said"])
        assert "the standby standby is" in doctor.one("replication", apart)["said"]
        even = "this standby is 0 B behind (streaming)"
        wait_until(lambda: doctor.one("replication", there)["said"] == even)

        run(there, "SELECT pg_wal_replay_pause()")
        wait_until(lambda: doctor.level("replication", there) == "attention")
        run(apart, "CREATE TABLE ballast AS SELECT generate_series(1, 10000)")
        assert doctor.level("replication", apart) == "ok"
        assert doctor.level("replication", apart, "--behind", "100000") == "attention"
        paused = doctor.one("replication", there)
        assert paused["said"].endswith(": its replay is paused")
        run(there, paused["remedy"])
        wait_until(lambda: doctor.level("replication", there) == "ok")
        wait_until(lambda: doctor.level("replication", apart, "--behind", "100000") == "ok")
        run(apart, "DROP TABLE ballast")


def test_what_the_cleanup_should_have_removed(
    registry: GameSessionRegistry, conninfo: str, clock: Clock, doctor: Command
) -> None:
    registry.record_event("chess", 1, event_id=value(conninfo, "SELECT gen_random_uuid()"))
    registry.record_event("chess", 2)
    registry.issue_resume_token("chess", "alice")
    clock.advance(3_000)
    assert doctor.level("cleanup", conninfo) == "ok"
    clock.advance(3_000)
    assert "1 sessions that expired, up to 1h" in doctor.one("cleanup", conninfo)["said"]
    clock.advance(90_000)
    found = doctor.one("cleanup", conninfo)
    assert "python -m registry cleanup" in found["remedy"]
    for what in (
        "1 games with events past the retention, up to 1d2h old",
        "1 sessions that expired",
        "1 event ids past the retention",
        "1 receipts of appends past the retention",
    ):
        assert what in found["said"]
    assert "games" not in doctor.one("cleanup", conninfo, "--retention", "200000")["said"]
    registry.cleanup_expired_sessions()
    assert doctor.level("cleanup", conninfo) == "ok"


def test_very_many_receipts(conninfo: str, doctor: Command) -> None:
    assert "receipts" not in {f["check"] for f in doctor(conninfo)}
    rows(
        conninfo,
        "INSERT INTO statement_receipt (id, statement) "
        "SELECT gen_random_uuid(), 1 FROM generate_series(1, 10001)",
    )
    found = doctor.one("receipts", conninfo)
    assert found["level"] == "advice"
    assert found["said"].startswith("10,000+ receipts")


def test_a_player_who_holds_a_long_log(
    registry: GameSessionRegistry, conninfo: str, doctor: Command
) -> None:
    slow = registry.issue_resume_token("chess", "alice").session.session_id
    quick = registry.issue_resume_token("chess", "bob").session.session_id
    registry.record_events("chess", list(range(100)))
    registry.acknowledge(slow, 10)
    registry.acknowledge(quick, 70)
    options = [conninfo, "--lag", "50"]
    found = doctor.one("laggards", *options)
    assert found["said"].startswith(
        "alice in chess lacks 90 events and alone holds 60 of 90, last beat "
    )
    assert f"inspect session {slow}" in found["remedy"]
    assert doctor.level("laggards", conninfo, "--lag", "91") == "ok"
    registry.acknowledge(slow, 95)
    assert doctor.level("laggards", *options) == "ok"
    registry.record_events("chess", list(range(100)))
    assert doctor.one("laggards", *options)["said"].startswith("bob in chess lacks 130 events")
    registry.revoke_session(slow)
    registry.revoke_session(quick)
    assert doctor.level("laggards", *options) == "ok"  # nobody waits for them


@pytest.fixture
def role(server: Server, conninfo: str) -> Iterator[str]:
    """The way in of a role that may use the registry and nothing else."""
    server.execute("CREATE ROLE {name} LOGIN CONNECTION LIMIT 20", name=WARD)
    try:
        schema.grant(conninfo, WARD)
        yield make_conninfo(conninfo, user=WARD)
    finally:
        rows(conninfo, f"DROP OWNED BY {WARD}")
        server.execute("DROP ROLE {name}", name=WARD)


@pytest.mark.owner
def test_connections_that_are_left_to_a_role(role: str, doctor: Command) -> None:
    found = doctor.one("connections", role)
    assert found["said"].endswith(", 19 left")
    assert found["level"] == "ok"
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(psycopg.connect(role))
        wait_until(lambda: doctor.one("connections", role)["said"].endswith(", 9 left"))
        assert doctor.one("connections", role)["level"] == "attention"


@pytest.mark.owner
def test_connections_of_other_roles_are_counted_too(
    role: str, conninfo: str, doctor: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(psycopg.connect(conninfo))
        in_use = int(doctor.one("connections", role)["said"].split()[0])
        assert in_use >= 6
        assert main(["top", "--json", "--interval", "0.01", "--database", role]) == 0
        assert json.loads(capsys.readouterr().out)["connections"] >= 6


def test_connections_that_are_left_on_the_server(conninfo: str, doctor: Command) -> None:
    most = int(value(conninfo, "SHOW max_connections"))
    found = doctor.one("connections", conninfo, "--connections", str(most))
    used, left = (int(part.split()[0]) for part in found["said"].split(", "))
    assert used + left == most - int(value(conninfo, "SHOW superuser_reserved_connections"))
    assert found["level"] == "attention"
    assert doctor.level("connections", conninfo) == "ok"


@pytest.mark.owner
def test_time_limits_of_a_role(role: str, conninfo: str, doctor: Command) -> None:
    forgotten = "idle_in_transaction_session_timeout"
    run(conninfo, f"ALTER ROLE {WARD} SET {forgotten} = '5min'")
    assert doctor.level("time limits", role) == "ok"
    for setting in ("statement_timeout", "lock_timeout", "idle_session_timeout"):
        run(conninfo, f"ALTER ROLE {WARD} SET {setting} = '900ms'")
        found = doctor.one("time limits", role)
        assert found["level"] == "attention"
        assert found["said"].startswith(f"{setting} of {WARD} ")
        run(conninfo, found["remedy"].partition(";")[0])
        assert doctor.level("time limits", role) == "ok"
    run(conninfo, f"ALTER ROLE {WARD} RESET {forgotten}")
    found = doctor.one("time limits", role)
    assert found["level"] == "advice"
    assert forgotten in found["remedy"]


@pytest.mark.owner
def test_a_role_that_does_not_see_others_is_told_so(
    role: str, conninfo: str, doctor: Command
) -> None:
    found = doctor.one("rights", role)
    assert found["level"] == "advice"
    run(conninfo, found["remedy"].partition(",")[0])
    assert "rights" not in {f["check"] for f in doctor(role)}
    with held(conninfo, "UPDATE lineage SET id = id"):
        assert doctor.level("snapshots", role, "--longest", "0.001") == "attention"


@pytest.mark.owner
def test_each_command_works_as_a_role_that_was_granted_the_least(
    role: str, registry: GameSessionRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    session = registry.issue_resume_token("chess", "alice").session
    registry.record_event("chess", 1)
    for argv in (
        ["top", "--once", "--json", "--interval", "0.01"],
        ["inspect", "game", "chess", "--json"],
        ["inspect", "session", session.session_id, "--show-payloads", "--json"],
    ):
        assert main([*argv, "--database", role]) == 0
        assert "chess" in capsys.readouterr().out


@pytest.mark.owner
def test_a_conversion_that_the_role_may_not_look_into(
    conninfo: str, role: str, doctor: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    (layout,) = rows(conninfo, "SELECT relkind::text FROM pg_class WHERE relname = 'game_event'")
    target = ["--by", "nothing"] if layout == ("p",) else ["--by", "hash", "--partitions", "2"]
    partition = ["partition", "--database", conninfo]
    with GameSessionRegistry.connect(conninfo) as registry:
        registry.record_events("chess", range(2 * FIRST_BATCH))
    assert main([*partition, *target, "--max-seconds", "0.001"]) == 3
    capsys.readouterr()
    try:
        assert doctor.level("partitions", conninfo) == "attention"
        found = doctor.one("partitions", role)
        assert (found["level"], found["remedy"]) == (
            "advice",
            "run this as the owner of the tables",
        )
        assert "clock" in {f["check"] for f in doctor(role)}
    finally:
        assert main([*partition, "--abandon"]) == 0
    capsys.readouterr()
    assert doctor.level("partitions", role) == "ok"


@pytest.mark.owner
def test_who_may_read_nothing_gets_an_error(
    server: Server, conninfo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.execute("CREATE ROLE {name} LOGIN", name=STRANGER)
    try:
        for argv in (["doctor"], ["top", "--once", "--json"], ["inspect", "game", "chess"]):
            stranger = make_conninfo(conninfo, user=STRANGER)
            assert main([*argv, "--database", stranger]) == 1
            out, err = capsys.readouterr()
            assert out == ""
            assert "permission denied" in err
    finally:
        server.execute("DROP ROLE {name}", name=STRANGER)


@pytest.mark.parametrize(("offset", "said"), [("+90s", "behind"), ("-90s", "ahead of")])
def test_clocks_that_differ(offset: str, said: str, conninfo: str) -> None:
    command = [sys.executable, "-m", "registry", "doctor", "--json", "--database", conninfo]
    faked = {**os.environ, "LD_PRELOAD": str(_libfaketime()), "FAKETIME": offset}
    done = subprocess.run(command, env=faked, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    (clock,) = [f for f in json.loads(done.stdout)["findings"] if f["check"] == "clock"]
    assert clock["level"] == "attention"
    assert clock["said"] == f"the server's is 1m30s {said} this machine's"


def _libfaketime() -> Path:
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"


@pytest.fixture
def standby() -> Iterator[str]:
    """A server with one event, which has become a standby since."""
    base = Path(tempfile.mkdtemp(prefix="standby-"))
    base.chmod(0o755)  # the server's user has to get through
    try:
        with EmbeddedPostgres(base / "data", settings={"fsync": "off"}) as server:
            migrate(server.conninfo)
            rows(server.conninfo, "INSERT INTO game (game_id) VALUES ('chess')")
            signal = Path(value(server.conninfo, "SHOW data_directory")) / "standby.signal"
            signal.touch()
            server.restart()
            yield server.conninfo
    finally:
        shutil.rmtree(base)


def test_each_command_works_on_a_standby(
    standby: str, doctor: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert value(standby, "SELECT pg_is_in_recovery()")
    assert doctor.level("standby", standby) == "advice"
    assert "not connected to its primary" in doctor.one("replication", standby)["said"]
    for argv in (["top", "--once", "--interval", "0.01"], ["inspect", "game", "chess"]):
        assert main([*argv, "--database", standby]) == 0
        assert "chess" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--lag", "x"], ["--longest", "0"], ["--dead", "-1"]])
def test_wrong_usage(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["doctor", "--database", "host=/nowhere", *options])
    assert raised.value.code == 2
    assert options[0] in capsys.readouterr().err
