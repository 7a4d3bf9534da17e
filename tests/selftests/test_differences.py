"""README's table of differences is the one that the kernels' answers make, and answers every question."""

from __future__ import annotations

import pytest

from tests.errors import differences
from tests.errors.differences import Row
from vm.base.errors import UsageError
from vm.results.model import KernelRun, Property, Run, TestResult, Verdict


def test_readme_has_the_table_of_the_last_run() -> None:
    assert differences.in_readme() == differences.table(differences.stored()), "run make differences"


def test_last_run_answered_every_question() -> None:
    assert {row.test: row.title for row in differences.stored()} == differences.questions(), "run make differences"


def test_every_row_is_a_difference() -> None:
    same = [row.test for row in differences.stored() if len(set(row.answers.values())) == 1]
    assert same == [], "all kernels of the table give the same answer"


def answered(*answers: str) -> Run:
    """Return a run in which one kernel gave these answers."""
    tests = tuple(
        TestResult(f"x.py::{name}", "", Verdict.PASSED, properties=(Property("answer", answer),))
        for name, answer in zip(differences.questions(), answers, strict=False)
    )
    return Run("x", "2026", kernels=(KernelRun("6.1.192", "6.1", tests=tests),))


def test_answers_become_a_table() -> None:
    names = list(differences.questions())
    rows = differences.collect(answered(*(f"answer {number}" for number in range(len(names)))))
    assert rows[1] == Row(names[1], differences.questions()[names[1]], {"6.1.192": "answer 1"})
    assert differences.table(rows[:1]) == f"| | 6.1.192 |\n|---|---|\n| {rows[0].title} | answer 0 |\n"


def test_a_missing_answer_is_told() -> None:
    with pytest.raises(UsageError, match=r"not all kernels have answered test_template_in_itself"):
        differences.collect(answered("ENOENT"))
