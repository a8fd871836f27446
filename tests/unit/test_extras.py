"""What a message says that one should install is what works, wherever the library came from."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from registry import extras

CHECKOUT = Path(__file__).parents[2]


class Noted:
    """A distribution, of which only is asked what pip noted."""

    def __init__(self, noted: object) -> None:
        self._noted = noted

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._noted and json.dumps(self._noted)


@pytest.mark.parametrize(
    ("noted", "wanted"),
    [
        ({"url": "file:///a%20b", "dir_info": {}}, ["/a b[demo]"]),
        ({"url": "file:///a", "dir_info": {"editable": True}}, ["-e", "/a[demo]"]),
        ({"url": "file:///a/b.whl", "archive_info": {}}, ["/a/b.whl[demo]"]),
        (
            {"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            ["game-session-registry[demo] @ git+https://x/y@abc"],
        ),
        (
            {"url": "https://x/y.tar.gz", "archive_info": {}},
            ["game-session-registry[demo] @ https://x/y.tar.gz"],
        ),
    ],
)
def test_as_it_was_installed(
    noted: object, wanted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "distributions", lambda name: [Noted(None), Noted(noted)])
    assert shlex.split(extras.install("demo")) == ["pip", "install", *wanted]


def test_from_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "distributions", lambda name: [Noted(None)])
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "site" / "registry" / "extras.py"))
    assert extras.install("demo") == "pip install 'game-session-registry[demo]'"


def test_in_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "distributions", lambda name: [])
    monkeypatch.setattr(extras, "__file__", str(CHECKOUT / "registry" / "extras.py"))
    assert shlex.split(extras.install("demo"))[2:] == [f"{CHECKOUT}[demo]"]
