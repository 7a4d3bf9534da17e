"""The table of known issues and the tests that carry them: each names the other, in the same words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.guest.expect import State
from vm.run import known

TESTS = Path(__file__).resolve().parent.parent
ISSUES = known.load(TESTS / "known_issues.toml")


def markers() -> Iterator[tuple[str, str, str, str]]:
    """Yield file, commit, title and CVE of every ``fixed_by(...)`` below tests/."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fixed_by":
                fix, title = (ast.literal_eval(argument) for argument in node.args)
                keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
                yield str(path.relative_to(TESTS)), fix, title, keywords.get("cve", "")


def test_tests_and_table_agree_on_commit_title_and_cve() -> None:
    found = list(markers())
    assert len(found) >= 25
    for path, fix, title, cve in found:
        assert fix in ISSUES, f"{path}: {fix} is not in the table"
        assert (title, cve) == (ISSUES[fix].title, ISSUES[fix].cve), path


def test_every_issue_has_a_test() -> None:
    assert set(ISSUES) - {fix for _, fix, _, _ in markers()} == set()


# What is known of kernels that have been tried, by hand: (version, commit, state).
@pytest.mark.parametrize(
    ("version", "fix", "state"),
    [
        ("5.10.223-1", "a664bf3d603d", "present"),
        ("5.10.262-1", "a664bf3d603d", "absent"),
        ("5.10.262-1", "8eceab19eba9", "present"),
        ("6.1.180-1~deb11u1", "8eceab19eba9", "present"),
        ("6.1.192-2", "8eceab19eba9", "absent"),
        ("6.12.43-1~bpo12+1", "1b34cbbf4f01", "present"),
        ("6.12.57-1~bpo12+1", "1b34cbbf4f01", "absent"),
        ("6.18.5-1~bpo13+1", "265b861bece3", "present"),
        ("7.1.3-1~bpo13+1", "e4c06479d705", "present"),
        ("7.0.13-1~bpo13+1", "e4c06479d705", "absent"),
        ("7.3.4-1~bpo13+1", "aecb745eb91d", "absent"),
    ],
)
def test_the_table_says_what_is_known(version: str, fix: str, state: str) -> None:
    assert ISSUES[fix].state(version) is State(state)


def test_a_kernel_newer_than_every_fix_has_no_known_issue() -> None:
    assert [fix for fix, issue in ISSUES.items() if issue.state("99.0") is not State.ABSENT] == []


def test_looks_are_in_the_words_of_the_tests() -> None:
    """Whoever words an assertion anew changes the look with it, before a kernel that has the bug tells."""
    source = "\n".join(path.read_text() for path in TESTS.rglob("*.py") if "selftests" not in path.parts)
    for issue in ISSUES.values():
        for look in issue.fails:
            if look.startswith("^AssertionError: "):
                words = max(re.split(r"[()\[\]\\|?*+.^$]", look.rpartition(": ")[2]), key=len)
                assert len(words) > 5, look
                assert words in source, f"{issue.fix}: no test says {words!r}"
