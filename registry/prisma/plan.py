"""What is to be done with each game: judged by what both sides have of it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from attrs import evolve, field, frozen

from ..arguments import LAST_SEQUENCE, text_id
from ..errors import InvalidArgument
from .source import Breaks, SourceGame

Flawed = Literal["skip", "stop", "suffix"]
"""What is done with a game whose log is not whole: leave it out, import nothing at all, or import
what comes after the last flaw, with the floor there."""

CORRECT: Final = "correct it in the source and import again"
SUFFIX: Final = (
    "restore or correct the rows in the source and import again, or take what comes after with "
    "--flawed suffix: who is behind that gets HistoryPruned and the full state"
)
TAKEN: Final = (
    "nothing, if what comes after will do: who is behind that gets HistoryPruned and the full "
    "state; to have it whole, restore or correct the rows in the source and import again, without "
    "the game that this import made (end_game)"
)

_BEYOND_A_FLOOR: Final = frozenset({"name", "unnumbered", "untimed"})
"""Problems that no floor makes honest: nobody knows where those events belong."""


@frozen
class Problem:
    """Why a game, or a session, is left out or not all there; and what to do."""

    game_id: str | None
    kind: str
    detail: str
    remedy: str


@frozen
class Refused:
    """The payloads of a game that cannot be stored."""

    number: int
    first: int
    last: int
    why: str


@frozen
class Standing:
    """What the registry has of a game already."""

    floor: int
    head: int
    imported: bool
    """Whether it has a session that was imported and has had no token since."""
    same: bool | None
    """Whether an event that both have is the same; None if there is none to compare."""


@frozen
class Plan:
    """A game, and the log that it is to have: what can be replayed is (floor, head]."""

    game: SourceGame
    floor: int
    head: int
    problems: tuple[Problem, ...] = ()
    after: int | None = None
    """Events above it are still to be copied; None if none are, or the game is left out."""
    standing: Standing | None = None
    left_out: bool = field(kw_only=True)

    @property
    def game_id(self) -> str:
        return self.game.game_id or ""

    @property
    def events(self) -> int:
        """How many are still to be copied."""
        return 0 if self.after is None else self.head - max(self.after, self.floor)


def judge(
    game: SourceGame,
    breaks: Breaks | None,
    refused: Refused | None,
    standing: Standing | None,
    flawed: Flawed,
) -> Plan:
    """The plan for a game."""
    problems, floor, head = _log(game, breaks, refused)
    cannot = any(problem.kind in _BEYOND_A_FLOOR for problem in problems)
    taken = flawed == "suffix" or (flawed == "skip" and _is_there(standing, floor, head))
    if cannot or (problems and not taken):
        return Plan(game, floor, head, tuple(problems), left_out=True)
    after, conflict = _from(game, floor, head, standing)
    if conflict is not None:
        problems.append(conflict)
    else:
        problems = [evolve(problem, remedy=TAKEN) for problem in problems]
    return Plan(game, floor, head, tuple(problems), after, standing, left_out=conflict is not None)


def _log(
    game: SourceGame, breaks: Breaks | None, refused: Refused | None
) -> tuple[list[Problem], int, int]:
    """What is wrong with a game in the source, and the log that can be had of it."""
    problems = []

    def add(kind: str, detail: str, remedy: str) -> None:
        problems.append(Problem(game.game_id, kind, detail, remedy))

    try:
        text_id("the game's id", game.game_id)
    except InvalidArgument as error:
        add("name", str(error), CORRECT)
    if game.unnumbered:
        add(
            "unnumbered",
            f"{_many(game.unnumbered, 'event')} without a sequence, or with one below 1",
            CORRECT,
        )
    if game.untimed:
        add("untimed", f"{_many(game.untimed, 'event')} without a time", CORRECT)
    first, last = max(game.first or 1, 1), game.last or 0
    if not game.events:  # all that was acknowledged has been pruned
        first, last = game.acknowledged + 1, game.acknowledged
    floor, head = first - 1, last
    if head > LAST_SEQUENCE - 1:
        add("name", "its sequences leave no room for another", CORRECT)
    if breaks is not None:
        floor = max(floor, breaks.floor)
        _broken(breaks, add)
    if refused is not None:
        floor = max(floor, refused.last)
        add(
            "payload",
            f"{_many(refused.number, 'payload')} cannot be stored, the first at sequence "
            f"{refused.first}: {refused.why}",
            SUFFIX,
        )
    if game.acknowledged > head:
        add(
            "ahead",
            f"sequence {game.acknowledged} was acknowledged but the log ends at {head}: "
            "its end is missing, or the acknowledgement is wrong",
            SUFFIX,
        )
        floor = head = game.acknowledged
    return problems, floor, head


def _broken(breaks: Breaks, add: Callable[[str, str, str], None]) -> None:
    if breaks.holes:
        add(
            "hole",
            f"{_many(breaks.missing, 'event')} missing in {_many(breaks.holes, 'hole')}, "
            f"the first at sequence {breaks.first_missing}",
            SUFFIX,
        )
    if breaks.duplicates:
        add(
            "duplicate",
            f"{_many(breaks.duplicates, 'sequence')} there more than once, "
            f"the first is {breaks.first_duplicate}",
            SUFFIX,
        )


def _is_there(standing: Standing | None, floor: int, head: int) -> bool:
    """Whether an earlier import took all that comes after the flaws."""
    if standing is None or standing.floor < floor or standing.head < head:
        return False
    if standing.same is None:  # nothing is left to compare
        return standing.imported or (standing.floor, standing.head) == (floor, head)
    return standing.same


def _from(
    game: SourceGame, floor: int, head: int, standing: Standing | None
) -> tuple[int | None, Problem | None]:
    """Where the copy of a game begins, or why there can be none."""
    if standing is None:
        return floor, None
    if standing.same is False:
        return None, conflict(game, f"ends at {standing.head} and has other events")
    if standing.head >= head:
        return None, None
    if standing.same is None and standing.head > 0 and not standing.imported:
        return None, conflict(
            game, f"ends at {standing.head}, and nothing tells whether it is the same log"
        )
    return standing.head, None


def conflict(game: SourceGame, how: str) -> Problem:
    """The registry has a game of that id which is not an earlier import of this one."""
    return Problem(
        game.game_id,
        "conflict",
        f"the registry has a game of this id which {how}",
        "end_game the one in the registry if nobody needs it, or give one of them another id",
    )


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
