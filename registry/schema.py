"""The database's schema: migrate it, roll it back, say where it stands, check that it fits.

The migrations are SQL files for yoyo (`migrations/`), and yoyo's own command line works on the
same history (`yoyo.ini`). Each is applied together with its mark in one transaction, or, marked
`-- transactional: false`, is written so that it can be repeated: a process killed in the middle
of one is repaired by migrating again.

The tables live in the first schema of the connection's `search_path`, usually `public`. What
changes the schema needs sessions of its own: a pooler in transaction mode such as PgBouncer would
lose its locks, or keep them for ever, and is refused.
"""

from __future__ import annotations

import glob
import logging
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timezone
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from yoyo import default_migration_table, exceptions, read_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend

from .arguments import optional_whole, plain_text, seconds, text_id
from .errors import InvalidArgument, RegistryError, RegistryUnavailable, SchemaMismatch
from .queries import queries
from .resources import folder

# Advisory locks of the database: who migrates, and every connection that works for a migration.
_MIGRATOR, _WORKER = 0x67616D65_72656731, 0x67616D65_72656732
# What this library's migrations are called; others in the same history are another program's.
_OURS = re.compile(r"\d{4}_registry_")
# Whom to connect as, to change the schema and to work with it.
AS_OWNER = "connect as the owner of the tables"
_TO_MIGRATE = f"{AS_OWNER}; before the first time, of the database"
_AS_USER = (
    "have the owner of the tables run `python -m registry grant`, or connect as a role it let in"
)
_REMEDY = "run `python -m registry migrate`, or call registry.migrate(conninfo)"

Connection = psycopg.Connection[Any]


def migrate(conninfo: str, *, timeout: float = 300.0) -> list[str]:
    """Bring the schema up to date; return the ids of the migrations that this call applied.

    `conninfo` is any PostgreSQL connection string or URL. Any number of processes may call this
    at once: one works, the others wait up to `timeout` seconds for it. Writers go on meanwhile.
    Raises `SchemaMismatch` when the schema is newer than this version or a migration fails,
    `InvalidArgument` when there is something to apply and a pooler in transaction mode stands
    between, `RegistryUnavailable` when the server cannot be reached or the wait was too long:
    calling again is always safe.
    """
    with _translated(_TO_MIGRATE), _open(conninfo, prepare_threshold=None) as connection:
        _check_encoding(connection)
        if not _missing(_applied(connection)):
            return []
    with (
        _translated(_TO_MIGRATE),
        _connect(conninfo) as connection,
        _migrator(connection, conninfo, timeout) as backend,
    ):
        _missing(_applied(connection))
        pending = backend.to_apply(_read())
        for migration in pending:
            backend.apply_one(migration)
        return [migration.id for migration in pending]


def rollback(
    conninfo: str, *, steps: int | None = None, to: str | None = None, timeout: float = 300.0
) -> list[str]:
    """Take migrations back, the last first, with the data they hold; return their ids.

    `steps` is how many (default 1); `to` instead names the migration that shall be the last one.
    Concurrency, `timeout` (seconds) and errors as for `migrate`; `InvalidArgument` when `steps`
    is not positive, `to` is not an applied migration, or both are given, too.
    """
    steps, to = _which(steps, to)
    with (
        _translated(AS_OWNER),
        _connect(conninfo) as connection,
        _migrator(connection, conninfo, timeout) as backend,
    ):
        ids = to_roll_back(connection, steps=steps, to=to)
        for migration in backend.to_rollback(_read()):
            if migration.id in ids:
                backend.rollback_one(migration)
        return ids


def to_roll_back(
    connection: Connection, *, steps: int | None = None, to: str | None = None
) -> list[str]:
    """The ids of the migrations that `rollback` would take back now, the last first.

    Changes nothing. Arguments and errors as for `rollback`.
    """
    steps, to = _which(steps, to)
    applied = _applied(connection)
    _missing(applied)
    ids = sorted(applied, reverse=True)
    if to is not None and to not in ids:
        raise InvalidArgument(
            f"{to!r} is not an applied migration: {', '.join(ids[::-1]) or 'none is'}"
        )
    return ids[: ids.index(to) if to is not None else steps or 1]


