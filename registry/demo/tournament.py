"""The stages of the demonstration: play, verify, clear up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from time import monotonic
from typing import NoReturn

from attrs import frozen

from ..api import GameSessionRegistry
from ..errors import RegistryError
from .client import Client
from .faults import Faults
from .games import Game
from .intruders import Intruders
from .player import Player
from .server import GameServer
from .tally import Count, Tally
from .wire import Closed, Connection, Cut, Network, Refused

STALLED = 60.0
"""Seconds without a single event received after which the demonstration gives up."""

USERS = ("white", "black", "spectator 1", "spectator 2")
PLAYERS_ACKNOWLEDGE = 8
SPECTATORS_ACKNOWLEDGE = 50

Advance = Callable[[int], None]


@frozen
class Played:
    """A game as its clients saw it."""

    game: Game
    game_id: str
    found: int
    """Events that were in the log before this run."""
    clients: tuple[Client, ...]


class Tournament:
    """Plays recorded games through a `GameServer`, several at once, over a network with faults.

    `run` is the prefix of the game ids: a later run with the same one goes on with the games
    that an earlier one left behind. A context manager; leaving it ends all threads.
    """

    def __init__(
        self,
        registry: GameSessionRegistry,
        tally: Tally,
        *,
        run: str,
        seed: int,
        drop_rate: float,
        at_once: int,
    ) -> None:
        self._registry = registry
        self._tally = tally
        self._run = run
        self._seed = seed
        self._drop_rate = drop_rate
        self._failures: list[BaseException] = []
        self._server = GameServer(registry, tally, self._fail)
        self._network = Network(self._server.accept)
        self._intruders = Intruders(self._network, tally)
        self._tables = ThreadPoolExecutor(at_once, "table")
        self._chairs = ThreadPoolExecutor(4 * at_once, "client")

    def __enter__(self) -> Tournament:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._network.close()
        self._tables.shutdown(cancel_futures=True)
        self._chairs.shutdown(cancel_futures=True)
        self._server.close()
        if kind is None and self._failures:
            self._give_up(self._failures[0])

    def play(self, games: Sequence[Game], advance: Advance) -> list[Played]:
        """Plays games to their ends, or on from where they were left.

        `advance` is told, from this thread, how many more events there are in the logs.
        """
        futures = [self._tables.submit(self._play, game) for game in games]
        waiting: set[Future[Played]] = set(futures)
        known = received = 0
        since = monotonic()
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
            for future in done:
                if (error := future.exception()) is not None:
                    self._fail(error)
            if self._failures:
                self._give_up(self._failures[0])
            before, known = known, self._tally[Count.FOUND] + self._tally[Count.MOVES]
            advance(known - before)
            if self._tally[Count.RECEIVED] > received:
                received, since = self._tally[Count.RECEIVED], monotonic()
            elif monotonic() - since > STALLED:
                raise RegistryError(f"no client received anything for {STALLED:.0f} seconds")
        return [future.result() for future in futures]

    def verify(self, played: Played) -> list[str]:
        """What is wrong with a game: its log against the recording, its clients' boards."""
        game, wrong = played.game, []
        log = list(self._registry.iter_events_since(played.game_id, 0))
        if [event.sequence for event in log] != list(range(1, len(game.moves) + 1)):
            wrong.append(f"{played.game_id}: the log has {len(log)} of {len(game.moves)} moves")
        for event, move in zip(log, game.moves, strict=False):
            if not (isinstance(event.payload, dict) and event.payload.get("move") == move):
                wrong.append(f"{played.game_id}: event {event.sequence} of the log is not {move}")
        for client in played.clients:
            if client.duplicates or client.gaps:
                wrong.append(f"{client.name}: {client.duplicates} duplicates, {client.gaps} gaps")
            if not board_is_right(client, game):
                wrong.append(f"{client.name}: the board is not the game's final position")
        return wrong

    def clear_up(self, played: Played) -> None:
        """Ends a verified game: nothing of it is left in the database."""
        self._tally.add(Count.PRUNED, self._server.close_game(played.game_id))

    def _play(self, game: Game) -> Played:
        """One game, at one of the tables: everybody takes a seat, then it begins."""
        game_id = f"{self._run}/{game.number:03}"
        found = self._server.open_game(game_id)
        self._tally.add(Count.FOUND, found)
        clients = [self._client(game, game_id, user) for user in USERS]
        try:
            for client in clients:
                client.join()
        except BaseException:
            for client in clients:
                client.leave()
            raise
        followers = [self._chairs.submit(client.follow) for client in clients]
        done, _ = wait(followers, return_when=FIRST_EXCEPTION)
        for follower in done:
            follower.result()
        return Played(game, game_id, found, tuple(clients))

    def _client(self, game: Game, game_id: str, user: str) -> Client:
        faults = Faults(f"{self._seed}/{game_id}/{user}", self._drop_rate)
        seat = self._server.enroll(game_id, user)

        def dial() -> Connection:
            return self._network.dial(*faults.next_connection())

        if user in ("white", "black"):
            client: Client = Player(
                seat,
                dial,
                faults,
                self._tally,
                acknowledge_every=PLAYERS_ACKNOWLEDGE,
                moves=game.moves,
                result=game.result,
            )
        else:
            client = Client(
                seat, dial, faults, self._tally, acknowledge_every=SPECTATORS_ACKNOWLEDGE
            )
        client.on_welcome = partial(self._intruders.visit, client, faults)
        return client

    def _give_up(self, error: BaseException) -> NoReturn:
        if isinstance(error, (Refused, Cut)):
            raise RegistryError(f"a client could not go on: {error}") from error
        raise error

    def _fail(self, error: BaseException) -> None:
        """Keeps a thread's error for `play` to raise. What the end of the network brings about
        is none."""
        if not isinstance(error, Closed):
            self._failures.append(error)


def board_is_right(client: Client, game: Game) -> bool:
    return client.board.fen() == game.final and client.result == game.result
