"""The threat model: each threat has tests, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DOCUMENT = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
THREATS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL))
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
NAMED = TEST.findall(DOCUMENT)


def test_there_are_threats() -> None:
    assert len(THREATS) >= 12
    assert len(NAMED) >= 40
    assert len(NAMED) == DOCUMENT.count("::"), "a test is named in another form"


@pytest.mark.parametrize("threat", THREATS)
def test_a_threat_says_what_is_tried(threat: str) -> None:
    _, _, tests = THREATS[threat].partition("\nTests: ")
    assert TEST.search(tests)


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
