"""Rules on C text: found where they are, refused where they are not what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.teeth.changes import Change, DoesNotApply, apply, body, fixes, mutants

SOURCE = """\
static int later(struct sock *sk, int flags);

static int one(struct sock *sk)
{
	if (sk->a &&
		sk->b)
		return 1;
	return sk->a;
}

int later(struct sock *sk,
		int flags)
{
	return flags;
}

static const struct proto_ops table = {
	.family = 1,
	.release = one,
};
"""


def _change(function: str, old: str, new: str) -> str:
    return apply(SOURCE, Change("crypto/x.c", function, old, new))


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        pytest.param("one", "return 1;", "return 2;", id="statement"),
        pytest.param("one", "sk->a && sk->b", "sk->a || sk->b", id="white-space-differs"),
        pytest.param("later", "return flags;", "return 0;", id="definition-not-declaration"),
        pytest.param("table", ".family = 1,", ".family = 2,", id="variable"),
    ],
)
def test_the_text_is_replaced_and_nothing_else(function: str, old: str, new: str) -> None:
    """White space of a rule is any white space."""
    changed = _change(function, old, new)
    assert changed.count(new) == 1
    assert changed.replace(new, "") == "".join(SOURCE.split(_as_written(old)))


def _as_written(old: str) -> str:
    return "sk->a &&\n\t\tsk->b" if "&&" in old else old


@pytest.mark.parametrize(
    ("function", "old", "says"),
    [
        pytest.param("nobody", "x", "no nobody", id="no-function"),
        pytest.param("one", "return 7;", "not times", id="not-there"),
        pytest.param("one", "sk->a", "2 times", id="twice"),
        pytest.param("one", ".family = 1,", "not times", id="of-another-function"),
    ],
)
def test_what_is_not_there_once_does_not_apply(function: str, old: str, says: str) -> None:
    """A rule that is no longer true of a kernel must not change something else of it."""
    with pytest.raises(DoesNotApply, match=says):
        _change(function, old, "y")


def test_a_body_ends_with_its_brace() -> None:
    """Of a definition over several lines."""
    start, end = body(SOURCE, "later")
    assert SOURCE[start:end] == "int later(struct sock *sk,\n\t\tint flags)\n{\n\treturn flags;"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "source", id="empty"),
        pytest.param("source = 'a.c'\ntests = ['t']\n[f]\nx = ['a']", r"\[f\] x", id="half-a-rule"),
        pytest.param("source = 'a.c'\ntests = ['t']\n[f]\nx = ['a', 'a']", r"\[f\] x", id="no-change"),
        pytest.param("source = 'a.c'\ntests = ['t']\n[equivalent]\n'f.x' = 'y'", "no such mutant", id="stray-reason"),
        pytest.param("source = ", "cannot use", id="no-toml"),
    ],
)
def test_a_wrong_file_of_mutants_is_one_error(tmp_path: Path, text: str, says: str) -> None:
    """It says which rule."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=says):
        mutants(tmp_path / "a.toml")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[[fix]]\ncommit = 'a'", id="nothing"),
        pytest.param("[[fix]]\ncommit = 'a'\nreason = 'b'\nchanges = [['a', 'b', 'c', 'd']]", id="both"),
        pytest.param("[[fix]]\ncommit = 'a'\nchanges = [['a', 'b', 'c']]", id="half-a-change"),
        pytest.param("[[fix]]\ncommit = 'a'\nchanges = [['a', 'b', 'c', 'd']]\nunshown = [['a']]", id="no-reason"),
    ],
)
def test_a_wrong_proof_is_one_error(tmp_path: Path, text: str) -> None:
    """It names the commit, and where the form stands."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=r"vm/teeth/changes\.py"):
        fixes(tmp_path / "a.toml")


def test_all_data_can_be_read_and_names_are_unique() -> None:
    """Whether they apply, only a kernel's source can tell: ``make teeth`` does."""
    files = sorted((ROOT / "tests" / "teeth" / "mutants").glob("*.toml"))
    names = [mutant.name for file in files for mutant in mutants(file)]
    assert len(files) >= 16
    assert len(names) - len(files) >= 250  # one of each file is unchanged
    assert len(names) == len(set(names))


def test_every_place_of_tests_exists() -> None:
    """A folder that is gone would leave a mutant without tests."""
    files = sorted((ROOT / "tests" / "teeth" / "mutants").glob("*.toml"))
    places = {place for file in files for mutant in mutants(file) for place in mutant.tests}
    places |= {place for fix in fixes(ROOT / "tests" / "teeth" / "proofs.toml") for place in fix.tests}
    assert [place for place in sorted(places) if not (ROOT / place.partition("::")[0]).exists()] == []
