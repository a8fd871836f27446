"""What happened, counted by many threads."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from threading import Lock


class Count(Enum):
    """What is counted, by the name it has in the table."""

    FOUND = "moves found in the logs"
    MOVES = "moves recorded"
    RETRIES = "moves sent again"
    DOUBLES_AVOIDED = "  that were in the log already"
    DROPS = "connections dropped"
    HALVES = "  in the middle of a line"
    AUTHENTICATIONS = "authentications"
    RESUMES = "resumes"
    CACHED = "  of which the events were known"
    TWINS = "twin resumes"
    THEFTS = "thefts refused"
    FORGERIES = "forgeries refused"
    GHOSTS = "ghosts refused"
    REPLAYED = "events replayed"
    RECEIVED = "events received"
    PRUNED = "events pruned at the end"


class Tally:
    """Counters, and the things that must not happen. Safe from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[Count] = Counter()
        self._violations: list[str] = []
        self._lock = Lock()

    def add(self, what: Count, number: int = 1) -> None:
        with self._lock:
            self._counts[what] += number

    def __getitem__(self, what: Count) -> int:
        with self._lock:
            return self._counts[what]

    def violation(self, text: str) -> None:
        """Notes what the library promises never to let happen."""
        with self._lock:
            self._violations.append(text)

    @property
    def violations(self) -> list[str]:
        with self._lock:
            return list(self._violations)
