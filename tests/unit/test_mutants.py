"""The deliberate breaks of the library fit the code that there is."""

from __future__ import annotations

from mutants import MUTANTS, missing_text


def test_what_a_mutant_replaces_is_there() -> None:
    assert not missing_text(MUTANTS)
