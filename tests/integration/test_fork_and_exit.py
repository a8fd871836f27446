"""Processes that fork, are interrupted or end with a registry open and calls waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from probes import PATIENCE, empty, hold_game, rows, sequences, until_blocked

# The programs connect as whoever runs the tests, whatever role the tests are given.
pytestmark = pytest.mark.owner

ROOT = Path(__file__).parent.parent.parent

PREAMBLE = f"""
import os, signal, sys, threading, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from uuid import uuid4
from registry import GameSessionRegistry, RegistryConfig, RegistryUnavailable

def say(word):
    print(word, flush=True)

def connect(**settings):
    config = RegistryConfig(pool_min_size=1, **settings)
    return GameSessionRegistry.connect(sys.argv[1], config=config)
"""

MOMENT = 10.0
"""Seconds within which a busy machine does at once what can be done at once."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return module_conninfo


@contextmanager
def program(text: str, conninfo: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program, killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PREAMBLE + text, conninfo],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def until_said(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == word + "\n", (line, process.stderr and process.stderr.read())


def run(text: str, conninfo: str) -> str:
    """What a program says from its beginning to its end, which has to be a good one."""
    with program(text, conninfo) as process:
        said, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    return said


# forks


@forks
def test_a_forked_child_is_told_to_open_a_registry_of_its_own_and_its_parent_goes_on(
    conninfo: str,
) -> None:
    said = run(
        """
registry = connect()
issued = registry.issue_resume_token("game", "alice")
session = issued.session.session_id
registry.record_event("game", "before")
if os.fork() == 0:
    calls = {
        "record_event": lambda: registry.record_event("game", "child"),
        "with an id": lambda: registry.record_event("game", "child", event_id=uuid4()),
        "record_events": lambda: registry.record_events("game", ["child"] * 2),
        "a large block": lambda: registry.record_events("game", ["child"] * 1000),
        "fetch": lambda: registry.fetch_events_since("game", 0),
        "resume": lambda: registry.resume(issued.token, after=0),
        "heartbeat": lambda: registry.heartbeat(session),
        "heartbeat_many": lambda: registry.heartbeat_many([session]),
        "issue": lambda: registry.issue_resume_token("game", "bob"),
        "acknowledge": lambda: registry.acknowledge(session, 1),
        "cleanup": lambda: registry.cleanup_expired_sessions(),
    }
    for name, call in calls.items():
        try:
            call()
        except RegistryUnavailable as error:
            if "forked" not in str(error):
                say(f"{name}: {error}")
        except BaseException as error:
            say(f"{name}: {error!r}")
        else:
            say(f"{name}: was done")
    registry.close()
    registry.close()
    with connect() as own:
        own.record_event("game", "child")
    sys.exit()
_, status = os.wait()
assert status == 0, status
for n in range(3):
    registry.record_event("game", "after")
    registry.heartbeat(session)
registry.resume(issued.token, after=0)
registry.close()
say("done")
""",
        conninfo,
    )
    assert said == "done\n"
    assert sequences(conninfo, "game") == [1, 2, 3, 4, 5]


@forks
@pytest.mark.parametrize("how", ["close", "exit", "leave"])
def test_a_child_forked_while_a_writer_is_at_work_neither_hangs_nor_disturbs_it(
    conninfo: str, how: str
) -> None:
    """A lock that another thread holds at the fork stays locked for ever in the child."""
    said = run(
        f"""
registry = connect(lock_timeout=20, statement_timeout=20)
combiner = registry._writer.combiner
registry.record_event("game", "before")
appends = [
    threading.Thread(target=lambda: [registry.record_event("game", "more") for _ in range(40)])
    for _ in range(4)
]
for thread in appends:
    thread.start()
holds, let_go = threading.Event(), threading.Event()

def hold():
    with combiner._lock, registry._beats.combiner._lock:
        holds.set()
        let_go.wait(20)

holder = threading.Thread(target=hold)
holder.start()
holds.wait(20)
child = os.fork()
if child == 0:
    signal.alarm({int(MOMENT)})
    try:
        registry.record_event("game", "child")
    except RegistryUnavailable:
        pass
    if {how == "close"}:
        registry.close()
    if {how == "leave"}:
        os._exit(0)
    sys.exit()
let_go.set()
_, status = os.waitpid(child, 0)
assert status == 0, status
for thread in appends:
    thread.join()
registry.close()
say("done")
""",
        conninfo,
    )
    assert said == "done\n"
    assert sequences(conninfo, "game") == list(range(1, 162))


# interruptions and exits

# Its main thread waits in a call, alone or behind a writer, for a game that somebody else holds.
WAITING = """
registry = connect(lock_timeout=60, statement_timeout=60, pool_timeout=60)
combiner = registry._writer.combiner
behind = {behind}
for n in range(behind):
    append = lambda: registry.record_event("game", "other")
    threading.Thread(target=append, daemon=True).start()
while behind and not (combiner._alone.locked() and len(combiner._writing) == 1):
    time.sleep(0.001)
try:
    say("waits")
    registry.record_event("game", "interrupted")
except KeyboardInterrupt:
    say("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
@pytest.mark.parametrize("behind", [0, 3], ids=["alone", "behind others"])
def test_an_interrupt_comes_through_to_who_waits_and_the_process_ends(
    conninfo: str, behind: int
) -> None:
    rows(conninfo, "INSERT INTO game (game_id, head) VALUES ('game', 0)")
    with (
        hold_game(conninfo, "game"),
        program(WAITING.format(behind=behind), conninfo) as process,
    ):
        until_said(process, "waits")
        until_blocked(conninfo, min(2, behind + 1))
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        until_said(process, "interrupted")
        process.wait(MOMENT)
        assert process.returncode == 0
        assert time.monotonic() - begun < MOMENT


@pytest.mark.parametrize("closes", [False, True], ids=["left open", "closed in atexit"])
def test_a_process_ends_though_its_registry_is_open_and_threads_wait_for_answers(
    conninfo: str, closes: bool
) -> None:
    rows(conninfo, "INSERT INTO game (game_id, head) VALUES ('game', 0)")
    text = f"""
registry = connect(lock_timeout=60, statement_timeout=60, pool_timeout=5)
combiner = registry._writer.combiner
if {closes}:
    import atexit
    combiner._timeout = combiner._grace = 1
    atexit.register(registry.close)
for n in range(6):
    append = lambda n=n: registry.record_event("game", n, event_id=uuid4())
    threading.Thread(target=append, daemon=True).start()
while not (combiner._alone.locked() and combiner._writing):
    time.sleep(0.001)
say("waits")
sys.stdin.read()
"""
    with hold_game(conninfo, "game"), program(text, conninfo) as process:
        until_said(process, "waits")
        # Else the server might get to what the process left behind in the test after this one.
        until_blocked(conninfo, 2)
        process.communicate(timeout=MOMENT)
        assert process.returncode == 0


def test_a_process_ends_as_soon_as_its_threads_have_their_answers(conninfo: str) -> None:
    """Threads that are not daemons are waited for, and what they wait for still comes."""
    rows(conninfo, "INSERT INTO game (game_id, head) VALUES ('game', 0)")
    text = """
registry = connect(lock_timeout=60, statement_timeout=60, pool_timeout=60)
for n in range(6):
    threading.Thread(target=lambda: registry.record_event("game", 1)).start()
while not registry._writer.combiner._writing:
    time.sleep(0.001)
say("waits")
"""
    with program(text, conninfo) as process:
        with hold_game(conninfo, "game"):
            until_said(process, "waits")
            until_blocked(conninfo, 2)
            assert process.poll() is None
        _, errors = process.communicate(timeout=MOMENT)
        assert process.returncode == 0, errors
    assert sequences(conninfo, "game") == [1, 2, 3, 4, 5, 6], errors
