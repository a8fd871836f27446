"""The programs in the documents run as they are written and print what is written below them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.owner

ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"^```python\n(.*?)^```\n+(?:^```text\n(.*?)^```$)?", re.M | re.S)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = [
    pytest.param(code, output, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, (code, output) in enumerate(PROGRAM.findall(document.read_text()), 1)
]


@pytest.mark.parametrize(("code", "output"), PROGRAMS)
def test_the_program_prints_what_the_document_says(code: str, output: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, output, "")


def test_the_shortest_program_is_short() -> None:
    code, _ = PROGRAM.findall((ROOT / "README.md").read_text())[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 11


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_page_named_is_there(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:registry|sql|migrations|tests|docs|examples)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path
