"""What is claimed, held against the figures."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from .measure import Spread
from .results import Results, ratio


@frozen
class Claim:
    """A ratio of two figures of one point, and what it has to reach."""

    text: str
    goal: float
    case: str
    point: Mapping[str, int | str]
    ours: str = "ours"
    theirs: tuple[str, ...] = ("plain",)
    """The best of these."""
    metric: str = "rate"
    their_point: Mapping[str, int | str] | None = None
    """Where it is not the same."""
    at_most: bool = field(default=False, kw_only=True)

    def measured(self, results: Results) -> Spread | None:
        """The ratio, or None when one of the two is missing."""
        mine = results.find(self.case, self.ours, **self.point)
        there = self.point if self.their_point is None else self.their_point
        found = [results.find(self.case, name, **there) for name in self.theirs]
        others = [figure for figure in found if figure is not None]
        if mine is None or not others:
            return None
        ratios = [one for other in others if (one := ratio(mine, other, self.metric))]
        return min(ratios, key=lambda one: one.median, default=None)


@frozen
class Verdict:
    """A claim, as far as this run can tell."""

    claim: Claim
    measured: Spread | None

    @property
    def goal(self) -> str:
        return f"{'≤' if self.claim.at_most else '≥'} {self.claim.goal:g}"

    @property
    def median(self) -> str:
        return f"{self.measured.median:.3g}" if self.measured else "not measured"

    @property
    def rounds(self) -> str:
        return f"{self.measured.low:.3g} to {self.measured.high:.3g}" if self.measured else ""

    @property
    def holds(self) -> bool | None:
        if self.measured is None:
            return None
        reached, goal = self.measured.median, self.claim.goal
        return reached <= goal if self.claim.at_most else reached >= goal


def judge(results: Results) -> list[Verdict]:
    return [Verdict(claim, claim.measured(results)) for claim in CLAIMS]


HOT = {"processes": 1, "threads": 128, "games": 1}

CLAIMS = (
    Claim("128 threads, one hot game: events/s, ours / plain", 15, "append", HOT),
    Claim(
        "128 threads, one hot game: events/s, ours / Redis with appendfsync always",
        5, "append", HOT, theirs=("redis-always",),
    ),
    Claim(
        "128 threads, one hot game: p99, ours / plain",
        0.1, "append", HOT, metric="p99", at_most=True,
    ),
    Claim(
        "128 threads, 1,000 games: events/s, ours / pgbench at its best",
        1.5, "limit", {"games": 1_000},
        theirs=tuple(f"pgbench-{clients}" for clients in (8, 16, 32, 64)),
    ),
    Claim("one caller alone: events/s, ours / plain", 0.95, "alone", {"threads": 1}),
    Claim(
        "4 processes of 32 threads, one hot game: events/s, ours / plain",
        10, "append", {"processes": 4, "threads": 32, "games": 1},
    ),
    Claim(
        "resume with 100 missed events, 32 threads: resumes/s, ours / plain",
        3, "resume", {"threads": 32},
    ),
    Claim(
        "append to the longest log / to an empty one",
        0.9, "growth", {"log": "longest"}, theirs=("ours",), their_point={"log": "empty"},
    ),
)  # fmt: skip
