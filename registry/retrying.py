"""What passes by itself is tried again: after pauses of random, growing length, for a while."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from .errors import RegistryUnavailable
from .metrics import Observer

T = TypeVar("T")

logger: Final = logging.getLogger("registry.retrying")

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds, at most, before the second try, and before any other."""

Attempt = Callable[[float], T]
"""Tries once. Takes the time, by `monotonic`, until which it may wait for a connection."""


class Setback(RegistryUnavailable):
    """A try failed in a way that may pass, and did nothing or nothing that another could double.

    `error` is what the caller gets when it does not pass; `tries`, how often at most this kind of
    setback is worth another try; `reason`, the type of the driver's error, empty for a setback that
    is not to be told of.
    """

    def __init__(
        self, error: RegistryUnavailable, tries: int | None = None, reason: str = ""
    ) -> None:
        super().__init__(*error.args)
        self.error = error
        self.tries = tries
        self.reason = reason


def persist(attempt: Attempt[T], setback: Setback, deadline: float, observer: Observer) -> T:
    """Goes on after a first setback; nothing is tried after the deadline, by `monotonic`."""
    first = [setback]

    def again() -> T:
        if first:
            raise first.pop()
        return attempt(deadline)

    retrying = Retrying(
        retry=retry_if_exception_type(Setback),
        wait=wait_random_exponential(FIRST_PAUSE, LONGEST_PAUSE),
        stop=partial(_enough, deadline, Counter()),
        before_sleep=partial(_tell, observer),
        reraise=True,
    )
    try:
        return retrying(again)
    except Setback as last:
        raise last.error from None


def _enough(deadline: float, setbacks: Counter[int], state: RetryCallState) -> bool:
    setback = state.outcome.exception() if state.outcome else None
    if isinstance(setback, Setback) and setback.tries is not None:
        setbacks[setback.tries] += 1
        if setbacks[setback.tries] >= setback.tries:
            return True
    return monotonic() + state.upcoming_sleep >= deadline


def _tell(observer: Observer, state: RetryCallState) -> None:
    """Says that another try is coming; no ids, no payloads."""
    setback = state.outcome.exception() if state.outcome else None
    if isinstance(setback, Setback) and setback.reason:
        observer.retried(setback.reason)
        extra = {"reason": setback.reason, "pause": round(state.upcoming_sleep, 3)}
        logger.info("%s: tried again in %.3f s", *extra.values(), extra=extra)
