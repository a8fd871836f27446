"""What an observer is told of a registry's work, and how it is put in the way of it.

An observer sees what was done, how often and for how long: no ids, no tokens, no payloads. Where
there is none, nothing of this runs: the methods of a registry are watched only once it has one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar

from .errors import InvalidArgument
from .model import Acknowledgement, Cleanup, Resumption
from .replay import Replay, size_of

R = TypeVar("R")

logger: Final = logging.getLogger("registry.metrics")

OPERATIONS: Final = (
    "issue_resume_token",
    "validate_resume_token",
    "resume",
    "heartbeat",
    "heartbeat_many",
    "record_event",
    "record_events",
    "fetch_events_since",
    "acknowledge",
    "prune_events",
    "get_session",
    "find_session",
    "list_sessions",
    "stale_sessions",
    "revoke_session",
    "end_game",
    "cleanup_expired_sessions",
    "renew_epochs",
    "train_dictionary",
)
"""The methods of a registry that are watched. Each page that `iter_events_since` and
`fetch_events_json` read is a `fetch_events_since`; `end_game` prunes by `prune_events`."""


class Observer(Protocol):
    """Is told what a registry does. Derive from it, and define what you want to know.

    Called from many threads at once, in the middle of the calls of a registry: be quick, and never
    call the registry from here. An observer that raises breaks no call: that is logged once, and it
    is told nothing more.
    """

    def call_began(self, operation: str) -> object:
        """One of `OPERATIONS` begins; what is returned comes back at its end, in this thread."""
        return None

    def call_ended(self, operation: str, began: object, seconds: float, error: str | None) -> None:
        """It took so long, and raised an error of this type if not None."""
        return

    def combined(self, operation: str, calls: int) -> None:
        """One statement is about to do so many calls of different threads together.

        A call that does not meet any others is done alone, and is not among them.
        """
        return

    def connected(self, seconds: float) -> None:
        """A statement waited so long for its connection, whether it got one or not."""
        return

    def retried(self, reason: str) -> None:
        """A statement did nothing, for a reason that passes, and will be tried again.

        The reason is the type of the driver's error, as "DeadlockDetected".
        """
        return

    def settled(self, statement: str, outcome: str) -> None:
        """A connection broke under an append, which was then asked for.

        The outcome is "committed", "run again" or "unknown".
        """
        return

    def recorded(self, events: int) -> None:
        """A call recorded events; again, if it came with an `event_id` that was known already."""
        return

    def replayed(self, events: int, source: str) -> None:
        """A page of so many events was read, all from the "database" or some from the "cache" or a
        "standby"."""
        return

    def pruned(self, events: int, cause: str) -> None:
        """Events were deleted: "acknowledged" by all, over the "cap", past the "retention", or by
        the "operator"."""
        return

    def resumed(self, outcome: str) -> None:
        """A `resume` was "continuous", "gap", "reset", or refused with an error of this type."""
        return


class _Nobody(Observer):
    """Wants to know nothing."""


NOBODY: Final = _Nobody()

METHODS: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class _Guarded(Observer):
    """Passes on to an observer what it is told, until that raises."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._lock = threading.Lock()

    def _leave_out(self, method: str) -> None:
        with self._lock:
            known, self._observer = self._observer is NOBODY, NOBODY
        if not known:
            logger.exception(
                "the observer failed in %s and is told nothing more",
                method,
                extra={"method": method},
            )


def _passing_on(method: str) -> Callable[..., Any]:
    def tell(self: _Guarded, *what: Any) -> Any:
        try:
            return getattr(self._observer, method)(*what)
        except Exception:
            self._leave_out(method)

    return tell


for _name in METHODS:
    setattr(_Guarded, _name, _passing_on(_name))


def guarded(observer: Observer | None) -> Observer:
    """An observer that raises nothing. `NOBODY` for None; `InvalidArgument` for what is none."""
    if observer is None:
        return NOBODY
    for method in METHODS:
        try:
            fits = callable(getattr(observer, method))
        except Exception:
            fits = False
        if not fits:
            raise InvalidArgument(f"observer has no method {method}: see registry.metrics.Observer")
    return _Guarded(observer)


def watched(call: Callable[..., R], operation: str, observer: Observer) -> Callable[..., R]:
    """The same method, whose observer is told of each call."""
    tell = _RESULTS.get(operation)

    @wraps(call)
    def observed(*args: Any, **options: Any) -> R:
        begun = observer.call_began(operation)
        began = perf_counter()
        try:
            result = call(*args, **options)
        except BaseException as error:
            kind = type(error).__name__
            observer.call_ended(operation, begun, perf_counter() - began, kind)
            if operation == "resume":
                observer.resumed(kind)
            raise
        observer.call_ended(operation, begun, perf_counter() - began, None)
        if tell is not None:
            tell(observer, result)
        return result

    return observed


def _page(observer: Observer, replay: Replay) -> None:
    observer.replayed(size_of(replay), replay.source)


def _resumption(observer: Observer, resumption: Resumption) -> None:
    observer.resumed(resumption.continuity.value)
    _page(observer, resumption.replay)


def _acknowledgement(observer: Observer, acknowledgement: Acknowledgement) -> None:
    if acknowledgement.pruned:
        observer.pruned(acknowledgement.pruned, "acknowledged")


def _prune(observer: Observer, events: int) -> None:
    observer.pruned(events, "operator")


def _cleanup(observer: Observer, cleanup: Cleanup) -> None:
    observer.pruned(cleanup.events, "retention")


_RESULTS: Final[Mapping[str, Callable[[Observer, Any], None]]] = {
    "record_event": lambda observer, _: observer.recorded(1),
    "record_events": lambda observer, sequences: observer.recorded(len(sequences)),
    "fetch_events_since": _page,
    "resume": _resumption,
    "acknowledge": _acknowledgement,
    "prune_events": _prune,
    "cleanup_expired_sessions": _cleanup,
}
"""What else is to be told of a call that succeeded."""
