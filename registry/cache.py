"""The replay cache in Redis: asked in one round trip and a bounded time, never needed.

A log is a list of runs (see `runs`), its newest events. Scripts (see `lua/`) read and change it, so
that of several servers that fill it at once none leaves a hole; and who reads it looks for holes
all the same. What the cache says is used only where the database has just confirmed it: see
docs/cache.md.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import Any, Final, TypeGuard

from attrs import field, frozen

from .extras import install

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        f"the replay cache needs redis: {install('redis')}", name="redis"
    ) from None

from . import arguments
from .breaker import Breaker
from .errors import InvalidArgument
from .resources import folder
from .runs import Position, Run, joined, pack, unpack

logger = logging.getLogger("registry.cache")

_Command = tuple[bytes | str | int, ...]


@frozen
class _Script:
    """A file of `lua/`."""

    text: bytes = field(repr=False)
    sha: str

    @classmethod
    def load(cls, name: str) -> _Script:
        text = (folder("lua") / f"{name}.lua").read_bytes()
        return cls(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())

    def call(self, key: bytes, *arguments: bytes | int) -> _Command:
        return ("EVALSHA", self.sha, 1, key, *arguments)


_READ, _FILL, _TRIM = _SCRIPTS = [_Script.load(name) for name in ("read", "fill", "trim")]


class RedisReplayCache:
    """The newest events of each game in Redis, for `GameSessionRegistry(..., cache=...)`.

    Reads go through it: what it has need not be sent by PostgreSQL, which remains the only truth.
    It holds committed events alone, no session and no token, and may be slow, full, emptied or gone
    at any moment: then PostgreSQL answers alone. One cache may serve several registries and any
    number of threads and processes; it closes with `close`, not with the registry.

    Needs the extra `redis`. Redis from version 6, one server or one behind a proxy: a log is one
    key, but the keys of a call are not in one slot, so not a Redis Cluster.

    Args:
        server: a URL (`redis://`, `rediss://`, `unix://`) or a `redis.Redis`, whose settings are
            taken over except for its timeouts: `RegistryConfig.cache_timeout` is the one there is.
        prefix: of the keys: `prefix:game_id`. Another for each database that shares the Redis.

    Raises:
        InvalidArgument: the server is neither, or the URL is none; the prefix is not 1 to 200
            characters of text.
    """

    def __init__(self, server: str | redis.Redis, *, prefix: str = "registry") -> None:
        self._prefix = arguments.text_id("prefix", prefix)
        pool = _pool(server)
        # Ours end with the time of the call instead, and nothing is tried twice in it.
        kwargs = {**pool.connection_kwargs, "decode_responses": False, "retry": _ONCE}
        self._kwargs = kwargs | {"health_check_interval": 0}
        self._class: type[Any] = type("Bounded", (_Bounded, pool.connection_class), {})
        if not self._can_connect():
            raise InvalidArgument(_WRONG)
        self._pool = pool  # what a connection asks for its settings may go with it
        self._idle: list[Any] = []
        self._process = os.getpid()
        self._breaker = Breaker(
            logger,
            "Redis does not answer (%s): replays come from PostgreSQL",
            "Redis answers again",
        )
        self._closed = False

    def read(self, wanted: Mapping[str, Position], timeout: float) -> dict[str, Run]:
        """What it has of some games' events after a sequence, at most so many: one round trip.

        Returns:
            For each game that it knows some of a run without a hole, which may begin earlier and
            end before the head; none at all when Redis does not answer within `timeout` seconds.
        """
        deadline = monotonic() + timeout
        answers = self._exchange(
            [_READ.call(self._key(game), *position) for game, position in wanted.items()], deadline
        )
        found = {}
        damaged = []
        for game, answer in zip(wanted, answers, strict=False):
            if isinstance(answer, Exception) and type(answer) is not redis.ResponseError:
                continue  # no script, no right, no room: that says nothing of what is there
            runs = [unpack(run) for run in answer] if _are_bytes(answer) else [None]
            if None in runs:
                damaged.append(game)
            elif run := joined(run for run in runs if run):
                found[game] = run
        if damaged:
            self._exchange([("UNLINK", *map(self._key, damaged))], deadline)
        return found

    def change(
        self,
        *,
        gone: Collection[str],
        fills: Sequence[tuple[str, Run]],
        trims: Mapping[str, int],
        keep: int,
        seconds: int,
        timeout: float,
    ) -> bool:
        """Brings it up to date: one round trip. What fails is left undone, and never matters."""
        commands = [
            *(("UNLINK", self._key(game)) for game in gone),
            *(_FILL.call(self._key(game), pack(run), keep, seconds) for game, run in fills),
            *(_TRIM.call(self._key(game), floor) for game, floor in trims.items()),
        ]
        answers = self._exchange(commands, monotonic() + timeout)
        return not any(isinstance(answer, Exception) for answer in answers) and len(answers) == len(
            commands
        )

    def close(self) -> None:
        """Closes its connections, one in use when its answer has come; from then on it answers
        nothing. Closing again is fine."""
        self._closed = True
        self._drop_idle()

    def __enter__(self) -> RedisReplayCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self, game_id: str) -> bytes:
        return f"{self._prefix}:{game_id}".encode()

    def _can_connect(self) -> bool:
        """Whether there can be a connection of these settings; none is opened."""
        try:
            self._class(**self._kwargs)
        except Exception:  # its text may show the password
            return False
        return True

    def _exchange(self, commands: Sequence[_Command], deadline: float) -> list[Any]:
        """The answers to some commands, errors of single ones included; none if Redis is away."""
        if self._process != os.getpid():  # forked: the connections, and who holds the lock, are not
            self._process, self._idle = os.getpid(), []
            self._breaker.disown()
        if not commands or self._closed or not self._breaker.admits():
            return []
        try:
            try:
                answers = self._ask(commands, deadline)
            except _Stale:
                self._drop_idle()  # the server closed one, so it has closed them all
                answers = self._ask(commands, deadline)
        except Exception as error:  # also what a client's own settings raise: a cache never does
            self._breaker.failed(type(error).__name__)
            return []
        self._breaker.succeeded()
        return answers

    def _ask(self, commands: Sequence[_Command], deadline: float) -> list[Any]:
        try:
            connection, fresh = self._idle.pop(), False
        except IndexError:
            connection, fresh = self._class(**self._kwargs), True
        connection.deadline = deadline
        try:
            if fresh:
                connection.connect()
                _talk(connection, [("SCRIPT", "LOAD", script.text) for script in _SCRIPTS])
            answers = _talk(connection, commands)
        except redis.ConnectionError as error:
            connection.disconnect()
            if fresh or isinstance(error, redis.TimeoutError):
                raise
            raise _Stale from None
        except BaseException:
            connection.disconnect()
            raise
        if any(isinstance(answer, redis.exceptions.NoScriptError) for answer in answers):
            connection.disconnect()  # somebody flushed the scripts: the next one loads them
        else:
            self._idle.append(connection)
            if self._closed:  # meanwhile: nobody else would close this one
                self._drop_idle()
        return answers

    def _drop_idle(self) -> None:
        # One by one, from the list that others give theirs back to: none is missed.
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.disconnect()


class _Stale(Exception):
    """A connection that was idle has been closed meanwhile."""


class _Bounded:
    """Mixed into a connection of redis-py: all it does has to be done by `deadline`."""

    deadline = 0.0

    @property
    def socket_timeout(self) -> float:
        """Asked before each address that is tried, and before TLS is agreed upon."""
        return max(self.deadline - monotonic(), 0.000001)  # 0 would mean another thing

    @socket_timeout.setter
    def socket_timeout(self, _: object) -> None:
        """What the client was set to is not what counts."""

    socket_connect_timeout = socket_timeout

    def _connect(self) -> _Socket:
        return _Socket(super()._connect(), self)  # type: ignore[misc]


class _Socket:
    """A socket on which each wait ends with the deadline of its connection, not anew."""

    def __init__(self, plain: Any, connection: _Bounded) -> None:
        self._plain = plain
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def recv_into(self, *arguments: Any) -> int:
        self._plain.settimeout(_left(self._connection.deadline))
        size: int = self._plain.recv_into(*arguments)
        return size

    def recv(self, *arguments: Any) -> bytes:
        self._plain.settimeout(_left(self._connection.deadline))
        data: bytes = self._plain.recv(*arguments)
        return data

    def sendall(self, data: bytes) -> None:
        self._plain.settimeout(_left(self._connection.deadline))
        self._plain.sendall(data)


def _are_bytes(answer: object) -> TypeGuard[list[bytes]]:
    return isinstance(answer, list) and all(isinstance(item, bytes) for item in answer)


def _left(deadline: float) -> float:
    """The seconds left; raises TimeoutError if there are none."""
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    return left


def _talk(connection: Any, commands: Sequence[_Command]) -> list[Any]:
    """The answers to commands that are sent together."""
    connection.send_packed_command(connection.pack_commands(commands))
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(connection.read_response(disable_decoding=True))
        except redis.ResponseError as error:  # of this command alone: out of memory, say
            answers.append(error)
    return answers


_ONCE = Retry(NoBackoff(), 0)
_WRONG: Final = (
    "the cache's server must be a redis.Redis or a URL: redis://, rediss:// or unix://, with "
    "settings that there are"
)


def _pool(server: object) -> redis.ConnectionPool:
    if isinstance(server, redis.Redis):
        return server.connection_pool
    if isinstance(server, str):
        try:
            return redis.ConnectionPool.from_url(server)
        except ValueError:
            pass  # its text would show the password
    raise InvalidArgument(_WRONG)
