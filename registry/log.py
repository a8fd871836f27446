"""The log of a game: recorded, read, acknowledged, pruned, ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8

from . import arguments
from .arrays import Array, bigint_array, text_array, uuid_array
from .config import LARGEST_MESSAGE
from .core import Core, optional_int8
from .errors import (
    AheadOfLog,
    EpochMismatch,
    GameNotFound,
    HistoryPruned,
    InvalidArgument,
    RegistryUnavailable,
)
from .gathering import Gathering, Job
from .model import Acknowledgement
from .queries import queries
from .replay import GameEvent, Replay, ReplayJson, replay_of
from .statements import Row, row_within
from .writer import Append, Writer, record_within

MOST_ACKNOWLEDGEMENTS: Final = 1000
"""In one statement."""


class Log(Core):
    """The part of the registry that knows what happened."""

    _writer: Writer
    _acknowledgements: Gathering

    def _gather_acknowledgements(self) -> None:
        """Lets the acknowledgements of many threads share statements."""
        self._acknowledgements = Gathering(
            self._database,
            self.config,
            name="registry-acknowledgements",
            alone=self._acknowledge,
            query=queries.acknowledge_batch,
            columns=_columns,
            most=MOST_ACKNOWLEDGEMENTS,
        )

    def record_event(
        self,
        game_id: str,
        payload: object,
        *,
        event_id: UUID | None = None,
        expected_sequence: int | None = None,
        connection: Connection[Any] | None = None,
    ) -> int:
        """Appends one event to a game's log and returns its sequence. Begins the game if new.

        The event is durable when this returns; with `connection` it is part of that
        connection's transaction and durable when the caller commits.

        Args:
            game_id: 1 to 200 characters.
            payload: a JSON value or bytes, at most `config.max_payload_bytes` encoded.
            event_id: names the event, so that recording it again (a retry) returns the
                sequence it has, within `config.replay_retention`, whatever became of it.
            expected_sequence: append only if the event gets this sequence.
            connection: the caller's own connection, to record in its transaction. The game is
                locked until that ends: keep it short, and record for several games in the
                order of their ids.

        Raises:
            InvalidArgument, InvalidPayload, PayloadTooLarge: nothing was sent.
            SequenceConflict: `expected_sequence` is not the next one; nothing was recorded.
            OutcomeUnknown: the connection broke, and the server did not come back within the time
                limit to be asked whether the event is in; with `event_id` never, since it can
                simply be recorded again.
            RegistryUnavailable: nothing was recorded, or with `event_id` nothing that a retry
                could double; safe to retry.

        Concurrency: appends to one game queue for its row and get consecutive sequences in
        the order of their commits; other games do not wait. Calls of many threads share
        statements. At most one round trip.
        """
        codec, data = self._payloads.encode(payload, connection)
        game_id = arguments.text_id("game_id", game_id)
        append = Append(
            game_id,
            (codec,),
            (data,),
            arguments.optional_uuid("event_id", event_id),
            arguments.optional_whole("expected_sequence", expected_sequence, 1),
        )
        if connection is None:
            sequence, floor = self._writer.record(append)
            self._reads.known.recorded(game_id)
        else:
            sequence, floor = record_within(connection, append)
        self._cap(game_id, sequence, floor, 1, connection)
        return sequence

    def record_events(self, game_id: str, payloads: Iterable[object]) -> range:
        """Appends many events, all or none, and returns their consecutive sequences.

        They are durable when this returns. No payloads, no call: the range is empty.

        Args:
            game_id: 1 to 200 characters.
            payloads: each as for `record_event`; read to the end before anything is sent.

        Raises:
            InvalidArgument, InvalidPayload, PayloadTooLarge: nothing was sent.
            OutcomeUnknown: the connection broke, and the server did not come back within the time
                limit to be asked whether the events are in.
            RegistryUnavailable: nothing was recorded; safe to retry.

        Concurrency: as `record_event`; no other event comes between. At most one round trip.
        """
        game_id = arguments.text_id("game_id", game_id)
        encoded = []
        together = 0
        for payload in arguments.many("payloads", payloads):
            codec, data = self._payloads.encode(payload)
            together += len(data)
            if together > LARGEST_MESSAGE:  # before more of what may have no end is read
                raise InvalidArgument(
                    f"the payloads are more than {LARGEST_MESSAGE} bytes together: "
                    "record them in several calls"
                )
            encoded.append((codec, data))
        if not encoded:
            return range(0)
        codecs, payloads = zip(*encoded, strict=True)
        head, floor = self._writer.record(Append(game_id, codecs, payloads))
        self._reads.known.recorded(game_id)
        self._cap(game_id, head, floor, len(encoded), None)
        return range(head - len(encoded) + 1, head + 1)

    def fetch_events_since(
        self, game_id: str, sequence: int, *, epoch: UUID | None = None, limit: int | None = None
    ) -> Replay:
        """The first events of a game after a sequence, in order, without a hole.

        Args:
            game_id: 1 to 200 characters.
            sequence: the last one the reader has, 0 if none.
            epoch: of the log it belongs to; None takes the present one for granted.
            limit: most events to return; at most, and by default, `config.replay_limit`.

        Raises:
            InvalidArgument: an argument is out of range.
            GameNotFound: there is no such game.
            EpochMismatch: the log is another one now.
            HistoryPruned: events just after `sequence` are gone.
            AheadOfLog: `sequence` was never given out.
            LogCorrupted: the log's rows were changed by hand.
            RegistryUnavailable: the database did not answer in time.
            A payload that cannot be read is `PayloadUnreadable` when `Replay.events` is first
            looked at.

        Concurrency: one snapshot, no lock. A reader that has seen n never later finds a new
        event at or below n. One round trip, and one more at the first sight of a compression
        dictionary. With a replay cache one round trip to that before, of at most
        `config.cache_timeout`. With a standby, for more than `config.standby_after` events, one to
        that after, of at most `config.standby_timeout`, and one more for what it lacks. Calls of
        many threads share statements.
        """
        epoch = arguments.optional_uuid("epoch", epoch)
        game_id = arguments.text_id("game_id", game_id)
        sequence = arguments.whole("sequence", sequence)
        found = self._reads.page(game_id, sequence, self._page_limit(limit))
        if found is None:
            raise GameNotFound(game_id)
        if epoch is not None and epoch != found.epoch:
            raise EpochMismatch(found.epoch)
        if sequence > found.head:
            raise AheadOfLog(found.head)
        if sequence < found.floor:
            raise HistoryPruned(found.floor, found.head)
        return replay_of(game_id, found, self._payloads.schemes)

    def fetch_events_json(
        self, game_id: str, sequence: int, *, epoch: UUID | None = None, limit: int | None = None
    ) -> ReplayJson:
        """The same page as one JSON document, for a server that only forwards it.

        Payloads are not decoded, which is most of the work of a read: see `ReplayJson.document`
        for what it looks like. `Replay.json` gives the same of any page, as that of a `resume`.

        Args, Raises, Concurrency: as `fetch_events_since`; and `PayloadUnreadable`, for an event
        that cannot be decompressed.
        """
        return self.fetch_events_since(game_id, sequence, epoch=epoch, limit=limit).json()

    def iter_events_since(
        self,
        game_id: str,
        sequence: int,
        *,
        epoch: UUID | None = None,
        page_size: int | None = None,
    ) -> Iterator[GameEvent]:
        """All events after a sequence up to the head of this moment, page by page.

        The first page is read at once, so that a bad position is refused here; the others as
        the iterator gets to them. Memory is that of one page.

        Args:
            game_id: 1 to 200 characters.
            sequence: the last one the reader has, 0 if none.
            epoch: of the log it belongs to; None takes the present one for granted.
            page_size: events in a page; at most, and by default, `config.replay_limit`.

        Raises:
            As `fetch_events_since`, also while iterating: `HistoryPruned` or `EpochMismatch`
            when a prune or the end of the game overtakes the reader. And `PayloadUnreadable`,
            before the first event of the page that has the event.

        Concurrency: each page is a snapshot of its own; none is held in between. One round
        trip a page.
        """
        game_id = arguments.text_id("game_id", game_id)
        first = self.fetch_events_since(game_id, sequence, epoch=epoch, limit=page_size)
        return self._events(game_id, first, page_size)

    def acknowledge(
        self,
        session_id: str,
        sequence: int,
        *,
        generation: int | None = None,
        epoch: UUID | None = None,
    ) -> Acknowledgement:
        """Notes that a session's client has everything up to a sequence; prunes what all have.

        Moves forward only: an older sequence changes nothing. What every live session of the
        game has acknowledged is deleted.

        Args:
            session_id: of the session.
            sequence: the last one the client has without a gap.
            generation: of the connection that says so; None speaks for whichever holds it.
            epoch: of the log that the sequence belongs to; None takes the present one for
                granted.

        Raises:
            InvalidArgument: an argument is of the wrong type or out of range.
            SessionNotFound, SessionExpired, SessionRevoked: the session is over.
            SessionTakenOver: the generation is not the newest.
            EpochMismatch: the log is another one now; nothing was acknowledged.
            AheadOfLog: the sequence was never given out.
            RegistryUnavailable: the database did not answer in time; safe to retry.

        Concurrency: locks the session's row, and before it the game's if the floor can rise.
        When several acknowledgements of a game meet, each may leave some of the pruning to
        the next one. One round trip, and one for each further
        `config.batch_size` events to prune.
        """
        game_id, uuid = arguments.session_key(session_id)
        session_id = str.__str__(session_id)
        sequence = arguments.whole("sequence", sequence)
        generation = arguments.optional_whole("generation", generation, 1)
        epoch = arguments.optional_uuid("epoch", epoch)
        job = {
            "game_id": game_id,
            "id": uuid,
            "sequence": Int8(sequence),
            "generation": optional_int8(generation),
            "epoch": epoch,
            "batch_size": Int8(self.config.batch_size),
        }
        pruned = 0
        while True:
            row = self._acknowledgements.row(session_id, job)
            reached, head, floor, deleted, more, present = row
            if reached is not None:
                pruned += deleted
                if not more:
                    if pruned:
                        self._reads.known.pruned(game_id, floor)
                    return Acknowledgement(reached, floor, pruned)
                continue
            self._check_acting(session_id, generation)
            if epoch is not None and epoch != present:
                raise EpochMismatch(present)
            if sequence > head:
                raise AheadOfLog(head)

    def prune_events(self, game_id: str, through: int) -> int:
        """Deletes a game's events up to a sequence, acknowledged or not. The operator's tool.

        Raises the floor with the events it deletes, a bounded batch at a time, and returns
        how many it deleted. Who has not seen them gets `HistoryPruned`.

        Args:
            game_id: 1 to 200 characters.
            through: the last sequence to delete.

        Raises:
            InvalidArgument: an argument is out of range.
            GameNotFound: there is no such game.
            AheadOfLog: `through` was never given out; nothing was deleted.
            RegistryUnavailable: the database did not answer in time; safe to retry, and what
                was pruned before stays pruned.

        Concurrency: locks the game's row for each batch. One round trip for each
        `config.batch_size` events.
        """
        game_id = arguments.text_id("game_id", game_id)
        through = arguments.whole("through", through)
        params = {
            "game_id": game_id,
            "through": Int8(through),
            "batch_size": Int8(self.config.batch_size),
        }
        pruned: int = 0
        while True:
            row = self._database.row(queries.prune_events, params)
            if row is None:
                raise GameNotFound(game_id)
            head, floor, deleted = row
            if through > head:
                raise AheadOfLog(head)
            pruned += int(deleted)
            if floor is not None and floor >= through:
                self._reads.known.pruned(game_id, floor)
                return pruned

    def end_game(self, game_id: str) -> None:
        """Deletes a game: its log, its sessions and its event ids.

        Their tokens are `InvalidToken` from then on. A game begun again under the same id
        has another epoch.

        Raises:
            InvalidArgument: the id is not 1 to 200 characters of text.
            GameNotFound: there is no such game.
            OutcomeUnknown: the connection broke, and the server did not come back within the time
                limit to be asked whether the game has ended.
            RegistryUnavailable: the database did not answer in time; the game may have lost
                events already, but not its sessions. Safe to retry.

        Concurrency: prunes the log in bounded batches first, with the rows that a cleanup has
        still to delete, then deletes the rest in one transaction that waits for every append
        and for the batch of a cleanup under way. At least two round trips.
        """
        game_id = arguments.text_id("game_id", game_id)
        params = {"game_id": game_id}
        standing = self._database.row(
            queries.prune_events, {**params, "through": Int8(0), "batch_size": Int8(1)}
        )
        if standing is None:
            raise GameNotFound(game_id)
        if standing[1]:
            self._sweep(game_id)
        with suppress(AheadOfLog):  # ended and begun again by somebody else, just now
            self.prune_events(game_id, standing[0])
        ended = False
        while not ended:
            rows = self._database.rows_once(
                queries.end_game,
                params,
                lambda answer: [tuple(answer)],
                if_unknown="end the game again; GameNotFound says that it had been done",
                behind=queries.lock_game,
            )
            if not rows:
                raise GameNotFound(game_id)
            ended = bool(rows[0][0])
        self._reads.known.forget(game_id)

    def _sweep(self, game_id: str) -> None:
        """Deletes what a cleanup may have left below the floor, as far as none is at it now."""
        last, done = 0, False
        while not done:
            params = {
                "game_ids": [game_id],
                "epochs": [None],
                "afters": [Int8(last)],
                "batch_size": self.config.batch_size,
            }
            row = self._database.row(queries.sweep_events, params)
            _, last, done, _ = row or (game_id, last, True, 0)

    def _acknowledge(self, job: Job) -> Row:
        """Acknowledges for one session, and prunes."""
        return self._database.row(queries.acknowledge, job) or (None, 0, 0, 0, False, job["epoch"])

    def _events(self, game_id: str, page: Replay, page_size: int | None) -> Iterator[GameEvent]:
        end = page.head
        while True:
            for event in page.events:
                if event.sequence > end:
                    return
                yield event
            if not page.events or event.sequence == end:
                return
            page = self.fetch_events_since(
                game_id, event.sequence, epoch=page.epoch, limit=page_size
            )

    def _cap(
        self, game_id: str, head: int, floor: int, added: int, connection: Connection[Any] | None
    ) -> None:
        """Prunes a log that outgrew the cap, in strides, so that few appends pay for it."""
        cap = self.config.max_events_per_game
        if head - floor <= cap + cap // 16:
            return
        params = {
            "game_id": game_id,
            "through": Int8(head - cap),
            "batch_size": Int8(max(self.config.batch_size, 2 * added)),
        }
        if connection is not None and connection.info.transaction_status != TransactionStatus.IDLE:
            row = row_within(connection, queries.prune_events, params, savepoint=False)
            if row is not None:
                self._database.observer.pruned(row[2], "cap")
            return
        # The events are in: a prune that fails now is the next append's to do.
        with suppress(RegistryUnavailable):
            while row := self._database.row(queries.prune_events, params):
                self._database.observer.pruned(row[2], "cap")
                if row[1] is None or row[1] >= head - cap:
                    return


def _columns(jobs: Sequence[Job]) -> dict[str, Array]:
    """What acknowledge_batch.sql needs."""
    return {
        "game_ids": text_array([job["game_id"] for job in jobs]),
        "ids": uuid_array([job["id"] for job in jobs]),
        "sequences": bigint_array([job["sequence"] for job in jobs]),
        "generations": bigint_array([job["generation"] for job in jobs]),
        "epochs": uuid_array([job["epoch"] for job in jobs]),
    }
