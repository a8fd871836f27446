"""The bugs to plant are still ones of this code; that a run notices them is seen by running it."""

from __future__ import annotations

from mutants import missing_text

from chaos.bugs import BUGS


def test_what_each_bug_changes_is_in_the_code() -> None:
    assert BUGS
    assert missing_text(BUGS) == []
