"""The picture of a run: a panel for each kind of series, against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from .flatness import names
from .pace import TABLES
from .run import Outcome
from .series import KINDS

INK, QUIET, GRID = "#1f2430", "#6b7280", "#e5e7eb"
COLORS: Final = ["#d1345b", "#2b6cb0", "#5c8a3a", "#b7791f", "#8a5a9e", "#0f8b8d", "#4a5568"]
DASHES: Final = ["-", "--", ":", "-."]
COLUMNS: Final = 2
MOST_DOTS: Final = 200

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "ytick.left": False,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "soak",
    "svg.fonttype": "none",
}


def draw(outcome: Outcome, path: Path) -> None:
    """Draws all series; what is judged is compared between the two shaded quarters."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update(STYLE)
    kinds: dict[str, list[str]] = {}
    for kind, name in names(outcome.samples):
        kinds.setdefault(kind, []).append(name)
    rows = -(-len(kinds) // COLUMNS)
    figure = Figure(figsize=(12.5, 2.15 * rows + 0.9), layout="constrained")
    figure.suptitle(
        f"{outcome.pace.seconds / 60:g} minutes at {outcome.pace.rate:,.0f} events a second:"
        " the first quarter is warm-up, the shaded ones are compared",
        fontweight="bold", fontsize=12, x=0.01, ha="left",
    )  # fmt: skip
    panels = figure.subplots(rows, COLUMNS, sharex=True, squeeze=False)
    for axes, (kind, every) in zip(panels.flat, kinds.items(), strict=False):
        _panel(axes, outcome, kind, every)
    for axes in panels.flat[len(kinds) :]:
        axes.set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("seconds", color=QUIET)
    figure.savefig(path, metadata={"Date": None})


def _panel(axes: Any, outcome: Outcome, kind: str, every: Sequence[str]) -> None:
    unit = KINDS[kind].unit
    quarter = outcome.times[-1] / 4
    if KINDS[kind].relative is not None:
        axes.axvspan(quarter, 2 * quarter, color=GRID, alpha=0.45, linewidth=0)
        axes.axvspan(3 * quarter, 4 * quarter, color=GRID, alpha=0.45, linewidth=0)
    drawn: dict[str, int] = {}
    for place, name in enumerate(every):
        color = _color(name, place)
        dashes = DASHES[drawn.setdefault(color, 0) % len(DASHES)]
        drawn[color] += 1
        dots = [
            (time, sample[kind, name] / unit)
            for time, sample in zip(outcome.times, outcome.samples, strict=True)
            if (kind, name) in sample
        ]
        stride = max(KINDS[kind].smooth, -(-len(dots) // MOST_DOTS))
        dots = [_middle(dots[begin : begin + stride]) for begin in range(0, len(dots), stride)]
        axes.plot(*zip(*dots, strict=True), color=color, linestyle=dashes, label=_short(name))
    axes.set_title(KINDS[kind].title, loc="left", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _short(name: str) -> str:
    return name if len(name) <= 25 else f"{name[:12]}…{name[-12:]}"


def _middle(dots: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return median(time for time, _ in dots), median(value for _, value in dots)


def _color(name: str, place: int) -> str:
    """One for each table and its indexes; else one after the other."""
    table = max((t for t in TABLES if name.startswith(t)), key=len, default=None)
    return COLORS[(place if table is None else TABLES.index(table)) % len(COLORS)]
