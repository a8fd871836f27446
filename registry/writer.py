"""The append path: many threads' events in one statement."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import Any, Final
from uuid import UUID

from attrs import define
from psycopg import Connection

from .arrays import (
    bigint_array,
    bytea_array,
    integer_array,
    smallint_array,
    text_array,
    uuid_array,
)
from .combining import Batch, Call, Combiner, own
from .config import RegistryConfig
from .core import optional_int8
from .database import Database, Recall
from .errors import InvalidArgument, OutcomeUnknown, SequenceConflict
from .queries import queries
from .receipts import NO_RECEIPT
from .statements import ATTEMPTS, Params, Row, row_within
from .translation import Refused

IF_UNKNOWN: Final = (
    "read the log's last events to find out before recording again, "
    "or give each event an event_id, with which record_event can simply be repeated"
)

ROW: Final = 1024
"""Bytes that an event counts beside its payload: what its row costs the server."""

MOST_WEIGHT: Final = 1024 * ROW
"""Of one batch: it takes the server milliseconds, and a call never waits for more than two."""

LARGE: Final = MOST_WEIGHT // 8
"""A block from here on gains nothing by company, and would make it wait."""


@define(eq=False)
class Append:
    """Events to record together, with consecutive sequences; conditions are for one event."""

    game_id: str
    codecs: Sequence[int]
    payloads: Sequence[bytes]
    event_id: UUID | None = None
    expected: int | None = None

    @property
    def conditional(self) -> bool:
        return self.event_id is not None or self.expected is not None


Recorded = tuple[int, int]
"""The last event's sequence, and the game's floor: or that sequence again, if another append of
the same batch came after it, and has the floor."""


_Call = Call[Append, Recorded]
_Batch = Batch[Append, Recorded]


class Writer:
    """Records events, each durably before the call returns. Safe to share between threads."""

    def __init__(self, database: Database, config: RegistryConfig) -> None:
        self._database = database
        self.combiner: Combiner[Append, Recorded] = Combiner(
            self._alone,
            self._together,
            name="registry-writer",
            most_waiting=config.max_waiting_bytes,
            most_weight=MOST_WEIGHT,
            config=config,
        )

    def record(self, append: Append) -> Recorded:
        """Records at once if nobody else is recording, or else together with the others."""
        payloads = append.payloads
        weight = ROW * len(payloads) + sum(map(len, payloads))
        if weight > LARGE and len(payloads) > 1:
            return self._alone(append)
        return self.combiner.call(append.game_id, append, weight)

    def _alone(self, append: Append) -> Recorded:
        if len(append.payloads) == 1:
            return _record(append, self._repeatable if append.event_id else self._once)
        params = {
            "game_id": append.game_id,
            "codecs": smallint_array(append.codecs),
            "payloads": bytea_array(append.payloads),
        }
        row = self._once(queries.record_events, params, _one_head)
        assert row is not None  # an upsert without a condition returns its row
        head, floor = row
        return head, floor

    def _repeatable(self, query: bytes, params: Params, _: Recall) -> Row | None:
        """Runs a statement with an event id, which makes it harmless to run it again."""
        return self._database.row(query, {**params, **NO_RECEIPT})

    def _once(self, query: bytes, params: Params, recall: Recall) -> Row | None:
        rows = self._database.rows_once(query, params, recall, if_unknown=IF_UNKNOWN)
        return rows[0] if rows else None

    def _together(self, batch: _Batch, patient: bool) -> Collection[str]:
        """Records a batch, and returns the games that somebody else holds."""
        calls = [call for calls in batch.values() for call in calls]
        try:
            if any(call.job.conditional for call in calls):
                return self._checked(batch, patient)
            if patient:
                self._one_game(calls)
                return ()
            return self._many_games(batch)
        except OutcomeUnknown as error:
            # Whoever gave an id can have it tried again.
            for call in calls:
                if call.job.event_id is None:
                    call.error = own(error)
                else:
                    call.left_alone = True
        except (Refused, InvalidArgument):
            # One event that the server does not take must not fail the others.
            for call in calls:
                call.left_alone = True
        return ()

    def _one_game(self, calls: Sequence[_Call]) -> None:
        """Appends to one game, and waits for it."""
        params = {"game_id": calls[0].key, **_columns(calls)}
        row = self._once(queries.record_events, params, _one_head)
        assert row is not None  # an upsert without a condition returns its row
        _number(calls, *row)

    def _many_games(self, batch: _Batch) -> Collection[str]:
        """Appends to the games that nobody else holds, and returns the others."""
        games = list(batch)
        events: list[str] = []
        places: list[int] = []
        followers: list[int] = []
        counts: list[int] = []
        codecs: list[int] = []
        payloads: list[bytes] = []
        for place, (game_id, calls) in enumerate(batch.items(), 1):
            for call in calls:
                codecs += call.job.codecs
                payloads += call.job.payloads
            size = len(payloads) - len(events)
            counts.append(size)
            if size == 1:
                events.append(game_id)
                places.append(place)
                followers.append(0)
            else:
                events += [game_id] * size
                places += [place] * size
                followers += range(size - 1, -1, -1)
        params = {
            "game_ids": text_array(games),
            "counts": integer_array(counts),
            "events": text_array(events),
            "places": integer_array(places),
            "followers": integer_array(followers),
            "codecs": smallint_array(codecs),
            "payloads": bytea_array(payloads),
        }
        rows = self._database.rows_once(
            queries.record_batch, params, _heads_by_place, if_unknown=IF_UNKNOWN
        )
        left = set(games)
        for place, head, floor in rows:
            game_id = games[place - 1]
            left.discard(game_id)
            _number(batch[game_id], head, floor)
        return left

    def _checked(self, batch: _Batch, patient: bool) -> Collection[str]:
        """As the other two, where some events have conditions."""
        games = list(batch)
        rows: list[tuple[str, int, UUID | None, int | None, int, bytes]] = []
        owners: list[_Call] = []
        twins: list[_Call] = []
        for place, (game_id, calls) in enumerate(batch.items(), 1):
            judged, others = _apart(calls)
            twins += others
            for call in judged:
                job = call.job
                for codec, payload in zip(job.codecs, job.payloads, strict=True):
                    rows.append((game_id, place, job.event_id, job.expected, codec, payload))
                    owners.append(call)
        events, places, event_ids, sequences, codecs, payloads = zip(*rows, strict=True)
        params: dict[str, object] = {
            "game_ids": text_array(games),
            "events": text_array(events),
            "places": integer_array(places),
            "event_ids": uuid_array(event_ids),
            "expected": bigint_array(sequences),
            "codecs": smallint_array(codecs),
            "payloads": bytea_array(payloads),
        }
        if patient:
            params["game_id"] = games[0]
        answer = self._database.rows_once(
            queries.record_batch_checked,
            params,
            _verdicts,
            if_unknown=IF_UNKNOWN,
            behind=queries.lock_game if patient else None,
        )
        verdicts = sorted(answer)
        left = set(games).difference(owners[number - 1].key for number, *_ in verdicts)
        if patient and left:  # there is no such game
            for call in batch[games[0]]:
                call.left_alone = True
            return ()
        ends: dict[str, tuple[_Call, int, int]] = {}
        following: dict[tuple[str, int | None], int] = {}
        for number, outcome, sequence, floor in verdicts:
            call = owners[number - 1]
            expected = call.job.expected
            if outcome != "conflict":
                call.answer = (sequence, sequence)
                if outcome == "recorded":
                    ends[call.key] = call, sequence, floor
                    following[call.key, expected] = sequence + 1
            elif call.job.event_id is None and expected is not None:
                call.error = SequenceConflict(expected, sequence)
                following[call.key, expected] = sequence
            else:  # it may have been recorded since the statement's snapshot
                call.left_alone = True
        for call, sequence, floor in ends.values():
            call.answer = (sequence, floor)
        for twin in twins:
            expected = twin.job.expected
            actual = following.get((twin.key, expected))
            if twin.key in left:
                pass
            elif twin.job.event_id is None and expected is not None and actual is not None:
                twin.error = SequenceConflict(expected, actual)
            else:
                twin.left_alone = True
        for call in owners:
            # The receipt says nothing of who was not recorded.
            if call.key not in left and call.answer is None and call.error is None:
                call.left_alone = True
        return left


def record_within(connection: Connection[Any], append: Append) -> Recorded:
    """Records one event in the caller's transaction."""
    savepoint = append.event_id is not None

    def within(query: bytes, params: Params, _: Recall) -> Row | None:
        return row_within(connection, query, {**params, **NO_RECEIPT}, savepoint=savepoint)

    return _record(append, within)


