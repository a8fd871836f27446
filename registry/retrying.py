"""What passes by itself is tried again: after pauses of random, growing length, for a while."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from .errors import RegistryUnavailable

T = TypeVar("T")

FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds, at most, before the second try, and before any other."""

Attempt = Callable[[float], T]
"""Tries once. Takes the time, by `monotonic`, until which it may wait for a connection."""


class Setback(RegistryUnavailable):
    """A try failed in a way that may pass, and did nothing or nothing that another could double.

    `error` is what the caller gets when it does not pass; `tries`, how often at most this kind of
    setback is worth another try.
    """

    def __init__(self, error: RegistryUnavailable, tries: int | None = None) -> None:
        super().__init__(*error.args)
        self.error = error
        self.tries = tries


def persist(attempt: Attempt[T], setback: Setback, deadline: float) -> T:
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
