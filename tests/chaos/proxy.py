"""A TCP proxy before a server's unix socket, in which the network misbehaves on request.

A connection that lost a byte never goes on, as with TCP: what follows is lost too, and neither
side learns that the other has closed, until the proxy is healed and both are cut.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Direction = Literal["to server", "to client"]
DIRECTIONS: Final[tuple[Direction, Direction]] = ("to server", "to client")
CHUNK: Final = 65_536


@dataclass
class Weather:
    """What happens to what goes in one direction."""

    delay: float = 0.0
    """Seconds that each piece is held back."""
    jitter: float = 0.0
    """Seconds by which the delay is longer or shorter, at random."""
    rate: float = 0.0
    """Bytes a second on each connection; 0 is unlimited."""
    drop: bool = False
    """Whether all of it vanishes."""


@dataclass(eq=False)
class Link:
    """One connection."""

    writers: list[asyncio.StreamWriter]
    lost: set[Direction] = field(default_factory=set)
    """The directions in which bytes of it have vanished."""
    cut_after: dict[Direction, int] = field(default_factory=dict)
    """How many more bytes go through before the connection is cut."""
    vanishes: bool = False
    """Whether the server does not learn of the cut."""

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Listens on the loopback for as long as the `with` lasts. Its methods are for one thread."""

    def __init__(self, seed: int) -> None:
        self.socket = ""
        """Path of the server's unix socket that new connections go to."""
        self.port = 0
        self._chance = random.Random(seed)
        self._calm()
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connections(self) -> int:
        return self._soon(lambda: len(self._links))

    def cut(self, direction: Direction, most_bytes: int) -> int:
        """Cuts each connection once a random number of bytes more went that way; how many."""

        def doom() -> int:
            for link in self._links:
                link.cut_after[direction] = self._chance.randrange(most_bytes)
            return len(self._links)

        return self._soon(doom)

    def vanish(self, most_bytes: int) -> None:
        """Cuts each connection after some more bytes from the client; the server never learns.

        As when the client's host loses its power in the middle of what it sends.
        """

        def doom() -> None:
            for link in self._links:
                link.vanishes = True
                link.cut_after["to server"] = self._chance.randrange(most_bytes)

        self._soon(doom)

    def set(self, direction: Direction, weather: Weather) -> None:
        def change() -> None:
            self._weather[direction] = weather

        self._soon(change)

    def heal(self) -> None:
        """Lets all through again, and cuts what has lost bytes."""

        def calm() -> None:
            self._calm()
            for link in self._links:
                link.cut_after.clear()
                link.vanishes = False
                if link.lost:
                    link.cut()

        self._soon(calm)

    def cut_all(self) -> None:
        """As when the host behind the address goes away."""

        def cut() -> None:
            for link in self._links:
                link.cut()

        self._soon(cut)

    def _calm(self) -> None:
        self._weather = {direction: Weather() for direction in DIRECTIONS}

    def _soon(self, act: Callable[[], Any]) -> Any:
        async def do() -> Any:
            return act()

        return self._run(do())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self.socket)
        except OSError:  # nobody is there
            writer.transport.abort()
            return
        link = Link([writer, server_writer])
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(link, "to server", reader, server_writer)),
            asyncio.ensure_future(self._pump(link, "to client", server_reader, writer)),
        ]
        # Cancelled at the end of everything, which asyncio would complain about.
        with suppress(asyncio.CancelledError):
            await asyncio.wait(pumps)
        for pump in pumps:
            pump.cancel()
        self._links.discard(link)
        link.cut()

    async def _pump(
        self,
        link: Link,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._pass(link, direction, data, writer)
            while self._weather[direction].drop or direction in link.lost:
                link.lost.add(direction)  # the end of the stream is lost like the rest of it
                await asyncio.sleep(0.02)
                if writer.transport.is_closing():
                    return
            writer.write_eof()
        except (OSError, RuntimeError):
            link.cut()

    async def _pass(
        self, link: Link, direction: Direction, data: bytes, writer: asyncio.StreamWriter
    ) -> None:
        while data:
            weather = self._weather[direction]
            # A slow line is read slowly, so that a change of the weather is soon noticed.
            piece = data[: max(1, int(weather.rate / 20))] if weather.rate else data
            data = data[len(piece) :]
            if weather.rate:
                await asyncio.sleep(len(piece) / weather.rate)
            if weather.delay:
                late = self._chance.uniform(-weather.jitter, weather.jitter)
                await asyncio.sleep(max(0.0, weather.delay + late))
            if weather.drop or direction in link.lost:
                link.lost.add(direction)
                continue
            left = link.cut_after.get(direction)
            if left is not None and left <= len(piece):
                writer.write(piece[:left])
                await writer.drain()
                if link.vanishes:
                    link.lost.update(DIRECTIONS)
                    link.writers[0].transport.abort()
                    return
                for each in link.writers:  # what was passed on arrives, and then the end
                    each.close()
                return
            if left is not None:
                link.cut_after[direction] = left - len(piece)
            writer.write(piece)
            await writer.drain()
