"""Many threads and processes at once: what they see is judged by tests/chaos/checker.py."""

from __future__ import annotations

import contextlib
import logging
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import psycopg
import pytest
from chaos.checker import violations
from chaos.client import Client
from chaos.history import Call, Recorder, load
from psycopg import Connection
from soundness import EVERYONE_WAITED_FOR, RULES, unsound
from support import wait_until
from workload import Plan, Storm, begin, in_threads

from registry import (
    AheadOfLog,
    EpochMismatch,
    GameNotFound,
    GameSessionRegistry,
    HistoryPruned,
    InvalidToken,
    OutcomeUnknown,
    RegistryConfig,
    RegistryUnavailable,
    SequenceConflict,
    SessionExpired,
    SessionNotFound,
    SessionRevoked,
    SessionState,
    SessionTakenOver,
    TokenReused,
)
from registry.queries import queries

PATIENT = {"lock_timeout": 30.0, "statement_timeout": 30.0, "pool_timeout": 30.0}
"""A busy machine is no reason to fail."""

THREADS = 16


@pytest.fixture
def sql(conninfo: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


def begin_games(registry: GameSessionRegistry, *games: str) -> None:
    """Empty logs, with no session that would hold their floors."""
    for game in games:
        registry.revoke_session(registry.issue_resume_token(game, "host").session.session_id)


def blocked(sql: Connection[Any], count: int) -> None:
    """Wait until so many statements of this database wait for a lock."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    wait_until(lambda: sql.execute(query).fetchone() == (count,))


def log_of(registry: GameSessionRegistry, game: str) -> list[tuple[int, object]]:
    return [(event.sequence, event.payload) for event in registry.iter_events_since(game, 0)]


# --- histories of several processes -------------------------------------------------------------


def test_two_processes_of_16_threads_each_on_one_game_leave_exactly_1_to_n(
    registry: GameSessionRegistry, conninfo: str, tmp_path: Path
) -> None:
    plan = Plan(["duel"], writers=THREADS, events=30, processes=2, plain=True)
    calls = Storm(conninfo, tmp_path, plan).run()
    total = 2 * THREADS * 30
    given = sorted(call.result["sequences"][0] for call in calls if call.result)
    assert given == list(range(1, total + 1))
    log = log_of(registry, "duel")
    assert [sequence for sequence, _ in log] == given
    assert len({label for _, label in log}) == total
    assert violations(calls) == []


@pytest.mark.parametrize("games", [["one"], ["one", "two", "three"]], ids=["1 game", "3 games"])
def test_what_writers_readers_and_players_of_three_processes_see_is_consistent(
    registry: GameSessionRegistry, conninfo: str, tmp_path: Path, games: list[str]
) -> None:
    plan = Plan(games, writers=6, events=40, readers=3, players=3, processes=3)
    begin_games(registry, *games)
    calls = Storm(conninfo, tmp_path, plan).run()
    assert violations(calls) == []
    assert unsound(conninfo, {**RULES, **EVERYONE_WAITED_FOR}) == []
    for game in games:
        page = registry.fetch_events_since(game, plan.total(game))
        assert page.head == plan.total(game)
        # The players have acknowledged all there is, so the next prune leaves nothing.
        latest = registry.list_sessions(game)[0]
        assert registry.acknowledge(latest.session_id, page.head).floor == page.head


# --- crashes ------------------------------------------------------------------------------------


def test_killed_clients_that_start_over_leave_each_event_exactly_once(
    registry: GameSessionRegistry, conninfo: str, tmp_path: Path
) -> None:
    plan = Plan(["duel"], writers=8, events=100, processes=1, insist=True)
    storm = Storm(conninfo, tmp_path, plan)
    for kill_after in (20, 120, None):
        process = storm.start(0)
        begin(process)
        if kill_after is not None:
            answered = partial(_answered, storm.file(0), kill_after, _answers(storm.file(0)))
            wait_until(answered)
            process.kill()
        _, errors = process.communicate()
        assert (process.returncode == 0) == (kill_after is None), errors
    log = log_of(registry, "duel")
    assert sorted(str(label) for _, label in log) == sorted(
        f"0.{thread}.{n}" for thread in range(8) for n in range(100)
    )
    assert [sequence for sequence, _ in log] == list(range(1, len(log) + 1))
    assert violations(storm.history()) == []


def _answers(history: Path) -> int:
    calls = load([history]) if history.exists() else []
    return sum(call.result is not None for call in calls)


def _answered(history: Path, more: int, before: int) -> bool:
    return _answers(history) >= before + more


def test_terminated_backends_leave_each_event_exactly_once(
    conninfo: str, sql: Connection[Any], tmp_path: Path
) -> None:
    """With an event id every event is in once; without, once or its caller was told to look."""
    recorder = Recorder(tmp_path / "history.jsonl", 0)
    finished = threading.Semaphore(0)
    writers = 8

    def write(registry: GameSessionRegistry, thread: int) -> None:
        client = Client(registry, recorder, thread)
        for n in range(25):
            label = f"0.{thread}.{n}"
            how = {"event_id": uuid5(NAMESPACE_OID, label)} if n % 3 else {}
            try:
                _until_available(lambda label=label, how=how: client.append("duel", label, **how))
            except OutcomeUnknown:
                assert not how
        finished.release()

    def terminate() -> None:
        chance, done = random.Random(0), 0
        while done < writers:
            victims = sql.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
            if victims:
                sql.execute("SELECT pg_terminate_backend(%s)", [*chance.choice(victims)])
            done += finished.acquire(timeout=0.02)

    with GameSessionRegistry.connect(conninfo) as registry:
        jobs = [partial(write, registry, thread) for thread in range(writers)]
        assert in_threads([*jobs, terminate]) == []
    with GameSessionRegistry.connect(conninfo) as registry:
        log = log_of(registry, "duel")
    calls = load([recorder.path])
    assert violations([*calls, _whole_log(log)]) == []
    labels = [str(label) for _, label in log]
    assert len(set(labels)) == len(labels)
    returned = {call.args["labels"][0] for call in calls if call.result}
    unknown = {call.args["labels"][0] for call in calls if call.error == "OutcomeUnknown"}
    assert returned <= set(labels) <= returned | unknown
    assert {label for label in returned if int(label.split(".")[2]) % 3} == {
        f"0.{thread}.{n}" for thread in range(writers) for n in range(25) if n % 3
    }


def _until_available(act: Any) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            act()
            return
        except RegistryUnavailable:
            assert time.monotonic() < deadline


def _whole_log(log: list[tuple[int, object]]) -> Call:
    now = time.monotonic()
    result = {"events": [list(event) for event in log], "head": len(log), "floor": 0, "epoch": ""}
    return Call("read", "duel", {"after": 0}, now, now, result)


# --- deadlocks ----------------------------------------------------------------------------------

TYPED = (
    AheadOfLog, EpochMismatch, GameNotFound, HistoryPruned, InvalidToken, SequenceConflict,
    SessionExpired, SessionNotFound, SessionRevoked, SessionTakenOver, TokenReused,
)  # fmt: skip
"""What a call may be answered when others end, prune and revoke under it."""


class Mischief:
    """One thread that calls everything on everybody's games and sessions."""

    games = ("a", "b", "c")

    def __init__(self, registry: GameSessionRegistry, seed: int, shared: dict[str, Any]) -> None:
        self.registry = registry
        self.random = random.Random(seed)
        self.sessions: dict[tuple[str, str], str] = shared.setdefault("sessions", {})
        self.tokens: dict[tuple[str, str], str] = shared.setdefault("tokens", {})
        self.event_ids: list[UUID] = shared.setdefault("event_ids", [uuid4() for _ in range(20)])
        self.resumed = self.outrun = 0

    def run(self, seconds: float) -> None:
        acts = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            weights = [0.1 if act.__name__ in ("do_end", "do_cleanup") else 1.0 for act in acts]
            act = self.random.choices(acts, weights)[0]
            try:
                act(self.random.choice(self.games), self.random.choice(["x", "y", "z", "w"]))
            except TYPED:
                continue

    def do_issue(self, game: str, user: str) -> None:
        ttl = self.random.choice([None, None, 0.05, 0.3])
        issued = self.registry.issue_resume_token(game, user, ttl=ttl)
        self.sessions[game, user] = issued.session.session_id
        self.tokens[game, user] = issued.token

    def do_resume(self, game: str, user: str) -> None:
        token = self.tokens.get((game, user), "")
        try:
            resumed = self.registry.resume(token, after=self.random.randint(0, 100))
        except RegistryUnavailable as error:
            if "kept changing under the call" not in str(error):
                raise
            self.outrun += 1  # floors rise all the time
            return
        self.resumed += 1
        if self.random.random() < 0.7:
            self.tokens[game, user] = resumed.token

    def do_beat(self, game: str, user: str) -> None:
        self.registry.heartbeat(self.sessions.get((game, user), "none"))

    def do_beat_many(self, game: str, user: str) -> None:
        some = [*self.sessions.values()]
        self.random.shuffle(some)
        self.registry.heartbeat_many(some)

    def do_record(self, game: str, user: str) -> None:
        event_id = self.random.choice([None, *self.event_ids[:2], uuid4()])
        self.registry.record_event(game, user, event_id=event_id)

    def do_record_expecting(self, game: str, user: str) -> None:
        self.registry.record_event(game, user, expected_sequence=self.random.randint(1, 100))

    def do_record_many(self, game: str, user: str) -> None:
        self.registry.record_events(game, [user] * self.random.randint(1, 9))

    def do_fetch(self, game: str, user: str) -> None:
        list(self.registry.iter_events_since(game, self.random.randint(0, 60), page_size=7))

    def do_acknowledge(self, game: str, user: str) -> None:
        session = self.registry.get_session(self.sessions.get((game, user), "none"))
        page = self.registry.fetch_events_since(game, session.last_acknowledged, limit=20)
        if page.events:
            self.registry.acknowledge(session.session_id, page.events[-1].sequence)

    do_acknowledge_too = do_acknowledge

    def do_prune(self, game: str, user: str) -> None:
        self.registry.prune_events(game, self.random.randint(0, 50))

    def do_revoke(self, game: str, user: str) -> None:
        self.registry.revoke_session(self.sessions.get((game, user), "none"))

    def do_end(self, game: str, user: str) -> None:
        self.registry.end_game(game)

    def do_cleanup(self, game: str, user: str) -> None:
        self.registry.cleanup_expired_sessions(batch_size=self.random.choice([1, 3, 100]))


def test_a_storm_of_every_call_has_no_deadlock_and_no_untyped_answer(
    conninfo: str, sql: Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "registry.retrying")  # says whether a call was in a deadlock
    config = RegistryConfig(
        session_ttl=2, replay_retention=0.5, max_events_per_game=60, batch_size=4, **PATIENT
    )
    shared: dict[str, Any] = {}
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        threads = [Mischief(registry, seed, shared) for seed in range(THREADS)]
        failures = in_threads([partial(thread.run, 5.0) for thread in threads])
    assert failures == []
    assert sum(thread.resumed for thread in threads) > sum(thread.outrun for thread in threads)
    assert unsound(sql) == []
    assert deadlocks(sql) == 0


def deadlocks(sql: Connection[Any]) -> int:
    """Deadlocks of this database so far; the backends that may have met one have to be gone."""
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND backend_type = 'client backend'
    """
    wait_until(lambda: sql.execute(others).fetchone() == (0,))
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    row = sql.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def begin_with(registry: GameSessionRegistry, sql: Connection[Any], number: int, user: str) -> str:
    """A new session of the user whose id is this number."""
    session = registry.issue_resume_token("g", user).session
    uuid = session.session_id.rpartition("/")[2]
    sql.execute("UPDATE game_session SET id = %s WHERE id = %s", [UUID(int=number), uuid])
    return f"g/{UUID(int=number)}"


def test_beating_many_and_closing_expired_sessions_do_not_wait_for_each_other(
    conninfo: str, sql: Connection[Any]
) -> None:
    """The beat holds the first session and wants the last, which has expired meanwhile, so that
    an acknowledgement of the first closes the last."""
    with GameSessionRegistry.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        first = begin_with(registry, sql, 1, "ann")
        middle = begin_with(registry, sql, 2, "ben")
        last = begin_with(registry, sql, 3, "cid")
        registry.record_events("g", [1, 2, 3])
        registry.acknowledge(middle, 3)
        with psycopg.connect(conninfo) as holder, ThreadPoolExecutor() as pool:
            holder.execute("SELECT FROM game_session WHERE user_id = 'ben' FOR UPDATE")
            beat = pool.submit(registry.heartbeat_many, [last, middle, first])
            blocked(sql, 1)
            sql.execute(
                "UPDATE game_session SET expires_at = clock_timestamp() WHERE user_id = 'cid'"
            )
            acknowledged = pool.submit(registry.acknowledge, first, 2)
            blocked(sql, 2)
            holder.commit()
            assert beat.result().alive in (2, 3)
            assert acknowledged.result().sequence == 2
    assert deadlocks(sql) == 0
    assert unsound(sql, {**RULES, **EVERYONE_WAITED_FOR}) == []


def test_beats_of_many_do_not_deadlock_over_a_player_whose_session_began_anew(
    conninfo: str, sql: Connection[Any]
) -> None:
    """One call found the player's row by its old id, the other by its new one: whatever order
    the ids have, both calls have to lock the rows in one order."""
    with GameSessionRegistry.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        first = begin_with(registry, sql, 1, "first")
        moving = begin_with(registry, sql, 2, "moving")
        third = begin_with(registry, sql, 3, "third")
        gate = begin_with(registry, sql, 4, "gate")
        hold = "SELECT FROM game_session WHERE user_id = %s FOR UPDATE"
        with (
            psycopg.connect(conninfo) as before,
            psycopg.connect(conninfo) as behind,
            ThreadPoolExecutor() as pool,
        ):
            before.execute(hold, ["first"])
            behind.execute(hold, ["gate"])
            one = pool.submit(registry.heartbeat_many, [first, moving, third])
            blocked(sql, 1)
            registry.revoke_session(moving)
            moved = begin_with(registry, sql, 5, "moving")
            two = pool.submit(registry.heartbeat_many, [third, gate, moved])
            blocked(sql, 2)
            before.commit()
            wait_until(lambda: one.done() or _waits_for_another_beat(sql))
            behind.commit()
            assert one.result().gone == (moving,)
            assert two.result().gone == ()
    assert deadlocks(sql) == 0


def _waits_for_another_beat(sql: Connection[Any]) -> bool:
    query = """
        SELECT count(*) FROM pg_stat_activity AS waiting
        JOIN pg_stat_activity AS other ON other.pid = ANY (pg_blocking_pids(waiting.pid))
        WHERE waiting.query ~ 'registry.heartbeat_many' AND other.query ~ 'registry.heartbeat_many'
          AND waiting.datname = current_database()
    """
    return sql.execute(query).fetchone() != (0,)


# --- tokens -------------------------------------------------------------------------------------


def valid(registry: GameSessionRegistry, tokens: set[str]) -> set[str]:
    found = set()
    for token in tokens:
        try:
            registry.validate_resume_token(token)
        except (InvalidToken, TokenReused, SessionRevoked):
            continue
        found.add(token)
    return found


def test_16_resumes_of_one_token_at_once_all_succeed_with_one_new_token(
    registry: GameSessionRegistry,
) -> None:
    issued = registry.issue_resume_token("g", "ann")
    session_id, token = issued.session.session_id, issued.token
    ever, newest = {token}, 1
    for _ in range(6):
        resume = partial(registry.resume, token, after=0)
        answers: list[Any] = []
        keep = answers.append
        assert in_threads([lambda keep=keep, resume=resume: keep(resume())] * THREADS) == []
        generations = sorted(answer.session.generation for answer in answers)
        assert generations == list(range(newest + 1, newest + THREADS + 1))
        newest = generations[-1]
        (fresh,) = {answer.token for answer in answers}
        ever.add(fresh)
        assert valid(registry, ever) == {token, fresh}
        for generation in generations[:-1]:
            with pytest.raises(SessionTakenOver):
                registry.heartbeat(session_id, generation=generation)
            with pytest.raises(SessionTakenOver):
                registry.acknowledge(session_id, 0, generation=generation)
        assert registry.heartbeat(session_id, generation=newest).generation == newest
        assert registry.acknowledge(session_id, 0, generation=newest).sequence == 0
        token = fresh


@pytest.mark.parametrize("reaction", ["refuse", "revoke"])
def test_a_token_and_its_successor_resumed_at_once_leave_at_most_two_valid(
    conninfo: str, reaction: Any
) -> None:
    config = RegistryConfig(on_token_reuse=reaction)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        for round_ in range(6):
            issued = registry.issue_resume_token("g", f"user {round_}")
            ever, generations = {issued.token}, [issued.session.generation]

            def chase(
                token: str = issued.token,
                ever: set[str] = ever,
                generations: list[int] = generations,
            ) -> None:
                for _ in range(4):
                    try:
                        resumed = registry.resume(token, after=0)
                    except (TokenReused, SessionRevoked):
                        return
                    generations.append(resumed.session.generation)
                    ever.add(resumed.token)
                    token = resumed.token

            assert in_threads([chase] * 8) == []
            assert len(ever) > 2
            assert sorted(generations) == list(range(1, len(generations) + 1))
            session = registry.get_session(issued.session.session_id)
            if reaction == "refuse":
                assert session.state is SessionState.LIVE
                assert len(valid(registry, ever)) == 2
            else:
                left = valid(registry, ever)
                assert len(left) == (2 if session.state is SessionState.LIVE else 0)


def test_an_honest_client_whose_replies_get_lost_is_never_taken_for_a_thief(
    registry: GameSessionRegistry,
) -> None:
    """Each client repeats a resume with the token it holds, one after another or at once."""

    def client(seed: int) -> None:
        chance = random.Random(seed)
        issued = registry.issue_resume_token("g", f"user {seed}")
        session_id, token, last = issued.session.session_id, issued.token, 1
        with ThreadPoolExecutor(3) as pool:
            for step in range(25):
                tries = chance.randint(1, 3)
                if chance.random() < 0.5:
                    replies = [registry.resume(token, after=0) for _ in range(tries)]
                else:
                    twins = [pool.submit(registry.resume, token, after=0) for _ in range(tries)]
                    replies = [twin.result() for twin in twins]
                if chance.random() < 0.1:
                    replies = []  # all of them were lost, and it comes back with what it has
                elif step % 10 == 9:
                    replies = [registry.issue_resume_token("g", f"user {seed}")]
                for reply in replies:
                    assert reply.session.session_id == session_id
                    assert reply.session.generation > last
                    assert registry.validate_resume_token(reply.token).session_id == session_id
                if replies:
                    token = chance.choice(replies).token
                    last = max(reply.session.generation for reply in replies)
        assert registry.get_session(session_id).state is SessionState.LIVE

    assert in_threads([partial(client, seed) for seed in range(4)]) == []


TWIN = """
import sys
import support  # to be who the tests of the parent are
from concurrent.futures import ThreadPoolExecutor
from probes import PATIENT
from registry import GameSessionRegistry, RegistryConfig, RegistryError

def resume(token):
    try:
        resumed = registry.resume(token, after=0)
        return f"{resumed.session.generation} {resumed.token}"
    except RegistryError as error:
        return type(error).__name__

with (
    GameSessionRegistry.connect(sys.argv[1], config=RegistryConfig(**PATIENT)) as registry,
    ThreadPoolExecutor(8) as pool,
):
    print("ready", flush=True)
    for line in sys.stdin:
        print(*pool.map(resume, [line.strip()] * 8), sep=",", flush=True)
"""


@contextlib.contextmanager
def twins(conninfo: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that resume each token they are told from eight threads at once."""
    command = [sys.executable, "-c", TWIN, conninfo]
    pipe = subprocess.PIPE
    tests = Path(__file__).parents[1]
    with contextlib.ExitStack() as stack:
        processes = []
        for _ in range(2):
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=tests)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes


