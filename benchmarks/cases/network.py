"""A network that takes a millisecond for each round trip."""

from __future__ import annotations

from contextlib import ExitStack

import attrs
from psycopg.conninfo import make_conninfo

from ..far import Far, namespace, relay
from ..lab import Lab
from ..measure import Callers
from ..peers import Ours, Peer, Plain, Unavailable
from ..peers.loads import Append
from ..worker import Load
from . import resume

NAME = "network"
TITLE = "A millisecond away"
EXPLAINED = (
    "Server and callers are kept half a millisecond apart in each direction, so that round trips "
    "show: by netem in a network namespace where the kernel has it and the run is root's, else by "
    "a small relay written in C (the notes say so, if it was that). Appends to one game, and "
    "resumes with 100 missed events."
)


def run(lab: Lab) -> None:
    numbers = lab.options.threads or ((1, 32) if lab.options.quick else (1, 32, 128))
    lab.view.expect(2 * len(numbers))
    try:
        with ExitStack() as stack:
            far = _far(lab, stack)
            near = stack.enter_context(lab.peers("ours", "plain", server=far.server))
            peers = {name: _through(peer, far) for name, peer in near.items()}

            def callers(name: str, load: Load, threads: int) -> Callers:
                return lab.callers(
                    peers[name.removesuffix("-raw")],
                    load,
                    name=name,
                    threads=threads,
                    server=far.server,
                    fresh=True,
                )

            appends: dict[str, Load] = {name: Append(peer, 1) for name, peer in peers.items()}
            for call, each in (("append", appends), ("resume", resume.loads({**peers}))):
                for threads in numbers:
                    contenders = [callers(name, load, threads) for name, load in each.items()]
                    point: dict[str, int | str] = {"call": call, "threads": threads}
                    lab.measure(NAME, point, contenders, unit="calls", server=far.server)
    except Unavailable as error:
        lab.results.note(TITLE, str(error))


def _far(lab: Lab, stack: ExitStack) -> Far:
    try:
        return stack.enter_context(namespace())
    except Unavailable as error:
        far = stack.enter_context(relay(lab.server))
        lab.results.note(TITLE, f"measured through the relay, since {error}")
        return far


def _through(peer: Peer, far: Far) -> Peer:
    assert isinstance(peer, (Ours, Plain))
    return attrs.evolve(peer, conninfo=make_conninfo(peer.conninfo, host=far.host))
