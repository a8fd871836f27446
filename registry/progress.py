"""How far something long is: what it says that to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    def __call__(self, number: int, total: int | None = None) -> None:
        """Tells how much more is done, and of how much in all, if that has changed."""


class Progress(Protocol):
    """Where a command says how far it is. Used by one thread."""

    def stage(self, name: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
        """A part of the work; `total` is the most that there is to do, None while not known."""


class Silent:
    """Says nothing."""

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield lambda number, total=None: None
