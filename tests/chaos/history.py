"""What clients saw: each call written down when it begins and again when it ends.

A file has a line for each beginning and one for each end, so that a call which its process did
not live to see the end of is known as well: its outcome is open.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True)
class Call:
    """One call as its caller saw it."""

    kind: str
    game: str
    args: dict[str, Any]
    start: float
    end: float = math.inf
    """Infinite if the caller did not live to see it. The clock is one that all processes share."""
    result: dict[str, Any] | None = None
    error: str | None = None
    """The name of the exception's type."""
    detail: dict[str, int] | None = None
    """The numbers that the exception carries."""
    process: int = 0
    connection: int = 0

    @property
    def who(self) -> str:
        return f"process {self.process} connection {self.connection}"


@dataclass(frozen=True)
class _Beginning:
    n: int
    kind: str
    game: str
    args: dict[str, Any]
    start: float
    process: int
    connection: int


class _Line(msgspec.Struct, gc=False):
    """Either of the two lines of a call."""

    n: int
    kind: str = ""
    game: str = ""
    args: dict[str, Any] = {}
    start: float = 0.0
    process: int = 0
    connection: int = 0
    end: float = math.inf
    result: dict[str, Any] | None = None
    error: str | None = None
    detail: dict[str, int] | None = None


class Recorder:
    """Writes calls to a file, which several threads may share, and one process after another.

    Whoever opens the file next cuts off the line that a killed one did not finish.
    """

    def __init__(self, path: Path, process: int) -> None:
        self.path = path
        self.process = process
        if path.exists():
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._numbers = count()

    def call(
        self,
        connection: int,
        kind: str,
        game: str,
        args: dict[str, Any],
        act: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        """Does it and returns what it returned, or raises what it raised, written down."""
        n = next(self._numbers)
        start = time.monotonic()
        self._write(_Beginning(n, kind, game, args, start, self.process, connection))
        try:
            result = act()
        except BaseException as refusal:
            end = {"n": n, "end": time.monotonic(), "error": type(refusal).__name__}
            self._write({**end, "detail": _numbers(refusal)})
            raise
        self._write({"n": n, "end": time.monotonic(), "result": result})
        return result

    def _write(self, line: object) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def _numbers(error: BaseException) -> dict[str, int] | None:
    return {k: v for k, v in vars(error).items() if type(v) is int} or None


def load(paths: Iterable[Path]) -> list[Call]:
    """The calls in the files; a last line cut off by a kill is left out."""
    decoder = msgspec.json.Decoder(_Line)
    calls: list[Call] = []
    for path in paths:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        begun: dict[int, _Line] = {}
        for line in decoder.decode_lines(whole):
            if line.kind:
                if line.n in begun:  # of a process that was killed
                    calls.append(_call(begun[line.n]))
                begun[line.n] = line
            elif line.n in begun:
                calls.append(_call(begun.pop(line.n), line))
        calls.extend(map(_call, begun.values()))
    return calls


def _call(begun: _Line, ended: _Line | None = None) -> Call:
    ended = ended or begun
    return Call(
        begun.kind, begun.game, begun.args, begun.start, ended.end, ended.result, ended.error,
        ended.detail, begun.process, begun.connection,
    )  # fmt: skip
