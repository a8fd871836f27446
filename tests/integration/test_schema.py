"""Migrations on a real server: there and back, many at once, killed in the middle, by yoyo."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support import TABLES, wait_until

from registry import (
    GameSessionRegistry,
    InvalidArgument,
    RegistryUnavailable,
    SchemaMismatch,
    migrate,
    schema,
)
from registry.resources import folder

pytestmark = pytest.mark.owner

IDS = sorted(
    path.name[:-4]
    for path in folder("migrations").glob("*.sql")
    if not path.name.endswith(".rollback.sql")
)
NEWER = "9999_registry_from_the_future"


@pytest.fixture
def connection(blank_conninfo: str) -> Iterator[Connection]:
    with psycopg.connect(blank_conninfo, autocommit=True) as connection:
        yield connection


@pytest.fixture
def start(blank_conninfo: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that migrates the blank database; kills what is left at the end."""
    started = []

    def start(**changes: str) -> subprocess.Popen[str]:
        conninfo = make_conninfo(blank_conninfo, **changes)
        command = [sys.executable, "-m", "registry", "migrate", "--database", conninfo]
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def shape(connection: Connection) -> list[tuple[str, str]]:
    """Every column, index, constraint and setting of the registry's tables."""
    query = """
        SELECT c.relname, concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
               a.attnotnull, a.attcollation, pg_get_expr(d.adbin, d.adrelid))
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relname = ANY(%(t)s)
        UNION ALL SELECT relname, array_to_string(reloptions, ',') FROM pg_class
        WHERE relname = ANY(%(t)s)
        UNION ALL SELECT relname, pg_get_indexdef(indexrelid) || indisvalid FROM pg_index
        JOIN pg_class ON oid = indrelid WHERE relname = ANY(%(t)s)
        UNION ALL SELECT conrelid::regclass::text, conname || pg_get_constraintdef(oid)
        FROM pg_constraint WHERE conrelid::regclass::text = ANY(%(t)s)
        ORDER BY 1, 2
    """
    return connection.execute(query, {"t": TABLES}).fetchall()


def invalid_indexes(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone()
    assert row is not None
    return int(row[0])


def busy(connection: Connection, query: str, seconds: float = 0) -> list[int]:
    """The server processes of this database that run a statement like it, for at least as long,
    and wait for a lock."""
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND query LIKE %s AND wait_event_type = 'Lock' "
        "AND clock_timestamp() - query_start >= make_interval(secs => %s)",
        [f"%{query}%", seconds],
    )
    return [pid for (pid,) in rows]


def yoyo(command: str, conninfo: str) -> None:
    """Run yoyo's own command line from the checkout, as an operator would."""
    given = conninfo_to_dict(conninfo)
    name = given.pop("dbname")
    url = f"postgresql+psycopg:///{name}?{urlencode(given)}"
    subprocess.run(
        [Path(sys.executable).with_name("yoyo"), command, "--database", url],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )


def test_there_back_and_there_again(blank_conninfo: str, connection: Connection) -> None:
    shapes = []
    for step in range(len(IDS)):
        shapes.append(shape(connection))
        schema.migrate(blank_conninfo)
        schema.rollback(blank_conninfo, to=IDS[step])
    shapes.append(shape(connection))
    assert len({str(each) for each in shapes}) == len(IDS) + 1, "each migration changes something"
    for step in reversed(range(len(IDS))):
        assert schema.rollback(blank_conninfo) == [IDS[step]]
        assert shape(connection) == shapes[step]
    assert schema.migrate(blank_conninfo) == IDS
    assert shape(connection) == shapes[-1]


def test_rolled_back_leaves_nothing_of_ours(blank_conninfo: str, connection: Connection) -> None:
    migrate(blank_conninfo)
    assert schema.rollback(blank_conninfo, steps=99) == IDS[::-1]
    left = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {name for (name,) in left} == {
        *("_yoyo_log", "_yoyo_migration", "_yoyo_version", "yoyo_lock")
    }


def test_migrating_again_does_nothing(blank_conninfo: str) -> None:
    assert migrate(blank_conninfo) == IDS
    assert migrate(blank_conninfo) == []


def test_status_changes_nothing_and_tells_the_times(
    blank_conninfo: str, connection: Connection
) -> None:
    assert schema.status(blank_conninfo) == [(name, None) for name in IDS]
    assert connection.execute(
        "SELECT count(*) FROM pg_tables WHERE schemaname='public'"
    ).fetchone() == (0,)
    migrate(blank_conninfo)
    states = schema.status(blank_conninfo)
    assert [name for name, _ in states] == IDS
    now = datetime.now(timezone.utc)
    for _, when in states:
        assert when is not None
        assert abs(now - when) < timedelta(minutes=1)


