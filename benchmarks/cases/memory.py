"""What a call costs in memory while it waits."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection

import attrs
import psycopg
from attrs import frozen

from ..lab import Lab
from ..measure import PATIENCE
from ..payload import PAYLOAD
from ..peers import Ours, Peer, Plain
from ..results import Figure
from ..usage import resident
from ..worker import answer

NAME = "memory"
TITLE = "Memory of waiting callers"
EXPLAINED = (
    "So many threads all wait inside `append`, because somebody else holds the game's row. The "
    "process's own memory then, less that with the same threads idle, is what the calls take; "
    "what an idle thread takes stands beside it."
)
GAME = "memory"
LONG = 60.0


@frozen
class Waiting:
    """Bytes of memory in a process of callers, at three moments."""

    before: int
    idle: int
    calling: int


def run(lab: Lab) -> None:
    numbers = lab.options.threads or ((512,) if lab.options.quick else (512, 2_048))
    rounds = min(1 if lab.options.quick else 3, lab.options.rounds)
    lab.view.expect(len(numbers))
    with lab.peers("ours", "plain") as peers:
        for threads in numbers:
            found: dict[str, list[Waiting]] = {name: [] for name in peers}
            for number in range(rounds):
                for name, peer in peers.items():
                    lab.view.now(f"{threads} threads: round {number + 1}/{rounds}, {name}")
                    found[name].append(_measure(peer, threads))
            for name, taken in found.items():
                metrics = {
                    "bytes/call": [(w.calling - w.idle) / threads for w in taken],
                    "bytes/idle thread": [(w.idle - w.before) / threads for w in taken],
                    "MiB in all": [w.calling / 2**20 for w in taken],
                }
                point = {"threads": threads}
                lab.results.figures.append(Figure(NAME, name, point, "calls", metrics))
            lab.view.point_done()


def _measure(peer: Peer, threads: int) -> Waiting:
    spawn = multiprocessing.get_context("spawn")
    if isinstance(peer, Ours):
        patient = attrs.evolve(
            peer.config, pool_timeout=LONG, statement_timeout=LONG, lock_timeout=LONG
        )
        peer = attrs.evolve(peer, config=patient)
    assert isinstance(peer, (Ours, Plain))
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, peer, threads), daemon=True)
    process.start()
    theirs.close()
    try:
        answer(pipe, PATIENCE)
        assert process.pid is not None
        before = resident(process.pid)
        pipe.send(None)
        answer(pipe, PATIENCE)
        idle = resident(process.pid)
        with psycopg.connect(peer.conninfo) as holder:
            holder.execute("SELECT FROM game WHERE game_id = %s FOR UPDATE", [GAME])
            pipe.send(None)
            answer(pipe, PATIENCE)
            calling = resident(process.pid)
        answer(pipe, PATIENCE)
        return Waiting(before, idle, calling)
    finally:
        process.kill()
        process.join()
        pipe.close()


def _serve(pipe: Connection, peer: Peer, threads: int) -> None:
    """Connected; then with threads that do nothing; then with threads that wait; then done."""
    client = peer.connect()
    _each_once(client.append, threads)  # whatever is made on first use, is there
    pipe.send(None)
    pipe.recv()
    go = threading.Event()
    entered: list[None] = []

    def call() -> None:
        go.wait()
        entered.append(None)
        client.append(GAME, PAYLOAD)

    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    time.sleep(0.2)
    pipe.send(None)
    pipe.recv()
    go.set()
    while len(entered) < threads:
        time.sleep(0.01)
    time.sleep(0.5)
    pipe.send(None)
    for caller in callers:
        caller.join()
    client.close()
    pipe.send(None)


def _each_once(append: object, threads: int) -> None:
    callers = [
        threading.Thread(target=append, args=(GAME, PAYLOAD))  # type: ignore[arg-type]
        for _ in range(min(64, threads))
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
