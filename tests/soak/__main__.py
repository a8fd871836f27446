"""Constant load on a real server: what must stay flat, judged and drawn.

    tox -e soak                       # three minutes
    tox -e soak -- --minutes 60       # a longer run notices a slower growth

Exits with 0 if every line is flat and no log has a hole, and with 1 if not.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .pace import Pace
from .picture import draw
from .report import printed, progress
from .run import run

PICTURE = Path(__file__).parents[2] / "docs" / "soak.svg"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (3)")
    parser.add_argument("--rate", type=float, default=1000.0, help="events each second (1000)")
    parser.add_argument("--seed", type=int, default=None, help="of all dice (the time)")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where (docs/soak.svg)")
    options = parser.parse_args(arguments)
    seed = int(time.time()) if options.seed is None else options.seed
    pace = Pace(seconds=60 * options.minutes, rate=options.rate)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that is to be undone
    with progress(pace.seconds) as say:
        outcome = run(pace, seed, say)
    printed(outcome)
    if outcome.samples:
        draw(outcome, options.picture)
        print(f"drawn: {options.picture}")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
