"""A player: a client that makes the moves of one side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from .client import Client
from .faults import Faults
from .tally import Count, Tally
from .wire import Connection, Refused, Seat


class Player(Client):
    """Plays one side of a game, move by move, from a recording: white the odd moves."""

    def __init__(
        self,
        seat: Seat,
        dial: Callable[[], Connection],
        faults: Faults,
        tally: Tally,
        *,
        acknowledge_every: int,
        moves: Sequence[str],
        result: str,
    ) -> None:
        super().__init__(seat, dial, faults, tally, acknowledge_every=acknowledge_every)
        self._moves = moves
        self._outcome = result
        self._parity = 1 if seat.user_id == "white" else 0
        self._played = 0
        self._pending: UUID | None = None

    def _step(self) -> None:
        """Plays when it is time to; else what a spectator does."""
        if self._pending is not None:
            self._tally.add(Count.RETRIES)
            if self.last >= self._played:
                self._tally.add(Count.DOUBLES_AVOIDED)
            self._play(self._pending)
            return
        turn = self.last + 1
        if turn % 2 == self._parity and self._played < turn <= len(self._moves):
            self._played = turn
            self._pending = uuid4()
            self._play(self._pending)
            return
        super()._step()

    def _play(self, event_id: UUID) -> None:
        """Sends the move. Until a reply says that it is in the log it is sent again and again,
        always by the same id."""
        event = {"by": self._seat.user_id, "move": self._moves[self._played - 1]}
        if self._played == len(self._moves):
            event["result"] = self._outcome
        try:
            sequence = self._connected.ask(
                do="move", event_id=str(event_id), expected=self._played, event=event
            )["sequence"]
        except Refused as refused:
            if refused.error != "SequenceConflict":
                raise
            # An earlier process of this player, killed since, may have made it after all.
            if not self._begun_before:
                self._tally.violation(f"{self.name}: move {self._played} was not recognised")
            self._pending = None
            return
        self._pending = None
        self._tally.add(Count.MOVES)
        if sequence != self._played:
            self._tally.violation(f"{self.name}: move {self._played} was recorded as {sequence}")
