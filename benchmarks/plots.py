"""The pictures. Each is drawn if its case was measured; none without matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from .results import Figure, Results

INK, QUIET, GRID = "#1f2430", "#6b7280", "#e5e7eb"


@frozen
class Look:
    label: str
    color: str
    strong: bool = False
    dashed: bool = False


LOOKS = {
    "ours": Look("GameSessionRegistry", "#d1345b", strong=True),
    "ours-raw": Look("ours, raw JSON", "#f08a9f", strong=True),
    "ours+beats": Look("ours, with beats", "#f08a9f", strong=True),
    "plain": Look("plain psycopg", "#2b6cb0"),
    "plain-raw": Look("plain psycopg, raw", "#90b8e0"),
    "plain+beats": Look("plain, with beats", "#90b8e0"),
    "sqlalchemy": Look("SQLAlchemy Core", "#8a5a9e"),
    "eventsourcing": Look("eventsourcing", "#5c8a3a"),
    "message-db": Look("message-db, equivalent", "#b7791f"),
    "redis-always": Look("Redis, fsync always", "#0f8b8d"),
    "redis-everysec": Look("Redis, fsync each second*", "#7fb5b5", dashed=True),
    "prisma": Look("Prisma", "#4a5568"),
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Draws what there are figures for; returns the files."""
    if find_spec("matplotlib") is None:
        results.note("plots", "not drawn: pip install matplotlib")
        return []
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(STYLE)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, picture in PICTURES.items():
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)
        if picture(results, path):
            drawn.append(path)
    return drawn


STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "ytick.left": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "benchmarks",
}


def _rate_by_threads(games: int, title: str, note: str) -> Callable[[Results, Path], bool]:
    def picture(results: Results, path: Path) -> bool:
        lines = _by_threads(results, games, "rate")
        return _lines(path, lines, title, note, "durable events each second", _short)

    return picture


def _latency(results: Results, path: Path) -> bool:
    return _lines(
        path,
        _by_threads(results, 1, "p99"),
        "How long the slowest one in a hundred calls takes",
        "p99 of one append, all threads in one game, logarithmic; lower is better",
        "p99",
        _duration,
    )


def _by_threads(results: Results, games: int, metric: str) -> dict[str, list[Dot]]:
    lines: dict[str, list[Dot]] = {}
    for figure in results.of("append"):
        spread = figure.spread(metric)
        if figure.point["games"] == games and figure.point["processes"] == 1 and spread:
            dot = Dot(int(figure.point["threads"]), spread.median, spread.low, spread.high)
            lines.setdefault(figure.contender, []).append(dot)
    return {name: sorted(dots, key=lambda dot: dot.x) for name, dots in lines.items()}


@frozen
class Dot:
    x: int
    y: float
    low: float
    high: float


def _lines(
    path: Path,
    lines: dict[str, list[Dot]],
    title: str,
    note: str,
    what: str,
    words: Callable[[float], str],
) -> bool:
    """Lines over the number of threads, both axes logarithmic, each labelled at its end."""
    lines = {name: dots for name, dots in lines.items() if name in LOOKS}
    ticks = sorted({dot.x for dots in lines.values() for dot in dots})
    if len(ticks) < 2:
        return False
    figure, axes = _canvas(title, note, right=0.69)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for name, dots in lines.items():
        look, x = LOOKS[name], [dot.x for dot in dots]
        axes.fill_between(
            x, [d.low for d in dots], [d.high for d in dots],
            color=look.color, alpha=0.13, linewidth=0,
        )  # fmt: skip
        axes.plot(
            x,
            [dot.y for dot in dots],
            color=look.color,
            linewidth=3.2 if look.strong else 1.9,
            linestyle=(0, (4, 2)) if look.dashed else "-",
            marker="o",
            markersize=6.5 if look.strong else 4.5,
            zorder=5 if look.strong else 3,
        )
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("threads, each waiting for its event to be durable")
    _log_ticks(axes, words)
    axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
    ends = {name: dots[-1] for name, dots in lines.items()}
    _end_labels(axes, ends, words)
    _save(figure, path)
    return True


def _log_ticks(axes: Any, words: Callable[[float], str]) -> None:
    """1, 2, 5, 10 … within what is drawn."""
    low, high = axes.get_ylim()
    steps = [10.0**power * step for power in range(-7, 9) for step in (1, 2, 5)]
    shown = [step for step in steps if low <= step <= high]
    if len(shown) > 9:
        shown = [step for step in shown if f"{step:e}"[0] == "1"]
    axes.set_yticks(shown, [words(step) for step in shown])
    axes.set_ylim(low, high)


