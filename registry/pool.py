"""The pool that connections come from: opened, replaced when it may have lost some, closed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from .config import RegistryConfig
from .errors import InvalidArgument, RegistryUnavailable
from .preparation import Preparation
from .settings import network_settings

logger: Final = logging.getLogger("registry.pool")

PsycopgPool = ConnectionPool[Connection[Any]]


class Pool:
    """A caller's pool, which stays the caller's to open and close."""

    def __init__(self, current: PsycopgPool, preparation: Preparation) -> None:
        self.current = current
        self.preparation = preparation
        self.refusal = ""
        """Why it gives no connection any more, once that is so."""

    @property
    def conninfo(self) -> str:
        """What the pool connects with: its conninfo and those of its arguments libpq knows."""
        given, more = self.current.conninfo, self.current.kwargs
        known = {default.keyword.decode() for default in Conninfo.get_defaults()}
        return make_conninfo(
            given() if callable(given) else given,
            **{k: v for k, v in (more() if callable(more) else more or {}).items() if k in known},
        )

    def refuse(self, why: str) -> None:
        """Refuses further leases."""
        self.refusal = why

    def close(self) -> None:
        """Refuses further leases, and closes the pool if it is the registry's own.

        A forked child leaves it to its parent.
        """
        if not self.refusal:
            self.refuse("the registry is closed")

    def leave(self) -> None:
        """Lets go of a pool of the registry's own, without waiting for who still uses it."""

    def interrupted(self, pool: PsycopgPool) -> None:
        """Notes that a call was interrupted while it had to do with the pool."""

    def renew(self, pool: PsycopgPool) -> None:
        """Puts another pool in the place of one that has run dry, if that may have lost some.

        An interrupted call is one that psycopg's pool still hands a connection to, for nobody.
        """


class OwnPool(Pool):
    """A pool of the registry's own."""

    def __init__(self, make: Callable[[], PsycopgPool], preparation: Preparation) -> None:
        """`make` makes a pool that is not open yet."""
        super().__init__(make(), preparation)
        self._make = make
        self._lock = threading.Lock()  # for who closes or replaces it
        self._losing: PsycopgPool | None = None  # an interrupted call may have lost one of it

    @classmethod
    def open(cls, conninfo: str, config: RegistryConfig, *, lineage: bool = True) -> OwnPool:
        """Opens a pool and waits for its first connections; `lineage` as in `Preparation`."""
        preparation = Preparation(config, owned=True, lineage=lineage)

        def make() -> PsycopgPool:
            return ConnectionPool(
                conninfo,
                kwargs=kwargs,
                configure=preparation.configure,
                min_size=config.pool_min_size,
                max_size=config.pool_max_size,
                timeout=config.pool_timeout,
                # Its pauses between two tries double for as long; a call that waits for a
                # connection then has it try again at once.
                reconnect_timeout=config.pool_timeout,
                open=False,
            )

        try:
            kwargs = {**network_settings(config, conninfo_to_dict(conninfo)), "autocommit": True}
            pool = cls(make, preparation)
        except (psycopg.ProgrammingError, UnicodeEncodeError):
            # The text of the error would show the password.
            raise InvalidArgument("the conninfo is neither a libpq string nor a URL") from None
        try:
            pool.current.open(wait=True, timeout=config.pool_timeout)
        except BaseException as error:
            pool.close()
            if not isinstance(error, PoolTimeout):
                raise
            raise RegistryUnavailable(
                f"no connection to the database within {config.pool_timeout:g} s: "
                "check that it runs and that the conninfo is right"
            ) from None
        return pool

    def close(self) -> None:
        if self.refusal:
            return
        with self._lock:  # or a pool that is just being replaced would stay open
            super().close()
            pool = self.current
        pool.close()

    def leave(self) -> None:
        if not self.refusal:
            self.current.close(timeout=1)

    def interrupted(self, pool: PsycopgPool) -> None:
        self._losing = pool

    def renew(self, pool: PsycopgPool) -> None:
        with self._lock:
            if self.refusal or not (self._losing is pool is self.current):
                return
            self._losing = None
            self.current = self._make()
            self.current.open()
        logger.warning("the pool had run dry after an interrupted call and was replaced")
        pool.close(timeout=0)
