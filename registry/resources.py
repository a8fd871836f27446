"""Where the files that ship beside the code are: queries, migrations, demonstration data."""

from __future__ import annotations

from pathlib import Path

from .errors import RegistryError

_PACKAGE = Path(__file__).resolve().parent
# Folder in the installed package: the same folder in a checkout (and an editable install).
_CHECKOUT = {
    "sql": "sql",
    "lua": "lua",
    "migrations": "migrations",
    "demo/data": "examples/data",
}


def folder(name: str) -> Path:
    """The folder `name`: "sql", "lua", "migrations" or "demo/data".

    An installed package has its own copy and that one wins. Raises `RegistryError` when the
    folder is in neither place, which means a broken installation. Safe from any thread.
    """
    for path in (_PACKAGE / name, _PACKAGE.parent / _CHECKOUT[name]):
        if path.is_dir():
            return path
    raise RegistryError(
        f"the folder {name!r} is missing from {_PACKAGE}: install game-session-registry again"
    )
