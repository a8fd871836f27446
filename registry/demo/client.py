"""A client: a spectator, and what a player has in common with one.

It knows only what came over its connections.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import chess

from .faults import Faults
from .tally import Count, Tally
from .wire import Caller, Connection, Cut, Message, Refused, Seat

BEAT = 1.0
"""Seconds without news after which a client beats."""

SESSION_OVER = {"SessionRevoked", "SessionExpired", "SessionNotFound", "InvalidToken"}
"""Refusals after which a client has to authenticate again."""

TRY_AGAIN = {"SessionTakenOver", "RegistryUnavailable", "OutcomeUnknown"}
"""Refusals after which it is enough to connect again."""

PATIENCE = 50
"""Attempts to connect, one after another in vain, after which a client gives up."""


class Client:
    """A spectator: follows a game to its end and keeps a board of what it was told.

    `dial` opens a connection. `acknowledge_every` is in events; the end is acknowledged anyway.
    """

    def __init__(
        self,
        seat: Seat,
        dial: Callable[[], Connection],
        faults: Faults,
        tally: Tally,
        *,
        acknowledge_every: int,
    ) -> None:
        self.name = f"{seat.game_id}, {seat.user_id}"
        self.board = chess.Board()
        self.result: str | None = None
        self.last = 0
        self.duplicates = 0
        self.gaps = 0
        self.session_id = ""
        self.retired_token: str | None = None
        self.on_welcome: Callable[[], None] = lambda: None
        self._seat = seat
        self._dial = dial
        self._faults = faults
        self._tally = tally
        self._acknowledge_every = acknowledge_every
        self._acknowledged = 0
        self._caller: Caller | None = None
        self._token: str | None = None
        self._used_token: str | None = None
        self._epoch: str | None = None
        self._replay_until: int | None = None
        self._begun_before = False

    def join(self) -> None:
        """Takes the seat: returns once connected."""
        vain = 0
        while self._caller is None:
            try:
                if self._token is None:
                    self._token = self._authenticate()
                self._resume(self._token)
            except (Cut, Refused) as setback:
                vain += 1
                if vain == PATIENCE:
                    raise
                self._cope(setback)

    def follow(self) -> None:
        """Takes part until the end of the game has been seen and acknowledged."""
        try:
            while self.result is None or self._acknowledged < self.last:
                self.join()
                try:
                    self._step()
                except (Cut, Refused) as setback:
                    self._cope(setback)
        finally:
            self.leave()

    def leave(self) -> None:
        """Hangs up."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def _step(self) -> None:
        """One thing at a time: acknowledge, or wait for news."""
        caller = self._connected
        fresh = self.last - self._acknowledged
        if fresh >= self._acknowledge_every or (fresh and self.result is not None):
            self._acknowledged = caller.ask(do="acknowledge", sequence=self.last)["sequence"]
        elif self._faults.falls_silent():
            self._come_back_elsewhere()
        elif not caller.listen(BEAT):
            caller.ask(do="beat")

    def _cope(self, setback: Cut | Refused) -> None:
        """Gets ready to connect again; raises what a client cannot cope with."""
        self.leave()
        if isinstance(setback, Cut):
            self._tally.add(Count.DROPS)
            if setback.halfway:
                self._tally.add(Count.HALVES)
        elif setback.error == "TokenReused":
            self._tally.violation(f"{self.name} was taken for a thief")
            self._token = None
        elif setback.error in SESSION_OVER:
            self._token = None
        elif setback.error not in TRY_AGAIN:
            raise setback

    def _authenticate(self) -> str:
        """Gets a token by name and password."""
        caller = self._call()
        try:
            granted = caller.ask(
                do="authenticate",
                game_id=self._seat.game_id,
                user_id=self._seat.user_id,
                password=self._seat.password,
            )
        finally:
            caller.close()
        self._tally.add(Count.AUTHENTICATIONS)
        self._used_token = self.retired_token = None
        return str(granted["token"])

    def _resume(self, token: str) -> None:
        """Comes back with the token, at times on two connections at the same moment.

        The one that the server took last is the one to go on with; the other one is a ghost.
        """
        callers = [self._call() for _ in range(2 if self._faults.comes_twice() else 1)]
        welcomed: list[tuple[Message, Caller]] = []
        setback: Cut | Refused | None = None
        try:
            for caller in list(callers):
                try:
                    caller.send(do="resume", token=token, after=self.last, epoch=self._epoch)
                except Cut as cut:
                    caller.close()
                    callers.remove(caller)
                    setback = cut
            for caller in callers:
                try:
                    welcomed.append((caller.answer(), caller))
                except (Cut, Refused) as lost:
                    caller.close()
                    setback = lost
        except BaseException:
            for caller in callers:
                caller.close()
            raise
        if not welcomed:
            assert setback is not None  # each call ends in a welcome or in a setback
            raise setback
        welcomed.sort(key=lambda pair: pair[0]["generation"])
        welcome, caller = welcomed.pop()
        self._tally.add(Count.RESUMES)
        if welcome["token"] != token:  # the one used before this one retires now
            self.retired_token, self._used_token = self._used_token, token
        for _, twin in welcomed:
            self._tally.add(Count.TWINS)
            self._haunt(twin)
        self._enter(caller, welcome)

    def _call(self) -> Caller:
        return Caller(self._dial(), self._hear)

    def _enter(self, caller: Caller, welcome: Message) -> None:
        """Goes on with a connection that was welcomed."""
        self._caller = caller
        self._token = welcome["token"]
        self.session_id = welcome["session_id"]
        self._epoch = welcome["epoch"]
        if self._replay_until is None:
            self._begun_before = welcome["head"] > 0
        self._replay_until = welcome["head"]
        if welcome["continuity"] != "continuous":
            self._tally.violation(f"{self.name}: continuity is {welcome['continuity']}")
        self._hear(welcome)
        self.on_welcome()

    def _come_back_elsewhere(self) -> None:
        """Leaves the connection behind, as a telephone does that changes its network.

        To the server it is alive. What is still under way on it arrives when the client has
        long come back on another one.
        """
        ghost = self._connected
        self._caller = None
        self._tally.add(Count.DROPS)
        try:
            self.join()
            self._haunt(ghost)
        finally:
            ghost.close()

    def _haunt(self, ghost: Caller) -> None:
        """Acts once more on a connection that another one has replaced: must be refused."""
        ghost.mute()
        try:
            if self._faults.beats_late():
                ghost.ask(do="beat")
            else:
                ghost.ask(do="acknowledge", sequence=self.last)
            self._tally.violation(f"{self.name}: a ghost connection could act")
        except Refused as refused:
            if refused.error == "SessionTakenOver" or refused.error in SESSION_OVER:
                self._tally.add(Count.GHOSTS)
            else:
                self._tally.violation(f"{self.name}: a ghost got {refused}")
        except Cut:
            pass  # nobody will know
        finally:
            ghost.close()

    def _hear(self, message: Message) -> None:
        """Takes in events, each once and in order; what is not so is counted."""
        for event in message["events"]:
            sequence = event["sequence"]
            self._tally.add(Count.RECEIVED)
            if self._replay_until is not None and sequence <= self._replay_until:
                self._tally.add(Count.REPLAYED)
            if sequence <= self.last:
                self.duplicates += 1
                continue
            if sequence > self.last + 1:
                self.gaps += 1
            self.last = sequence
            self._watch(event["payload"])

    def _watch(self, payload: Message) -> None:
        """Makes the move on the board; one that makes no sense leaves the board as it is."""
        with suppress(ValueError):
            self.board.push_uci(payload["move"])
        self.result = payload.get("result", self.result)

    @property
    def _connected(self) -> Caller:
        assert self._caller is not None  # between join and leave
        return self._caller