def test_six_processes_at_once(
    start: Callable[[], subprocess.Popen[str]], connection: Connection
) -> None:
    processes = [start() for _ in range(6)]
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, said
    outputs = sorted(output for output, _ in said)
    everything = "".join(f"applied {name}\n" for name in IDS)
    assert outputs == [everything, *["the schema is up to date\n"] * 5]
    schema.check(connection)


@pytest.mark.parametrize("server_side", ["goes on", "is ended"])
def test_killed_while_it_builds_an_index(
    blank_conninfo: str,
    connection: Connection,
    start: Callable[[], subprocess.Popen[str]],
    server_side: str,
) -> None:
    migrate(blank_conninfo)
    whole = shape(connection)
    schema.rollback(blank_conninfo, to=IDS[0])
    with psycopg.connect(blank_conninfo) as writer:
        writer.execute("INSERT INTO game (game_id) VALUES ('a')")
        victim = start()
        wait_until(lambda: busy(connection, "CREATE INDEX CONCURRENTLY"))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        with pytest.raises(RegistryUnavailable, match="still migrating"):
            migrate(blank_conninfo, timeout=0.3)
        successor = start()
        if server_side == "is ended":
            for pid in busy(connection, "CREATE INDEX CONCURRENTLY"):
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
            wait_until(lambda: busy(connection, "DROP INDEX CONCURRENTLY"))
        assert invalid_indexes(connection) > 0
    _, errors = successor.communicate(timeout=60)
    assert successor.returncode == 0, errors
    assert shape(connection) == whole
    schema.check(connection)


def test_killed_while_it_makes_the_tables(
    blank_conninfo: str, connection: Connection, start: Callable[[], subprocess.Popen[str]]
) -> None:
    with psycopg.connect(blank_conninfo) as rival:
        rival.execute("CREATE TABLE game_event ()")
        victim = start()
        wait_until(lambda: busy(connection, "CREATE TABLE game_event"))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        rival.rollback()
    assert connection.execute("SELECT pid FROM yoyo_lock").fetchall() == [(0,)], "left behind"
    assert migrate(blank_conninfo) == IDS
    schema.check(connection)


def test_ended_between_a_migration_and_its_mark(
    blank_conninfo: str, connection: Connection, start: Callable[[], subprocess.Popen[str]]
) -> None:
    migrate(blank_conninfo)
    schema.rollback(blank_conninfo, steps=len(IDS))
    with psycopg.connect(blank_conninfo) as rival:
        rival.execute("LOCK TABLE _yoyo_migration IN SHARE MODE")
        victim = start()
        wait_until(lambda: busy(connection, "INSERT INTO"))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        for pid in busy(connection, "INSERT INTO"):
            connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert migrate(blank_conninfo) == IDS


def test_a_schema_of_our_own_making_serves_yoyo(
    blank_conninfo: str, connection: Connection
) -> None:
    migrate(blank_conninfo)
    yoyo("apply", blank_conninfo)
    schema.check(connection)
    yoyo("rollback", blank_conninfo)
    assert schema.status(blank_conninfo)[-1] == (IDS[-1], None)
    assert migrate(blank_conninfo) == IDS[-1:]


def test_a_schema_of_yoyos_making_serves_us(blank_conninfo: str, connection: Connection) -> None:
    yoyo("apply", blank_conninfo)
    schema.check(connection)
    assert migrate(blank_conninfo) == []
    assert schema.rollback(blank_conninfo) == IDS[-1:]


def test_yoyo_at_work_is_waited_for(blank_conninfo: str, connection: Connection) -> None:
    migrate(blank_conninfo)
    schema.rollback(blank_conninfo)
    connection.execute("INSERT INTO yoyo_lock (locked, pid) VALUES (1, 4242)")
    with pytest.raises(RegistryUnavailable, match=r"yoyo.*4242"):
        migrate(blank_conninfo, timeout=0)
    connection.execute("DELETE FROM yoyo_lock")
    assert migrate(blank_conninfo) == IDS[-1:]


def test_another_programs_migrations_are_not_ours(
    blank_conninfo: str, connection: Connection
) -> None:
    migrate(blank_conninfo)
    mark(connection, "shop-0001-tables")
    schema.check(connection)
    assert migrate(blank_conninfo) == []
    assert [name for name, _ in schema.status(blank_conninfo)] == IDS


def mark(connection: Connection, name: str) -> None:
    connection.execute(
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc) "
        "VALUES (md5(%(id)s), %(id)s, now())",
        {"id": name},
    )


def test_no_schema_is_a_mismatch(blank_conninfo: str, connection: Connection) -> None:
    with pytest.raises(SchemaMismatch, match="python -m registry migrate"):
        schema.check(connection)
    with pytest.raises(SchemaMismatch, match="python -m registry migrate"):
        GameSessionRegistry.connect(blank_conninfo)


