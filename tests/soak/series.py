"""What is measured: kinds of series, and how much each may change."""

from __future__ import annotations

from typing import Final

from attrs import frozen

Sample = dict[tuple[str, str], float]
"""What was measured at one moment, by kind and by name."""


@frozen
class Kind:
    """A kind of series: one panel of the picture, and one measure of what is flat."""

    title: str
    unit: float = 1.0
    """What a value is divided by to be shown."""
    relative: float | None = None
    """How far it may get worse, as a part of what it was; None: only drawn, not judged."""
    absolute: float = 0.0
    """And beyond that, in the series' own measure: what is nothing for something so small."""
    worse: int = 1
    """1 where growth is bad, -1 where shrinking is."""
    smooth: int = 1
    """Samples of which each dot of the picture is the median."""


MIB: Final = 2.0**20
PAGE: Final = 8192

KINDS: Final = {
    "rate": Kind("calls each second", relative=0.05, worse=-1),
    "latency p50": Kind("latency, median, ms", unit=1e-3, relative=0.3, absolute=2e-4),
    "latency p99": Kind("latency, p99, ms (medians of 10 s)", unit=1e-3, smooth=10),
    # It has more to do at some times than at others, and it is nobody's latency.
    "cleanup": Kind("cleanup_expired_sessions, ms", unit=1e-3, relative=0.5, absolute=5e-3),
    # Allocators settle late: a tenth of a small process is no leak, one goes on after that.
    "memory": Kind("memory, MiB", unit=MIB, relative=0.05, absolute=MIB),
    "connections": Kind("connections", relative=0.0),
    "rows": Kind("rows", relative=0.15, absolute=50),
    # Sizes are high-water marks of what comes and goes at random, so they creep up to them.
    "table size": Kind("table size, MiB", unit=MIB, relative=0.15, absolute=8 * PAGE),
    "index size": Kind("index size, MiB", unit=MIB, relative=0.15, absolute=8 * PAGE),
    "dead rows": Kind("dead rows"),
    "dead share": Kind("dead rows, % of the table's bytes"),
    "leaf density": Kind("index leaf pages filled, % (medians of 10 s)", smooth=10),
    "HOT share": Kind("HOT updates, % of all", relative=0.0, absolute=5.0, worse=-1),
    "autovacuum": Kind("autovacuums so far"),
}
