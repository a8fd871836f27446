"""The registry on a real PostgreSQL and the contract in memory, driven side by side.

Every answer has to be the same, and after each step so has all that is stored.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from itertools import cycle
from typing import Any
from uuid import UUID

import psycopg
import pytest
from attrs import evolve
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from layouts import lay_out
from psycopg.conninfo import make_conninfo
from redis_server import RedisServer
from reference import CAP, RETENTION, TTL, Game, Reference, Session
from replica import following
from soundness import unsound
from support import TABLES, Clock, Server, name_of, wait_until

from registry import (
    EmbeddedPostgres,
    EpochMismatch,
    GameSessionRegistry,
    InvalidToken,
    RegistryConfig,
    RegistryError,
    Replay,
    SessionExpired,
    SessionRevoked,
    TokenReused,
    breaker,
)
from registry.cache import RedisReplayCache
from registry.metrics import Observer

CONFIG = RegistryConfig(
    session_ttl=TTL,
    replay_retention=RETENTION,
    max_events_per_game=CAP,
    batch_size=3,
    pool_min_size=1,
    statement_timeout=30,
)
GAMES = ["alpha", "beta", "alpha/beta"]
USERS = ["ann", "ben", "cid"]
EVENT_IDS = [UUID(int=n) for n in range(3)]
STEP = 600  # seconds: so far from any limit that a slow machine changes nothing
EVERY = timedelta(minutes=1)
"""What a partition by time holds, if there are any: a cleanup goes back to the beginning of one,
and that has to be nearer than the steps are to any limit."""

games = st.sampled_from(GAMES)
users = st.sampled_from(USERS)
picks = st.integers(0, 1_000)
near = st.integers(-9, 3)
"""A position, counted from the head."""
payloads = st.sampled_from([None, "move", {"x": [1, 2.5]}, b"\x00raw"])
limits = st.sampled_from([None, 1, 2, 5])
epochs = st.sampled_from(["none", "right", "wrong"])
generations = st.sampled_from(["none", "newest", "stale", "unborn"])


def slow(value: int) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


def outcome(act: Callable[[], Any]) -> Any:
    """What a call returns, or the error it raises as something that can be compared."""
    try:
        return act()
    except RegistryError as error:
        return type(error), vars(error)


class SideBySide(RuleBasedStateMachine):
    def __init__(
        self, conninfo: str, connect: Callable[[], GameSessionRegistry], flush: Callable[[], object]
    ) -> None:
        super().__init__()
        self.conninfo = conninfo
        self.connect = connect
        self.flush = flush
        self.clock = Clock(conninfo)
        self.connection = psycopg.connect(conninfo, autocommit=True)
        self.reference = Reference()
        self.registries = [connect() for _ in "ab"]
        self.turn = 0
        self.tokens: list[str] = []
        self.session_ids: list[str] = []
        self.acknowledged: dict[str, int] = {}
        self.floors: dict[UUID, int] = {}

    def teardown(self) -> None:
        for registry in self.registries:
            registry.close()
        self.connection.close()

    @initialize()
    def empty(self) -> None:
        for table in reversed(TABLES):
            self.connection.execute(f"DELETE FROM {table}".encode())

    @property
    def registry(self) -> GameSessionRegistry:
        """One and the other by turns."""
        self.turn += 1
        return self.registries[self.turn % 2]

    # what the rules pick from

    def position(self, game_id: str, offset: int) -> int:
        game = self.reference.games.get(game_id)
        return max(0, (game.head if game else 0) + offset)

    def session_id(self, pick: int) -> str:
        ids = [*self.session_ids, f"alpha/{UUID(int=1)}", "nonsense"]
        return ids[-1 - pick % len(ids)]

    def generation(self, session_id: str, which: str) -> int | None:
        newest = next(
            (
                session.generation
                for game in self.reference.games.values()
                for session in game.sessions.values()
                if session.id == session_id
            ),
            1,
        )
        return {"none": None, "newest": newest, "stale": max(1, newest - 1), "unborn": newest + 1}[
            which
        ]

    def epoch(self, game_id: str, which: str) -> UUID | None:
        game = self.reference.games.get(game_id)
        right = game.epoch if game else None
        return {"none": None, "right": right, "wrong": UUID(int=1)}[which]

    def learn(self, game: Game, page: Replay) -> None:
        """The epoch is the database's to draw; from then on it has to stay."""
        if game.epoch is None:
            game.epoch = page.epoch
        assert (page.head, page.floor, page.epoch) == (game.head, game.floor, game.epoch)

    # the rules: sessions

    @rule(game_id=games, user=users, ttl=st.sampled_from([None, None, 400]))
    def issue(self, game_id: str, user: str, ttl: int | None) -> None:
        issued = self.registry.issue_resume_token(game_id, user, ttl=ttl)
        session = self.reference.issue(game_id, user, TTL if ttl is None else ttl)
        if session.id:
            session.rotate(issued.token, issued=True)
        else:
            assert issued.session.session_id not in self.session_ids
            session.id, session.newest = issued.session.session_id, issued.token
            self.reference.games[game_id].sessions[session.id] = session
            self.session_ids.append(session.id)
        assert issued.token not in self.tokens
        self.tokens.append(issued.token)
        self.same_session(session, issued.session)

    def same_session(self, expected: Session, actual: Any) -> None:
        assert (actual.session_id, actual.user_id) == (expected.id, expected.user)
        assert actual.generation == expected.generation
        assert actual.last_acknowledged == expected.acknowledged

    def resume_with(self, token: str, game_id: str, offset: int, epoch: str, limit: Any) -> None:
        after, of = self.position(game_id, offset), self.epoch(game_id, epoch)
        actual = outcome(lambda: self.registry.resume(token, after=after, epoch=of, limit=limit))
        expected = outcome(lambda: self.reference.resume(token, after, of))
        if isinstance(expected[0], type):
            assert actual == expected
            return
        session, game, continuity, begin = expected
        self.same_session(session, actual.session)
        assert actual.continuity == continuity
        missed = begin - after if continuity.value == "gap" else 0
        assert actual.missed == (game.floor if continuity.value == "reset" else missed)
        self.learn(game, actual.replay)
        self.same_page(game, begin, limit, actual.replay)
        if token == session.newest:
            assert actual.token not in self.tokens
            self.tokens.append(actual.token)
            session.rotate(actual.token, issued=False)
        else:
            assert actual.token == (token if session.issued else session.newest)

    def same_page(self, game: Game, after: int, limit: int | None, page: Replay) -> None:
        expected = game.payloads[after : after + (limit or 1_000)]
        assert [event.payload for event in page.events] == expected
        sequences = [event.sequence for event in page.events]
        assert sequences == list(range(after + 1, after + 1 + len(expected)))
        assert page.more == (after + len(expected) < game.head)

    @precondition(lambda self: self.tokens)
    @rule(pick=picks, game_id=games, offset=near, epoch=epochs, limit=limits)
    def resume_with_any_token(
        self, pick: int, game_id: str, offset: int, epoch: str, limit: Any
    ) -> None:
        self.resume_with(self.tokens[-1 - pick % len(self.tokens)], game_id, offset, epoch, limit)

    @precondition(lambda self: self.session_ids)
    @rule(
        pick=picks,
        which=st.sampled_from(["newest", "newest", "previous", "retired"]),
        offset=near,
        epoch=st.sampled_from(["none", "none", "right", "wrong"]),
        limit=limits,
    )
    def resume(self, pick: int, which: str, offset: int, epoch: str, limit: Any) -> None:
        session_id = self.session_ids[-1 - pick % len(self.session_ids)]
        game_id = session_id.rpartition("/")[0]
        game = self.reference.games.get(game_id)
        session = game.sessions.get(session_id) if game else None
        if session is None:
            return
        retired = [*session.retired, session.newest]
        tokens = {"newest": session.newest, "previous": session.previous, "retired": retired[0]}
        self.resume_with(tokens[which] or session.newest, game_id, offset, epoch, limit)

    @precondition(lambda self: self.tokens)
    @rule(pick=picks, byte=st.integers(0, 31), bit=st.integers(0, 7))
    def resume_with_a_forged_token(self, pick: int, byte: int, bit: int) -> None:
        """One bit of the secret is wrong: nobody's session is touched by it."""
        token = self.tokens[-1 - pick % len(self.tokens)]
        raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        raw[-1 - byte] ^= 1 << bit
        forged = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        assert outcome(lambda: self.registry.resume(forged, after=0)) == (InvalidToken, {})
        assert outcome(lambda: self.registry.validate_resume_token(forged)) == (InvalidToken, {})

    @rule(pick=picks, which=generations)
    def heartbeat(self, pick: int, which: str) -> None:
        session_id = self.session_id(pick)
        generation = self.generation(session_id, which)
        actual = outcome(lambda: self.registry.heartbeat(session_id, generation=generation))
        expected = outcome(lambda: self.reference.heartbeat(session_id, generation))
        if isinstance(expected, Session):
            self.same_session(expected, actual)
        else:
            assert actual == expected

    @rule(beats=st.lists(st.tuples(picks, generations), max_size=5))
    def heartbeat_many(self, beats: list[tuple[int, str]]) -> None:
        items: list[Any] = []
        for pick, which in beats:
            session_id = self.session_id(pick)
            generation = self.generation(session_id, which)
            items.append(session_id if generation is None else (session_id, generation))
        beaten = self.registry.heartbeat_many(items)
        alive, gone = set(), set()
        for item in items:
            session_id, generation = item if isinstance(item, tuple) else (item, None)
            answer = outcome(lambda i=session_id, g=generation: self.reference.heartbeat(i, g))
            if isinstance(answer, Session):
                alive.add(session_id)
            else:
                gone.add(item)
        assert beaten.alive == len(alive)
        assert set(beaten.gone) == gone

    @rule(pick=picks)
    def revoke(self, pick: int) -> None:
        session_id = self.session_id(pick)
        actual = outcome(lambda: self.registry.revoke_session(session_id))
        expected = outcome(lambda: self.reference.revoke(session_id))
        assert expected is None or actual == expected

    # the rules: the log

    @rule(game_id=games, payload=payloads)
    def record(self, game_id: str, payload: Any) -> None:
        actual = self.registry.record_event(game_id, payload)
        assert actual == self.reference.record(game_id, payload, None, None)

    @rule(
        game_id=games,
        payload=payloads,
        event_id=st.sampled_from([None, *EVENT_IDS]),
        offset=st.sampled_from([None, 1, 1, 1, 0, 2]),
    )
    def record_exactly(
        self, game_id: str, payload: Any, event_id: UUID | None, offset: int | None
    ) -> None:
        expected = None if offset is None else max(1, self.position(game_id, offset))
        actual = outcome(
            lambda: self.registry.record_event(
                game_id, payload, event_id=event_id, expected_sequence=expected
            )
        )
        assert actual == outcome(
            lambda: self.reference.record(game_id, payload, event_id, expected)
        )

    @rule(game_id=games, many=st.lists(payloads, max_size=6))
    def record_many(self, game_id: str, many: list[Any]) -> None:
        actual = self.registry.record_events(game_id, many)
        assert list(actual) == self.reference.record_many(game_id, many)

    @rule(game_id=games, payload=payloads, commit=st.booleans())
    def record_in_a_transaction(self, game_id: str, payload: Any, commit: bool) -> None:
        with psycopg.connect(self.conninfo) as own:
            sequence = self.registry.record_event(game_id, payload, connection=own)
            if not commit:
                own.rollback()
                return
        assert sequence == self.reference.record(game_id, payload, None, None)

    @rule(game_id=games, offset=near, epoch=epochs, limit=limits)
    def fetch(self, game_id: str, offset: int, epoch: str, limit: Any) -> None:
        sequence, of = self.position(game_id, offset), self.epoch(game_id, epoch)
        actual = outcome(
            lambda: self.registry.fetch_events_since(game_id, sequence, epoch=of, limit=limit)
        )
        game = self.reference.games.get(game_id)
        if game is not None and game.epoch is None and of is not None:
            assert actual[0] is EpochMismatch
            game.epoch = actual[1]["epoch"]
        expected = outcome(lambda: self.reference.fetch(game_id, sequence, of, limit or 1_000))
        if isinstance(expected, list):
            assert game is not None
            self.learn(game, actual)
            self.same_page(game, sequence, limit, actual)
        else:
            assert actual == expected

    @rule(game_id=games, offset=near, page_size=limits)
    def iterate(self, game_id: str, offset: int, page_size: Any) -> None:
        sequence = self.position(game_id, offset)
        actual = outcome(
            lambda: [
                event.payload
                for event in self.registry.iter_events_since(game_id, sequence, page_size=page_size)
            ]
        )
        assert actual == outcome(lambda: self.reference.fetch(game_id, sequence, None, 1_000))

    @rule(pick=picks, offset=near, which=generations)
    def acknowledge(self, pick: int, offset: int, which: str) -> None:
        session_id = self.session_id(pick)
        sequence = self.position(session_id.rpartition("/")[0], offset)
        generation = self.generation(session_id, which)
        actual = outcome(
            lambda: self.registry.acknowledge(session_id, sequence, generation=generation)
        )
        expected = outcome(lambda: self.reference.acknowledge(session_id, sequence, generation))
        if len(expected) == 3:
            assert (actual.sequence, actual.floor, actual.pruned) == expected
        else:
            assert actual == expected

    @rule(game_id=games, offset=near)
    def prune(self, game_id: str, offset: int) -> None:
        through = self.position(game_id, offset - 4)
        actual = outcome(lambda: self.registry.prune_events(game_id, through))
        assert actual == outcome(lambda: self.reference.prune(game_id, through))

    @rule(game_id=games)
    def end_game(self, game_id: str) -> None:
        actual = outcome(lambda: self.registry.end_game(game_id))
        assert actual == outcome(lambda: self.reference.end(game_id))

    # the rules: time, upkeep, restarts

    @rule(steps=st.sampled_from([1, 1, 1, 2, 8, 17]))
    def time_passes(self, steps: int) -> None:
        self.clock.advance(STEP * steps)
        self.reference.now += STEP * steps

    @rule(batch_size=limits)
    def cleanup(self, batch_size: int | None) -> None:
        actual = self.registry.cleanup_expired_sessions(batch_size=batch_size)
        assert (actual.sessions, actual.events, actual.games) == self.reference.cleanup()

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.registries[which].close()
        self.registries[which] = self.connect()

    @rule()
    def the_cache_is_flushed(self) -> None:
        self.flush()

    # what has to hold after each step

    @invariant()
    def stored_is_what_the_contract_says(self) -> None:
        assert unsound(self.connection) == []
        logs = self.connection.execute("SELECT game_id, head, floor FROM game").fetchall()
        assert sorted(logs) == sorted(
            (game_id, game.head, game.floor) for game_id, game in self.reference.games.items()
        )
        for game_id in GAMES:
            game = self.reference.games.get(game_id, Game(0))
            live = {s.user: s for s in game.sessions.values() if self.reference.is_live(s)}
            listed = self.registry.list_sessions(game_id)
            assert [session.user_id for session in listed] == sorted(live)
            for session in listed:
                self.same_session(live[session.user_id], session)

    @invariant()
    def acknowledgements_and_floors_never_fall(self) -> None:
        for game_id, game in self.reference.games.items():
            for session in self.registry.list_sessions(game_id):
                before = self.acknowledged.get(session.session_id, 0)
                assert session.last_acknowledged >= before
                self.acknowledged[session.session_id] = session.last_acknowledged
            page = self.registry.fetch_events_since(game_id, game.floor)
            assert page.floor >= self.floors.get(page.epoch, 0)
            self.floors[page.epoch] = page.floor
            self.learn(game, page)
            self.same_page(game, game.floor, None, page)

    @invariant()
    def at_most_two_tokens_of_a_session_are_valid(self) -> None:
        valid: dict[str, int] = {}
        for token in self.tokens:
            actual = outcome(lambda token=token: self.registry.validate_resume_token(token))
            expected = outcome(lambda token=token: self.reference.validate(token))
            if isinstance(expected, Session):
                self.same_session(expected, actual)
                valid[expected.id] = valid.get(expected.id, 0) + 1
            else:
                assert actual == expected
                assert expected[0] in (InvalidToken, TokenReused, SessionExpired, SessionRevoked)
        note(f"{self.reference.games}")
        assert all(count <= 2 for count in valid.values())


