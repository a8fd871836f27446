"""Recorded games: which to play, and the moves of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import chess.pgn
from attrs import frozen

from ..errors import RegistryError


@frozen
class Game:
    """One recorded game."""

    number: int
    """Its place in the file, from 1."""
    white: str
    black: str
    result: str
    moves: tuple[str, ...]
    """In UCI notation: e2e4, e7e8q."""
    final: str
    """The position at the end, as FEN."""

    @property
    def title(self) -> str:
        return f"game {self.number}, {self.white} - {self.black}"


class GameBook:
    """A PGN file, with its games found but not yet read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: list[int] = []
        with path.open(encoding="utf-8") as file:
            place = 0
            while chess.pgn.skip_game(file):
                self._places.append(place)
                place = file.tell()

    def __len__(self) -> int:
        return len(self._places)

    def choose(self, count: int, seed: int) -> list[int]:
        """Numbers of `count` games: the same ones for the same seed."""
        return sorted(random.Random(seed).sample(range(1, len(self) + 1), count))

    def read(self, numbers: list[int]) -> Iterator[Game]:
        """The games of these numbers. Raises `RegistryError` for one that cannot be read."""
        with self._path.open(encoding="utf-8") as file:
            for number in numbers:
                file.seek(self._places[number - 1])
                record = chess.pgn.read_game(file)
                if record is None or record.errors or record.end() is record:
                    raise RegistryError(f"{self._path}: game {number} cannot be read")
                yield Game(
                    number,
                    record.headers["White"],
                    record.headers["Black"],
                    record.headers["Result"],
                    tuple(move.uci() for move in record.mainline_moves()),
                    record.end().board().fen(),
                )
