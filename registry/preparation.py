"""What a connection is prepared with: once, and at the beginning of each transaction on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import Connection
from psycopg.rows import tuple_row

from . import arrays
from .config import RegistryConfig
from .queries import queries
from .settings import OURS, server_settings, set_modes
from .statements import Statement, answer_of


class Preparation:
    """Prepares the connections of a pool, and knows of each what it is.

    Safe to share between threads.
    """

    def __init__(self, config: RegistryConfig, *, owned: bool, lineage: bool = True) -> None:
        """`owned`: the pool is the registry's own, and calls `configure` for each new connection.

        `lineage`: whether to settle which database the epochs belong to. That writes: a server
        that only reads has to do without.
        """
        self._owned = owned
        self._session = server_settings(config, local=False)
        bounds: Statement = queries.configure, server_settings(config, local=True)
        settling: list[Statement] = []
        if lineage:
            settling.append(
                (queries.settle_lineage, {"lossless_failover": config.lossless_failover})
            )
        # On a caller's pool the bounds travel with each statement and end with its transaction.
        self._bounds = [] if owned else [bounds]
        self._once = [*self._bounds, *settling]
        # Behind a pooler each transaction may be on another server connection, or another server:
        # nothing may be left to the session, not even whether its server is the one it was.
        self._anew = [bounds, *settling]
        self._lock = threading.Lock()  # for who goes through the first of these sets
        self._settled: WeakSet[Connection[Any]] = WeakSet()
        # They were there when one of them fell silent, and may be as dead.
        self._distrusted: WeakSet[Connection[Any]] = WeakSet()
        self._pooled: WeakSet[Connection[Any]] = WeakSet()  # they lead to a pooler

    def configure(self, connection: Connection[Any]) -> None:
        """Sets up a new connection of the registry's own pool."""
        if behind_pooler(connection):
            self._pooled.add(connection)
        else:
            connection.execute(queries.configure, self._session)
        set_modes(connection, *OURS)

    def settle(self, connection: Connection[Any]) -> None:
        """Sees to it, once a connection, that its server's logs have epochs of their own.

        If it leads to a pooler, that is left to each transaction.
        """
        if connection not in self._settled:
            if not self._owned and behind_pooler(connection):
                with self._lock:
                    self._pooled.add(connection)
                connection.prepare_threshold = None  # the lease gives it back as it was
            if self._once and connection not in self._pooled:
                answer_of(connection, self._once)
            arrays.adapt(connection)
            with self._lock:
                self._settled.add(connection)

    def first(self, connection: Connection[Any]) -> Sequence[Statement]:
        """What each transaction begins with."""
        return self._anew if self.is_pooled(connection) else self._bounds

    def is_pooled(self, connection: Connection[Any]) -> bool:
        """Whether a connection that was in use before leads to a pooler."""
        return bool(self._pooled) and connection in self._pooled

    def distrust_all(self) -> None:
        """One fell silent: those that were there beside it may be as dead."""
        with self._lock:
            self._distrusted.update(self._settled)

    def distrusts(self, connection: Connection[Any]) -> bool:
        """Whether a connection may be as dead as one that fell silent beside it."""
        return bool(self._distrusted) and connection in self._distrusted


def behind_pooler(connection: Connection[Any]) -> bool:
    """Whether a pooler stands between: the number of a process that it gives is not the server's.

    A statement that was prepared would be on one server connection of many, maybe under the name
    of another's. So this one is not.
    """
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    row = cursor.execute(queries.backend, prepare=False).fetchone()
    return row != (connection.pgconn.backend_pid,)
