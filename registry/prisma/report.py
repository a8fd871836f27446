"""What an import found and did, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs
from attrs import define, field

from .plan import Plan, Problem

KEPT: Final = 1_000
"""Problems that are told one by one; more of them are only counted."""

SHOWN: Final = 20
"""Those that a person is shown of them."""


@define
class Count:
    """Games, events and sessions."""

    games: int = 0
    events: int = 0
    sessions: int = 0


@define
class Report:
    """What was found, done and left; the check at the end fills `unsound`."""

    dry_run: bool
    timed: bool = True
    source: Count = field(factory=Count)
    there: Count = field(factory=Count)
    """What the registry had already."""
    todo: Count = field(factory=Count)
    done: Count = field(factory=Count)
    left_out: Count = field(factory=Count)
    suffix_games: int = 0
    """Games of which only what comes after the last flaw is imported."""
    kinds: Counter[str] = field(factory=Counter)
    problems: list[Problem] = field(factory=list)
    stopped: bool = False
    checked: int = 0
    unsound: list[Problem] = field(factory=list)

    @property
    def complete(self) -> bool:
        """Whether all of the source is in the registry, or would be."""
        return not (self.kinds or self.unsound or self.stopped)

    def found(self, plan: Plan) -> None:
        """Counts what was found of a game."""
        self.source.games += 1
        self.source.events += plan.game.events
        self.source.sessions += plan.game.sessions
        for problem in plan.problems:
            self.problem(problem)
        if plan.left_out:
            self.left_out.games += 1
            self.left_out.events += plan.game.events
            self.left_out.sessions += plan.game.sessions
            return
        self.suffix_games += bool(plan.problems)
        if plan.after is None:
            self.there.games += 1
        else:
            self.todo.games += 1
        self.todo.events += plan.events
        self.there.events += plan.head - plan.floor - plan.events

    def problem(self, problem: Problem) -> None:
        self.kinds[problem.kind] += 1
        if len(self.problems) < KEPT:
            self.problems.append(problem)

    def as_json(self) -> dict[str, Any]:
        return {
            **attrs.asdict(self, filter=lambda at, _: at.name not in ("timed",)),
            "complete": self.complete,
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"source     {_counted(self.source)}"
        if self.there.games:
            yield f"there      {_counted(self.there)}"
        if self.dry_run or self.stopped:
            yield f"to import  {_counted(self.todo)}"
        else:
            yield f"imported   {_counted(self.done)}"
        if self.suffix_games:
            yield f"in part    {_many(self.suffix_games, 'game')}: what comes after the last flaw"
        if self.left_out.games:
            yield f"left out   {_counted(self.left_out)}"
        if not self.timed:
            yield "times      events have no createdAt: they bear the time of the import"
        yield from self._problems()
        yield from self._verdict()

    def _problems(self) -> Iterator[str]:
        total = sum(self.kinds.values())
        if not total:
            return
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in self.kinds.most_common())
        yield ""
        yield f"problems   {kinds}"
        remedy = ""
        for problem in sorted(self.problems[:SHOWN], key=lambda problem: problem.remedy):
            if problem.remedy != remedy:
                remedy = problem.remedy
                yield f"  To do: {remedy}."
            yield f"    {problem.game_id!r}: {problem.detail}"
        if total > SHOWN:
            yield f"    and {total - SHOWN:,} more: --json lists {min(total, KEPT):,}"

    def _verdict(self) -> Iterator[str]:
        yield ""
        if self.stopped:
            yield "stopped    nothing was imported, as --flawed stop asks"
        elif self.dry_run:
            yield "dry run    nothing was written"
        elif self.unsound:
            yield f"checked    {_many(self.checked, 'game')}; NOT as they should be:"
            for problem in self.unsound[:SHOWN]:
                yield f"    {problem.game_id!r}: {problem.detail}"
        else:
            yield (
                f"checked    {_many(self.checked, 'game')}: each log is whole and in order, "
                "as in the source"
            )


def _counted(count: Count) -> str:
    games, events, sessions = count.games, count.events, count.sessions
    return f"{_many(games, 'game')}, {_many(events, 'event')}, {_many(sessions, 'session')}"


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
