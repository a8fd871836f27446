"""The one event that every contender writes and reads."""

from __future__ import annotations

import json

PAYLOAD = {"move": "Nf3xe5+", "by": "white", "clock": [298417, 300000], "at": 1718000000, "n": 17}
"""78 bytes as JSON without spaces: about what a move in a game takes."""

assert len(json.dumps(PAYLOAD, separators=(",", ":"))) == 78


def game_names(count: int) -> list[str]:
    return [f"game-{number:06}" for number in range(count)]
