"""SQLAlchemy Core 2 on psycopg: a transaction of two statements."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import psycopg
from attrs import frozen

from ..codec import dumps, loads
from .base import POOL, Unavailable


@frozen
class SqlAlchemy:
    conninfo: str
    name: str = "sqlalchemy"
    settings: str = (
        f"SQLAlchemy Core on psycopg 3, QueuePool of {POOL}, one transaction of two statements "
        "(upsert of the head, insert), jsonb"
    )
    server_pid: int | None = None

    def prepare(self) -> None:
        if find_spec("sqlalchemy") is None:
            raise Unavailable("not run: pip install sqlalchemy")
        client = self.connect()
        client.metadata.create_all(client.engine)
        client.close()

    def connect(self) -> SqlAlchemyClient:
        return SqlAlchemyClient(self.conninfo)


class SqlAlchemyClient:
    def __init__(self, conninfo: str) -> None:
        import sqlalchemy as sa
        from sqlalchemy.dialects.postgresql import JSONB, insert

        self.engine: Any = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: psycopg.connect(conninfo, prepare_threshold=0),
            pool_size=POOL,
            max_overflow=0,
            json_serializer=dumps,
            json_deserializer=loads,
        )
        self.metadata = sa.MetaData()
        game = sa.Table(
            "game", self.metadata,
            sa.Column("game_id", sa.Text, primary_key=True),
            sa.Column("head", sa.BigInteger, nullable=False),
            postgresql_with={"fillfactor": 50},
        )  # fmt: skip
        event = sa.Table(
            "event", self.metadata,
            sa.Column("game_id", sa.Text, primary_key=True),
            sa.Column("sequence", sa.BigInteger, primary_key=True),
            sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
            sa.Column("payload", JSONB, nullable=False),
        )  # fmt: skip
        first = insert(game).values(game_id=sa.bindparam("game"), head=1)
        self._head = first.on_conflict_do_update(
            index_elements=[game.c.game_id], set_={"head": game.c.head + 1}
        ).returning(game.c.head)
        self._insert = sa.insert(event)
        self._read = (
            sa.select(event.c.sequence, event.c.recorded_at, event.c.payload)
            .where(
                event.c.game_id == sa.bindparam("game"), event.c.sequence > sa.bindparam("after")
            )
            .order_by(event.c.sequence)
            .limit(sa.bindparam("most"))
        )

    def append(self, game: str, payload: object) -> object:
        with self.engine.begin() as connection:
            head = connection.execute(self._head, {"game": game}).scalar_one()
            row = {"game_id": game, "sequence": head, "payload": payload}
            connection.execute(self._insert, row)
        return head

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        rows = [
            {"game_id": game, "sequence": sequence, "payload": payload}
            for sequence, payload in enumerate(payloads, 1)
        ]
        with self.engine.begin() as connection:
            connection.execute(self._insert, rows)

    def read(self, game: str, after: int, limit: int) -> int:
        with self.engine.connect() as connection:
            found = connection.execute(self._read, {"game": game, "after": after, "most": limit})
            return len(found.fetchall())

    def close(self) -> None:
        self.engine.dispose()
