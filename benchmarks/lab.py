"""What a case is given: the server, the peers, and a way to measure contenders at a point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from attrs import frozen

from .measure import Callers, Contender, interleave, opened
from .options import Options
from .peers import PEERS, Peer, Unavailable, prisma_client
from .results import Figure, Point, Results
from .server import Server
from .view import View
from .worker import Load


@frozen
class Lab:
    options: Options
    server: Server
    results: Results
    view: View

    @contextmanager
    def peers(self, *names: str, server: Server | None = None) -> Iterator[dict[str, Peer]]:
        """Those of the named that were asked for and can run, each with a new database."""
        with ExitStack() as stack:
            made = {}
            for name in names:
                if name not in self.options.peers:
                    continue
                try:
                    made[name] = PEERS[name](server or self.server, stack)
                except Unavailable as error:
                    self.results.note(name, str(error))
                    continue
                self.results.settings[name] = made[name].settings
            yield made

    @contextmanager
    def prisma(self) -> Iterator[str | None]:
        """The conninfo of a database with Prisma's table, if that was asked for and can run."""
        with ExitStack() as stack:
            conninfo = None
            if "prisma" in self.options.peers:
                try:
                    self.view.now("installing prisma")
                    prisma_client.installed()
                except Unavailable as error:
                    self.results.note("prisma", str(error))
                else:
                    conninfo = stack.enter_context(self.server.database("prisma"))
                    prisma_client.prepare(conninfo)
                    self.results.settings["prisma"] = prisma_client.SETTINGS
            yield conninfo

    def callers(
        self,
        peer: Peer,
        load: Load,
        *,
        threads: int,
        processes: int = 1,
        name: str = "",
        server: Server | None = None,
        fresh: bool = False,
        keep: bool = True,
    ) -> Callers:
        """Python callers of a peer, as a contender."""
        pid = peer.server_pid
        return Callers(
            name or peer.name,
            load,
            threads=threads,
            processes=processes,
            server=(server or self.server).processes if pid is None else lambda: [pid],
            fresh=fresh,
            keep=keep,
        )

    def measure(
        self,
        case: str,
        point: Point,
        contenders: Sequence[Contender],
        *,
        unit: str = "events",
        per_call: int = 1,
        rounds: int | None = None,
        seconds: float | None = None,
        warm: float | None = None,
        server: Server | None = None,
        places: Mapping[str, tuple[str, Point]] | None = None,
    ) -> list[Figure]:
        """Lets the contenders take turns at one point of a case and keeps their figures.

        `places`: for each contender the name and the point of its figure, where contenders at
        several points take turns.
        """
        where = ", ".join(f"{value} {name}" for name, value in point.items())
        rounds = rounds or self.options.rounds
        length = seconds or self.options.slice

        def tick(number: int, name: str) -> None:
            self.view.now(f"{where}: round {number + 1}/{rounds}, {name}")

        def failed(name: str, error: Exception) -> None:
            why = f"failed: {type(error).__name__}: {str(error).strip()[-600:]}"
            self.results.note(f"{case}, {where}: {name}", why)

        with opened(contenders, failed) as ready:
            (server or self.server).checkpoint()
            samples = interleave(
                ready,
                rounds=rounds,
                warm=warm or min(self.options.warm, length / 2),
                seconds=length,
                tick=tick,
                failed=failed,
            )
        figures = [
            Figure.of(case, *(places or {}).get(name, (name, point)), unit, per_call, taken)
            for name, taken in samples.items()
            if len(taken) == rounds
        ]
        self.results.figures += figures
        self.view.point_done()
        return figures
