"""What a peer has to be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from psycopg import Connection
from psycopg_pool import ConnectionPool

from ..codec import use


class Client(Protocol):
    """A peer in one process, used by many threads."""

    def append(self, game: str, payload: object) -> object:
        """One durable event at the end of a game's log."""

    def append_many(self, game: str, payloads: Sequence[object]) -> None:
        """Many events of one game, to have something to read."""

    def read(self, game: str, after: int, limit: int) -> int:
        """A page of a game's log, decoded; how many events it had."""

    def close(self) -> None: ...


class Peer(Protocol):
    """How to get at one. Travels to other processes, so it has to be picklable."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> str:
        """How it is set up here, for whoever reads the figures."""

    @property
    def server_pid(self) -> int | None:
        """Its own server's process; None if that is PostgreSQL."""

    def prepare(self) -> None:
        """Its tables, in its empty database. Called once."""

    def connect(self) -> Client:
        """Called in each process that calls."""


POOL = 16
"""Connections of each process, for every peer that has a pool."""


def pool_of(conninfo: str) -> ConnectionPool[Connection[Any]]:
    """The open pool of a process, for the peers that are plain psycopg."""
    pool = ConnectionPool(
        conninfo,
        min_size=POOL,
        max_size=POOL,
        kwargs={"autocommit": True, "prepare_threshold": 0},
        configure=use,
        open=True,
    )
    pool.wait()
    return pool


class Unavailable(Exception):
    """The peer cannot run here. The text says why, and what to install."""