def _record(append: Append, run: Callable[[bytes, Params, Recall], Row | None]) -> Recorded:
    """Records one event, on its conditions if it has some, or raises `SequenceConflict`."""
    params: dict[str, object] = {
        "game_id": append.game_id,
        "codec": append.codecs[0],
        "payload": append.payloads[0],
    }
    if not append.conditional:
        row = run(queries.record_event, params, _one_head)
        assert row is not None  # an upsert without a condition returns its row
        sequence, floor = row
        return sequence, floor
    params["event_id"] = append.event_id
    params["expected"] = optional_int8(append.expected)
    for attempt in count(1):
        # No row: there is no such game, or there was none yet for the statement's snapshot.
        row = run(queries.record_event_checked, params, _one_verdict)
        outcome, sequence, floor = row or ("conflict", 1, 0)
        if outcome != "conflict":
            return sequence, floor if outcome == "recorded" else sequence
        # With an id it may be the event itself, recorded since the snapshot, that is in the
        # way: the next snapshot shows it.
        again = attempt < ATTEMPTS and (append.event_id is not None or sequence == append.expected)
        if append.expected is not None and not again:
            raise SequenceConflict(append.expected, sequence)
    raise AssertionError  # the loop has no end of its own


# What the statements noted in their receipts. There is no floor among it: the sequence stands in
# for it, and the cap is left to the next append.