class WithStandby(SideBySide):
    """Long pages may come from a standby, which lags as long as it is paused."""

    standby: psycopg.Connection

    @rule()
    def the_standby_is_paused(self) -> None:
        self.standby.execute("SELECT pg_wal_replay_pause()")

    @rule()
    def the_standby_goes_on(self) -> None:
        self.standby.execute("SELECT pg_wal_replay_resume()")

    @rule()
    def the_standby_catches_up(self) -> None:
        self.standby.execute("SELECT pg_wal_replay_resume()")
        reached = self.connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        behind = "SELECT pg_last_wal_replay_lsn() < %s::pg_lsn"
        wait_until(lambda: self.standby.execute(behind, reached).fetchone() == (False,))


@pytest.fixture(scope="module")
def module_conninfo(module_conninfo: str) -> str:
    lay_out(module_conninfo, every=EVERY)
    return module_conninfo


@pytest.mark.parametrize("cache_bytes", [CONFIG.cache_bytes, *map(slow, [0, 2_000])])
def test_every_answer_and_every_row_is_what_the_contract_says(
    module_conninfo: str, cache_bytes: int
) -> None:
    config = evolve(CONFIG, cache_bytes=cache_bytes)
    run_state_machine_as_test(
        lambda: SideBySide(
            module_conninfo,
            lambda: GameSessionRegistry.connect(module_conninfo, config=config),
            lambda: None,
        )
    )


