"""The PostgreSQL recorder of `eventsourcing`, called as its repositories call it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from attrs import frozen
from psycopg.conninfo import conninfo_to_dict

from ..codec import dumps, loads
from .base import POOL, Unavailable


@frozen
class EventSourcing:
    conninfo: str
    name: str = "eventsourcing"
    settings: str = (
        f"its application recorder's insert_events with its database function, pool of {POOL}; "
        "the caller gives the version: each process remembers it under a lock a game, and reads "
        "it again after a conflict (faster than letting the threads conflict)"
    )
    server_pid: int | None = None

    def prepare(self) -> None:
        if find_spec("eventsourcing") is None:
            raise Unavailable("not run: pip install eventsourcing")
        client = self.connect()
        client.recorder.create_table()
        client.close()

    def connect(self) -> EventSourcingClient:
        return EventSourcingClient(self.conninfo)


class EventSourcingClient:
    def __init__(self, conninfo: str) -> None:
        from eventsourcing.persistence import IntegrityError, StoredEvent
        from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore

        given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
        self._datastore = PostgresDatastore(
            dbname=given.get("dbname", "postgres"),
            host=given.get("host", ""),
            port=given.get("port", "5432"),
            user=given.get("user", "postgres"),
            password=given.get("password", ""),
            pool_size=POOL,
            connect_timeout=60,
            originator_id_type="text",
            enable_db_functions=True,
        )
        self.recorder: Any = PostgresApplicationRecorder(self._datastore)
        self._event: Any = StoredEvent
        self._conflict: type[Exception] = IntegrityError
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._versions: dict[str, int] = {}

    def append(self, game: str, payload: object) -> object:
        state = dumps(payload)
        with self._locks[game]:
            while True:
                version = self._versions.get(game)
                if version is None:
                    last = self.recorder.select_events(game, desc=True, limit=1)
                    version = last[0].originator_version if last else 0
                event = self._event(game, version + 1, "Moved", state)
                try:
                    self.recorder.insert_events([event])
                except self._conflict:
                    self._versions.pop(game, None)
                    continue
                self._versions[game] = version + 1
                return version + 1

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        self.recorder.insert_events(
            [self._event(game, version, "Moved", dumps(p)) for version, p in enumerate(payloads, 1)]
        )

    def read(self, game: str, after: int, limit: int) -> int:
        found = self.recorder.select_events(game, gt=after, limit=limit)
        return len([loads(event.state) for event in found])

    def close(self) -> None:
        self._datastore.close()
