"""The distribution, built and used the way a stranger would: away from the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SHIPPED = {
    "sql": "*.sql",
    "sql/partitioning": "*.sql",
    "migrations": "*.sql",
    "examples/data": "*.pgn",
}
PROGRAM = """
import json, sys
from registry import EmbeddedPostgres, GameSessionRegistry, migrate
from registry.resources import folder

with EmbeddedPostgres() as server:
    applied = migrate(server.conninfo)
    with GameSessionRegistry.connect(server.conninfo) as registry:
        sequence = registry.record_event("game", {"move": "e4"})
        optional = {"msgspec", "zstandard", "prometheus_client", "opentelemetry"}
        assert not optional & sys.modules.keys()
        payload = registry.fetch_events_since("game", 0).events[0].payload
names = ["sql", "migrations", "demo/data"]
print(json.dumps([applied, sequence, payload, [str(folder(name)) for name in names]]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that building leaves nothing in the real one."""
    skip = shutil.ignore_patterns(".git", ".*_cache", ".tox", ".venv", "*.egg-info", "build")
    return Path(shutil.copytree(CHECKOUT, tmp_path_factory.mktemp("source") / "copy", ignore=skip))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel made from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """Installs what it is told into a fresh environment; returns its Python."""

    def install(*what: object) -> Path:
        call(sys.executable, "-m", "venv", tmp_path / "venv")
        python = tmp_path / "venv" / "bin" / "python"
        call(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *what)
        return python

    return install


def call(*command: object, cwd: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def use(python: Path, empty: Path) -> list[Path]:
    """Run the program in an empty folder; returns where its files came from."""
    empty.mkdir()
    applied, sequence, payload, folders = json.loads(call(python, "-c", PROGRAM, cwd=empty))
    migrations = (CHECKOUT / "migrations").glob("*.sql")
    assert applied == sorted(p.stem for p in migrations if not p.stem.endswith(".rollback"))
    assert (sequence, payload) == (1, {"move": "e4"})
    return [Path(folder) for folder in folders]


def files(folder: str, pattern: str) -> set[str]:
    found = {path.name for path in (CHECKOUT / folder).glob(pattern)}
    assert found, f"{folder} is empty"
    return found


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(next(n for n in names if n.endswith("METADATA"))).decode()
    for folder, pattern in SHIPPED.items():
        inside = f"registry/{'demo/data' if folder == 'examples/data' else folder}/"
        shipped = {n[len(inside) :] for n in names if re.fullmatch(rf"{inside}[^/]+", n)}
        assert shipped == files(folder, pattern)
    modules = {str(p.relative_to(CHECKOUT)) for p in (CHECKOUT / "registry").rglob("*.py")}
    assert {n for n in names if n.endswith(".py")} == modules
    assert "registry/py.typed" in names
    assert {n.split("/")[0].split("-")[0] for n in names} == {"registry", "game_session_registry"}
    required = {
        line.split(":", 1)[1].split(";")[0].strip(" ").rstrip("<>=0123456789.,")
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    }
    assert required == {"attrs", "psycopg", "psycopg-pool", "tenacity", "yoyo-migrations"}
    for extra, package in {"fast": "msgspec", "compression": "zstandard"}.items():
        assert re.search(rf'^Requires-Dist: {package}.*extra == "{extra}"$', metadata, re.MULTILINE)


@pytest.mark.slow
def test_the_sdist_holds_what_the_tests_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for folder, pattern in {**SHIPPED, "tests": "*.py", "tests/unit": "*.py"}.items():
        assert {f"{folder}/{name}" for name in files(folder, pattern)} <= names
    single = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "setup.py", "yoyo.ini"}
    assert single | {"tox.ini", ".ci/run"} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(
    built: tuple[Path, Path], install: Callable[..., Path], tmp_path: Path
) -> None:
    python = install(f"{built[1]}[embedded]")
    for folder in use(python, tmp_path / "empty"):
        assert folder.is_relative_to(tmp_path / "venv")
    assert "migrate" in call(python, "-m", "registry", "--help", cwd=tmp_path / "empty")


@pytest.mark.slow
def test_an_editable_install_works(
    source: Path, install: Callable[..., Path], tmp_path: Path
) -> None:
    python = install("-e", f"{source}[embedded]")
    for folder in use(python, tmp_path / "empty"):
        assert folder.is_relative_to(source)
