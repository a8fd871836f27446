"""Pages of logs: of many threads in one statement, those of one game read once.

What a cache has of a game need not be sent by the database: it is asked for the events after that,
and for the epoch, head and floor in any case. An event of an epoch never changes, so what the
cache has of the present epoch, above the floor, is what the database would have sent. So it is with
a standby, which is asked once the database has said how much there is: see docs/replicas.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from attrs import define, evolve, frozen
from psycopg.types.numeric import Int8

from .arrays import bigint_array, text_array
from .combining import Batch, Call, Combiner
from .config import RegistryConfig
from .database import Database
from .errors import InvalidArgument, LogCorrupted
from .keeping import Keeper, ReplayCache
from .queries import queries
from .recent import Recent
from .runs import Found, Position, Run, run_from
from .standby import Rest, Standby
from .statements import Row
from .translation import Refused

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")

MOST_PAGES: Final = 16
"""Full ones in one statement."""


@frozen
class _Job:
    game_id: str
    after: int
    most: int


_Call = Call[_Job, "Found | None"]


class Reads:
    """Reads pages, and remembers them. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        config: RegistryConfig,
        cache: ReplayCache | None,
        standby: Standby | None = None,
    ) -> None:
        self._database = database
        self._standby = standby
        self._standby_after = config.standby_after
        # Without it a promoted server has other epochs than a standby of the one before.
        self._witnessed = config.lossless_failover
        self.known = Recent(config) if cache is None else Keeper(cache, config, self.refresh)
        self.longest = 2 * config.replay_limit
        """Events of a page that several share."""
        self.combiner: Combiner[_Job, Found | None] = Combiner(
            self._alone,
            self._together,
            name="registry-reads",
            most_weight=MOST_PAGES * config.replay_limit,
            config=config,
        )

    def page(self, game_id: str, after: int, most: int) -> Found | None:
        """The events of a game after a sequence, at most so many; None if there is no game."""
        return self.combiner.call(game_id, _Job(game_id, after, most), most)

    def _alone(self, job: _Job) -> Found | None:
        position = job.after, job.most
        known = self.known.find({job.game_id: position}).get(job.game_id)
        return self.read(job.game_id, position, known)

    def read(self, game_id: str, position: Position, known: Run | None = None) -> Found | None:
        """Reads a page, but for what is known of it."""
        _, most = position
        found = self._read(game_id, position, known, self.first(most))
        if found and self.is_short(found, most):
            (found,) = self.completed([(game_id, found, most)])
            if found is None:
                found = self._read(game_id, position, None, most)
        return found and found.part(*position)

    def _read(
        self, game_id: str, position: Position, known: Run | None, first: int
    ) -> Found | None:
        """Reads a page's first events, but for what is known of it."""
        after, most = rest(position, known)
        row = self._database.row(
            queries.fetch_events_since,
            {"game_id": game_id, "after": Int8(after), "limit": Int8(min(most, first))},
        )
        if row is None:
            return None
        if known and not belongs(known, row):
            self.known.forget(game_id)
            return self._read(game_id, position, None, first)
        return self.found(game_id, known, after, row)

    def first(self, most: int) -> int:
        """How many events of a page to ask the database for, at first."""
        if self._standby is None or self._standby.resting:
            return most
        return min(most, self._standby_after)

    def is_short(self, found: Found, most: int) -> bool:
        """Whether there is more of a page of so many events, which was not asked for at first."""
        return self._standby is not None and found.lacks(most) > 0

    def completed(self, pages: Sequence[tuple[str, Found, int]]) -> list[Found | None]:
        """The pages with what they lack: from the standby, or what that lacks from the database.

        Each is as it was when the database said where its log stood. None for one whose log is
        another by now, or was pruned past what is here: it has to be read anew.

        Args:
            pages: game, what was found of it, and how many events it is to have.
        """
        runs: Sequence[Run | None] = [None] * len(pages)
        if self._standby:
            runs = self._standby.read(
                [
                    Rest(game_id, found.epoch, found.run.end, found.lacks(most))
                    for game_id, found, most in pages
                ]
            )
        done: list[Found | None] = []
        witnesses: list[Run | None] = []
        for (_, page, _), run in zip(pages, runs, strict=True):
            begin, witness = page.run.end, None
            if run and self._witnessed:
                witness = run.part(run.end - 1, 1)
                run = run.part(begin, len(run.payloads) - 1)
            if run and run.payloads:
                page = evolve(page, run=page.run.then(run), standby=(begin, run.end))
            done.append(page)
            witnesses.append(witness)
        lacking = [
            (place, (game_id, found.run.end, found.lacks(most)))
            for place, ((game_id, _, most), found) in enumerate(zip(pages, done, strict=True))
            if found and found.lacks(most)
        ]
        if lacking:
            rows = self._rows([asked for _, asked in lacking])
            for number, (place, (game_id, _, _)) in enumerate(lacking, 1):
                found = done[place]
                row = rows.get(number)
                done[place] = found and _joined(game_id, found, row, witnesses[place])
        for (game_id, _, _), found in zip(pages, done, strict=True):
            if found:
                self.known.learn(game_id, found.head, found.run)
        return done

    def found(self, game_id: str, known: Run | None, begin: int, row: Row) -> Found:
        """What is known, and after that what the database sent.

        Args:
            known: of the row's log.
            begin: the sequence before the row's events.
            row: the columns `epoch, head, floor, sequences, times, codecs, payloads`.
        """
        epoch, head, floor = row[:3]
        if not floor <= begin <= head:
            return Found(epoch, head, floor, Run.empty(epoch, begin))
        run = run_from(game_id, begin, row)
        self.known.learn(game_id, head, run)
        if known is None or known.end != begin:  # pruned meanwhile
            return Found(epoch, head, floor, run)
        return Found(epoch, head, floor, known.then(run), known.end)

    def refresh(self, positions: Mapping[str, Position]) -> None:
        """Reads what is new of some games, to be learned."""
        rows = self._rows([(game, *position) for game, position in positions.items()])
        for place, (game_id, (after, _)) in enumerate(positions.items(), 1):
            row = rows.get(place)
            if row is None or row[1] < after:
                self.known.forget(game_id)
            else:
                with suppress(LogCorrupted):
                    self.found(game_id, None, max(after, row[2]), row)

    def _rows(self, asked: Sequence[tuple[str, int, int]]) -> Mapping[int, Row]:
        """The rows of some games, by their places."""
        rows = self._database.rows(
            queries.fetch_events_batch,
            {
                "game_ids": text_array([game_id for game_id, _, _ in asked]),
                "afters": bigint_array([after for _, after, _ in asked]),
                "limits": bigint_array([most for _, _, most in asked]),
            },
        )
        return {row[0]: row[1:] for row in rows}

    def _together(self, batch: Batch[_Job, Found | None], _: bool) -> Collection[str]:
        calls = [call for calls in batch.values() for call in calls]
        pages = share(
            calls,
            lambda call: call.job.game_id,
            lambda call: (call.job.after, call.job.most),
            self.longest,
        )
        known = self.known.find(widest((page.key, page) for page in pages))
        try:
            self._share(pages, [page.of(known.get(page.key)) for page in pages])
        except (Refused, InvalidArgument):
            # One call that the server does not take must not fail the others.
            for call in calls:
                call.left_alone = True
        return ()

    def _share(self, pages: Sequence[Shared[str, _Call]], known: Sequence[Run | None]) -> None:
        """Reads the pages, and gives each call its part."""
        asked = []
        for page, run in zip(pages, known, strict=True):
            after, most = rest((page.after, page.most), run)
            asked.append((page.key, after, min(most, self.first(most))))
        rows = self._rows(asked)
        short = []
        for place, (page, run) in enumerate(zip(pages, known, strict=True), 1):
            row = rows.get(place)
            found = None
            if row is not None:
                if run and not belongs(run, row):
                    self.known.forget(page.key)
                else:
                    with suppress(LogCorrupted):  # whoever reads it by itself is told
                        found = self.found(page.key, run, max(asked[place - 1][1], row[2]), row)
            if found and self.is_short(found, page.most):
                short.append((page, found))
            else:
                _answer(page, found, row is not None)
        if short:  # the others have their answers, whatever becomes of this
            longer = self.completed([(page.key, found, page.most) for page, found in short])
            for (page, _), found in zip(short, longer, strict=True):
                _answer(page, found, True)


