"""The known answers: what the table says of versions, and what becomes of an answer that is another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import answers
from tests.errors import test_answers, test_differences
from tests.requests.steps import Traits
from vm.base.errors import UsageError
from vm.guest.expect import Undecided

TABLE = answers.load()
README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize(
    ("question", "version", "answer"),
    [
        ("has_key_serials", "6.1.192-2", "no"),
        ("has_key_serials", "6.12.117-1~deb12u1", "yes"),
        ("has_key_serials", "5.15.210", None),
        ("has_key_serials", "6.2~rc1", None),
        ("splice_begins_a_request", "5.10.223-1", "no"),
        ("splice_begins_a_request", "5.10.262-1", "yes"),
        ("traits: aead_iv_goes_on", "6.12.84", "yes"),
        ("traits: aead_iv_goes_on", "6.12.85", "no"),
        ("ignores_lookup_flags", "6.18.15-1~bpo13+1", "no"),
        ("ignores_lookup_flags", "6.19.14", None),
        ("test_restriction", "7.3.4-1~bpo13+1", "yes"),
    ],
)
def test_a_version_has_an_answer_or_none(question: str, version: str, answer: str | None) -> None:
    assert TABLE[question].expected(version) == answer


def test_another_answer_is_a_change() -> None:
    answers.check("has_key_serials", "yes", "6.12.117-1")
    words = r"a change: 6.12.117-1 should answer 'yes' to has_key_serials \(.*6.2 by 7984ceb134bf\), and answers 'no'"
    with pytest.raises(AssertionError, match=words):
        answers.check("has_key_serials", "no", "6.12.117-1")
    with pytest.raises(AssertionError, match=r"5\.10\.223-1 should answer 'no'"):
        answers.check("has_key_serials", "yes", "5.10.223-1")


@pytest.mark.parametrize("got", ["yes", "no"])
def test_no_answer_of_a_series_that_nobody_looked_up_is_right(got: str) -> None:
    with pytest.raises(Undecided, match=f"what 5.15.210 should answer to has_key_serials: it answers '{got}'"):
        answers.check("has_key_serials", got, "5.15.210")


@pytest.mark.parametrize("got", ["yes", "no"])
def test_a_version_that_tells_nothing_may_answer_as_it_likes(got: str) -> None:
    answers.check("has_key_serials", got, "")


def test_the_table_of_readme_says_the_same() -> None:
    """It was asked of real kernels (make differences)."""
    rows = [line.strip("| ").split(" | ") for line in README.read_text().splitlines() if line.startswith("| ")]
    head = next(row for row in rows if re.match(r"5\.10\.\d+$", row[0]))
    compared = 0
    for name, answer in TABLE.items():
        if (test := getattr(test_differences, name, None)) is None:
            continue
        (row,) = [row for row in rows if row[0] == test.__doc__.splitlines()[0].strip()]
        assert [answer.expected(version) for version in head] == row[1:], name
        compared += 1
    assert compared >= 12


def test_each_question_is_asked() -> None:
    probes = {*test_answers.PROBES, "has_key_serials", *(f"traits: {name}" for name in Traits.__annotations__)}
    assert {name for name in TABLE if not hasattr(test_differences, name)} == probes


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("after = 'x'\nissue = 'a664bf3d603d'", "to the same"),
        ("after = 'y'", "says neither"),
        ("after = 'y'\ncommit = 'a664bf3d603d'", "says neither"),
        ("after = 'y'\ncommit = 'it'\nsince = ['6.1']", "says neither"),
        ("after = 'y'\nissue = '0123456789ab'", "has to be a known one"),
        ("after = 'y'\nissue = 'a664bf3d603d'\nsince = ['6.1']", "has to be a known one"),
        ("after = 'y'\ncommit = 'a664bf3d603d'\nsince = ['soon']", "is no version"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, members: str, words: str) -> None:
    (tmp_path / "answers.toml").write_text(f"[[answer]]\nquestion = 'q'\nbefore = 'x'\n{members}\n")
    with pytest.raises(UsageError, match=words):
        answers.load(tmp_path / "answers.toml")