@pytest.mark.parametrize("cache_events", [4, slow(CONFIG.cache_events)])
def test_so_it_is_with_a_replay_cache(
    module_conninfo: str, redis: RedisServer, cache_events: int
) -> None:
    """Two registries, each with a cache and a memory of its own, as those of two processes.

    What earlier runs left in Redis stays there, of games that have begun again since.
    """
    config = evolve(CONFIG, cache_events=cache_events, cache_timeout=5.0)
    with ExitStack() as stack:

        def connect() -> GameSessionRegistry:
            cache = stack.enter_context(RedisReplayCache(redis.url))
            return GameSessionRegistry.connect(module_conninfo, config=config, cache=cache)

        run_state_machine_as_test(
            lambda: SideBySide(module_conninfo, connect, redis.client.flushall)
        )
    assert redis.calls("evalsha") > 0


@pytest.mark.parametrize(
    ("lossless", "examples"), [(False, 8), pytest.param(True, 40, marks=pytest.mark.slow)]
)
def test_so_it_is_with_a_standby(
    lossless: bool, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two registries, one remembers nothing and one a little."""
    monkeypatch.setattr(breaker, "FAILURES", 2**31)  # it is asked whatever it lacked before
    quick = {"fsync": "off", "wal_keep_size": "512MB"}
    config = evolve(CONFIG, standby_after=1, standby_timeout=5.0, lossless_failover=lossless)
    sources = set()

    class Watching(Observer):
        def replayed(self, events: int, source: str) -> None:
            sources.add(source)

    with EmbeddedPostgres(settings=quick) as primary:
        conninfo = Server(primary.conninfo).create_migrated()
        lay_out(conninfo, every=EVERY)
        with following(conninfo, quick) as follower, ExitStack() as stack:
            through = make_conninfo(follower.conninfo, dbname=name_of(conninfo))
            sizes = cycle([0, 2_000])

            def connect() -> GameSessionRegistry:
                return GameSessionRegistry.connect(
                    conninfo,
                    config=evolve(config, cache_bytes=next(sizes)),
                    read_conninfo=through,
                    observer=Watching(),
                )

            WithStandby.standby = stack.enter_context(psycopg.connect(through, autocommit=True))
            run_state_machine_as_test(
                lambda: WithStandby(conninfo, connect, lambda: None),
                settings=settings(settings.get_profile("default"), max_examples=examples),
            )
    assert sources >= {"standby", "database"}
