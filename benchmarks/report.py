"""Tables: on the terminal, in RESULTS.md, and everything in results.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import frozen
from rich.console import Console
from rich.table import Table

from .cases import CASES
from .claims import judge
from .measure import Spread
from .plots import draw
from .results import Figure, Results


@frozen
class Report:
    """A finished run, ready to be written down."""

    results: Results
    machine: Mapping[str, str]
    command: str
    seconds: float
    date: str
    interrupted: bool = False

    @classmethod
    def read(cls, file: Path) -> Report:
        """The run that wrote this results.json."""
        kept = json.loads(file.read_text(encoding="utf-8"))
        results = Results.from_json(kept)
        return cls(results, kept["machine"], kept["command"], kept["seconds"], kept["date"])

    def write(self, folder: Path) -> list[Path]:
        """Writes the plots, results.json and RESULTS.md; returns where."""
        folder.mkdir(parents=True, exist_ok=True)
        plots = draw(self.results, folder / "plots")
        data, text = folder / "results.json", folder / "RESULTS.md"
        kept = {
            "date": self.date,
            "command": self.command,
            "seconds": round(self.seconds),
            "machine": dict(self.machine),
            **self.results.as_json(),
            "claims": [
                {
                    "text": verdict.claim.text,
                    "goal": verdict.goal,
                    "measured": verdict.median,
                    "rounds": verdict.rounds,
                    "holds": verdict.holds,
                }
                for verdict in judge(self.results)
            ],
        }
        data.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        text.write_text(self._markdown(folder, plots), encoding="utf-8")
        return [text, data, *plots]

    def show(self, console: Console) -> None:
        for name, case in CASES.items():
            if figures := self.results.of(name):
                table = Table(title=case.TITLE, title_justify="left", box=None, padding=(0, 1))
                header, *rows = _rows(figures)
                for number, title in enumerate(header):
                    table.add_column(title, justify="left" if number == 0 else "right")
                for row in rows:
                    table.add_row(*row)
                console.print(table)
        table = Table(title="What is claimed", title_justify="left", box=None, padding=(0, 1))
        table.add_column("ratio")
        for title in ("goal", "measured", "rounds"):
            table.add_column(title, justify="right")
        for verdict in judge(self.results):
            table.add_row(
                verdict.claim.text, verdict.goal, verdict.median, verdict.rounds,
                style={True: "green", False: "bold red", None: "dim"}[verdict.holds],
            )  # fmt: skip
        console.print(table)
        for note in self.results.notes:
            console.print(f"{note.what}: {note.why}", style="yellow", markup=False, highlight=False)

    def _markdown(self, folder: Path, plots: Iterable[Path]) -> str:
        here = (folder / "README.md").exists()
        readme = "[README.md](README.md)" if here else "The README of the benchmarks"
        lines = [
            "# Results",
            "",
            f"Measured on {self.date[:10]} by `{self.command}`, which took "
            f"{self.seconds / 60:.0f} minutes and wrote this file. Ratios travel to other "
            "machines; absolute figures do not. "
            "Each figure is the median of interleaved rounds, with the lowest and the highest; "
            f"{readme} says how it is measured.",
            "",
            "## What is claimed",
            "",
        ]
        claims = [["ratio", "goal", "measured", "rounds", ""]]
        for verdict in judge(self.results):
            word = {True: "holds", False: "**fails**", None: ""}[verdict.holds]
            claims.append([verdict.claim.text, verdict.goal, verdict.median, verdict.rounds, word])
        lines += [*_markdown_table(claims), ""]
        pictures = {path.stem: path for path in plots}
        for name, case in CASES.items():
            if not (figures := self.results.of(name)):
                continue
            lines += [f"## {case.TITLE}", "", case.EXPLAINED, ""]
            for stem, path in pictures.items():
                if stem == name or stem.startswith(f"{name}-"):
                    lines += [f"![{case.TITLE}]({path.relative_to(folder).as_posix()})", ""]
            lines += [*_markdown_table(_rows(figures)), ""]
        lines += ["## Peers", ""]
        lines += [f"- **{name}**: {text}." for name, text in self.results.settings.items()]
        lines += ["", "## Machine", ""]
        lines += [f"- {name}: {value}" for name, value in self.machine.items()]
        if self.results.notes:
            lines += ["", "## Notes", ""]
            lines += [f"- {note.what}: {' '.join(note.why.split())}" for note in self.results.notes]
        return "\n".join(lines) + "\n"


def _rows(figures: list[Figure]) -> list[list[str]]:
    """A header and a row for each figure; columns that would be empty are left out."""
    places = list(dict.fromkeys(name for figure in figures for name in figure.point))
    metrics = list(dict.fromkeys(name for figure in figures for name in figure.metrics))
    metrics = [m for m in metrics if any(figure.spread(m) for figure in figures)]
    header = ["", *places]
    for metric in metrics:
        header += _HEADERS.get(metric, [metric])
    units = {figure.unit for figure in figures}
    unit = units.pop() if len(units) == 1 else "units"
    rows = [[title.replace("unit", unit.rstrip("s")) for title in header]]
    for figure in figures:
        row = [figure.contender, *(_number(figure.point.get(name, "")) for name in places)]
        for metric in metrics:
            row += _cells(metric, figure.spread(metric))
        rows.append(row)
    return rows


_HEADERS = {
    "rate": ["units/s", "rounds"],
    "p50": ["p50 ms"],
    "p99": ["p99 ms"],
    "client_cpu": ["client µs/unit"],
    "server_cpu": ["server µs/unit"],
}


def _cells(metric: str, spread: Spread | None) -> list[str]:
    if spread is None:
        return [""] * len(_HEADERS.get(metric, [metric]))
    if metric == "rate":
        return [f"{spread.median:,.0f}", f"{spread.low:,.0f} to {spread.high:,.0f}"]
    if metric in ("p50", "p99"):
        return [f"{spread.median * 1e3:.3g}"]
    if metric in ("client_cpu", "server_cpu"):
        return [f"{spread.median * 1e6:.3g}"]
    return [f"{spread.median:,.4g}"]


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _markdown_table(rows: list[list[str]]) -> list[str]:
    header, *body = rows
    rule = ["---", *("---:" for _ in header[1:])]
    return ["| " + " | ".join(row) + " |" for row in (header, rule, *body)]
