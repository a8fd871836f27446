"""Whether a series is flat: its last quarter against its second one, the first being warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from statistics import median

from attrs import frozen

from .series import KINDS, Sample


@frozen
class Verdict:
    """What came of one series."""

    kind: str
    name: str
    before: float
    """Its median in the second quarter of the run."""
    after: float
    """Its median in the last one."""
    bound: float
    """The worst that `after` may be."""
    flat: bool


def judge(
    kind: str, name: str, times: Sequence[float], values: Sequence[float], end: float
) -> Verdict:
    """Compares medians, so that single moments, and what goes up and down, count for nothing.

    Times are seconds since the begin of the run. A quarter without a value is not flat.
    """
    rule = KINDS[kind]
    assert rule.relative is not None, f"{kind} is not judged"
    of: dict[int, list[float]] = {0: [], 1: [], 2: [], 3: []}
    for time, value in zip(times, values, strict=True):
        of[min(3, int(4 * time / end))].append(value)
    before, after = (median(of[n]) if of[n] else nan for n in (1, 3))
    bound = before + rule.worse * (rule.relative * before + rule.absolute)
    return Verdict(kind, name, before, after, bound, rule.worse * (after - bound) <= 0)


def judged(times: Sequence[float], samples: Sequence[Sample]) -> list[Verdict]:
    """The verdict on each series that has one, in the order of the kinds."""
    verdicts = []
    for kind, name in names(samples):
        if KINDS[kind].relative is not None:
            found = [
                (time, sample[kind, name])
                for time, sample in zip(times, samples, strict=True)
                if (kind, name) in sample
            ]
            verdicts.append(judge(kind, name, *zip(*found, strict=True), times[-1]))
    return verdicts


def names(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """All series that there are, in the order of the kinds."""
    order = list(KINDS)
    keys = {key for sample in samples for key in sample}
    return sorted(keys, key=lambda key: (order.index(key[0]), key[1]))
