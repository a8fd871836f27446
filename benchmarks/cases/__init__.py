"""What is measured: each module one question."""

from __future__ import annotations

from typing import Protocol

from ..lab import Lab
from . import (
    acknowledge,
    alone,
    append,
    cleanup,
    combined,
    cores,
    disk,
    growth,
    heartbeat,
    limit,
    memory,
    network,
    replay,
    resume,
)


class Case(Protocol):
    NAME: str
    TITLE: str
    EXPLAINED: str
    """What it does, and how to read its table."""

    def run(self, lab: Lab) -> None: ...


_ALL: tuple[Case, ...] = (
    append,
    alone,
    cores,
    limit,
    resume,
    replay,
    acknowledge,
    heartbeat,
    combined,
    cleanup,
    growth,
    memory,
    disk,
    network,
)
CASES: dict[str, Case] = {case.NAME: case for case in _ALL}
"""In the order in which they run."""
