"""What a run is asked to do."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen


@frozen(kw_only=True)
class Options:
    only: tuple[str, ...]
    """The cases to run."""
    peers: tuple[str, ...]
    seconds: float
    """Measured time of each contender at each point, over all rounds."""
    rounds: int
    threads: tuple[int, ...] | None
    """Of each process, instead of a case's own; likewise the next two."""
    games: tuple[int, ...] | None
    processes: tuple[int, ...] | None
    rows: int
    """The longest log that the case `growth` fills."""
    quick: bool
    database: str | None
    """None: an embedded server."""
    out: Path
    redraw: bool = False
    """Measure nothing, write the reports of what was measured again."""

    @property
    def slice(self) -> float:
        return self.seconds / self.rounds

    @property
    def warm(self) -> float:
        """Seconds of each slice before anything counts, the same for all."""
        return min(0.3, self.slice / 2)