@define
class Shared(Generic[K, M]):
    """A page for several that want overlapping ones of the same log."""

    key: K
    after: int
    most: int
    members: list[M]

    def of(self, known: Run | None) -> Run | None:
        """What is known of this page."""
        if known is None or not known.begin <= self.after < known.end:
            return None
        return known.part(self.after, self.most)


def share(
    members: Iterable[M],
    key: Callable[[M], K],
    position: Callable[[M], Position],
    longest: int,
) -> list[Shared[K, M]]:
    """The pages to read for all, those of one key in order and none over the longest."""
    pages: dict[K, list[Shared[K, M]]] = {}
    for member in sorted(members, key=position):
        after, most = position(member)
        ours = pages.setdefault(key(member), [])
        if ours:
            page = ours[-1]
            reach = max(page.most, after + most - page.after)
            if after <= page.after + page.most and reach <= longest:
                page.most = reach
                page.members.append(member)
                continue
        ours.append(Shared(key(member), after, most, [member]))
    return [page for ours in pages.values() for page in ours]


def _answer(page: Shared[str, _Call], found: Found | None, there: bool) -> None:
    """Gives each call its part of its page, or leaves it alone if the game is there."""
    for call in page.members:
        call.left_alone = there and found is None
        call.answer = found and found.part(call.job.after, call.job.most)


def _joined(game_id: str, found: Found, row: Row | None, witness: Run | None) -> Found | None:
    """A page with what the database sent of it later; None if that is of another log, or pruned.

    Args:
        witness: an event of the standby, which has to be the first that was sent.
    """
    after = found.run.end
    if row is None or not belongs(found.run, row) or row[2] > after:
        return None
    with suppress(LogCorrupted):  # whoever reads the page anew is told
        run = run_from(game_id, after, row)
        if witness is None or witness == run.part(after, 1):
            return evolve(found, run=found.run.then(run))
    return None


def rest(position: Position, known: Run | None) -> Position:
    """What to ask the database for: one event at least, so that a hole there shows."""
    after, most = position
    return position if known is None else (known.end, max(1, after + most - known.end))


def belongs(known: Run, standing: Row) -> bool:
    """Whether what is known is of the log that stands like this, and not past its head."""
    return bool(known.epoch == standing[0] and known.end <= standing[1])


def widest(pages: Iterable[tuple[str, Shared[Any, Any]]]) -> dict[str, Position]:
    """What all pages of a game together have to know."""
    wanted: dict[str, Position] = {}
    for game_id, page in pages:
        after, most = wanted.get(game_id, (page.after, page.most))
        begin, end = min(after, page.after), max(after + most, page.after + page.most)
        wanted[game_id] = begin, end - begin
    return wanted
