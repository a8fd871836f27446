"""Receipts: with one of them a statement can be asked for after its connection broke.

A statement that must not be done twice notes in its own transaction, in the row of a receipt, that
it was done and what it answered (`statement_receipt` in the schema). No two statements have the
same receipt and number.
"""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic
from typing import Any, Final
from uuid import UUID, uuid4

from attrs import define, field
from psycopg.types.numeric import Int8

from .metrics import Observer

logger: Final = logging.getLogger("registry.settling")

Params = dict[str, object]

NO_RECEIPT: Final[Params] = {"receipt": None, "statement": None}
"""For a statement in a caller's transaction, or one that can be repeated without harm."""

COMMITTED, RUN_AGAIN, UNKNOWN = "committed", "run again", "unknown"


@define(eq=False)
class Receipt:
    """A row of the database's, for one statement at a time."""

    id: UUID = field(factory=uuid4)
    statement: int = 0

    def next(self) -> Params:
        """What the next statement needs to note itself."""
        self.statement += 1
        return self.same()

    def same(self) -> Params:
        """What names the last statement."""
        return {"receipt": self.id, "statement": Int8(self.statement)}


class Receipts:
    """The receipts of one registry that no statement uses. Safe to share between threads."""

    def __init__(self) -> None:
        self._unused: deque[Receipt] = deque()

    def take(self) -> Receipt:
        """The one used last, so that there are no more than ever were in use at once."""
        try:
            return self._unused.pop()
        except IndexError:
            return Receipt()

    def give_back(self, receipt: Receipt) -> None:
        """Not the one of a statement that may still be done."""
        self._unused.append(receipt)


def tell_settled(query: bytes, how: str, broke_at: float, observer: Observer) -> None:
    """Says how it ended that a connection broke under a statement; no ids, no payloads."""
    statement = query.split(b" ", 2)[1].decode().removeprefix("registry.")
    extra: dict[str, Any] = {
        "settled": how,
        "statement": statement,
        "seconds": round(monotonic() - broke_at, 3),
    }
    observer.settled(statement, how)
    logger.info("the connection broke under %s; settled: %s", statement, how, extra=extra)
