"""What a plain installation lacks, and the command that brings it."""

from __future__ import annotations

import json
import shlex
from importlib.metadata import distributions
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

NAME: Final = "game-session-registry"


def install(extra: str) -> str:
    """The command that installs an extra, from where this installation came from."""
    return f"pip install {_source(f'[{extra}]')}"


def _source(extra: str) -> str:
    """What pip noted when it installed from elsewhere than an index; or this checkout."""
    # In a checkout there may be a second, older distribution that pip knows nothing of.
    found = (one.read_text("direct_url.json") for one in distributions(name=NAME))
    noted = next(filter(None, found), None)
    checkout = Path(__file__).resolve().parents[1]
    if noted is None:
        here = (checkout / "setup.py").is_file()
        return shlex.quote(f"{checkout if here else NAME}{extra}")
    source = json.loads(noted)
    url = source["url"]
    if url.startswith("file:"):
        editable = "-e " if source.get("dir_info", {}).get("editable") else ""
        return editable + shlex.quote(f"{unquote(urlsplit(url).path)}{extra}")
    if "vcs_info" in source:
        url = f"{source['vcs_info']['vcs']}+{url}@{source['vcs_info']['commit_id']}"
    return shlex.quote(f"{NAME}{extra} @ {url}")
