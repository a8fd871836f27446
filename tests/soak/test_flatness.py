"""The judge of lines: what grows is found, what only moves is not."""

from __future__ import annotations

import random

import pytest

from soak.flatness import judge, judged

TIMES = [float(second) for second in range(1, 181)]


def noise(seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(0, 1) for _ in TIMES]


def flat(kind: str, values: list[float]) -> bool:
    return judge(kind, "it", TIMES, values, TIMES[-1]).flat


def test_a_line_that_rises_is_not_flat() -> None:
    mib = 2.0**20
    assert not flat(
        "memory", [mib * (50 + 0.1 * t + n) for t, n in zip(TIMES, noise(), strict=True)]
    )


def test_noise_is_flat() -> None:
    mib = 2.0**20
    assert flat("memory", [mib * (50 + 5 * n) for n in noise()])


def test_a_sawtooth_is_flat() -> None:
    assert flat("table size", [1e6 + 4e5 * (t % 13) for t in TIMES])


def test_a_sawtooth_that_climbs_is_not() -> None:
    assert not flat("table size", [1e6 + 4e5 * (t % 13) + 2e4 * t for t in TIMES])


def test_what_rises_in_the_warm_up_only_is_flat() -> None:
    assert flat("index size", [1e7 * min(t / 45, 1) for t in TIMES])


def test_a_single_spike_is_nothing() -> None:
    assert flat("latency p50", [1.0 if t == 170 else 0.001 for t in TIMES])


def test_one_connection_more_is_too_many() -> None:
    assert not flat("connections", [16.0 if t < 120 else 17.0 for t in TIMES])


@pytest.mark.parametrize(("end", "verdict"), [(96.0, True), (80.0, False), (100.0, True)])
def test_of_a_share_of_hot_updates_only_a_fall_is_bad(end: float, verdict: bool) -> None:
    assert flat("HOT share", [98.0 if t < 100 else end for t in TIMES]) is verdict


def test_a_quarter_without_a_value_is_not_flat() -> None:
    gap = judge("rate", "it", [1.0, 2.0, 180.0], [5.0, 5.0, 5.0], 180.0)
    assert not gap.flat


def test_each_series_that_is_judged_gets_a_verdict() -> None:
    samples = [{("rows", "game"): 5.0, ("dead rows", "game"): t} for t in TIMES]
    samples[0]["connections", "other"] = 0.0
    verdicts = judged(TIMES, samples)
    assert [(v.kind, v.name, v.flat) for v in verdicts] == [
        ("connections", "other", False),  # it was seen once and never again
        ("rows", "game", True),
    ]
