"""`GameSessionRegistry`, the one class of the library, put together from its parts."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakSet

from psycopg import Connection
from psycopg_pool import ConnectionPool

from . import arguments, schema
from .combining import Combiner
from .config import RegistryConfig
from .database import Database
from .errors import InvalidArgument
from .keeping import ReplayCache
from .log import Log
from .metrics import NOBODY, OPERATIONS, Observer, guarded, watched
from .pool import OwnPool, Pool
from .preparation import Preparation
from .reading import Reads
from .sessions import Sessions
from .standby import Standby
from .storage import Payloads
from .upkeep import Upkeep
from .writer import Writer


class GameSessionRegistry(Sessions, Log, Upkeep):
    """Game sessions that survive a dropped connection, kept in PostgreSQL.

    For each game an ordered, gap-free log of events; for each of its players a session with
    a resume token. `Sessions`, `Log` and `Upkeep` hold the methods, each beside the SQL file
    of its name.

    One registry serves any number of threads; any number of processes may use one database.
    Every call blocks, for a bounded time: `config.pool_timeout` for a connection and
    `config.statement_timeout` for the answer, then it raises `RegistryUnavailable`. What passes by
    itself is tried again within the sum of the two: see `RegistryConfig.statement_timeout`.
    """

    def __init__(
        self,
        pool: ConnectionPool[Connection[Any]],
        *,
        config: RegistryConfig | None = None,
        cache: ReplayCache | None = None,
        observer: Observer | None = None,
        read_pool: ConnectionPool[Connection[Any]] | None = None,
    ) -> None:
        """A registry on the caller's pool, which stays the caller's to open and close.

        Its connections keep their settings: the registry bounds its own statements only, and
        they run in read committed transactions of their own. The schema is not checked: call
        `migrate`.

        Args:
            pool: open, by the time of the first call.
            config: `RegistryConfig()` if None.
            cache: a `registry.cache.RedisReplayCache`, which stays the caller's to close; None
                reads all from PostgreSQL.
            observer: is told what the registry does; see `registry.metrics.Observer`.
            read_pool: of connections to standbys of the same database, from which long replays are
                read, as with `read_conninfo` of `connect`; the caller's to open and close too.

        Raises:
            InvalidArgument: an argument is of the wrong type.
        """
        if not isinstance(pool, ConnectionPool):
            raise InvalidArgument("pool must be a psycopg_pool.ConnectionPool")
        if not isinstance(read_pool, (ConnectionPool, type(None))):
            raise InvalidArgument("read_pool must be a psycopg_pool.ConnectionPool")
        config = _config(config)
        cache = _cache(cache, config)
        given = Pool(pool, Preparation(config, owned=False))
        database = Database(given, config, observer=guarded(observer))
        standby = None if read_pool is None else Standby.on(read_pool, config)
        self._use(database, config, cache, standby)

    @classmethod
    def connect(
        cls,
        conninfo: str,
        *,
        config: RegistryConfig | None = None,
        cache: ReplayCache | None = None,
        observer: Observer | None = None,
        read_conninfo: str | None = None,
    ) -> GameSessionRegistry:
        """A registry with a pool of its own, which `close` (or leaving the `with`) closes.

        Args:
            conninfo: a libpq connection string or URL; what it leaves open, the environment
                (PGHOST, …) says.
            config: `RegistryConfig()` if None.
            cache: a `registry.cache.RedisReplayCache`, which stays the caller's to close; None
                reads all from PostgreSQL.
            observer: is told what the registry does; see `registry.metrics.Observer`.
            read_conninfo: of a standby of the same database, from which the events of long replays
                are read, all but the first `config.standby_after`. Where the log stands the primary
                says at any rate, and it sends what the standby lacks; a standby that cannot be
                reached, now or later, is done without. None reads all from the primary.

        Raises:
            InvalidArgument: an argument is of the wrong type.
            RegistryUnavailable: no connection within `config.pool_timeout` seconds.
            SchemaMismatch: the database is not migrated, or to another version than this
                library's; see `registry.migrate`.
        """
        given = arguments.plain_text(conninfo)
        if given is None:
            raise InvalidArgument("conninfo must be a str")
        config = _config(config)
        cache = _cache(cache, config)
        standby = None if read_conninfo is None else _standby(read_conninfo, config)
        registry = cls.__new__(cls)
        observer = guarded(observer)
        database = Database(OwnPool.open(given, config), config, observer=observer)
        try:
            registry._use(database, config, cache, standby)
            with database.connection() as connection:
                schema.check(connection)
            if standby is not None:
                standby.open()
        except BaseException:
            database.pool.close()
            raise
        return registry

    def _use(
        self,
        database: Database,
        config: RegistryConfig,
        cache: ReplayCache | None,
        standby: Standby | None,
    ) -> None:
        self.config = config
        self._database = database
        self._standby = standby
        self._payloads = Payloads(database, config)
        self._writer = Writer(database, config)
        self._reads = Reads(database, config, cache, standby)
        self._gather_sessions()
        self._gather_acknowledgements()
        if database.observer is not NOBODY:
            self._watch(database.observer)
        _opened.add(self)

    def _watch(self, observer: Observer) -> None:
        """Puts the observer in the way of each call, on this one registry."""
        for operation in OPERATIONS:
            setattr(self, operation, watched(getattr(self, operation), operation, observer))
        for operation, combiner in self._combiners().items():
            combiner.tell_combined = partial(observer.combined, operation)

    def _combiners(self) -> Mapping[str, Combiner[Any, Any]]:
        """By the operation whose calls they do together."""
        return {
            "record_event": self._writer.combiner,
            "heartbeat": self._beats.combiner,
            "resume": self._resumptions.combiner,
            "acknowledge": self._acknowledgements.combiner,
            "fetch_events_since": self._reads.combiner,
        }

    def migrate(self) -> list[str]:
        """Brings the schema of the pool's database up to date; see `registry.migrate`.

        For a caller's pool: `connect` refuses an old schema before it comes to this.
        """
        return schema.migrate(self._database.pool.conninfo)

    def close(self) -> None:
        """Refuses further calls, and closes the registry's own pool; a caller's pool stays open.

        Calls that wait for their turn get their answers first. Closing again is fine.
        """
        for combiner in self._combiners().values():
            combiner.close()
        self._reads.known.close()
        if self._standby is not None and not self.closed:
            self._standby.close()
        self._database.pool.close()

    @property
    def closed(self) -> bool:
        """Whether it refuses calls: `close` was called, or this process was forked from its own."""
        return bool(self._database.pool.refusal)

    def __enter__(self) -> GameSessionRegistry:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_opened: WeakSet[GameSessionRegistry] = WeakSet()


def _disown() -> None:
    """In a forked child: its parent's connections are not for two, its threads are not here."""
    why = "this process was forked after the registry was opened: open another one in it"
    for registry in _opened:
        registry._database.pool.refuse(why)
        registry._reads.known.disown()
        for combiner in registry._combiners().values():
            combiner.refuse(why)


@atexit.register
def _leave() -> None:
    """At the end of the program: an open pool would have it wait for its threads."""
    for registry in list(_opened):
        registry._database.pool.leave()
        if registry._standby is not None and not registry.closed:
            registry._standby.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)


def _config(config: RegistryConfig | None) -> RegistryConfig:
    if config is None:
        return RegistryConfig()
    if not isinstance(config, RegistryConfig):
        raise InvalidArgument("config must be a RegistryConfig")
    return config


def _cache(cache: ReplayCache | None, config: RegistryConfig) -> ReplayCache | None:
    if cache is None:
        return None
    if not isinstance(cache, ReplayCache):
        raise InvalidArgument("cache must be a registry.cache.RedisReplayCache")
    if config.cache_bytes == 0:
        raise InvalidArgument("a cache is filled from memory: cache_bytes must not be 0")
    return cache


def _standby(conninfo: str, config: RegistryConfig) -> Standby:
    given = arguments.plain_text(conninfo)
    if given is None:
        raise InvalidArgument("read_conninfo must be a str")
    return Standby.of(given, config)
