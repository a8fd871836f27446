"""Sessions taken over by many threads in one statement, each with the first page of its replay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Final
from uuid import UUID

from attrs import field, frozen
from psycopg.types.numeric import Int8

from .arrays import bigint_array, bytea_array, integer_array, text_array, uuid_array
from .combining import Batch, Call, Combiner
from .config import RegistryConfig
from .core import SESSION_COLUMNS
from .database import Database
from .errors import InvalidArgument, InvalidToken, LogCorrupted, RegistryUnavailable
from .model import Continuity
from .queries import queries
from .reading import MOST_PAGES, Reads, Shared, belongs, rest, share, widest
from .runs import Found, Position, Run
from .statements import ATTEMPTS, Params, Row
from .tokens import ResumeToken
from .translation import Refused

OWN: Final = SESSION_COLUMNS + 1
"""A session's columns and its salt; those of the page come after."""


@frozen
class Takeover:
    """What a client presents, and what it gets next."""

    presented: ResumeToken
    salt: bytes = field(repr=False)
    next_hash: bytes = field(repr=False)
    after: int
    epoch: UUID | None
    most: int

    def begins(self, epoch: UUID, head: int, floor: int) -> tuple[Continuity, int, int]:
        """How its replay goes on, after which sequence, and how many events it has missed."""
        if self.after > head or (self.epoch is not None and self.epoch != epoch):
            return Continuity.RESET, floor, floor
        if self.after < floor:
            return Continuity.GAP, floor, floor - self.after
        return Continuity.CONTINUOUS, self.after, 0


Taken = tuple[Row, "Found | None"]
"""A session's row of `OWN` columns, and its page if the same statement could read it."""

_Call = Call[Takeover, Taken]
_Page = Shared["tuple[str, UUID | None]", _Call]


