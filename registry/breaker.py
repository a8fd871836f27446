"""A circuit breaker: what is in trouble costs one call in a while its patience, and not each."""

from __future__ import annotations

import logging
import threading
from time import monotonic
from typing import Final

FAILURES: Final = 3
"""In a row, after which what fails is left alone for a while."""

REST: Final = 2.0
"""Seconds for which it is left alone, before one call tries it again."""


class Breaker:
    """Says whether to try. Safe to share between threads.

    Args:
        logger: is told once when trouble begins and once when it ends.
        begins: what to say then, with a `%s` for the last failure.
        ends: what to say in the end.
    """

    def __init__(self, logger: logging.Logger, begins: str, ends: str) -> None:
        self._logger = logger
        self._begins = begins
        self._ends = ends
        self._lock = threading.Lock()  # for what follows
        self._failures = 0
        self._try_again_at = 0.0

    @property
    def resting(self) -> bool:
        """Whether no call may try just now."""
        return self._failures >= FAILURES and monotonic() < self._try_again_at

    def admits(self) -> bool:
        """Whether this call may try, and no other for a while if there is trouble."""
        if self._failures < FAILURES:
            return True
        with self._lock:
            now = monotonic()
            if now < self._try_again_at:
                return False
            self._try_again_at = now + REST
            return True

    def failed(self, reason: str) -> None:
        """Takes note of a try that failed; `reason` is logged."""
        with self._lock:
            self._failures += 1
            self._try_again_at = monotonic() + REST
            if self._failures == FAILURES:
                self._logger.warning(self._begins, reason)

    def succeeded(self) -> None:
        """Takes note of a try that did not fail."""
        if self._failures:
            with self._lock:
                if self._failures >= FAILURES:
                    self._logger.info(self._ends)
                self._failures = 0

    def disown(self) -> None:
        """In a forked child: whoever held the lock is not here."""
        self._lock = threading.Lock()
