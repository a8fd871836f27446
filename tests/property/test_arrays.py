"""What the server makes of an array is what it makes of psycopg's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import Connection

from registry import arrays

LARGEST = 2**63

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
KINDS: dict[str, tuple[str, Callable[[Sequence[Any]], arrays.Array], st.SearchStrategy[Any]]] = {
    "bytea": ("bytea[]", arrays.bytea_array, st.binary(max_size=50)),
    "text": ("text[]", arrays.text_array, TEXT),
    "uuid": ("uuid[]", arrays.uuid_array, st.none() | st.uuids()),
    "bigint": (
        "bigint[]",
        arrays.bigint_array,
        st.none() | st.integers(-LARGEST, LARGEST - 1),
    ),
    "smallint": ("smallint[]", arrays.smallint_array, st.integers(-(2**15), 2**15 - 1)),
    "integer": ("integer[]", arrays.integer_array, st.integers(-(2**31), 2**31 - 1)),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
ENCODINGS = ["UTF8", "LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"]


@pytest.fixture(scope="module")
def connection(module_conninfo: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(module_conninfo, autocommit=True) as connection:
        arrays.adapt(connection)
        yield connection


def seen(connection: Connection[Any], kind: str, array: object) -> tuple[Any, ...]:
    """All that the server can tell of an array."""
    query = """
        SELECT pg_typeof(sent)::text, sent::text, array_ndims(sent), array_dims(sent),
               cardinality(sent), array_send(sent), array_position(sent, NULL)
        FROM (SELECT %s::{0} AS sent) AS array_sent
    """
    cursor = connection.execute(query.format(KINDS[kind][0]).encode(), [array], binary=True)
    (row,) = cursor.fetchall()
    return tuple(row)


@EVERY
@given(data=st.data())
def test_an_array_is_the_one_that_psycopg_sends(
    connection: Connection[Any], kind: str, data: st.DataObject
) -> None:
    _, array, item = KINDS[kind]
    items = data.draw(st.lists(item, max_size=20))
    assert seen(connection, kind, array(items)) == seen(connection, kind, items)


@EVERY
def test_an_array_of_nothing_is_one_of_its_own_type(connection: Connection[Any], kind: str) -> None:
    _, array, _ = KINDS[kind]
    assert seen(connection, kind, array([])) == seen(connection, kind, [])
    ((oid,),) = connection.execute("SELECT pg_typeof(%s)::oid", [array([])]).fetchall()
    assert oid == array([]).oid


@EVERY
def test_a_parameter_says_its_type_where_the_query_does_not(
    connection: Connection[Any], kind: str
) -> None:
    """A prepared statement is chosen by the types of its parameters."""
    type_name, array, _ = KINDS[kind]
    ((found,),) = connection.execute("SELECT pg_typeof(%s)::text", [array([])]).fetchall()
    assert found == type_name


def test_several_arrays_of_one_statement_keep_their_types(connection: Connection[Any]) -> None:
    every = [array([]) for _, array, _ in KINDS.values()]
    query = "SELECT " + ", ".join(["pg_typeof(%s)::text"] * len(every))
    for _ in range(10):  # and when it has been prepared
        ((*found,),) = connection.execute(query.encode(), every).fetchall()
        assert found == [type_name for type_name, _, _ in KINDS.values()]


@pytest.mark.parametrize("kind", ["bytea", "text"])
def test_items_of_every_length_arrive_whole(connection: Connection[Any], kind: str) -> None:
    _, array, _ = KINDS[kind]
    one: Any = b"x" if kind == "bytea" else "é"
    items = [one * length for length in (0, 1, 255, 256, 65_535, 65_536, 1_000_000)]
    assert seen(connection, kind, array(items)) == seen(connection, kind, items)


def test_a_long_array_arrives_whole(connection: Connection[Any]) -> None:
    items = list(range(100_000))
    for kind in ("integer", "bigint"):
        _, array, _ = KINDS[kind]
        assert seen(connection, kind, array(items)) == seen(connection, kind, items)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["plain", "é ß", "€ “x”", "日本", "\U0001f3b2"])
def test_text_goes_out_as_its_connection_wants_it(
    module_conninfo: str, encoding: str, text: str
) -> None:
    """Or is refused as psycopg refuses it."""
    outcomes = []
    for items in (["before", text], arrays.text_array(["before", text])):
        with psycopg.connect(module_conninfo, client_encoding=encoding) as connection:
            arrays.adapt(connection)
            try:
                (row,) = connection.execute(
                    "SELECT sent, sent::text FROM (SELECT %s::text[] AS sent) AS array_sent",
                    [items],
                    binary=True,
                ).fetchall()
                outcomes.append(row)
            except (UnicodeEncodeError, psycopg.Error) as error:
                outcomes.append(type(error))
    assert outcomes[0] == outcomes[1]


def test_an_encoding_changed_later_holds_from_then_on(module_conninfo: str) -> None:
    with psycopg.connect(module_conninfo) as connection:
        arrays.adapt(connection)
        for encoding in ("LATIN1", "UTF8", "LATIN1"):
            connection.execute(f"SET client_encoding TO {encoding}".encode())
            for _ in range(7):  # and when it has been prepared
                query = "SELECT %s::text[]"
                ((found,),) = connection.execute(query, [arrays.text_array(["é"])]).fetchall()
                assert found == ["é"]
