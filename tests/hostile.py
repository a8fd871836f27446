"""Arguments of every kind that no honest caller passes, and calls that are made with them.

Used by Hypothesis (tests/property/test_hostile_arguments.py), and by a fuzzer that is led by
coverage (tests/fuzz.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from hypothesis import strategies as st
from support import TABLES

from registry import (
    GameSessionRegistry,
    OutcomeUnknown,
    RegistryConfig,
    RegistryError,
    RegistryUnavailable,
    SchemaMismatch,
)

Strategy = st.SearchStrategy[Any]
MEGABYTES = 10_000_000


class Sabotage(Exception):
    """What a hostile object raises when it is asked anything."""


def _raise(*_: object, **__: object) -> Any:
    raise Sabotage


def _liar(base: type, *methods: str, answer: Callable[..., Any] = _raise) -> type:
    """A subclass that raises, or answers so, when it is asked anything of these."""
    return type(f"Sly{base.__name__}", (base,), dict.fromkeys(methods, answer))


ASKED = ("__eq__", "__ne__", "__hash__", "__str__", "__repr__", "__format__", "__bool__")
ORDER = ("__lt__", "__le__", "__gt__", "__ge__")
NUMBER = ("__int__", "__float__", "__index__", "__mul__", "__add__", "__sub__", "__trunc__")
ITEMS = ("__len__", "__iter__", "__contains__", "__getitem__", "__reversed__")
TEXT = ("encode", "rpartition", "split", "strip", "__add__", "__mod__", "lower", "translate")

Bomb = type("Bomb", (), dict.fromkeys([*ASKED, *ORDER, *NUMBER, *ITEMS, "__call__"], _raise))
SlyText = _liar(str, *ASKED, *ORDER, *ITEMS, *TEXT)
SlyBytes = _liar(bytes, *ASKED, *ORDER, *ITEMS, "__bytes__", "decode")
SlyBuffer = _liar(bytearray, *ASKED, *ORDER, *ITEMS, "__bytes__", "decode")
SlyInt = _liar(int, *ASKED, *ORDER, *NUMBER)
SlyFloat = _liar(float, *ASKED, *ORDER, *NUMBER)
SlyDict = _liar(dict, *ASKED, *ITEMS, "keys", "values", "items", "get")
SlyList = _liar(list, *ASKED, *ITEMS)
SlyTuple = _liar(tuple, *ASKED, *ITEMS)
SlyUUID = _liar(UUID, *ASKED, "bytes", "int", "hex")
SmallText = _liar(str, "__len__", answer=lambda _: 5)
NoNulText = _liar(str, "__contains__", "encode", answer=lambda *_: b"")
SmallInt = _liar(int, *ORDER, answer=lambda *_: True)
EmptyDict = _liar(dict, "values", "items", "__iter__", answer=lambda _: iter(()))
EmptyList = _liar(list, "__iter__", answer=lambda _: iter(()))
OtherText = _liar(str, "__str__", "__format__", answer=lambda *_: "\ud800\0")
NoIterator = type("NoIterator", (), {"__iter__": lambda self: 7})
BadIterable = type("BadIterable", (), {"__iter__": _raise})


def impostor(base: type) -> object:
    """An object that is no `base` but calls itself one."""
    return type("Impostor", (), {"__class__": property(lambda _: base)})()


def nested(levels: int, kind: type) -> object:
    value: object = 1
    for _ in range(levels):
        value = {"k": value} if kind is dict else [value]
    return value


def bomb(levels: int, width: int) -> object:
    """Little in memory and endless when written: parts that are there many times, in each other."""
    value: object = "ha"
    for _ in range(levels):
        value = [value] * width
    return value


def raising(*items: object) -> Iterator[object]:
    yield from items
    raise Sabotage


def released() -> memoryview:
    view = memoryview(b"abc")
    view.release()
    return view


LONG = "x" * MEGABYTES
ODD: list[Callable[[], object]] = [
    lambda: None,
    lambda: True,
    lambda: 2**63,
    lambda: -(2**63) - 1,
    lambda: 10**5_000,
    lambda: float("nan"),
    lambda: float("-inf"),
    lambda: 1.7976931348623157e308,
    lambda: LONG,
    lambda: LONG.encode(),
    lambda: {LONG: 1},
    lambda: "\ud800",
    lambda: "nul\0",
    lambda: b"\xff\xfe\x00",
    lambda: memoryview(b"abcdefgh").cast("I"),
    released,
    lambda: nested(1_000, list),
    lambda: nested(1_000, dict),
    lambda: nested(100_000, list),
    lambda: bomb(90, 10),
    lambda: bomb(3, 1_000),
    lambda: {1, 2},
    lambda: frozenset("ab"),
    lambda: (1, 2),
    lambda: ("chess", 1, 2),
    lambda: range(3),
    lambda: 1j,
    lambda: Decimal("NaN"),
    lambda: datetime(2024, 1, 1),  # naive
    lambda: datetime(2024, 1, 1, tzinfo=timezone.utc),
    lambda: date(2024, 1, 1),
    lambda: timedelta(seconds=1),
    lambda: UUID(int=0),
    lambda: Path("/"),
    lambda: ...,
    lambda: int,
    lambda: print,
    lambda: object(),
    lambda: Bomb(),
    lambda: [Bomb()],
    lambda: {"k": Bomb()},
    lambda: SlyText("chess"),
    lambda: SlyText("x" * 300),
    lambda: SlyText("\ud800"),
    lambda: [SlyText("chess")],
    lambda: {OtherText("k"): 1},
    lambda: SmallText("x" * 300),
    lambda: NoNulText("a\0b"),
    lambda: OtherText("chess"),
    lambda: [OtherText("chess")],
    lambda: SlyBytes(b"chess"),
    lambda: SlyBuffer(b"chess"),
    lambda: SlyInt(3),
    lambda: [SlyInt(3)],
    lambda: SmallInt(2**70),
    lambda: SmallInt(-1),
    lambda: SlyFloat(1.5),
    lambda: [SlyFloat("nan")],
    lambda: SlyDict(a=1),
    lambda: [SlyDict(a={1})],
    lambda: EmptyDict(a=float("nan")),
    lambda: EmptyDict(a={1, 2}),
    lambda: OrderedDict(a=OtherText("\ud800")),
    lambda: SlyList([1]),
    lambda: EmptyList([{1, 2}]),
    lambda: EmptyList([nested(200, list)]),
    lambda: SlyTuple(("chess", 1)),
    lambda: SlyUUID(int=5),
    *(lambda base=base: impostor(base) for base in (str, bytes, int, dict, list, UUID, tuple)),
    lambda: impostor(psycopg.Connection),
    NoIterator,
    BadIterable,
    lambda: raising(),
    lambda: raising("chess", 1),
    lambda: raising(Bomb()),
    lambda: iter([1, SlyText("chess")]),
    lambda: [SlyText("chess/x"), SlyText("chess/x"), 5],
    lambda: [("chess/x", SlyInt(1)), SlyTuple(("chess/x", 1))],
    lambda: ["chess/x", ("chess/x", [])],
]

anything: Strategy = st.one_of(
    st.sampled_from(ODD).map(lambda make: make()),
    st.integers(),
    st.floats(),
    st.text(st.characters(categories=None)),  # with surrogates
    st.binary(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    ),
)


class Stage:
    """A few games with what there is in them, to be put back when it has grown too large."""

    def __init__(self, conninfo: str, *, together: bool) -> None:
        """With `together` no call is done by its own thread alone, but by those for many."""
        config = RegistryConfig(
            on_token_reuse="refuse",
            max_sessions_per_game=50,
            max_sessions_per_user=50,
            compression="zstd" if together else None,
        )
        self.registry = GameSessionRegistry.connect(conninfo, config=config)
        self._sql = psycopg.connect(conninfo, autocommit=True)
        self.closed = psycopg.connect(conninfo)
        self.closed.close()
        self._digest = " UNION ALL ".join(
            f"SELECT '{table}', md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t"
            for table in [*TABLES, "lineage"]
        ).encode()
        if together:
            for combiner in self.registry._combiners().values():
                combiner._alone.acquire()
        self.reset()

    def close(self) -> None:
        self.registry.close()
        self._sql.close()

    def reset(self) -> None:
        for table in ("game_session", "game_event", "game_event_id", "game"):
            self._sql.execute(f"DELETE FROM {table}".encode())
        registry = self.registry
        issued = registry.issue_resume_token("chess", "alice")
        self.epoch = issued.epoch
        self.tokens = [issued.token]
        for _ in range(3):
            self.tokens.append(registry.resume(self.tokens[-1], after=0).token)
        self.session = issued.session.session_id
        registry.issue_resume_token("chess", "bob")
        registry.record_events("chess", [{"n": n} for n in range(10)])
        registry.prune_events("chess", 2)
        registry.issue_resume_token("ended", "alice")
        registry.end_game("ended")
        self._calls = 0

    def digest(self) -> set[tuple[Any, ...]]:
        return set(self._sql.execute(self._digest).fetchall())

    def arguments(self) -> dict[str, dict[str, Strategy]]:
        """For each method what it takes, by name, with values that are right."""
        game = st.sampled_from(["chess", "go", "ended", "x" * 200, "\U0001f3b2/'\"%s;--"])
        user = st.sampled_from(["alice", "bob", "carol", "'; DROP TABLE game; --"])
        session = st.sampled_from([self.session, "chess/x", "chess/" + str(uuid4()), ""])
        token = st.sampled_from([*self.tokens, self.tokens[-1][:-2], ""])
        sequence = st.integers(0, 12)
        some = st.none() | st.integers(1, 12)
        epoch = st.sampled_from([None, self.epoch, UUID(int=1)])
        payload = st.sampled_from([{"move": "e4"}, b"\0", None, [1.5, "x"], "%s"])
        return {
            "issue_resume_token": {
                "game_id": game,
                "user_id": user,
                "ttl": st.none() | st.floats(1, 1000),
            },
            "validate_resume_token": {"token": token},
            "resume": {"token": token, "after": sequence, "epoch": epoch, "limit": some},
            "heartbeat": {"session_id": session, "generation": some},
            "heartbeat_many": {"sessions": st.lists(session | st.tuples(session, some))},
            "get_session": {"session_id": session},
            "find_session": {"game_id": game, "user_id": user},
            "list_sessions": {"game_id": game},
            "stale_sessions": {"older_than": st.floats(0, 100), "limit": st.integers(1, 9)},
            "revoke_session": {"session_id": session},
            "record_event": {
                "game_id": game,
                "payload": payload,
                "event_id": st.none() | st.just(UUID(int=7)),
                "expected_sequence": some,
                "connection": st.sampled_from([None, None, None, self.closed]),
            },
            "record_events": {"game_id": game, "payloads": st.lists(payload, max_size=5)},
            "fetch_events_since": {
                "game_id": game,
                "sequence": sequence,
                "epoch": epoch,
                "limit": some,
            },
            "fetch_events_json": {
                "game_id": game,
                "sequence": sequence,
                "epoch": epoch,
                "limit": some,
            },
            "iter_events_since": {
                "game_id": game,
                "sequence": sequence,
                "epoch": epoch,
                "page_size": some,
            },
            "acknowledge": {
                "session_id": session,
                "sequence": sequence,
                "generation": some,
                "epoch": epoch,
            },
            "prune_events": {"game_id": game, "through": sequence},
            "end_game": {"game_id": game},
            "cleanup_expired_sessions": {"batch_size": some},
            "train_dictionary": {"size": st.integers(256, 300)},
            "renew_epochs": {},
        }

    def right(self) -> dict[str, dict[str, Any]]:
        """For each method one set of arguments that are all right."""
        chess = {"game_id": "chess"}
        page = {**chess, "sequence": 3, "epoch": None}
        return {
            "issue_resume_token": {**chess, "user_id": "alice", "ttl": None},
            "validate_resume_token": {"token": self.tokens[-1]},
            "resume": {"token": self.tokens[-1], "after": 3, "epoch": None, "limit": None},
            "heartbeat": {"session_id": self.session, "generation": None},
            "heartbeat_many": {"sessions": [self.session]},
            "get_session": {"session_id": self.session},
            "find_session": {**chess, "user_id": "alice"},
            "list_sessions": chess,
            "stale_sessions": {"older_than": 0, "limit": 9},
            "revoke_session": {"session_id": self.session},
            "record_event": {
                **chess,
                "payload": 1,
                "event_id": None,
                "expected_sequence": None,
                "connection": None,
            },
            "record_events": {**chess, "payloads": [1, 2]},
            "fetch_events_since": {**page, "limit": None},
            "fetch_events_json": {**page, "limit": None},
            "iter_events_since": {**page, "page_size": 2},
            "acknowledge": {
                "session_id": self.session,
                "sequence": 3,
                "generation": None,
                "epoch": None,
            },
            "prune_events": {**chess, "through": 3},
            "end_game": chess,
            "cleanup_expired_sessions": {"batch_size": None},
            "train_dictionary": {"size": 300},
            "renew_epochs": {},
        }

    def play(self, draw: Callable[[Strategy], Any], method: str) -> None:
        """Makes one call with arguments of which some are right, and judges what becomes of it."""
        right = self.arguments()[method]
        odd = draw(st.sets(st.sampled_from(sorted(right)))) if right else set()
        given = {name: draw(anything if name in odd else right[name]) for name in right}
        self.call(method, given)

    def call(self, method: str, given: dict[str, Any]) -> bool:
        """Makes one call, and judges what becomes of it; returns whether it did anything."""
        before, refused = self.digest(), list[Exception]()
        try:
            answer = getattr(self.registry, method)(**given)
            if method == "iter_events_since":
                list(answer)
        except (SchemaMismatch, RegistryUnavailable) as error:
            raise AssertionError(f"{method} blames the database for its arguments") from error
        except OutcomeUnknown as error:
            refused.append(error)
            assert given.get("connection") is self.closed
        except RegistryError as error:
            refused.append(error)
        except Sabotage as error:
            # Of the caller's own: what is iterated over may raise what it likes.
            refused.append(error)
            assert method in ("record_events", "heartbeat_many"), f"{method} asked a stranger"
        after = self.digest()
        if refused:
            assert after == before, f"{method} was refused and changed {after ^ before}"
        self._calls += 1
        if self._calls > 100:
            self.reset()
        return after != before
