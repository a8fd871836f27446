"""An import from its first look to its last check.

It keeps no record of its own: how far it came is seen from what is in the registry, so a run that
was ended in whatever way is gone on with by the next one. Everything is looked at game by game, so
many at a time, in memory that does not grow with the number of events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Final

from attrs import frozen

from ..arguments import text_id, whole
from ..errors import InvalidArgument, InvalidPayload, RegistryError
from ..payloads import decode
from ..progress import Advance, Progress
from .plan import Flawed, Plan, Problem, Refused, Standing, conflict, judge
from .report import Report
from .source import Event, Source, SourceGame, SourceSession
from .target import Batch, Found, Lost, Segment, Session, Target

GAMES: Final = 10_000
"""Games that are looked at together, and asked of the source in one query."""

CHECKED: Final = 500
"""Games whose events are counted by one statement."""

BATCH_BYTES: Final = 2**24
"""A batch of large events ends here."""


@frozen(kw_only=True)
class Options:
    """How to import. Times in seconds."""

    dry_run: bool = False
    flawed: Flawed = "skip"
    batch_size: int = 10_000
    """Events, or sessions, in one transaction."""
    session_ttl: float = 900.0
    grace: float = 0.0
    """How much later the sessions expire than in the source."""


class Import:
    """One run of the import."""

    def __init__(
        self, source: Source, target: Target, options: Options, progress: Progress, limit: int
    ) -> None:
        """`limit`: the most bytes of a payload."""
        self._source = source
        self._target = target
        self._options = options
        self._progress = progress
        self._limit = limit
        self._refused: dict[str, Refused] | None = None
        self._lost: set[str] = set()
        self._report = Report(options.dry_run, source.timed)

    def run(self) -> Report:
        """Looks, copies and checks; as the options say, the first only."""
        report = self._report
        with self._progress.stage("looking", None, "games") as advance:
            for plans in self._survey():
                self._look(plans)
                advance(len(plans))
        if self._options.flawed == "stop" and report.kinds:
            report.stopped = True
        if self._options.dry_run or report.stopped:
            return report
        with self._progress.stage("copying", report.todo.events, "events") as advance:
            for plans in self._survey():
                self._copy(plans, advance)
        games = report.source.games
        with self._progress.stage("checking", games, "games") as advance:
            for plans in self._survey():
                self._check([plan for plan in plans if not plan.left_out])
                advance(len(plans))
        return report

    def _survey(self) -> Iterator[list[Plan]]:
        """The plans of all games, so many at a time, in the order of their ids."""
        first = self._refused is None  # the source is one snapshot: once is enough
        refused = self._refused = self._refused or {}
        for games in self._source.games(GAMES, payloads=first):
            broken = [game.game_id for game in games if game.game_id and not game.whole]
            breaks = self._source.breaks(broken) if broken else {}
            if first:
                refused |= self._refuse([g.game_id for g in games if g.game_id and g.suspects])
            standings = self._standings([game for game in games if game.game_id])
            yield sorted(
                (
                    judge(
                        game,
                        breaks.get(game.game_id or ""),
                        refused.get(game.game_id or ""),
                        standings.get(game.game_id or ""),
                        self._options.flawed,
                    )
                    for game in games
                ),
                key=lambda plan: plan.game_id,  # the order in which rows are locked
            )

    def _refuse(self, games: Sequence[str]) -> dict[str, Refused]:
        """Of the suspect payloads, those that cannot be stored."""
        found: dict[str, Refused] = {}
        for game_id, sequence, payload in self._source.suspects(games) if games else ():
            try:
                if payload is None:
                    raise InvalidPayload("it is NULL")
                self._source.store(payload, self._limit)
            except InvalidPayload as error:
                before = found.get(game_id)
                if before is None:
                    found[game_id] = Refused(1, sequence, sequence, str(error))
                    continue
                first = sequence < before.first
                found[game_id] = Refused(
                    before.number + 1,
                    sequence if first else before.first,
                    max(sequence, before.last),
                    str(error) if first else before.why,
                )
        return found

    def _standings(self, games: Sequence[SourceGame]) -> Mapping[str, Standing]:
        """Where the games stand that are there, each compared by one event."""
        ids = [game.game_id or "" for game in games]
        heads = [max(game.last or 0, game.acknowledged) for game in games]
        there = self._target.standing(ids, heads)
        comparable = [(i, found.sequence) for i, found in there.items() if found.sequence]
        samples = self._source.samples(*zip(*comparable, strict=True)) if comparable else {}
        standings = {}
        for game_id, found in there.items():
            events = samples.get(game_id)
            same = any(self._same(found, event) for event in events) if events else None
            standings[game_id] = Standing(found.floor, found.head, found.imported, same)
        return standings

    def _same(self, found: Found, event: tuple[object, bytes | None]) -> bool:
        at, payload = event
        if (
            payload is None
            or not found.readable
            or (self._source.timed and at != found.recorded_at)
        ):
            return False
        try:
            return decode(*self._source.store(payload, self._limit)) == decode(
                found.codec, found.payload
            )
        except (InvalidPayload, ValueError):
            return False

    def _sessions(self, plans: Sequence[Plan]) -> tuple[list[Session], list[Problem]]:
        """The sessions of the games that are imported; and those that cannot be."""
        games = [plan.game_id for plan in plans if not plan.left_out and plan.game.sessions]
        rows = self._source.sessions(games) if games else []
        sessions, problems = [], []
        for n, row in enumerate(rows):
            neighbours = rows[max(n - 1, 0) : n] + rows[n + 1 : n + 2]
            twice = any((row.game_id, row.user_id) == (r.game_id, r.user_id) for r in neighbours)
            try:
                sessions.append(self._session(row, twice))
            except InvalidArgument as error:
                problems.append(
                    Problem(
                        row.game_id,
                        "session",
                        f"a session was left out: {error}",
                        "correct it in the source and import again, or let that player begin a new "
                        "session, which may replay all that is there",
                    )
                )
        return sessions, problems

    def _session(self, row: SourceSession, twice: bool) -> Session:
        user_id = text_id("userId", row.user_id)
        acknowledged = whole("lastAckSequence", row.acknowledged)
        if twice:
            raise InvalidArgument("its player has two of them in this game")
        if row.beat is None:
            raise InvalidArgument("it has no heartbeat")
        expiry = row.expiry or row.beat + timedelta(seconds=self._options.session_ttl)
        return Session(
            row.game_id,
            user_id,
            acknowledged,
            row.beat,
            expiry + timedelta(seconds=self._options.grace),
            row.created or row.beat,
        )

    def _look(self, plans: Sequence[Plan]) -> None:
        """Counts what there is to do."""
        report = self._report
        for plan in plans:
            report.found(plan)
        sessions, problems = self._sessions(plans)
        for problem in problems:
            report.problem(problem)
        pending = len(self._target.pending(sessions))
        report.todo.sessions += pending
        report.there.sessions += len(sessions) - pending
        report.left_out.sessions += len(problems)

    def _copy(self, plans: Sequence[Plan], advance: Advance) -> None:
        """Copies what is missing of some games, in batches."""
        sessions: dict[str, list[Session]] = {}
        for session in self._target.pending(self._sessions(plans)[0]):
            sessions.setdefault(session.game_id, []).append(session)
        wanted = [plan for plan in plans if not plan.left_out]
        copied = [plan for plan in wanted if plan.events]
        if not copied:
            self._put(wanted, sessions, iter(()), advance)
            return
        stream = self._source.events(
            [plan.game_id for plan in copied],
            [_before(plan) for plan in copied],
            [plan.head for plan in copied],
        )
        with closing(stream):
            self._put(wanted, sessions, stream, advance)

    def _put(
        self,
        plans: Sequence[Plan],
        sessions: Mapping[str, Sequence[Session]],
        stream: Iterator[Event],
        advance: Advance,
    ) -> None:
        """Puts the events of a stream, and the sessions of the same games, in batches."""
        batch, place = Batch(), 0
        for plan in plans:
            if plan.after is None and plan.game_id not in sessions:
                continue
            segment = Segment(plan, plan.after, plan.head if plan.after is not None else 0)
            batch.segments.append(segment)
            sequence = _before(plan)
            for _ in range(plan.events):
                sequence += 1
                self._add(batch, plan.game_id, place, sequence, next(stream, None))
                if self._full(batch):
                    segment.head = sequence
                    self._flush(batch, advance)
                    batch = Batch()
                    segment = Segment(plan, sequence, plan.head)
                    batch.segments.append(segment)
            place += bool(plan.events)
            segment.sessions = sessions.get(plan.game_id, ())
            segment.last = plan.after is not None
            batch.sessions += len(segment.sessions)
            if self._full(batch):
                self._flush(batch, advance)
                batch = Batch()
        for _ in stream:
            raise _not_the_same()
        self._flush(batch, advance)

    def _add(
        self, batch: Batch, game_id: str, place: int, sequence: int, event: Event | None
    ) -> None:
        if event is None or (event[0], event[1]) != (place, sequence.to_bytes(8, "big")):
            raise _not_the_same()
        codec, data = self._source.store(event[3], self._limit)
        batch.rows.append((game_id, event[1], event[2], codec, data))
        batch.size += len(data)

    def _full(self, batch: Batch) -> bool:
        most = max(len(batch.rows), batch.sessions, len(batch.segments))
        return most >= self._options.batch_size or batch.size >= BATCH_BYTES

    def _flush(self, batch: Batch, advance: Advance) -> None:
        """Puts a batch in, without the games that have changed since they were looked at."""
        report, all_rows = self._report, len(batch.rows)
        lost = self._lost
        while True:
            if lost:
                batch.segments = [s for s in batch.segments if s.plan.game_id not in lost]
                batch.rows = [row for row in batch.rows if row[0] not in lost]
            if not batch.segments:
                break
            try:
                self._target.put(batch, self._options.session_ttl)
            except Lost as changed:
                for n in changed.places:
                    plan = batch.segments[n].plan
                    lost.add(plan.game_id)
                    report.problem(conflict(plan.game, "was changed while it was imported"))
                continue
            report.done.events += len(batch.rows)
            report.done.games += sum(segment.last for segment in batch.segments)
            report.done.sessions += sum(len(segment.sessions) for segment in batch.segments)
            break
        advance(all_rows)

    def _check(self, plans: Sequence[Plan]) -> None:
        """Counts what is there, and compares."""
        report = self._report
        plans = [plan for plan in plans if plan.game_id not in self._lost]
        for start in range(0, len(plans), CHECKED):
            some = plans[start : start + CHECKED]
            found = self._target.check([plan.game_id for plan in some])
            for plan in some:
                report.checked += 1
                if (detail := self._unsound(plan, found.get(plan.game_id))) is not None:
                    report.unsound.append(_again(plan.game_id, detail))
        behind: dict[str, int] = {}
        for session in self._target.pending(self._sessions(plans)[0]):
            behind[session.game_id] = behind.get(session.game_id, 0) + 1
        for game_id, number in behind.items():
            report.unsound.append(_again(game_id, f"{number} of its sessions are not there"))

    def _unsound(self, plan: Plan, found: Sequence[int] | None) -> str | None:
        """What is wrong with a game that was imported."""
        if found is None:
            return "it is not there"
        floor, head, events, first, last, fingerprint = found
        if head < plan.head:
            return f"it ends at {head} and not at {plan.head}"
        whole_log = (head - floor, floor + 1, head) if head > floor else (0, None, None)
        if (events, first, last) != whole_log:
            return f"it has {events} events, from {first} to {last}, for ({floor}, {head}]"
        alike = not plan.problems and (floor, head) == (plan.floor, plan.head)
        if alike and self._source.timed and fingerprint != plan.game.fingerprint:
            return "its events have other times than those of the source"
        return None


def _before(plan: Plan) -> int:
    """The last sequence before those that are to be copied."""
    return max(plan.after or 0, plan.floor)


def _again(game_id: str, detail: str) -> Problem:
    return Problem(
        game_id, "unsound", detail, "import again, and if that does not help end_game it"
    )


def _not_the_same() -> RegistryError:
    return RegistryError("the source did not answer the same twice: import again")
