"""Calls of a registry that are written down, as a client sees them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from registry import GameSession, GameSessionRegistry, Replay

from .history import Recorder


class Client:
    """One connection's calls, each written down with its answer."""

    def __init__(self, registry: GameSessionRegistry, recorder: Recorder, connection: int) -> None:
        self.registry = registry
        self.process = recorder.process
        self.connection = connection
        self.random = random.Random(f"{recorder.process}/{connection}")
        self._record = partial(recorder.call, connection)

    def append(self, game: str, label: str, **how: Any) -> int:
        def act() -> dict[str, Any]:
            return {"sequences": [self.registry.record_event(game, label, **how)]}

        args = {"labels": [label], "id": how.get("event_id") is not None}
        if "expected_sequence" in how:
            args["expected"] = how["expected_sequence"]
        return int(self._record("append", game, args, act)["sequences"][0])

    def append_many(self, game: str, labels: Sequence[str]) -> None:
        def act() -> dict[str, Any]:
            return {"sequences": list(self.registry.record_events(game, labels))}

        self._record("append", game, {"labels": labels}, act)

    def read(self, game: str, after: int, limit: int | None = None, **mark: Any) -> Replay:
        pages: list[Replay] = []

        def act() -> dict[str, Any]:
            pages.append(self.registry.fetch_events_since(game, after, limit=limit))
            return _page(pages[0])

        self._record("read", game, {"after": after, **mark}, act)
        return pages[0]

    def iterate(self, game: str, after: int, most: int, page_size: int) -> int:
        """Goes through events and stops early, by closing the iterator; the last one's place."""

        def act() -> dict[str, Any]:
            iterator = self.registry.iter_events_since(game, after, page_size=page_size)
            with closing(iterator):  # type: ignore[type-var]
                shown = [[event.sequence, event.payload] for event in islice(iterator, most)]
            return {"events": shown}

        shown = self._record("read", game, {"after": after}, act)["events"]
        return int(shown[-1][0]) if shown else after

    def issue(self, game: str, user: str) -> tuple[GameSession, str]:
        issued = []

        def act() -> dict[str, Any]:
            issued.append(self.registry.issue_resume_token(game, user))
            return _session(issued[0].session)

        self._record("takeover", game, {"how": "issue", "user": user}, act)
        return issued[0].session, issued[0].token

    def resume(
        self, game: str, user: str, token: str, after: int
    ) -> tuple[GameSession, str, Replay]:
        resumed = []

        def act() -> dict[str, Any]:
            resumed.append(self.registry.resume(token, after=after, limit=20))
            return {**_session(resumed[0].session), **_page(resumed[0].replay)}

        self._record("takeover", game, {"how": "resume", "user": user, "after": after}, act)
        return resumed[0].session, resumed[0].token, resumed[0].replay

    def acknowledge(self, session: GameSession, sequence: int) -> None:
        def act() -> dict[str, Any]:
            done = self.registry.acknowledge(
                session.session_id, sequence, generation=session.generation
            )
            return {"acknowledged": done.sequence, "floor": done.floor}

        args = {**_acting(session), "sequence": sequence}
        self._record("act", session.game_id, args, act)

    def beat(self, session: GameSession) -> None:
        def act() -> dict[str, Any]:
            beaten = self.registry.heartbeat(session.session_id, generation=session.generation)
            return {"acknowledged": beaten.last_acknowledged}

        self._record("act", session.game_id, _acting(session), act)


def _page(replay: Replay) -> dict[str, Any]:
    events = [[event.sequence, event.payload] for event in replay.events]
    floor, head, epoch = replay.floor, replay.head, str(replay.epoch)
    return {"events": events, "head": head, "floor": floor, "epoch": epoch}


def _session(session: GameSession) -> dict[str, Any]:
    return {
        "session": session.session_id,
        "generation": session.generation,
        "acknowledged": session.last_acknowledged,
    }


def _acting(session: GameSession) -> dict[str, Any]:
    return {"session": session.session_id, "generation": session.generation}