def _one_head(answer: Sequence[int]) -> Sequence[Row]:
    (head,) = answer
    return [(head, head)]


def _one_verdict(answer: Sequence[int]) -> Sequence[Row]:
    (sequence,) = answer
    return [("recorded", sequence, sequence)]


def _heads_by_place(answer: Sequence[int]) -> Sequence[Row]:
    return [(place, head, head) for place, head in enumerate(answer, 1) if head]


def _verdicts(answer: Sequence[Any]) -> Sequence[Row]:
    return [(number, "recorded", sequence, sequence) for number, sequence in answer]


def _columns(calls: Sequence[_Call]) -> dict[str, object]:
    """The codecs and payloads of all events, in order."""
    return {
        "codecs": smallint_array([codec for call in calls for codec in call.job.codecs]),
        "payloads": bytea_array([data for call in calls for data in call.job.payloads]),
    }


def _number(calls: Sequence[_Call], head: int, floor: int) -> None:
    """Hands out the sequences up to a game's new head."""
    last = head
    for call in reversed(calls):
        call.answer = (last, floor if last == head else last)
        last -= len(call.job.payloads)


def _apart(calls: Sequence[_Call]) -> tuple[list[_Call], list[_Call]]:
    """The calls of a game as record_batch_checked.sql wants them, and those it cannot judge.

    First who expects a sequence, the lowest first. Of two that expect the same, or that have
    one id (a retry that overtook its first attempt), the second has to come later.
    """
    first: list[_Call] = []
    twins: list[_Call] = []
    seen: set[UUID | int] = set()
    for call in calls:
        names = {name for name in (call.job.event_id, call.job.expected) if name is not None}
        (first if seen.isdisjoint(names) else twins).append(call)
        seen |= names
    first.sort(key=lambda call: (call.job.expected is None, call.job.expected or 0))
    return first, twins
