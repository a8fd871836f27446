"""People with a token that is not theirs. Each has to be refused, and in the right words."""

from __future__ import annotations

import base64
import secrets
from uuid import UUID

from .client import Client
from .faults import Faults
from .tally import Count, Tally
from .wire import Caller, Network, Refused


class Intruders:
    """Wait for a client to come back, then try to get in as that client."""

    def __init__(self, network: Network, tally: Tally) -> None:
        self._network = network
        self._tally = tally

    def visit(self, client: Client, faults: Faults) -> None:
        """The client has just been welcomed on a connection."""
        if faults.is_imitated():
            self._try(forged(client.session_id), "InvalidToken", Count.FORGERIES)
        if client.retired_token is not None and faults.is_robbed():
            self._try(client.retired_token, "TokenReused", Count.THEFTS)

    def _try(self, token: str, refusal: str, count: Count) -> None:
        connection = self._network.dial()
        try:
            Caller(connection, lambda _: None).ask(do="resume", token=token, after=0, epoch=None)
            self._tally.violation("an intruder was let in")
        except Refused as refused:
            if refused.error == refusal:
                self._tally.add(count)
            else:
                self._tally.violation(f"an intruder should have got {refusal}, but got {refused}")
        finally:
            connection.close()


def forged(session_id: str) -> str:
    """A token made by somebody who knows all about the session but its secret."""
    game_id, _, uuid = session_id.rpartition("/")
    raw = game_id.encode() + UUID(uuid).bytes + secrets.token_bytes(32)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
