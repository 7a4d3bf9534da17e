"""The table of known bugs: every test it names is there, and it agrees with the table of known issues."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.selftests.test_known_issues import ISSUES, markers
from tests.selftests.test_parity import functions
from vm.base import toml

ROWS = toml.read(Path(__file__).parent.parent / "bugs.toml")["bug"]


def test_the_table_is_whole() -> None:
    """Counted when the history was read (November 2026); none gets lost, and none is there twice."""
    assert len(ROWS) >= 81
    assert len({row["title"] for row in ROWS}) == len(ROWS)
    fixes = [fix for row in ROWS for fix in row.get("fix", [])]
    assert len(set(fixes)) == len(fixes)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["title"][:60])
def test_a_bug_has_tests_that_exist_or_a_reason(row: dict[str, object]) -> None:
    assert set(row) <= {"title", "fix", "tests", "unseen"}
    fixes, tests = row.get("fix", []), row.get("tests", [])
    assert isinstance(fixes, list)
    assert isinstance(tests, list)
    assert all(re.fullmatch(r"[0-9a-f]{12}", fix) for fix in fixes)
    assert tests or row.get("unseen"), "neither a test nor a reason"
    for test in tests:
        path, _, function = test.partition("::")
        assert function in functions(path), f"{path} has no {function}"


def test_what_has_a_known_issue_is_a_bug_with_a_test() -> None:
    marked = list(markers())
    rows = {fix: row for row in ROWS for fix in row.get("fix", [])}
    for fix, issue in ISSUES.items():
        assert fix in rows, f"{fix} ({issue.title}) is not in the table of bugs (tests/bugs.toml)"
        named = {test.partition("::")[0].removeprefix("tests/") for test in rows[fix].get("tests", [])}
        files = {path for path, found, _, _ in marked if found == fix}
        assert files & named, f"{fix}: none of its tests is marked with it"
