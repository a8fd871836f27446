"""A role that `grant` let in: it can do all that a registry does, and nothing to the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from probes import rows, value
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import RUN, Server, name_of

from registry import (
    GameSessionRegistry,
    InvalidArgument,
    RegistryError,
    SchemaMismatch,
    migrate,
    schema,
)
from registry.cli import main
from registry.standing import Standing, Standings

pytestmark = pytest.mark.owner

ROLE = f'game "server"; -- {RUN}'


@pytest.fixture(scope="module")
def role(server: Server) -> Iterator[str]:
    """A role that may log in and nothing else."""
    server.execute("CREATE ROLE {role} LOGIN", role=ROLE)
    yield ROLE
    server.execute("DROP ROLE {role}", role=ROLE)


@pytest.fixture
def admitted(conninfo: str, role: str) -> str:
    """The role's way into a migrated database."""
    schema.grant(conninfo, role)
    return make_conninfo(conninfo, user=role)


def test_a_role_that_was_not_let_in_is_told_so(conninfo: str, role: str) -> None:
    with pytest.raises(RegistryError, match="permission denied"):
        GameSessionRegistry.connect(make_conninfo(conninfo, user=role))


def test_a_registry_works_as_the_role(admitted: str, conninfo: str) -> None:
    with GameSessionRegistry.connect(admitted) as registry:
        issued = registry.issue_resume_token("chess", "alice")
        registry.record_events("chess", ["e4", "e5"])
        resumed = registry.resume(issued.token, after=1)
        assert [event.payload for event in resumed.replay.events] == ["e5"]
        assert registry.acknowledge(issued.session.session_id, 2).pruned == 2
        assert Standings(registry, 0).now() == Standing(1, 0.0)
        registry.renew_epochs()
        registry.record_events("chess", ["d4", "d5"])
        age = "UPDATE {} SET {} = now() - '2 days'::interval"
        rows(
            conninfo,
            f"{age.format('game_event', 'recorded_at')}; {age.format('game', 'oldest_at')}",
        )
        assert registry.cleanup_expired_sessions().events == 2
        registry.end_game("chess")


FORBIDDEN = [
    "CREATE TABLE mine (n int)",
    "CREATE VIEW mine AS SELECT 1",
    "ALTER TABLE game ADD COLUMN mine int",
    "ALTER TABLE game_session OWNER TO CURRENT_USER",
    "ALTER TABLE game_event DISABLE TRIGGER ALL",
    "DROP TABLE game_event",
    "DROP INDEX game_oldest",
    "DROP FUNCTION known_epoch",
    "CREATE OR REPLACE FUNCTION known_epoch(epoch uuid, mark bytea) RETURNS uuid "
    "LANGUAGE sql AS 'SELECT epoch'",
    "TRUNCATE game_event",
    "UPDATE game_event SET payload = 'forged'",
    "SELECT FROM game_event FOR UPDATE",
    "DELETE FROM lineage",
    "INSERT INTO lineage DEFAULT VALUES",
    "UPDATE payload_dictionary SET content = ''",
    "DELETE FROM payload_dictionary",
    "DELETE FROM _yoyo_migration",
    "UPDATE _yoyo_migration SET migration_id = 'mine'",
    "SELECT FROM _yoyo_log",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY game TO PROGRAM 'true'",
    "ALTER ROLE CURRENT_USER SUPERUSER",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_what_a_registry_never_does_the_role_may_not(admitted: str, statement: str) -> None:
    with (
        psycopg.connect(admitted) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())


def test_the_role_can_migrate_nothing(admitted: str, blank_conninfo: str) -> None:
    assert migrate(admitted) == []  # all is applied: nothing to do
    with pytest.raises(SchemaMismatch, match="permission denied"):
        schema.rollback(admitted)
    with pytest.raises(RegistryError):
        migrate(make_conninfo(blank_conninfo, user=ROLE))


def test_everything_of_the_schema_is_granted_or_kept_on_purpose(
    admitted: str, conninfo: str
) -> None:
    """A table that a later migration adds has to be thought of.

    A partition needs no rights of its own.
    """
    tables = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition"
    )
    readable = f"{tables} AND has_table_privilege(%s, oid, 'SELECT')"
    known = {name for (name,) in rows(conninfo, readable, [ROLE])}
    everything = {name for (name,) in rows(conninfo, tables)}
    kept = {"_yoyo_log", "_yoyo_version", "yoyo_lock"}
    assert known | kept == everything


def test_granting_again_and_after_a_migration_back_and_forth(
    admitted: str, conninfo: str, role: str
) -> None:
    again = schema.grant(conninfo, role)
    schema.rollback(conninfo, to="0001_registry_tables")
    migrate(conninfo)
    assert schema.grant(conninfo, role) == again
    with GameSessionRegistry.connect(admitted) as registry:
        assert registry.record_event("chess", 1) == 1


def test_the_command_says_what_it_granted(
    conninfo: str, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grant", "--role", role, "--database", conninfo]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == schema.grant(conninfo, role)
    assert all(line.startswith("GRANT ") for line in said)
    assert f'TO "game ""server""; -- {RUN}"' in said[1]


def test_the_document_says_what_is_granted(conninfo: str, role: str) -> None:
    quoted = sql.Identifier(role).as_string()
    statements = [one.replace(quoted, "game_server") for one in schema.grant(conninfo, role)]
    document = Path(__file__).parents[2] / "docs" / "security.md"
    (block,) = re.findall(r"```sql\n(.*?)```", document.read_text("utf-8"), re.DOTALL)
    assert block.splitlines() == statements


def test_a_role_that_is_not_there_is_said(conninfo: str) -> None:
    for nobody in ("nobody of this name", "", "x\0"):
        with pytest.raises(InvalidArgument, match="role"):
            schema.grant(conninfo, nobody)


def test_who_does_not_own_the_tables_cannot_grant(admitted: str, conninfo: str) -> None:
    with pytest.raises(SchemaMismatch, match="owner"):
        schema.grant(admitted, ROLE)


def test_granting_needs_the_schema(blank_conninfo: str, role: str) -> None:
    with pytest.raises(SchemaMismatch, match="migrate"):
        schema.grant(blank_conninfo, role)


def test_in_a_schema_of_its_own(blank_conninfo: str, role: str) -> None:
    with psycopg.connect(blank_conninfo, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "Games"')
        path = sql.SQL("ALTER DATABASE {} SET search_path = {}").format(
            sql.Identifier(name_of(blank_conninfo)), sql.Identifier("Games")
        )
        connection.execute(path)
    migrate(blank_conninfo)
    schema.grant(blank_conninfo, role)
    with GameSessionRegistry.connect(make_conninfo(blank_conninfo, user=role)) as registry:
        assert registry.record_event("chess", 1) == 1
    assert value(blank_conninfo, 'SELECT count(*) FROM "Games".game_event') == 1
