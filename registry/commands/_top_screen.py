"""What `top` draws, with rich."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..activity import Activity, View
from ..looking import count, printable, size, span

ABOVE = 6
"""Lines above the first game."""


class Screen:
    """The whole terminal, given back as it was."""

    def __init__(self) -> None:
        self._live = Live(Text("looking"), screen=True, auto_refresh=False)

    def __enter__(self) -> Screen:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def draw(self, view: View) -> None:
        room = max(1, self._live.console.height - ABOVE)
        self._live.update(_picture(view, view.games[:room]), refresh=True)

    def say(self, text: str) -> None:
        self._live.update(Text(printable(text), style="bold red"), refresh=True)


def show(view: View) -> None:
    """Prints a look, on whatever standard output is."""
    Console(highlight=False).print(_picture(view, view.games))


def _picture(view: View, games: tuple[Activity, ...]) -> Group:
    return Group(*_summary(view), Text(), _table(games))


def _summary(view: View) -> list[Text]:
    server = view.server
    met = "" if view.complete else f", {count(view.seen)} looked at"
    batch = "" if view.batch is None else f", {view.batch:,.1f} a statement"
    waited = f" for {span(server.blocked_for)}" if server.blocked else ""
    seen = "" if server.sees_all else " (own role only)"
    capped = server.capped and server.stale == server.live
    return [
        _line(
            (f"{server.at:%H:%M:%S}  ", "bold"),
            (f"{_rate(view.record_rate)} events/s", "bold"),
            f"{batch}, {_rate(view.delete_rate)} deleted/s, log {size(server.event_bytes)}",
        ),
        _line(
            f"games {count(view.of)}{met}; "
            f"sessions {count(server.live, capped=server.capped)} live, ",
            (f"{count(server.stale, capped=capped)} of them stale", "yellow" * bool(server.stale)),
        ),
        _line(
            f"connections {server.connections} of {server.max_connections}, "
            f"{server.active} active, ",
            (f"{server.blocked} blocked{waited}", "bold red" if server.blocked else ""),
            f"{seen}",
        ),
        _line(
            f"idle in transaction {server.idle_in_transaction}, "
            f"oldest transaction {span(server.oldest_transaction)}"
        ),
    ]


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _table(games: tuple[Activity, ...]) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="reverse")
    table.add_column("game", ratio=1, no_wrap=True, overflow="ellipsis")
    for name in ("events/s", "head", "log", "lag", "live", "stale", "idle"):
        table.add_column(name, justify="right", no_wrap=True)
    for game in games:
        table.add_row(
            Text(printable(game.game_id)),
            _rate(game.rate),
            count(game.head),
            count(game.log),
            count(game.lag),
            count(game.live, capped=game.capped),
            Text(count(game.stale), style="yellow" if game.stale else ""),
            span(game.idle),
        )
    return table


def _rate(rate: float | None) -> str:
    """A whole number, or a digit more of a small one."""
    return "-" if rate is None else f"{rate:,.0f}" if rate >= 100 or rate == 0 else f"{rate:.1f}"
