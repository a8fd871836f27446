"""Tokens, their secrets and payloads show nowhere: no repr, no error, no log, no server's view."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from probes import as_just_opened, configured, empty, hold_game, hold_session, rows, value
from relay import relayed
from support import wait_until

from registry import (
    EmbeddedPostgres,
    GameSessionRegistry,
    RegistryConfig,
    RegistryError,
    migrate,
)

Registry = GameSessionRegistry
PAYLOAD = "the-queen-is-in-the-cellar"
PASSWORD = "hunter2-of-the-database"


@pytest.fixture
def conninfo(module_conninfo: str) -> str:
    empty(module_conninfo)
    return f"{module_conninfo} password={PASSWORD}"


@pytest.fixture
def registry(conninfo: str) -> Iterator[Registry]:
    config = RegistryConfig(lock_timeout=0.2, pool_min_size=1, max_payload_bytes=200)
    with GameSessionRegistry.connect(conninfo, config=config) as registry:
        yield registry


def forms(secret: str | bytes) -> set[str]:
    """How a secret might be written."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    return {
        raw.hex(),
        repr(raw)[2:-1],
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        *([secret] if isinstance(secret, str) else []),
    }


def secret_of(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[-32:]


class Secrets:
    """What must not be seen, and what was seen."""

    def __init__(self) -> None:
        self.hidden = {*forms(PAYLOAD), *forms(PASSWORD)}
        self.tokens: list[str] = []

    def token(self, token: str) -> str:
        self.tokens.append(token)
        self.hidden |= {token, *forms(secret_of(token))}
        return token

    def check(self, text: str, where: str) -> None:
        for form in self.hidden:
            assert form not in text, f"a secret shows in {where}"

    def check_error(self, error: BaseException) -> None:
        """The error, how it is printed, and all that it came from, printed or not."""
        self.check("".join(traceback.format_exception(error)), f"the traceback of {error!r}")
        seen: list[BaseException] = []
        queue: list[BaseException | None] = [error]
        while queue:
            each = queue.pop()
            if each is None or each in seen:
                continue
            seen.append(each)
            queue += [each.__cause__, each.__context__]
            if isinstance(each, RegistryError):
                shown = f"{each} {each!r} {each.args} {vars(each)}"
                self.check(shown, f"{type(each).__name__}, part of {type(error).__name__}")


def a_session_with_failures(
    registry: Registry, conninfo: str, secrets: Secrets
) -> Iterator[tuple[str, object]]:
    """Calls that succeed and calls that fail, each with what it returned or raised."""

    def outcome(call: Callable[[], object]) -> object:
        try:
            return call()
        except RegistryError as error:
            return error

    issued = registry.issue_resume_token("chess", "alice")
    secrets.token(issued.token)
    yield "issue", issued
    session = issued.session.session_id
    event = {"where": PAYLOAD}
    calls: dict[str, Callable[[], object]] = {
        "record": lambda: registry.record_event("chess", event, event_id=uuid4()),
        "record bytes": lambda: registry.record_event("chess", PAYLOAD.encode()),
        "record many": lambda: registry.record_events("chess", [event, PAYLOAD]),
        "conflict": lambda: registry.record_event("chess", event, expected_sequence=99),
        "too large": lambda: registry.record_event("chess", [PAYLOAD] * 50),
        "unfit": lambda: registry.record_event("chess", {PAYLOAD: {1, 2}}),
        "surrogate": lambda: registry.record_event("chess", PAYLOAD + "\ud800"),
        "not finite": lambda: registry.record_event("chess", {PAYLOAD: float("nan")}),
        "no key": lambda: registry.record_event("chess", {1: PAYLOAD}),
        "single payload": lambda: registry.record_events("chess", PAYLOAD),
        "token as game": lambda: registry.record_event(issued.token * 9, event),
        "fetch": lambda: registry.fetch_events_since("chess", 0),
        "fetch as JSON": lambda: registry.fetch_events_json("chess", 0),
        "iterate": lambda: list(registry.iter_events_since("chess", 0)),
        "ahead": lambda: registry.fetch_events_since("chess", 99),
        "validate": lambda: registry.validate_resume_token(issued.token),
        "truncated": lambda: registry.resume(issued.token[:-3], after=0),
        "shifted": lambda: registry.resume(issued.token[4:], after=0),
        "extended": lambda: registry.validate_resume_token(issued.token + "AAAA"),
        "bad after": lambda: registry.resume(issued.token, after=issued.token),
        "bad epoch": lambda: registry.resume(issued.token, after=0, epoch=issued.token),
        "token as session": lambda: registry.heartbeat(5),
    }
    for name, call in calls.items():
        yield name, outcome(call)
    token = issued.token
    for turn in range(3):
        resumed = registry.resume(token, after=0)
        token = secrets.token(resumed.token)
        yield f"resume {turn}", resumed
    held: dict[str, Callable[[], object]] = {
        "record against a lock": lambda: registry.record_event("chess", event),
        "resume against a lock": lambda: registry.resume(token, after=0),
        "issue against a lock": lambda: registry.issue_resume_token("chess", "alice"),
    }
    with hold_game(conninfo, "chess"), hold_session(conninfo, session):
        for name, call in held.items():
            yield name, outcome(call)
    for name, table, call in [
        ("no table for an event", "game_event", lambda: registry.record_event("chess", event)),
        ("no table for a session", "game_session", lambda: registry.resume(token, after=0)),
    ]:
        rows(conninfo, f"ALTER TABLE {table} RENAME TO hidden")
        try:
            yield name, outcome(call)
        finally:
            rows(conninfo, f"ALTER TABLE hidden RENAME TO {table}")
    damage = "UPDATE game_event SET payload = substr(payload, 1, 30) WHERE sequence = 1"
    rows(conninfo, damage)
    as_just_opened(registry)
    yield "a damaged payload", outcome(lambda: registry.fetch_events_since("chess", 0).events)
    yield "a damaged payload unread", outcome(lambda: registry.fetch_events_since("chess", 0))
    with configured(conninfo, compression="zstd") as dense:
        dense.record_event("dense", [PAYLOAD] * 9)
        yield "compressed", outcome(lambda: registry.fetch_events_since("dense", 0))
        yield "compressed as JSON", outcome(lambda: dense.fetch_events_json("dense", 0))
        for broken in ("substr(payload, 2)", f"convert_to('{PAYLOAD}', 'UTF8')"):
            rows(conninfo, f"UPDATE game_event SET payload = {broken} WHERE game_id = 'dense'")
            as_just_opened(dense)
            for fetch in (dense.fetch_events_json, lambda *a: dense.fetch_events_since(*a).events):
                yield "a damaged frame", outcome(lambda fetch=fetch: fetch("dense", 0))
    # A row that a constraint refuses: the server's own message quotes it.
    rows(conninfo, "ALTER TABLE game_event ADD CONSTRAINT never CHECK (sequence < 0) NOT VALID")
    try:
        yield "refused by a constraint", outcome(lambda: registry.record_event("chess", event))
        with psycopg.connect(conninfo) as mine:
            yield (
                "refused in the caller's transaction",
                outcome(lambda: registry.record_event("chess", event, connection=mine)),
            )
            mine.rollback()
    finally:
        rows(conninfo, "ALTER TABLE game_event DROP CONSTRAINT never")
    rows(conninfo, "ALTER TABLE game_session ADD CONSTRAINT never CHECK (generation < 0) NOT VALID")
    try:
        yield "resume refused", outcome(lambda: registry.resume(token, after=0))
    finally:
        rows(conninfo, "ALTER TABLE game_session DROP CONSTRAINT never")
    brief = RegistryConfig(pool_timeout=2.0, statement_timeout=2.0, pool_min_size=1)
    with (
        relayed(conninfo) as relay,
        GameSessionRegistry.connect(relay.conninfo, config=brief) as other,
    ):
        relay.arm("record_event", "answer lost")
        yield "a broken connection", outcome(lambda: other.record_event("chess", event))
        relay.arm("record_event", "request lost", relay.go_down)
        yield "a server that is gone", outcome(lambda: other.record_event("chess", event))
    yield "reused", outcome(lambda: registry.resume(issued.token, after=0))
    yield "revoked", outcome(lambda: registry.resume(token, after=0))
    yield "registry", [registry, registry.config, registry._database]
    registry.close()
    yield "closed", outcome(lambda: registry.record_event("chess", event))


def test_nothing_that_is_returned_raised_or_logged_shows_a_secret(
    registry: Registry, conninfo: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "psycopg", "psycopg.pool", "yoyo", "yoyo.migrations", "registry"):
        caplog.set_level(logging.DEBUG, logger=name)
    secrets = Secrets()
    succeeded = []
    outcomes = list(a_session_with_failures(registry, conninfo, secrets))
    for name, outcome in outcomes:
        if isinstance(outcome, BaseException):
            secrets.check_error(outcome)
        else:
            succeeded.append(name)
            secrets.check(f"{outcome!r} {outcome}", f"the repr of {name}")
    assert succeeded == [
        *("issue", "record", "record bytes", "record many", "fetch"),
        *("fetch as JSON", "iterate", "validate", "resume 0", "resume 1", "resume 2"),
        *("a damaged payload unread", "compressed", "compressed as JSON"),
        *("a broken connection", "registry"),
    ]
    assert len(secrets.tokens) == 4
    formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
    for record in caplog.records:
        secrets.check(formatter.format(record), f"a log record of {record.name}")


def test_what_hides_in_a_result_is_there(registry: Registry) -> None:
    """The test above would also pass if nothing were returned at all."""
    issued = registry.issue_resume_token("chess", "alice")
    registry.record_event("chess", PAYLOAD)
    resumed = registry.resume(issued.token, after=0)
    assert resumed.token
    assert resumed.replay.events[0].payload == PAYLOAD
    assert "chess" in repr(resumed)


def test_migrating_and_connecting_show_no_password(
    blank_conninfo: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = Secrets()
    conninfo = f"{blank_conninfo} password={PASSWORD}"
    unreachable = f"host={tmp_path} password={PASSWORD}"
    config = RegistryConfig(pool_timeout=0.3)
    for call in (
        lambda: GameSessionRegistry.connect(conninfo),
        lambda: GameSessionRegistry.connect(unreachable, config=config),
        lambda: GameSessionRegistry.connect(f"password='{PASSWORD}"),
        lambda: migrate(unreachable),
        lambda: migrate(f"password='{PASSWORD}"),
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        secrets.check_error(caught.value)
    migrate(conninfo)
    for record in caplog.records:
        secrets.check(logging.Formatter().format(record), f"a log record of {record.name}")


def test_the_servers_view_of_statements_shows_neither_token_nor_payload(
    registry: Registry, conninfo: str
) -> None:
    secrets = Secrets()
    token = secrets.token(registry.issue_resume_token("chess", "alice").token)
    query = "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
    for call in (
        lambda: registry.record_event("chess", {"where": PAYLOAD}),
        lambda: registry.record_events("chess", [PAYLOAD.encode()]),
        lambda: secrets.token(registry.resume(token, after=0).token),
        lambda: registry.validate_resume_token(secrets.tokens[-1]),
        lambda: registry.resume(token[:-1] + "Q", after=0),
    ):
        with suppress(RegistryError):
            call()
        seen = " ".join(text for (text,) in rows(conninfo, query))
        assert "/* registry." in seen
        secrets.check(seen, "pg_stat_activity")


def test_a_server_that_logs_everything_never_sees_a_token() -> None:
    """Statements with all their parameters: payloads are among them, tokens and secrets not."""
    settings = {
        "log_statement": "all",
        "log_parameter_max_length": -1,
        "log_parameter_max_length_on_error": -1,
        "logging_collector": "on",
        "fsync": "off",
    }
    with EmbeddedPostgres(settings=settings) as server:
        migrate(server.conninfo)
        secrets = Secrets()
        with GameSessionRegistry.connect(server.conninfo) as registry:
            token = secrets.token(registry.issue_resume_token("chess", "alice").token)
            registry.record_event("chess", PAYLOAD)
            for _ in range(3):
                token = secrets.token(registry.resume(token, after=0).token)
                registry.validate_resume_token(token)
            for bad in (secrets.tokens[0], token[:-2], token[:-5] + "AAAAA"):
                with pytest.raises(RegistryError):
                    registry.resume(bad, after=0)
        last = "SELECT 'the last line'"
        rows(server.conninfo, last)
        read = "SELECT pg_read_file(pg_current_logfile())"
        wait_until(lambda: last in value(server.conninfo, read))
        log = value(server.conninfo, read).lower()
    assert "registry.resume" in log
    assert PAYLOAD.encode().hex() in log  # so parameters are logged, and in this form
    assert len(re.findall(r"\$\d+ = '\\x[0-9a-f]{64}'", log)) >= 10
    for each in secrets.tokens:
        for form in (each, *forms(secret_of(each))):
            assert form.lower() not in log
