"""Clients that call a registry from many threads and write down what they saw.

Run as a program it is one process of a storm; `Storm` starts several of them at one moment and
gathers their history for the checker.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import support  # noqa: E402, F401 - to be who the tests of the parent are
from chaos.client import Client  # noqa: E402
from chaos.history import Call, Recorder, load  # noqa: E402
from probes import PATIENT  # noqa: E402

from registry import (  # noqa: E402
    GameSession,
    GameSessionRegistry,
    HistoryPruned,
    OutcomeUnknown,
    RegistryConfig,
    SequenceConflict,
    SessionTakenOver,
)

PATIENCE = 60.0
"""Seconds after which a client that waits for events gives up."""


@dataclass(frozen=True)
class Plan:
    """What each process of a storm does: threads of three kinds, dealt out over the games."""

    games: Sequence[str]
    writers: int = 0
    events: int = 0
    """Events that each writer appends."""
    readers: int = 0
    players: int = 0
    processes: int = 2
    plain: bool = False
    """Only single appends without an id."""
    insist: bool = False
    """Appends with an event_id only, and all of them from the beginning when run again."""

    def total(self, game: str) -> int:
        """Events in a game's log in the end."""
        writers = [n for n in range(self.writers) if self.game(n) == game]
        return self.processes * self.events * len(writers)

    def game(self, thread: int) -> str:
        return self.games[thread % len(self.games)]


def write(client: Client, game: str, plan: Plan) -> None:
    """Appends the writer's events in every way there is."""
    labels = [f"{client.process}.{client.connection}.{n}" for n in range(plan.events)]
    while labels:
        label = labels.pop(0)
        way = "plain" if plan.plain else "id" if plan.insist else client.random.choice(WAYS)
        if way == "many":
            labels, rest = labels[2:], labels[:2]
            client.append_many(game, [label, *rest])
        elif way == "expected":
            _append_expecting(client, game, label)
        elif way == "plain":
            client.append(game, label)
        else:
            event_id = uuid5(NAMESPACE_OID, label)
            for _ in range(client.random.choice([1, 1, 2])):
                client.append(game, label, event_id=event_id)


WAYS = ["plain", "id", "many", "expected"]


def _append_expecting(client: Client, game: str, label: str) -> None:
    expected = 1
    for _ in range(3):
        try:
            client.append(game, label, expected_sequence=expected)
            return
        except SequenceConflict as conflict:
            if not conflict.expected == expected != conflict.actual:
                raise AssertionError("a conflict that is none") from conflict
            expected = conflict.actual
    client.append(game, label)


def read(client: Client, game: str, plan: Plan) -> None:
    """Follows a game to its end, now and then from its beginning again."""
    position, seen, pages = 0, 0, _patiently()
    while seen < plan.total(game):
        next(pages)
        try:
            page = client.read(game, position, limit=client.random.choice([1, 3, 10, 1000]))
        except HistoryPruned as pruned:
            position = pruned.floor
            continue
        position = page.events[-1].sequence if page.events else position
        seen = max(seen, position)
        if client.random.random() < 0.05:
            position = 0


def play(client: Client, game: str, plan: Plan) -> None:
    """An honest client on a bad line: replies get lost, connections come back as ghosts."""
    session, token = client.issue(game, f"player {client.process}.{client.connection}")
    begin = position = session.last_acknowledged
    ghosts, steps = [session], _patiently()
    while position < plan.total(game):
        next(steps)
        chance = client.random.random()
        if chance < 0.2:
            ghosts.append(session)
            lost = client.random.choice([0, 0, 1, 2])
            for _ in range(lost + 1):
                session, fresh, replay = client.resume(game, session.user_id, token, position)
            token = fresh
        elif chance < 0.25:
            ghosts.append(session)
            session, token = client.issue(game, session.user_id)
            continue
        else:
            replay = client.read(game, position, limit=20)
        position = replay.events[-1].sequence if replay.events else position
        if chance < 0.6:
            client.acknowledge(session, client.random.randint(begin, position))
        elif chance < 0.7:
            client.beat(session)
        elif chance < 0.8:
            _must_be_refused(client, client.random.choice(ghosts), session, begin)
    client.acknowledge(session, position)


def _must_be_refused(
    client: Client, ghost: GameSession, session: GameSession, sequence: int
) -> None:
    if ghost.generation == session.generation:
        return
    for act in (lambda: client.beat(ghost), lambda: client.acknowledge(ghost, sequence)):
        try:
            act()
        except SessionTakenOver:
            continue
        raise AssertionError(f"generation {ghost.generation} acted in {session}")


def _patiently() -> Iterator[None]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        yield
        time.sleep(0.002)
    raise AssertionError("waited in vain for events")


def in_threads(jobs: Sequence[Callable[[], object]]) -> list[BaseException]:
    """Runs the jobs at once, each in a thread of its own; what they raised."""
    barrier = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


class Storm:
    """Several processes of clients on one database, begun at one moment."""

    def __init__(self, conninfo: str, folder: Path, plan: Plan) -> None:
        self.conninfo = conninfo
        self.plan = plan
        self._folder = folder

    def start(self, process: int) -> subprocess.Popen[str]:
        """One process, which waits for a line on its standard input to begin."""
        return subprocess.Popen(
            [sys.executable, __file__, self.conninfo, str(self.file(process)), str(process),
             json.dumps(asdict(self.plan))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def file(self, process: int) -> Path:
        return self._folder / f"{process}.jsonl"

    def run(self) -> list[Call]:
        """Runs all to their end; the history of what they saw."""
        started = [self.start(process) for process in range(self.plan.processes)]
        try:
            for process in started:
                assert process.stdout is not None
                ready = process.stdout.readline()
                assert ready == "ready\n", process.communicate()[1]
            for process in started:
                begin(process)
            for process in started:
                _, errors = process.communicate(timeout=2 * PATIENCE)
                assert process.returncode == 0, errors
        finally:
            for process in started:
                process.kill()
                process.communicate()
        return self.history()

    def history(self) -> list[Call]:
        return load(map(self.file, range(self.plan.processes)))


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def main(conninfo: str, history: str, number: str, plan_text: str) -> int:
    plan, process = Plan(**json.loads(plan_text)), int(number)
    kinds = [write] * plan.writers + [read] * plan.readers + [play] * plan.players
    recorder = Recorder(Path(history), process)
    with GameSessionRegistry.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        jobs = []
        numbers = [*range(plan.writers), *range(plan.readers), *range(plan.players)]
        for thread, (kind, place) in enumerate(zip(kinds, numbers, strict=True)):
            client = Client(registry, recorder, thread)
            jobs.append(partial(kind, client, plan.game(place), plan))
        print("ready", flush=True)
        sys.stdin.readline()
        failures = in_threads(jobs)
    for failure in failures:
        print(f"{type(failure).__name__}: {failure}", file=sys.stderr)
    return 1 if any(not isinstance(failure, OutcomeUnknown) for failure in failures) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
