"""A bell for threads that wait for work."""

from __future__ import annotations

from _thread import allocate_lock
from contextlib import suppress


class Bell:
    """Rung by any thread, heard by one: once for all that it was rung until then.

    A lock is all that there is to it, which costs less than a condition or an event.
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = allocate_lock()  # locked: not rung
        self._silent.acquire()

    def ring(self) -> None:
        if self._silent.locked():
            with suppress(RuntimeError):  # somebody else just did
                self._silent.release()

    def heard(self, seconds: float) -> bool:
        """Whether it rings within so many seconds, or has."""
        return self._silent.acquire(True, seconds)

    @property
    def rung(self) -> bool:
        """Whether it was rung, and nobody has heard it yet."""
        return not self._silent.locked()