def test_an_old_schema_is_a_mismatch(blank_conninfo: str, connection: Connection) -> None:
    migrate(blank_conninfo)
    schema.rollback(blank_conninfo)
    with pytest.raises(SchemaMismatch, match=f"too old.*{IDS[-1]}.*python -m registry migrate"):
        schema.check(connection)
    with pytest.raises(SchemaMismatch, match="too old"):
        GameSessionRegistry.connect(blank_conninfo)


def test_a_newer_schema_is_left_alone(blank_conninfo: str, connection: Connection) -> None:
    migrate(blank_conninfo)
    mark(connection, NEWER)
    before = shape(connection)
    for refused in (
        lambda: schema.check(connection),
        lambda: GameSessionRegistry.connect(blank_conninfo),
        lambda: migrate(blank_conninfo),
        lambda: schema.rollback(blank_conninfo),
    ):
        with pytest.raises(SchemaMismatch, match=f"too new.*{NEWER}.*upgrade"):
            refused()
    assert shape(connection) == before
    assert schema.status(blank_conninfo)[-1][0] == NEWER


def test_check_is_one_query(conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        sent: list[object] = []

        class Counting(psycopg.Cursor[tuple[object, ...]]):
            def execute(self, query, *args, **kwargs):  # type: ignore[no-untyped-def]
                sent.append(query)
                return super().execute(query, *args, **kwargs)

        connection.cursor_factory = Counting
        schema.check(connection)
        assert len(sent) == 1


@pytest.mark.parametrize("given", [{"steps": 0}, {"steps": -1}, {"steps": True}, {"to": "0000_no"}])
def test_rollback_refuses_nonsense(conninfo: str, given: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        schema.rollback(conninfo, **given)  # type: ignore[arg-type]
    assert all(when for _, when in schema.status(conninfo))


def test_rollback_takes_one_argument() -> None:
    with pytest.raises(InvalidArgument):
        schema.rollback("", steps=1, to=IDS[0])


def test_an_unreachable_server() -> None:
    nowhere = make_conninfo(host="/nonexistent", user="nobody", dbname="none")
    for call in (schema.migrate, schema.rollback, schema.status):
        with pytest.raises(RegistryUnavailable, match="/nonexistent"):
            call(nowhere)


def test_a_malformed_conninfo_is_not_shown() -> None:
    for call in (schema.migrate, schema.rollback, schema.status):
        with pytest.raises(InvalidArgument) as raised:
            call("password hunter2")
        assert "hunter2" not in str(raised.value)
        assert raised.value.__cause__ is None


def test_a_failing_migration_says_why(blank_conninfo: str, connection: Connection) -> None:
    connection.execute("CREATE TABLE game (name text)")
    with pytest.raises(SchemaMismatch, match='"game" already exists'):
        migrate(blank_conninfo)
    connection.execute("DROP TABLE game")
    assert migrate(blank_conninfo) == IDS


def test_the_roles_time_limits_do_not_interrupt(
    blank_conninfo: str, connection: Connection, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with psycopg.connect(blank_conninfo) as rival:
        rival.execute("CREATE TABLE game_event ()")
        hasty = start(options="-c statement_timeout=500 -c lock_timeout=500")
        wait_until(lambda: busy(connection, "CREATE TABLE game_event", seconds=0.8))
        rival.rollback()
    _, errors = hasty.communicate(timeout=60)
    assert hasty.returncode == 0, errors
    schema.check(connection)


def test_a_url_with_everything_in_its_query(blank_conninfo: str, connection: Connection) -> None:
    assert migrate(f"postgresql:///?{urlencode(conninfo_to_dict(blank_conninfo))}") == IDS
    schema.check(connection)


def test_a_schema_of_its_own(blank_conninfo: str, connection: Connection) -> None:
    connection.execute("CREATE SCHEMA apart")
    apart = make_conninfo(blank_conninfo, options="-c search_path=apart")
    assert migrate(apart) == IDS
    with GameSessionRegistry.connect(apart) as registry:
        registry.record_event("a", 1)
    assert connection.execute("SELECT head FROM apart.game").fetchall() == [(1,)]
    with pytest.raises(SchemaMismatch, match="no registry"):
        schema.check(connection)
    behind = make_conninfo(blank_conninfo, options="-c search_path=public,apart")
    for call in (migrate, GameSessionRegistry.connect):
        with pytest.raises(SchemaMismatch, match="search_path=apart"):
            call(behind)


def test_yoyo_says_nothing(blank_conninfo: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        migrate(blank_conninfo)
        schema.rollback(blank_conninfo)
    assert [record for record in caplog.records if record.name.startswith("yoyo")] == []
    assert not logging.getLogger("yoyo.migrations").disabled


def test_the_log_names_the_role(conninfo: str) -> None:
    """And not the local user, who in a container may have no name."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT DISTINCT username::text = session_user FROM _yoyo_log")
        assert row.fetchall() == [(True,)]