def _end_labels(axes: Any, ends: dict[str, Dot], words: Callable[[float], str]) -> None:
    """Names at the right of the axes, moved apart where lines end close to each other."""
    gap = 0.062
    names = sorted(ends, key=lambda name: ends[name].y)
    wanted = [axes.transAxes.inverted().transform(axes.transData.transform((1, ends[n].y)))[1]
              for n in names]  # fmt: skip
    for position, y in zip(_apart(wanted, gap), names, strict=True):
        look = LOOKS[y]
        value = words(ends[y].y)
        axes.annotate(
            f"{look.label}  {value}",
            xy=(ends[y].x, ends[y].y),
            xycoords="data",
            xytext=(1.03, position),
            textcoords="axes fraction",
            va="center_baseline",
            ha="left",
            color=look.color,
            fontsize=11 if look.strong else 10,
            fontweight="bold" if look.strong else "normal",
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": look.color,
                "alpha": 0.35,
                "linewidth": 0.8,
                "shrinkA": 2,
                "shrinkB": 5,
            },
            annotation_clip=False,
        )


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending positions at least `gap` apart, near the wanted ones."""
    placed = list(wanted)
    for _ in range(200):
        moved = False
        for i in range(len(placed) - 1):
            lack = gap - (placed[i + 1] - placed[i])
            if lack > 1e-4:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
                moved = True
        placed = [min(max(place, 0.0), 1.0) for place in placed]
        if not moved:
            break
    return placed


def _cpu(results: Results, path: Path) -> bool:
    """Client and server, stacked, for 128 threads in one game."""
    point = {"processes": 1, "threads": 128, "games": 1}
    bars, off = [], ""
    for name, look in LOOKS.items():
        found = results.find("append", name, **point)
        client, server = (found.spread(m) if found else None for m in ("client_cpu", "server_cpu"))
        if client and server and name == "prisma":
            off = f"; Prisma, off the scale: {(client.median + server.median) * 1e6:,.0f}"
        elif client and server:
            bars.append((look, client.median * 1e6, server.median * 1e6))
    if len(bars) < 2:
        return False
    figure, axes = _canvas(
        "What an event costs in CPU time",
        f"µs an event, 128 threads in one game; dark: the callers, light: the server{off}",
        left=0.27, height=0.45 * len(bars) + 1.9,
    )  # fmt: skip
    bars.reverse()
    axes.set_xlim(0, 1.12 * max(here + there for _, here, there in bars))
    for row, (look, here, there) in enumerate(bars):
        axes.barh(row, here, color=look.color, height=0.62)
        axes.barh(row, there, left=here, color=look.color, alpha=0.45, height=0.62)
        axes.annotate(
            f"{here + there:,.0f} µs", (here + there, row), xytext=(6, 0),
            textcoords="offset points", va="center_baseline", color=look.color, fontweight="bold",
        )  # fmt: skip
    _rows(axes, [look.label.rstrip("*") for look, *_ in bars], [look.strong for look, *_ in bars])
    _save(figure, path)
    return True


def _bars(
    case: str, title: str, note: str, heading: Callable[[Figure], str]
) -> Callable[[Results, Path], bool]:
    """Horizontal bars of the rate, one group for each heading."""

    def picture(results: Results, path: Path) -> bool:
        groups: dict[str, list[Figure]] = {}
        for figure in results.of(case):
            if figure.contender in LOOKS and figure.spread("rate"):
                groups.setdefault(heading(figure), []).append(figure)
        if not groups:
            return False
        count = sum(map(len, groups.values()))
        canvas, axes = _canvas(
            title, note, left=0.27, height=0.38 * count + 0.5 * len(groups) + 1.7
        )
        row, labels, strong, places = 0.0, [], [], []
        top = max(s.high for g in groups.values() for f in g if (s := f.spread("rate")))
        for name, figures in reversed(groups.items()):
            for figure in sorted(figures, key=_median):
                look, spread = LOOKS[figure.contender], figure.spread("rate")
                assert spread is not None
                axes.barh(row, spread.median, color=look.color, height=0.7)
                axes.plot([spread.low, spread.high], [row, row], color=INK, alpha=0.55,
                          linewidth=1.1)  # fmt: skip
                axes.annotate(
                    _short(spread.median), (spread.high, row), xytext=(6, 0),
                    textcoords="offset points", va="center_baseline", color=look.color,
                    fontweight="bold" if look.strong else "normal",
                )  # fmt: skip
                labels.append(look.label)
                strong.append(look.strong)
                places.append(row)
                row += 1
            axes.text(0, row - 0.15, name, color=QUIET, fontsize=10.5, va="center_baseline")
            row += 1.1
        _rows(axes, labels, strong, places)
        axes.set_xlim(0, top * 1.12)
        axes.set_ylim(-0.7, row - 0.6)
        _save(canvas, path)
        return True

    return picture


def _median(figure: Figure) -> float:
    spread = figure.spread("rate")
    return spread.median if spread else 0.0


def _growth(results: Results, path: Path) -> bool:
    dots = [
        (int(figure.point["rows"]), spread)
        for figure in results.of("growth")
        if (spread := figure.spread("rate"))
    ]
    if len(dots) < 2:
        return False
    dots.sort(key=lambda dot: dot[0])
    look = LOOKS["ours"]
    figure, axes = _canvas(
        "The rate of appends while the log grows",
        "events each second, 128 threads in 1,000 games, by the number of events already there",
        height=4.2,
    )
    x = range(len(dots))
    axes.fill_between(x, [s.low for _, s in dots], [s.high for _, s in dots], color=look.color,
                      alpha=0.13, linewidth=0)  # fmt: skip
    axes.plot(x, [s.median for _, s in dots], color=look.color, linewidth=3.2, marker="o",
              markersize=7)  # fmt: skip
    for place, (_, spread) in zip(x, dots, strict=True):
        axes.annotate(_short(spread.median), (place, spread.high), xytext=(0, 9), ha="center",
                      textcoords="offset points", color=look.color, fontweight="bold")  # fmt: skip
    axes.set_xticks(x, [f"{rows:,}" if rows else "empty" for rows, _ in dots])
    axes.set_ylim(0, max(s.high for _, s in dots) * 1.2)
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    _save(figure, path)
    return True


def _canvas(
    title: str,
    note: str,
    *,
    left: float = 0.075,
    right: float = 0.97,
    height: float = 5.2,
) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(9.6, height))
    inch = 1 / height
    axes = canvas.add_axes((left, 0.62 * inch, right - left, 1 - 1.55 * inch))
    canvas.text(0.03, 1 - 0.36 * inch, title, fontsize=15, fontweight="bold", va="center_baseline")
    canvas.text(0.03, 1 - 0.66 * inch, note, fontsize=10.5, color=QUIET, va="center_baseline")
    return canvas, axes


def _rows(
    axes: Any, labels: Sequence[str], strong: Sequence[bool], places: Sequence[float] | None = None
) -> None:
    """Names of horizontal bars."""
    axes.set_yticks(range(len(labels)) if places is None else places, labels)
    for text, bold in zip(axes.get_yticklabels(), strong, strict=True):
        text.set_color(INK)
        text.set_fontweight("bold" if bold else "normal")
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 10_000:
        return f"{value / 1e3:,.0f} k"
    if value >= 1_000:
        return f"{value / 1e3:.3g} k"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds * 1e6:.3g} µs"


def _threads(figure: Figure) -> str:
    number = figure.point["threads"]
    return "one thread" if number == 1 else f"{number} threads"


def _disk_place(figure: Figure) -> str:
    games = figure.point["games"]
    return f"{_threads(figure)}, {'one game' if games == 1 else f'{games:,} games'}"


PICTURES: dict[str, Callable[[Results, Path], bool]] = {
    "append": _rate_by_threads(
        1,
        "Durable events each second into one game",
        "one event a call, logarithmic; bands are the spread of the rounds. "
        "* a crash may lose a second",
    ),
    "append-games": _rate_by_threads(
        1_000,
        "Durable events each second, spread over 1,000 games",
        "one event a call, logarithmic; bands are the spread of the rounds. "
        "* a crash may lose a second",
    ),
    "append-latency": _latency,
    "append-cpu": _cpu,
    "resume": _bars(
        "resume",
        "Players who come back with 100 missed events",
        "resumes each second; thin lines are the spread of the rounds",
        _threads,
    ),
    "replay": _bars(
        "replay",
        "Events read back each second",
        "one thread; raw: not decoded; thin lines are the spread of the rounds",
        lambda figure: f"pages of {figure.point['page']:,}",
    ),
    "growth": _growth,
    "disk": _bars(
        "disk",
        "Durable events each second on a slow disk",
        "every fdatasync takes 5 ms longer; thin lines are the spread of the rounds",
        _disk_place,
    ),
    "network": _bars(
        "network",
        "A millisecond away from the database",
        "calls each second with a network of 1 ms a round trip",
        lambda figure: f"{figure.point['call']}, {_threads(figure)}",
    ),
}
