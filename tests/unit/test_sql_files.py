"""The folders sql/ and migrations/ and the code that uses them keep to the house's rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

import registry
from registry.partitioning import queries as partitioning
from registry.queries import queries
from registry.resources import folder

FILES = sorted(folder("sql").rglob("*.sql"))
MIGRATIONS = sorted(
    path for path in folder("migrations").glob("*.sql") if not path.name.endswith(".rollback.sql")
)
LOADED: dict[str, Any] = {"sql": queries, "partitioning": partitioning.queries}
"""What each folder is loaded into."""
MODULES = sorted(Path(registry.__file__).parent.rglob("*.py"))

# They work on the schema and the server itself, and have their SQL beside the code; or read that of
# the migrations.
OWN_SQL = {"schema.py", "embedded.py", "blueprint.py"}
# They make and rename tables, and what others gave them is copied: little but names.
NAMES = {"ddl.py", "statements.py", "retention.py"}

STATEMENT = re.compile(
    r"\bSELECT\s.*\bFROM\b|\bSELECT\s+\w+\(|\bINSERT\s+INTO\b|\bUPDATE\s+\S+\s.*\bSET\b"
    r"|\bDELETE\s+FROM\b|\bWITH\s+\w+\s+AS\b|\bFOR\s+(NO\s+KEY\s+)?UPDATE\b"
    r"|\b(REVOKE|GRANT)\s+\w+\s+ON\b|\bCOMMENT\s+ON\b|\bANALYZE\s+\w+"
    r"|\b(CREATE|ALTER|DROP|TRUNCATE|LOCK)\s+(TABLE|INDEX|VIEW|TRIGGER|FUNCTION)\b|\bSET\s+(LOCAL|SESSION)\b",
    re.DOTALL,
)


def ident(path: Path) -> str:
    return path.stem if path.parent.name == "sql" else f"{path.parent.name}.{path.stem}"


def head(path: Path) -> list[str]:
    """The comment lines that a file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return lines[:end]


def code(path: Path) -> str:
    """A file without its comments."""
    return re.sub(r"--.*", "", path.read_text(encoding="utf-8"))


def strings(tree: ast.AST) -> Iterator[str]:
    """The string literals of a module, without its docstrings; an f-string as one."""
    for node in ast.walk(tree):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "x"
                    for part in child.values
                )
            elif isinstance(child, ast.Constant) and not isinstance(node, ast.Expr):
                if isinstance(child.value, str):
                    yield child.value
                elif isinstance(child.value, bytes):
                    yield child.value.decode(errors="replace")


@cache
def uses(folder: str) -> set[str]:
    """The queries of a folder that the code names."""
    return {
        node.attr
        for module in MODULES
        if (module.parent.name == "partitioning") == (folder == "partitioning")
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "queries"
    }


@cache
def tables() -> set[str]:
    """The tables and views that the migrations make."""
    made = re.compile(r"CREATE (?:TABLE|VIEW) (\w+)")
    return {name for path in MIGRATIONS for name in made.findall(code(path))}


@pytest.mark.parametrize(("name", "loaded"), LOADED.items())
def test_files_and_attributes_are_the_same(name: str, loaded: Any) -> None:
    files = [path.stem for path in FILES if path.parent.name == name]
    assert files == sorted(f.name for f in fields(type(loaded))) != []


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_a_query_begins_with_what_it_answers_what_it_locks_and_by_which_index(path: Path) -> None:
    lines = head(path)
    assert lines, "no comment"
    first = lines[0].removeprefix("-- ")
    assert first[0].isupper()
    assert not re.match(r"(Locks|Index|Indexes)\b", first), "begins with something else"
    text = " ".join(line.removeprefix("--").strip() for line in lines)
    assert re.search(r"(^|[.)] )Locks[, ]", text)
    named = {*tables(), "game_event_next"}
    reads = set(re.findall(r"\w+", code(path))) & named or re.search(r"FROM \{", code(path))
    assert bool(reads) == bool(re.search(r"(^|[.)] )Index(es)?: \w", text))


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_a_query_is_one_statement_with_named_parameters_only(path: Path) -> None:
    statement = re.sub(r"AS \$\$.*\$\$", "", code(path), flags=re.DOTALL)  # a function's body
    assert ";" not in statement
    assert re.sub(r"%\([a-z_]+\)s", "", statement).count("%") == 0
    assert not re.search(r"\$\d", statement)


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_what_is_sent_is_the_file_without_comments_under_its_name(path: Path) -> None:
    sent = getattr(LOADED[path.parent.name], path.stem).decode()
    assert sent.startswith(f"/* registry.{ident(path)} */")
    assert "--" not in sent
    assert sent.split("*/", 1)[1].split() == code(path).split()


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_a_query_is_used_by_the_code(path: Path) -> None:
    assert path.stem in uses(path.parent.name)


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if (path.parent.name == "registry" and path.name not in OWN_SQL)
        or (path.parent.name == "partitioning" and path.name not in NAMES)
    ],
    ids=ident,
)
def test_no_sql_hides_in_the_code(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [text for text in strings(tree) if STATEMENT.search(text)] == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_where_names_vary_no_rows_are_read_or_written(name: str) -> None:
    (path,) = (path for path in MODULES if path.parent.name == "partitioning" and path.name == name)
    rows = re.compile(r"\bSELECT\b|\bINSERT\s+INTO\b|\bUPDATE\s+\S+\s+SET\b|\bDELETE\s+FROM\b")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [text for text in strings(tree) if rows.search(text)] == []


@pytest.mark.parametrize("path", FILES, ids=ident)
def test_each_query_would_be_found_in_the_code(path: Path) -> None:
    assert STATEMENT.search(code(path))


def test_sql_is_found_in_every_kind_of_literal_but_docstrings() -> None:
    tree = ast.parse('"""SELECT a FROM b"""\nrun(f"SELECT {a} FROM c", b"DELETE FROM d")')
    found = [text for text in strings(tree) if STATEMENT.search(text)]
    assert found == ["SELECT x FROM c", "DELETE FROM d"]


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_has_a_name_in_order_and_a_way_back(path: Path) -> None:
    place = MIGRATIONS.index(path) + 1
    assert re.fullmatch(rf"{place:04}_[a-z_]+", path.stem)
    assert path.with_name(f"{path.stem}.rollback.sql").is_file()


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_what_a_migration_makes_its_rollback_drops(path: Path) -> None:
    made = re.compile(r"\bCREATE (TABLE|VIEW|INDEX)(?: CONCURRENTLY)? (\w+)")
    gone = re.compile(r"\bDROP (TABLE|VIEW|INDEX)(?: CONCURRENTLY)?(?: IF EXISTS)? (?!IF\b)(\w+)")
    back = path.with_name(f"{path.stem}.rollback.sql")
    assert sorted(made.findall(code(path))) == sorted(gone.findall(code(back)))


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_names_the_one_before_it(path: Path) -> None:
    place = MIGRATIONS.index(path)
    named = re.findall(r"^-- depends: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == [earlier.stem for earlier in MIGRATIONS[max(0, place - 1) : place]]
