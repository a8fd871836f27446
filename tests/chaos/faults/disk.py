"""A disk that is full for a while.

The folder in question is moved to a small file system in memory, which is filled up, freed again,
and left for the disk again. Each move is a crash of the server, and a recovery.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg
from support import wait_until

from ..world import World

ROOM: Final = 64 * 2**20
"""Bytes that the small file system has for what is still to come: a log of 16 MB files may need one
before it is full, and one more to recover once there is room again."""

COMPLAINT: Final = b"No space left on device"


def why_impossible() -> str:
    """Why no disk can be full here, or nothing."""
    try:
        with _small(2**20):
            return ""
    except OSError as error:
        return f"no tmpfs can be mounted here, which root may do ({error})"


def disk_full(world: World) -> None:
    """Tables cannot grow any more."""
    ((oid,),) = world.cluster.primary.query(
        "SELECT oid::text FROM pg_database WHERE datname = current_database()"
    )
    _fill(world, world.cluster.primary.data / "base" / oid)


def wal_disk_full(world: World) -> None:
    """The write-ahead log cannot be written: PostgreSQL goes down and cannot recover."""
    _fill(world, world.cluster.primary.data / "pg_wal")


def _fill(world: World, folder: Path) -> None:
    node = world.cluster.primary
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with _small(used + ROOM) as disk:
        node.server.crash()
        _move(folder, disk / "data")
        folder.symlink_to(disk / "data")
        world.cluster.start()
        try:
            world.fleet.until_served()
            begin = node.log.stat().st_size
            ballast = disk / "ballast"
            _fill_up(ballast)

            def complained() -> bool:
                with suppress(psycopg.Error):
                    node.query("SELECT pg_switch_wal()")  # it has files of 16 MB ahead
                return COMPLAINT in node.log.read_bytes()[begin:]

            wait_until(complained)
            world.last(0.0, 1.5)
            ballast.unlink()
            if not node.answers():  # it may be stuck in a recovery that found no room either
                node.server.crash()
            world.cluster.start()
            world.fleet.until_served()
        finally:
            node.server.crash()
            folder.unlink()
            _move(disk / "data", folder)
    world.cluster.start()


def _move(source: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", source, to], check=True)
    shutil.rmtree(source)


def _fill_up(file: Path) -> None:
    with file.open("wb") as ballast, suppress(OSError):
        while True:
            os.write(ballast.fileno(), bytes(65_536))


@contextmanager
def _small(size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    with tempfile.TemporaryDirectory(prefix="chaos-disk-") as name:
        options = f"size={size},mode=1777"
        command = ["mount", "-t", "tmpfs", "-o", options, "chaos", name]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(done.stderr.strip())
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)