def _which(steps: int | None, to: str | None) -> tuple[int | None, str | None]:
    if steps is not None and to is not None:
        raise InvalidArgument("give either steps or to, not both")
    return optional_whole("steps", steps, 1), None if to is None else plain_text(to) or ""


def holds_games(ids: list[str]) -> bool:
    """Whether the tables of the games are in one of these migrations."""
    return known()[0] in ids


def status(conninfo: str) -> list[tuple[str, datetime | None]]:
    """Every migration in order, with when it was applied (UTC), None if it was not.

    Those that only a newer version of this library knows come last. Changes nothing. Raises
    `RegistryUnavailable` when the server cannot be reached.
    """
    with reading(conninfo) as connection:
        applied = _applied(connection)
    ours = known()
    return [(name, applied.get(name)) for name in [*ours, *sorted(applied.keys() - set(ours))]]


def grant(conninfo: str, role: str) -> list[str]:
    """Let a role use the registry and change nothing of the schema; return the statements run.

    For the role that game servers connect as, when the tables belong to another one. Run it as
    the owner of the tables, and again after each `migrate`. All or nothing; granting again
    changes nothing. Raises `InvalidArgument` when there is no such role or a pooler in transaction
    mode stands between, `SchemaMismatch` when the schema does not fit or is not this owner's to
    grant, `RegistryUnavailable` when the server cannot be reached.
    """
    role = text_id("role", role)
    with _translated(AS_OWNER), _connect(conninfo) as connection:
        _check(connection)
        rows = connection.execute(queries.grant, {"role": role}).fetchall()
        statements = [statement for (statement,) in rows]
        notices: list[str | None] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.sqlstate))
        try:
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement.encode())
                if "01007" in notices:  # only a warning: no privileges were granted
                    raise SchemaMismatch(
                        f"{connection.info.user} may not grant this: be the owner of the tables"
                    )
        except psycopg.errors.UndefinedObject:
            raise InvalidArgument(f"there is no role {role!r}: CREATE ROLE it first") from None
    return statements


def check(connection: Connection, remedy: str = _AS_USER) -> None:
    """Make sure that the schema is the one this version works with, by one query.

    `connection` is in autocommit mode; `remedy` is for missing rights. Raises `SchemaMismatch`,
    saying what to do, when the database is not migrated, too old or too new or rights are missing;
    `RegistryUnavailable` when it does not answer.
    """
    with _translated(remedy):
        _check(connection)


def _check(connection: Connection) -> None:
    _check_encoding(connection)
    missing = _missing(_applied(connection))
    if missing == known():
        raise SchemaMismatch(f"the database has no registry in it: {_REMEDY}")
    if missing:
        raise SchemaMismatch(f"the schema is too old, it lacks {', '.join(missing)}: {_REMEDY}")


