"""One process of clients, run as a program: threads that write, read and play until told to stop.

Its options are one JSON argument; commands come as lines on its standard input; what it has
counted goes out as lines of JSON.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from registry import (
    GameSession,
    GameSessionRegistry,
    HistoryPruned,
    OutcomeUnknown,
    RegistryConfig,
    RegistryError,
    RegistryUnavailable,
    SequenceConflict,
    SessionTakenOver,
    TokenReused,
    breaker,
)
from registry.cache import RedisReplayCache

from .client import Client
from .history import Recorder

HOT: Final = [f"hot {n}" for n in range(3)]
COLD: Final = [f"cold {n}" for n in range(150)]
WRITERS: Final = 3
READERS: Final = 1
PLAYERS: Final = 2

PACE: Final = 0.004
"""Seconds between two calls of a thread, so that a run's history stays of a size to be judged."""

AFTER_FAILURE: Final = 0.02


STACKS: Final = signal.SIGUSR1
"""Has a process write what its threads are doing to its standard error."""


SOURCES: Counter[str] = Counter()
"""How many pages came from where."""


class Interrupted(BaseException):
    """Raised in a thread from outside, as KeyboardInterrupt is in the main one."""


class Calls(Recorder):
    """Counts the calls, and knows which threads are in one and can be interrupted."""

    def __init__(self, path: Path, process: int) -> None:
        super().__init__(path, process)
        self.answered = 0
        self.appended: Counter[str] = Counter()
        """Answered appends of each of the games that everybody plays."""
        self.inside: dict[int, int] = {}  # thread: connection
        self.lock = threading.Lock()

    def call(
        self,
        connection: int,
        kind: str,
        game: str,
        args: dict[str, Any],
        act: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        thread = threading.get_ident()

        def interruptible() -> dict[str, Any]:
            self.inside[thread] = connection
            try:
                return act()
            finally:
                self.inside.pop(thread, None)

        result = super().call(connection, kind, game, args, interruptible)
        with self.lock:
            self.answered += 1
            if kind == "append" and game in HOT:
                self.appended[game] += 1
        return result


class Actor:
    """What one connection does, a step at a time, forgiving what the contract lets happen."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.chance = client.random
        self.name = name

    def step(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """What is left to do when everybody stops."""

    def a_game(self) -> str:
        return self.chance.choice(HOT if self.chance.random() < 0.7 else COLD)


class WritingActor(Actor):
    """Appends in every way there is, and tries again as the contract allows."""

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(client, name)
        self._made = 0
        self._next: dict[str, int] = {}

    def step(self) -> None:
        game = self.a_game()
        way = self.chance.choice([self._plain, self._with_id, self._with_id, self._block,
                                  self._expecting])  # fmt: skip
        way(game)

    def _label(self) -> str:
        self._made += 1
        return f"{self.name}.{self._made}"

    def _plain(self, game: str) -> None:
        label = self._label()
        while True:
            try:
                self.client.append(game, label)
                return
            except RegistryUnavailable:  # nothing was done: the same event again, or never
                if self.chance.random() < 0.5:
                    return
            time.sleep(AFTER_FAILURE)

    def _with_id(self, game: str) -> None:
        label = self._label()
        event_id = uuid5(NAMESPACE_OID, label)
        again = self.chance.choice([0, 0, 0, 1])
        while again >= 0:
            try:
                self.client.append(game, label, event_id=event_id)
                again -= 1
            except (RegistryUnavailable, OutcomeUnknown):
                if self.chance.random() < 0.02:
                    return
                time.sleep(AFTER_FAILURE)

    def _block(self, game: str) -> None:
        self.client.append_many(game, [self._label() for _ in range(self.chance.randint(2, 6))])

    def _expecting(self, game: str) -> None:
        label = self._label()
        how = {"event_id": uuid5(NAMESPACE_OID, label)} if self.chance.random() < 0.5 else {}
        for _ in range(4):
            expected = self._next.get(game, 1)
            try:
                got = self.client.append(game, label, expected_sequence=expected, **how)
            except SequenceConflict as conflict:
                self._next[game] = conflict.actual
            else:
                self._next[game] = got + 1
                return


class ReadingActor(Actor):
    """Follows games page by page."""

    def __init__(self, client: Client, name: str) -> None:
        super().__init__(client, name)
        self._positions: dict[str, int] = {}

    def step(self) -> None:
        game = self.a_game()
        position = self._positions.get(game, 0)
        if self.chance.random() < 0.02:
            position = 0
        try:
            if self.chance.random() < 0.3:
                most, size = self.chance.choice([1, 5, 50]), self.chance.choice([3, 20])
                position = self.client.iterate(game, position, most, size)
            else:
                page = self.client.read(game, position, self.chance.choice([1, 3, 10, 100]))
                position = page.events[-1].sequence if page.events else position
        except HistoryPruned as pruned:
            position = pruned.floor
        self._positions[game] = position


class PlayingActor(Actor):
    """An honest client on a bad line: replies get lost, connections come back as ghosts."""

    def __init__(self, client: Client, name: str, game: str) -> None:
        super().__init__(client, name)
        self.game = game
        self._session: GameSession | None = None
        self._token = ""
        self._begin = self._position = 0
        self._ghosts: list[GameSession] = []

    def step(self) -> None:
        if self._session is None:
            self._issue()
            return
        chance = self.chance.random()
        if chance < 0.15:
            self._resume(self.chance.choice([1, 1, 1, 2, 3]))
        elif chance < 0.2:
            self._resume_in_two_windows()
        elif chance < 0.22:
            self._issue()
        elif chance < 0.8:
            self._read()
            if chance < 0.7:
                self._act(
                    lambda session: self.client.acknowledge(
                        session, self.chance.choice([self._position, self._some_position()])
                    )
                )
        elif chance < 0.9:
            self._act(self.client.beat)
        elif self._ghosts:
            ghost = self.chance.choice(self._ghosts)
            with suppress(SessionTakenOver):
                self.client.beat(ghost)
            with suppress(SessionTakenOver):
                self.client.acknowledge(ghost, self._some_position())

    def finish(self) -> None:
        """Comes back once more, reads to the end of what there is and acknowledges it."""
        if self._session is None:
            self._issue()
        self._resume(1)
        before = -1
        while before < self._position:
            before = self._position
            self._read()
        self._act(lambda session: self.client.acknowledge(session, self._position))

    def _some_position(self) -> int:
        return self.chance.randint(self._begin, self._position)

    def _issue(self) -> None:
        self._remember_ghost()
        self._session = None  # until there is an answer, nobody knows what holds
        session, token = self.client.issue(self.game, self.name)
        self._token = token
        self._position = max(self._position, session.last_acknowledged)
        self._begin = session.last_acknowledged
        self._session = session

    def _resume(self, times: int) -> None:
        """All replies but the last are lost."""
        self._remember_ghost()
        for _ in range(times):
            try:
                session, fresh, replay = self.client.resume(
                    self.game, self.name, self._token, self._position
                )
            except TokenReused:  # displaced by an issue whose reply was lost
                self._session = None
                raise
        self._session, self._token = session, fresh
        if replay.events:
            self._position = replay.events[-1].sequence

    def _resume_in_two_windows(self) -> None:
        """At once, with one token, and perhaps neither reply arrives."""
        self._remember_ghost()

        def resume() -> Any:
            return self.client.resume(self.game, self.name, self._token, self._position)

        with ThreadPoolExecutor(2) as pool:
            windows = [pool.submit(resume) for _ in range(2)]
        answers = [window.result() for window in windows if window.exception() is None]
        refusals = [window.exception() for window in windows if window.exception() is not None]
        if any(isinstance(refusal, TokenReused) for refusal in refusals):
            self._session = None
        elif answers and self.chance.random() < 0.5:
            # Either token is good; the later one's connection holds the session.
            self._session = max((s for s, _, _ in answers), key=lambda s: s.generation)
            self._token = self.chance.choice(answers)[1]
        for refusal in refusals:
            assert refusal is not None
            raise refusal

    def _remember_ghost(self) -> None:
        if self._session is not None:
            self._ghosts = [*self._ghosts[-5:], self._session]

    def _read(self) -> None:
        page = self.client.read(self.game, self._position, limit=50)
        SOURCES[page.source] += 1
        if page.events:
            self._position = page.events[-1].sequence

    def _act(self, act: Callable[[GameSession], None]) -> None:
        assert self._session is not None
        try:
            act(self._session)
        except SessionTakenOver:  # by a call of its own whose answer it never got
            self._resume(1)


class Process:
    """The threads, and the commands that they are disturbed by."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.name = f"{options['number']}.{options['incarnation']}"
        self.number = int(options["number"])
        self.chance = random.Random(options["seed"])
        self.calls = Calls(Path(options["history"]), self.number)
        self.stopping = threading.Event()
        self.settled: Counter[str] = Counter()
        self.trouble: list[BaseException] = []
        # Half of the processes give up waiting for a lock, half for the statement.
        patience = {"lock_timeout": 0.7, "statement_timeout": 1.5}
        if self.number % 2:
            patience = {"lock_timeout": 4.0, "statement_timeout": 1.2}
        breaker.REST = 0.2  # a standby is there for a second or two
        self.registry = self._connect(
            options["conninfo"],
            RegistryConfig(
                session_ttl=86_400.0,
                lossless_failover=True,
                batch_size=5,
                pool_timeout=2.0,
                pool_min_size=1,
                pool_max_size=6,
                # So little that most of what is read again comes from the Redis.
                cache_events=40,
                cache_bytes=20_000,
                # So that most pages need the standby, while there is one.
                standby_after=3,
                **patience,
            ),
            options["redis"],
            options["standby"],
        )
        self._actors = 0

    def _connect(
        self, conninfo: str, config: RegistryConfig, redis: str | None, standby: str | None
    ) -> GameSessionRegistry:
        """Patiently: the process may begin in the middle of a fault."""
        cache = None if redis is None else RedisReplayCache(redis)
        deadline = time.monotonic() + 60
        while True:
            try:
                return GameSessionRegistry.connect(
                    conninfo, config=config, cache=cache, read_conninfo=standby
                )
            except RegistryUnavailable:
                if time.monotonic() > deadline:
                    raise

    def _client(self) -> tuple[Client, str]:
        self._actors += 1
        client = Client(self.registry, self.calls, self._actors)
        client.random = random.Random(self.chance.random())
        return client, f"{self.name}.{self._actors}"

    def _player(self, n: int) -> Actor:
        """The player of the process that was killed comes back in the one that replaces it."""
        client, _ = self._client()
        return PlayingActor(client, f"player {self.number}.{n}", HOT[(self.number + n) % len(HOT)])

    def run(self) -> int:
        jobs: list[list[Actor]] = []
        jobs += [[WritingActor(*self._client())] for _ in range(WRITERS)]
        jobs += [[ReadingActor(*self._client())] for _ in range(READERS)]
        jobs += [[self._player(n)] for n in range(PLAYERS)]
        # What the main thread does can be interrupted as by Ctrl-C.
        mixed = [WritingActor(*self._client()), ReadingActor(*self._client()),
                 self._player(PLAYERS)]  # fmt: skip
        signal.signal(signal.SIGINT, self._interrupted)
        threads = [threading.Thread(target=self._live, args=[actors]) for actors in jobs]
        for thread in threads:
            thread.start()
        others = [threading.Thread(target=work, daemon=True) for work in (self._obey, self._report)]
        for thread in others:
            thread.start()
        self._live(mixed)
        for thread in threads:
            thread.join()
        self.registry.close()
        self._say()
        for trouble in self.trouble:
            print(f"{type(trouble).__name__}: {trouble}", file=sys.stderr)
        return 1 if self.trouble else 0

    def _live(self, actors: Sequence[Actor]) -> None:
        try:
            while not self.stopping.is_set():
                with suppress(Interrupted):  # it comes a little after the call, now and then
                    self._go_on(actors)
            deadline = time.monotonic() + 30
            for actor in actors:
                while not self._forgive(actor.finish) and time.monotonic() < deadline:
                    time.sleep(AFTER_FAILURE)
        except BaseException as trouble:
            self.trouble.append(trouble)

    def _go_on(self, actors: Sequence[Actor]) -> None:
        while not self.stopping.is_set():
            for actor in actors:
                self._forgive(actor.step)
                time.sleep(PACE * actor.chance.random() * 2)

    def _forgive(self, act: Callable[[], None]) -> bool:
        """What a call was answered is in the history, for the checker to judge."""
        try:
            act()
        except RegistryError:
            time.sleep(AFTER_FAILURE)
        except (KeyboardInterrupt, Interrupted):
            pass
        else:
            return True
        return False

    def _interrupted(self, *_: object) -> None:
        if threading.get_ident() in self.calls.inside:
            raise KeyboardInterrupt

    def _obey(self) -> None:
        for line in sys.stdin:
            command = line.strip()
            if command == "stop":
                self.stopping.set()
            elif command == "interrupt":
                self._interrupt_a_thread()
            elif command == "fork":
                self._fork()
        if not self.stopping.is_set():  # whoever began it is gone
            os._exit(1)

    def _interrupt_a_thread(self) -> None:
        others = [t for t in list(self.calls.inside) if t != threading.main_thread().ident]
        if others:
            thread = self.chance.choice(others)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(Interrupted)
            )

    def _fork(self) -> None:
        """A child that uses its parent's registry must be told not to."""

        def act() -> dict[str, Any]:
            child = os.fork()
            if child == 0:
                os._exit(0 if self._is_refused() else 1)
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    ended = os.waitstatus_to_exitcode(status)
                    return {"refused": ended == 0, "ended": ended}
                time.sleep(0.01)
            for how in (STACKS, signal.SIGKILL):
                os.kill(child, how)
                time.sleep(0.1)
            os.waitpid(child, 0)
            return {"refused": False, "ended": None}

        self.calls.call(0, "fork", HOT[0], {}, act)

    def _is_refused(self) -> bool:
        """Run in the child."""
        registry = self.registry
        for call in (
            lambda: registry.record_event(HOT[0], "forked"),
            lambda: registry.fetch_events_since(HOT[0], 0),
            lambda: registry.issue_resume_token(HOT[0], "forked"),
        ):
            try:
                call()
            except RegistryUnavailable as error:
                if "fork" not in str(error):
                    return False
            else:
                return False
        return True

    def _report(self) -> None:
        while True:
            self._say()
            time.sleep(0.05)

    def _say(self) -> None:
        status = {
            "answered": self.calls.answered,
            "sources": SOURCES,
            "appended": dict(self.calls.appended),
            "settled": self.settled,
            "clock": time.time(),
        }
        os.write(1, json.dumps(status).encode() + b"\n")


def count_settlings(settled: Counter[str]) -> None:
    """Counts what the library says about commits whose answer it did not get."""

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            settled[record.getMessage()] += 1

    logger = logging.getLogger("registry.settling")
    logger.addHandler(Counting())
    logger.setLevel(logging.INFO)
    logger.propagate = False


def main() -> int:
    faulthandler.register(STACKS)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # each lost connection
    process = Process(json.loads(sys.argv[1]))
    count_settlings(process.settled)
    return process.run()


if __name__ == "__main__":
    sys.exit(main())
