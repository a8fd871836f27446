"""What was measured: one figure for each contender at each point, with all its rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, define, field, frozen

from .measure import Sample, Spread

Point = Mapping[str, int | str]


@frozen
class Figure:
    """One contender at one point of a case. Each metric has one value a round.

    The metrics of calls: `rate` in units a second; `p50` and `p99` in seconds a call;
    `client_cpu` and `server_cpu` in seconds of CPU a unit.
    """

    case: str
    contender: str
    point: Point
    unit: str
    metrics: Mapping[str, Sequence[float]]

    @classmethod
    def of(
        cls, case: str, contender: str, point: Point, unit: str, per_call: int, rounds: list[Sample]
    ) -> Figure:
        units = [max(1, sample.calls) * per_call for sample in rounds]
        return cls(
            case,
            contender,
            dict(point),
            unit,
            {
                "rate": [sample.rate * per_call for sample in rounds],
                "p50": [sample.p50 for sample in rounds],
                "p99": [sample.p99 for sample in rounds],
                "client_cpu": [s.client_cpu / n for s, n in zip(rounds, units, strict=True)],
                "server_cpu": [s.server_cpu / n for s, n in zip(rounds, units, strict=True)],
            },
        )

    def spread(self, metric: str) -> Spread | None:
        """None where it was not, or could not be, measured."""
        values = [value for value in self.metrics.get(metric, ()) if value == value]
        return Spread.of(values) if values else None


@frozen
class Note:
    """Something that was not run, or not to the end, and why."""

    what: str
    why: str


@define
class Results:
    figures: list[Figure] = field(factory=list)
    notes: list[Note] = field(factory=list)
    settings: dict[str, str] = field(factory=dict)
    """How each peer was set up."""

    def note(self, what: str, why: str) -> None:
        if Note(what, why) not in self.notes:
            self.notes.append(Note(what, why))

    def find(self, case: str, contender: str, **point: int | str) -> Figure | None:
        for figure in self.figures:
            named = figure.case == case and figure.contender == contender
            if named and all(figure.point.get(name) == value for name, value in point.items()):
                return figure
        return None

    def of(self, case: str) -> list[Figure]:
        return [figure for figure in self.figures if figure.case == case]

    def as_json(self) -> dict[str, Any]:
        """NaN, which JSON has not, becomes null."""
        kept = asdict(self)
        for figure in kept["figures"]:
            for name, values in figure["metrics"].items():
                figure["metrics"][name] = [_rounded(value) for value in values]
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Results:
        figures = [
            Figure(
                **{
                    **figure,
                    "metrics": {
                        name: [math.nan if value is None else value for value in values]
                        for name, values in figure["metrics"].items()
                    },
                }
            )
            for figure in kept["figures"]
        ]
        return cls(figures, [Note(**note) for note in kept["notes"]], dict(kept["settings"]))


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def ratio(ours: Figure, theirs: Figure, metric: str) -> Spread | None:
    """Round by round, since the two of a round were measured one right after the other."""
    pairs = zip(ours.metrics[metric], theirs.metrics[metric], strict=True)
    quotients = [a / b for a, b in pairs if a == a and b == b and b > 0]
    return Spread.of(quotients) if quotients else None
