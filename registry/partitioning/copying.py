"""The copy of a conversion: batch after batch, each under the locks of its games."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import takewhile
from time import monotonic
from typing import Any, Final

from attrs import frozen
from psycopg import Connection

from ..errors import RegistryError
from ..statements import Params, Row
from .conversion import Conversion
from .layouts import ask
from .locking import Locking
from .queries import queries, setting

FIRST_BATCH: Final = 500
SMALLEST_BATCH: Final = 50
LARGEST_BATCH: Final = 20_000
"""Rows; in between the batches are as large as `Pace.hold` allows."""

Segment = tuple[str, int, int]
"""A part of a game: its events behind the one sequence, through the other."""


@frozen
class _Batch:
    position: tuple[str, int]
    copied: int
    held: float
    """Seconds that its games were locked."""


@frozen
class Copying:
    """Goes on with the copy of a conversion from where that is. Used by one thread."""

    _connection: Connection[Any]
    _locking: Locking
    _conversion: Conversion

    def total(self) -> int:
        """How many events there are to copy, at most."""
        ((total,),) = self._rows(queries.total)
        return int(total)

    def batches(self) -> Iterator[int]:
        """Copies all that is left, and says of each batch how many rows it copied."""
        position = (self._conversion.game_id, self._conversion.sequence)
        rows, took = FIRST_BATCH, 0.0
        while True:
            if took:  # at least one batch: a run whose time is short gets on as well
                self._locking.pause(took)
            began = monotonic()
            segments = self._look(position, rows)
            if not segments:
                return
            batch = self._batch(segments)
            if batch is None:  # somebody holds the first game: wait for that one alone
                batch = self._locking.again(partial(self._batch, segments[:1], wait=True))
                assert batch is not None  # it waited
            took = monotonic() - began
            position = batch.position
            yield batch.copied
            hold = self._locking.pace.hold
            fitting = rows * min(2.0, max(0.5, hold / max(batch.held, 1e-4)))
            rows = round(min(LARGEST_BATCH, max(SMALLEST_BATCH, fitting)))

    def _look(self, position: tuple[str, int], rows: int) -> Sequence[Segment]:
        game_id, sequence = position
        return self._rows(queries.look, {"game_id": game_id, "sequence": sequence, "rows": rows})

    def _batch(self, segments: Sequence[Segment], wait: bool = False) -> _Batch | None:
        """Copies what it can lock, from the first game on; None if somebody holds that one.

        Whoever writes events of a game holds its row, so under these locks a game has no event
        that the statement does not see, and none goes but rows at or below the floor. Those are
        never copied, and one that falls below it later is deleted here and, by the mirror, there,
        or nowhere yet.
        """
        with self._connection.transaction():
            # What a crash takes of the copy, it takes of its position too.
            ask(self._connection, setting("synchronous_commit", "off"))
            game_ids = [game_id for game_id, _, _ in segments]
            floors: dict[str, int]
            began = monotonic()
            if wait:
                ask(self._connection, self._locking.pace.timeout())
                floors = dict(self._rows(queries.lock_one, {"game_id": game_ids[0]}))
            else:
                floors = dict(self._rows(queries.lock_free, {"game_ids": game_ids}))
                segments = [*takewhile(lambda segment: segment[0] in floors, segments)]
                if not segments:
                    return None
            # One that was waited for and ended meanwhile has no floor, and nothing to copy.
            parts = [segment for segment in segments if segment[0] in floors]
            params = {
                "game_ids": [game for game, _, _ in parts],
                "afters": [max(after, floors[game]) for game, after, _ in parts],
                "throughs": [through for _, _, through in parts],
            }
            game_id, _, sequence = segments[-1]
            with self._connection.pipeline():
                copied = ask(self._connection, queries.copy, params)
                counted = ask(self._connection, queries.count, params)
                ((here, there, same),) = counted.fetchall()
                if not same:
                    raise RegistryError(
                        f"of {here:,} events {there:,} are in the copy, which has to be the same: "
                        "nothing more is done. Give it up with --abandon; the events are unharmed"
                    )
                moved = {"game_id": game_id, "sequence": sequence, "copied": copied.rowcount}
                ask(self._connection, queries.move, moved)
        return _Batch((game_id, sequence), copied.rowcount, monotonic() - began)

    def _rows(self, query: bytes, params: Params | None = None) -> list[Row]:
        return ask(self._connection, query, params).fetchall()