def _check_encoding(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaMismatch(
            f"the database is encoded in {encoding}, which cannot hold every id: "
            "create it with ENCODING 'UTF8'"
        )


def known() -> list[str]:
    """The ids of this version's migrations, in order."""
    names = (path.name for path in folder("migrations").glob("*.sql"))
    return sorted(name[:-4] for name in names if not name.endswith(".rollback.sql"))


def _applied(connection: Connection) -> dict[str, datetime]:
    """This library's applied migrations, each with the time."""
    query = f"""
        SELECT migration_id, applied_at_utc, relnamespace::regnamespace::text,
               quote_ident(current_schema())
        FROM {default_migration_table} AS migration JOIN pg_class ON oid = migration.tableoid
    """
    try:
        rows = connection.cursor(row_factory=tuple_row).execute(query.encode()).fetchall()
    except psycopg.errors.UndefinedTable:
        return {}
    ours = [row for row in rows if _OURS.match(row[0])]
    for _, _, home, first in ours:
        if home != first:
            raise SchemaMismatch(
                f"the registry is in the schema {home}, but the search_path begins with {first}: "
                f"add options='-c search_path={home}' to the connection string"
            )
    return {name: when.replace(tzinfo=timezone.utc) for name, when, _, _ in ours}


def _missing(applied: dict[str, datetime]) -> list[str]:
    """The migrations still to apply. Raises `SchemaMismatch` when there are newer ones."""
    ours = known()
    if unknown := sorted(applied.keys() - set(ours)):
        raise SchemaMismatch(
            f"the schema is too new, this version does not know {', '.join(unknown)}: "
            "upgrade game-session-registry, or roll back with the version that migrated"
        )
    return [name for name in ours if name not in applied]


def _read() -> Any:
    return read_migrations(glob.escape(str(folder("migrations"))))


@contextmanager
def reading(conninfo: str, remedy: str = _AS_USER) -> Iterator[Connection]:
    """A connection in autocommit mode for a command that only looks; errors are the library's.

    Nothing is set on it beyond a transaction, so that a pooler may stand between. Raises
    `RegistryUnavailable` when the server does not answer, `SchemaMismatch` when it refuses, which
    names that remedy when rights are missing.
    """
    with _translated(remedy), _open(conninfo, prepare_threshold=None) as connection:
        yield connection


@contextmanager
def working(conninfo: str) -> Iterator[Connection]:
    """A connection in autocommit mode for a command that changes the schema; errors are the
    library's.

    No time limit of the role interrupts it. Raises `InvalidArgument` when a pooler in transaction
    mode stands between, `RegistryUnavailable` when the server does not answer, `SchemaMismatch`
    when it refuses.
    """
    with _translated(AS_OWNER), _connect(conninfo) as connection:
        yield connection


def _open(conninfo: str, **settings: Any) -> Connection:
    """A connection in autocommit mode."""
    text = plain_text(conninfo)
    text = "no text at all" if text is None else text
    try:
        given = conninfo_to_dict(text)
    except (psycopg.ProgrammingError, UnicodeEncodeError):  # its message may quote a password
        raise InvalidArgument(
            "this is not a PostgreSQL connection string: "
            "write postgresql://user@host/database or host=... dbname=..."
        ) from None
    wait = given.get("connect_timeout", 10)
    return psycopg.connect(text, autocommit=True, connect_timeout=wait, **settings)


def _connect(conninfo: str) -> Connection:
    """A connection in autocommit mode which no time limit of the role interrupts.

    Raises `InvalidArgument` when its session is not its own.
    """
    connection = _open(conninfo)
    try:
        refuse_pooler(connection, conninfo)
        connection.execute(
            "SELECT set_config('statement_timeout', '0', false), "
            "set_config('lock_timeout', '0', false), set_config('idle_session_timeout', '0', false)"
        )
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_pooler(connection: Connection, conninfo: str) -> None:
    """For what leaves something to its session: settings, or a lock that outlives a transaction.

    `connection` was made by `conninfo`. Raises `InvalidArgument` behind a pooler in transaction
    mode.
    """
    if _shares_sessions(connection, conninfo):
        raise InvalidArgument(
            "this leads to a pooler in transaction mode, such as PgBouncer, which would lose the "
            "locks that this needs: connect directly to the server, by its own host and port"
        )


def _shares_sessions(connection: Connection, conninfo: str) -> bool:
    """Whether a pooler gives one server connection to several clients.

    One that keeps them apart would do; so would a proxy that only makes up process numbers. A
    second client tells them apart: in a transaction, it has a server connection for itself. Mostly
    that is the one which the first had last. Traffic of others may hide it, so it is tried again.
    """
    ours = _server_process(connection)
    if ours == connection.pgconn.backend_pid:
        return False
    with _open(conninfo, prepare_threshold=None) as other:
        for _ in range(5):
            with other.transaction():
                theirs = _server_process(other)
                if theirs == ours or _server_process(connection) != ours:
                    return True
    return False


def _server_process(connection: Connection) -> int:
    cursor = connection.cursor(row_factory=tuple_row)
    ((number,),) = cursor.execute(queries.backend, prepare=False).fetchall()
    return int(number)


@contextmanager
def _migrator(connection: Connection, conninfo: str, timeout: float) -> Iterator[_Backend]:
    """Be the only one who migrates this database."""
    deadline = time.monotonic() + seconds("timeout", timeout, least=0)
    _acquire(connection, _MIGRATOR, deadline)
    try:
        # The server may still be at work for a migrator that was killed: wait for its end.
        _acquire(connection, _WORKER, deadline)
        connection.execute("SELECT pg_advisory_unlock(%s)", [_WORKER])
        logger = logging.getLogger("yoyo.migrations")
        silent, logger.disabled = logger.disabled, True
        try:
            with _Backend(conninfo, default_migration_table) as backend:
                backend.create_lock_table()
                backend.clear_lock()
                with backend.lock(timeout=max(1.0, deadline - time.monotonic())):
                    backend.ensure_internal_schema_updated()
                    yield backend
        finally:
            logger.disabled = silent
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", [_MIGRATOR])


def _acquire(connection: Connection, key: int, deadline: float) -> None:
    """Take an advisory lock by asking again and again.

    Waiting for it inside the server would hold a snapshot all the while, and for that to end
    the CREATE INDEX CONCURRENTLY of the holder would wait in turn.
    """
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
        if row == (True,):
            return
        if time.monotonic() > deadline:
            raise RegistryUnavailable(
                "another process is still migrating this database: try again later, or end the "
                "long transaction that it waits for (pg_stat_activity shows it)"
            )
        time.sleep(0.05)


@contextmanager
def _translated(remedy: str = _AS_USER) -> Iterator[None]:
    """Raises the library's errors for what others raise; the remedy is for missing rights."""
    try:
        yield
    except RegistryError:
        raise
    except exceptions.LockTimeout as error:
        raise RegistryUnavailable(f"yoyo is at work on this database: {error}") from error
    except psycopg.OperationalError as error:
        raise RegistryUnavailable(f"the database did not serve: {error}") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaMismatch(f"{error.diag.message_primary}: {remedy}") from error
    except (psycopg.Error, exceptions.BadMigration) as error:
        raise SchemaMismatch(f"the schema could not be read or changed: {error}") from error


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
    """yoyo's backend, for any connection string, and without its gaps.

    yoyo applies a migration and marks it in two transactions, and a process killed between them
    leaves a schema that it cannot go on from; here it is one. Its lock is a row with a process
    number that outlives its process; here the row of a migrator is known by the number 0 and is
    stale whenever another one holds the advisory lock.
    """

    create_lock_table_sql = PostgresqlPsycopgBackend.create_lock_table_sql.replace(
        "CREATE TABLE", "CREATE TABLE IF NOT EXISTS"
    )

    def connect(self, dburi: str) -> Connection:
        connection = _connect(dburi)
        connection.execute("SELECT pg_advisory_lock_shared(%s)", [_WORKER])
        return connection

    def create_lock_table(self) -> None:
        # yoyo would go on without it, whatever the reason was.
        with suppress(psycopg.errors.UniqueViolation), self.transaction():
            self.execute(self.format_sql(self.create_lock_table_sql))

    def list_tables(self, **_: object) -> list[str]:
        rows = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return [name for (name,) in rows]

    def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
        # yoyo asks for the local user, who may have no name, and for the host's full name, for
        # which a name server may take seconds.
        return {
            "id": str(uuid.uuid4()),
            "migration_id": migration and migration.id,
            "migration_hash": migration and migration.hash,
            "username": self.connection.info.user,
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(timezone.utc).replace(tzinfo=None),
            "operation": operation,
        }

    def _insert_lock_row(self, pid: int, timeout: float, poll_interval: float = 0.1) -> None:
        super()._insert_lock_row(0, timeout, poll_interval)

    def _delete_lock_row(self, pid: int) -> None:
        super()._delete_lock_row(0)

    def clear_lock(self) -> None:
        super()._delete_lock_row(0)

    def apply_one(self, migration: Any, force: bool = False, mark: bool = True) -> None:
        self._run(migration, "apply")

    def rollback_one(self, migration: Any, force: bool = False) -> None:
        self._run(migration, "rollback")

    def _run(self, migration: Any, direction: str) -> None:
        migration.load()
        whole = migration.use_transactions
        with self.copy() as worker, worker.transaction() if whole else nullcontext():
            migration.process_steps(worker, direction)
            mark = worker.mark_one if direction == "apply" else worker.unmark_one
            mark(migration, log=False)
            worker.log_migration(migration, direction)