class Resumptions:
    """Takes sessions over. Safe to share between threads.

    Args:
        insist: runs resume.sql for one, and raises why there is no row.
    """

    def __init__(
        self,
        database: Database,
        config: RegistryConfig,
        reads: Reads,
        insist: Callable[[Params, ResumeToken], Row],
    ) -> None:
        self._database = database
        self._reads = reads
        self._insist = insist
        self.combiner: Combiner[Takeover, Taken] = Combiner(
            self._alone,
            self._together,
            name="registry-resumptions",
            most_weight=MOST_PAGES * config.replay_limit,
            config=config,
        )

    def take_over(self, job: Takeover) -> tuple[Row, Found]:
        """Takes a session over and reads its page; raises why not."""
        game_id = job.presented.game_id
        key = f"{game_id}/{job.presented.session_uuid.hex}"
        row, found = self.combiner.call(key, job, job.most)
        return row, found or self._read(job, row[OWN:])

    def _alone(self, job: Takeover) -> Taken:
        game_id = job.presented.game_id
        position = job.after, job.most
        known = _usable(self._reads.known.find({game_id: position}).get(game_id), job.epoch)
        after, most = rest(position, known)
        row = self._take_over(job, (after, min(most, self._reads.first(most))))
        page = self._page(game_id, known, after, job.epoch, row[OWN:])
        if page and self._reads.is_short(page, job.most):
            (page,) = self._reads.completed([(game_id, page, job.most)])
        return row, page and _part(page, job)

    def _read(self, job: Takeover, standing: Row) -> Found:
        """The page of a session that was taken over when the log was not the one expected."""
        for _ in range(ATTEMPTS):
            _, begin, _ = job.begins(*standing[:3])
            found = self._reads.read(job.presented.game_id, (begin, job.most))
            if found is None:  # it has ended since, and the session with it
                raise InvalidToken
            standing = found.epoch, found.head, found.floor
            if page := _part(found, job):
                return page
        raise RegistryUnavailable("the log kept changing under the call; resume again")

    def _take_over(self, job: Takeover, position: Position) -> Row:
        after, most = position
        proof = job.presented.prove()
        params = {
            "game_id": job.presented.game_id,
            "id": job.presented.session_uuid,
            "nonce": proof.nonce,
            "blinded": proof.blinded,
            "salt": job.salt,
            "next_hash": job.next_hash,
            "after": Int8(after),
            "epoch": job.epoch,
            "limit": Int8(most),
        }
        return self._insist(params, job.presented)

    def _page(
        self, game_id: str, known: Run | None, after: int, epoch: UUID | None, row: Row
    ) -> Found | None:
        """What is known, and after that what the query sent, which was asked for it like this.

        None if what is known is of another log, and the client did not say which it was in: the
        query's events begin where that other log ended.
        """
        present, head, floor = row[:3]
        if known and not belongs(known, row):
            self._reads.known.forget(game_id)
            if epoch in (None, present):
                return None
            known = None
        fits = floor <= after <= head and (epoch is None or epoch == present)
        return self._reads.found(game_id, known, after if fits else floor, row)

    def _together(self, batch: Batch[Takeover, Taken], _: bool) -> Collection[str]:
        # Of two calls for one session the second comes by itself.
        calls = [calls[0] for calls in batch.values()]
        pages = share(
            calls,
            lambda call: (call.job.presented.game_id, call.job.epoch),
            lambda call: (call.job.after, call.job.most),
            self._reads.longest,
        )
        known = self._reads.known.find(widest((page.key[0], page) for page in pages))
        shares = [
            _usable(page.of(known.get(game_id)), epoch)
            for page in pages
            for game_id, epoch in [page.key]
        ]
        # One call that cannot be sent, or that the server does not take, must not fail the others.
        with suppress(Refused, InvalidArgument):
            self._share(pages, shares)
        for call in (call for calls in batch.values() for call in calls):
            call.left_alone = call.answer is None
        return ()

    def _share(self, pages: Sequence[_Page], known: Sequence[Run | None]) -> None:
        """Takes the sessions over, and gives each call its part of its page."""
        asked = []
        for page, run in zip(pages, known, strict=True):
            after, most = rest((page.after, page.most), run)
            asked.append((after, min(most, self._reads.first(most))))
        calls = [(number, call) for number, page in enumerate(pages, 1) for call in page.members]
        tokens = [call.job.presented for _, call in calls]
        proofs = [token.prove() for token in tokens]
        rows = self._database.rows(
            queries.resume_batch,
            {
                "game_ids": text_array([token.game_id for token in tokens]),
                "ids": uuid_array([token.session_uuid for token in tokens]),
                "nonces": bytea_array([proof.nonce for proof in proofs]),
                "blinded": bytea_array([proof.blinded for proof in proofs]),
                "salts": bytea_array([call.job.salt for _, call in calls]),
                "next_hashes": bytea_array([call.job.next_hash for _, call in calls]),
                "pages": integer_array([number for number, _ in calls]),
                "afters": bigint_array([after for after, _ in asked]),
                "epochs": uuid_array([page.key[1] for page in pages]),
                "limits": bigint_array([most for _, most in asked]),
            },
        )
        found: dict[int, Found | None] = {}
        taken: dict[int, list[tuple[_Call, Row]]] = {}
        for place, *columns in sorted(rows, key=itemgetter(0)):  # the first has the page's events
            row = tuple(columns)
            number, call = calls[place - 1]
            if number not in found:
                game_id, epoch = pages[number - 1].key
                found[number] = None
                with suppress(LogCorrupted):  # whoever reads it by itself is told
                    after, _ = asked[number - 1]
                    found[number] = self._page(game_id, known[number - 1], after, epoch, row[OWN:])
            taken.setdefault(number, []).append((call, row))
        short = []
        for number, first in found.items():
            most = pages[number - 1].most
            if first and self._reads.is_short(first, most):
                short.append((number, first, most))
            else:
                _answer(taken[number], first)
        if short:  # the others have their answers, whatever becomes of this
            longer = self._reads.completed(
                [(pages[number - 1].key[0], first, most) for number, first, most in short]
            )
            for (number, _, _), whole in zip(short, longer, strict=True):
                _answer(taken[number], whole)


def _answer(taken: Sequence[tuple[_Call, Row]], page: Found | None) -> None:
    """Gives each session that was taken over its part of its page."""
    for call, row in taken:
        call.answer = row, page and _part(page, call.job)


def _usable(known: Run | None, epoch: UUID | None) -> Run | None:
    """What is known, if it can be of the log that a client was in."""
    return known if known and epoch in (None, known.epoch) else None


def _part(found: Found, job: Takeover) -> Found | None:
    """What a client gets of a page; None if that begins elsewhere, or is less than there is.

    It is where events were known that turn out to be pruned, or of another log.
    """
    _, begin, _ = job.begins(found.epoch, found.head, found.floor)
    if not found.run.begin <= begin <= found.run.end:
        return None
    page = found.part(begin, job.most)
    whole = len(page.run.payloads) == job.most or page.run.end == found.head
    return page if whole else None