def told(processes: list[subprocess.Popen[str]], token: str) -> list[str]:
    """What became of a token in all threads of both processes."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(token + "\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers += process.stdout.readline().strip().split(",")
    return answers


def test_one_token_resumed_by_two_processes_at_once_has_one_winner_and_no_thief(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    """16 honest twins a round; then the reply is lost, and then an old token is a copy in use."""
    issued = registry.issue_resume_token("g", "ann")
    session_id, token, newest = issued.session.session_id, issued.token, 1
    with twins(conninfo) as processes:
        for _ in range(10):
            before = token
            answers = [answer.split() for answer in told(processes, before)]
            assert {len(answer) for answer in answers} == {2}, answers
            generations = sorted(int(generation) for generation, _ in answers)
            assert generations == list(range(newest + 1, newest + 17))
            (token,) = {token for _, token in answers}
            newest = generations[-1]
            # The one that came last holds the session, and the others are told so.
            assert registry.heartbeat(session_id, generation=newest).generation == newest
            for generation in generations[:-1]:
                with pytest.raises(SessionTakenOver):
                    registry.heartbeat(session_id, generation=generation)
            # All replies are lost: the token that was presented gives the same one again.
            again = registry.resume(before, after=0)
            assert again.token == token
            newest = again.session.generation
            assert valid(registry, {before, token}) == {before, token}
        # A copy of an old token, in use by both processes while the honest client comes back.
        stolen = issued.token
        assert set(told(processes, stolen)) <= {"TokenReused", "SessionRevoked", "InvalidToken"}
    # It retired more than eight tokens ago, so it is unknown by now, and revokes nobody.
    assert registry.get_session(session_id).state is SessionState.LIVE


def test_a_stolen_token_used_by_two_processes_revokes_once_and_opens_nothing(
    registry: GameSessionRegistry, conninfo: str
) -> None:
    issued = registry.issue_resume_token("g", "ann")
    token = issued.token
    for _ in range(2):
        token = registry.resume(token, after=0).token
    with twins(conninfo) as processes:
        answers = told(processes, issued.token)
    assert set(answers) <= {"TokenReused", "SessionRevoked"}
    assert "TokenReused" in answers
    assert registry.get_session(issued.session.session_id).state is SessionState.REVOKED
    assert valid(registry, {issued.token, token}) == set()


# --- sessions that begin and end while others prune ---------------------------------------------


def test_a_session_begun_while_others_prune_can_replay_all_from_where_it_begins(
    conninfo: str, sql: Connection[Any]
) -> None:
    newcomers, each = 6, 15
    arrived = threading.Semaphore(0)
    finished = threading.Event()
    with GameSessionRegistry.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        begin_games(registry, "g")

        def arrive(number: int) -> None:
            for n in range(each):
                session = registry.issue_resume_token("g", f"{number}.{n}").session
                begin = session.last_acknowledged
                page = registry.fetch_events_since("g", begin)  # HistoryPruned would be raised
                assert page.floor <= begin
                registry.acknowledge(session.session_id, page.head)
                registry.revoke_session(session.session_id)
            arrived.release()

        def prune(number: int) -> None:
            session_id = registry.issue_resume_token("g", f"old {number}").session.session_id
            while not finished.is_set():
                head = registry.record_event("g", number)
                registry.acknowledge(session_id, head)

        def watch() -> None:
            rounds = 0
            with psycopg.connect(conninfo, autocommit=True) as own:
                while rounds < newcomers:
                    assert unsound(own, EVERYONE_WAITED_FOR) == []
                    rounds += arrived.acquire(timeout=0.001)
            finished.set()

        def watch_to_the_end() -> None:
            try:
                watch()
            finally:
                finished.set()

        jobs = [partial(arrive, n) for n in range(newcomers)]
        failures = in_threads([*jobs, partial(prune, 0), partial(prune, 1), watch_to_the_end])
        assert failures == []
    assert _floor(sql) > 0
    assert unsound(sql, {**RULES, **EVERYONE_WAITED_FOR}) == []


def _floor(sql: Connection[Any]) -> int:
    row = sql.execute("SELECT floor FROM game").fetchone()
    assert row is not None
    return int(row[0])


def test_a_beat_at_the_edge_of_expiry_either_fails_or_keeps_the_sessions_history(
    conninfo: str, sql: Connection[Any]
) -> None:
    """An acknowledgement that no longer waits for an expired session races with its beat."""
    late, outcomes = 6, set()
    edges = [-5.0, 0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 60_000.0] * 5
    with GameSessionRegistry.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        leader = registry.issue_resume_token("g", "leader").session.session_id
        for edge in edges:
            sessions = [registry.issue_resume_token("g", f"late {n}").session for n in range(late)]
            head = registry.record_events("g", range(3))[-1]
            alive: list[str] = []
            sql.execute(
                "UPDATE game_session SET expires_at = clock_timestamp()"
                " + make_interval(secs => %s / 1000.0) WHERE user_id <> 'leader'",
                [edge],
            )

            def beat(session_id: str, alive: list[str] = alive) -> None:
                try:
                    registry.heartbeat(session_id)
                except SessionExpired:
                    outcomes.add("expired")
                else:
                    outcomes.add("beaten")
                    alive.append(session_id)

            def beat_many(
                ids: tuple[str, ...] = tuple(session.session_id for session in sessions[:3]),
                alive: list[str] = alive,
            ) -> None:
                beaten = registry.heartbeat_many(ids)
                alive.extend(set(ids) - set(beaten.gone))

            jobs = [partial(beat, session.session_id) for session in sessions[3:]]
            acknowledge = partial(registry.acknowledge, leader, head)
            assert in_threads([*jobs, beat_many, acknowledge]) == []
            for session_id in alive:
                session = registry.get_session(session_id)
                assert session.state is SessionState.LIVE
                assert session.last_acknowledged >= _floor(sql)
            assert unsound(sql, {**RULES, **EVERYONE_WAITED_FOR}) == []
    assert outcomes == {"beaten", "expired"}


# --- races replayed step by step ----------------------------------------------------------------


def test_an_acknowledgement_overtaken_by_a_later_one_leaves_no_event_behind(
    registry: GameSessionRegistry, conninfo: str, sql: Connection[Any]
) -> None:
    """It waits for the game while five more events are recorded and acknowledged, of which a
    first batch only has been pruned when its turn comes."""
    session = registry.issue_resume_token("g", "ann").session
    registry.record_events("g", range(5))
    with psycopg.connect(conninfo) as other, ThreadPoolExecutor() as pool:
        for n in range(5):
            registry.record_event("g", n, connection=other)
        overtaken = pool.submit(registry.acknowledge, session.session_id, 5)
        blocked(sql, 1)
        first_batch = {
            "game_id": "g", "id": session.session_id.rpartition("/")[2], "sequence": 10,
            "generation": None, "epoch": None, "batch_size": 1,
        }  # fmt: skip
        other.execute(queries.acknowledge, first_batch)
        other.commit()
        assert overtaken.result().sequence == 10
    assert unsound(sql) == []
    assert registry.acknowledge(session.session_id, 10).floor == 10
    assert unsound(sql) == []


def test_one_session_acknowledging_from_many_threads_in_small_batches(
    conninfo: str, sql: Connection[Any]
) -> None:
    config = RegistryConfig(batch_size=2, **PATIENT)
    finished = threading.Event()
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        session_id = registry.issue_resume_token("g", "ann").session.session_id

        def write() -> None:
            try:
                for _ in range(150):
                    registry.record_events("g", range(5))
            finally:
                finished.set()

        def acknowledge() -> None:
            with psycopg.connect(conninfo, autocommit=True) as own:
                while not finished.is_set():
                    row = own.execute("SELECT head FROM game").fetchone()
                    assert row is not None
                    done = registry.acknowledge(session_id, row[0])
                    assert done.sequence >= row[0]

        assert in_threads([write, *[acknowledge] * 8]) == []
        assert registry.acknowledge(session_id, 750).floor == 750
    assert unsound(sql, {**RULES, **EVERYONE_WAITED_FOR}) == []


def test_an_end_that_lost_to_another_leaves_nothing_of_the_next_game_half_deleted(
    registry: GameSessionRegistry, conninfo: str, sql: Connection[Any]
) -> None:
    """Between its two steps the game it saw is gone and the next one of that id begins."""
    registry.record_event("g", "old")
    with (
        psycopg.connect(conninfo) as winner,
        psycopg.connect(conninfo) as gate,
        psycopg.connect(conninfo) as writer,
        ThreadPoolExecutor() as pool,
    ):
        winner.execute("SELECT FROM game FOR KEY SHARE")  # which lets the loser prune
        loser = pool.submit(registry.end_game, "g")
        blocked(sql, 1)
        winner.execute("DELETE FROM game")
        gate.execute("LOCK TABLE game_session IN SHARE MODE")  # before the second step begins
        winner.commit()
        wait_until(lambda: loser.done() or _waits_for_a_table(sql))
        registry.record_event("g", "new")
        registry.record_event("g", "newer", connection=writer)
        gate.commit()
        wait_until(lambda: loser.done() or _waits_for_a_row(sql))
        writer.commit()
        with contextlib.suppress(GameNotFound):
            loser.result()
    assert unsound(sql) == []
    assert registry.record_event("g", "newest") in (1, 3)


def _waits_for_a_table(sql: Connection[Any]) -> bool:
    return _waits(sql, "relation")


def _waits_for_a_row(sql: Connection[Any]) -> bool:
    return _waits(sql, "transactionid")


def _waits(sql: Connection[Any], kind: str) -> bool:
    query = """
        SELECT count(*)
        FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND locktype = %s AND datname = current_database()
    """
    return sql.execute(query, [kind]).fetchone() != (0,)


class Paused(GameSessionRegistry):
    """Does something between finding that a token did not resume and finding out why."""

    pause: Any

    def _standing(self, token: Any) -> Any:
        self.pause()
        return super()._standing(token)


def test_a_session_kept_alive_by_a_beat_under_way_is_not_answered_with_invalid_token(
    conninfo: str, sql: Connection[Any]
) -> None:
    """The beat began before the expiry and ends after a resume found the session expired."""
    with Paused.connect(conninfo, config=RegistryConfig(**PATIENT)) as registry:
        assert isinstance(registry, Paused)
        issued = registry.issue_resume_token("g", "ann")
        sql.execute("UPDATE game_session SET expires_at = clock_timestamp() + interval '2 s'")
        with psycopg.connect(conninfo) as holder, ThreadPoolExecutor() as pool:
            holder.execute("SELECT FROM game_session FOR UPDATE")
            beat = pool.submit(registry.heartbeat, issued.session.session_id)
            blocked(sql, 1)
            expired = "SELECT expires_at <= clock_timestamp() FROM game_session"
            wait_until(lambda: sql.execute(expired).fetchone() == (True,))

            def let_it_beat() -> None:
                holder.commit()
                beat.result()

            registry.pause = let_it_beat
            try:
                resumed = registry.resume(issued.token, after=0)
            except SessionExpired:
                return  # so it was, when the resume began
        assert resumed.session.session_id == issued.session.session_id
