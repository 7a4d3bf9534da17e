"""A whole run of teeth on faked guests: the suite collected once, and a fork of it for every mutant.

Nothing is changed in the kernel here, so that what notices is decided by the tests of a scratch project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.results import events
from vm.teeth.bites import Forker
from vm.teeth.changes import Change, Mutant
from vm.teeth.plan import Bite, Bites
from vm.tests.harness import Project

TESTS = """
@pytest.mark.parametrize("n", [1, 2])
def test_good(n):
    pass

def test_bad():
    assert os.environ.get("MENDED"), "it is bad"

@pytest.mark.fixed_by("abc", "a fix")
@pytest.mark.fixed_by("def", "another")
def test_claims():
    assert 0, "the bug"

def test_hangs():
    if os.environ.get("HANGS"):
        while True:
            try:
                time.sleep(3600)
            except BaseException:
                pass

def test_after():
    assert 0

def test_lost():
    pytest.skip("unexplained: kernel has no xts(serpent)")

def test_never_there():
    pytest.skip("not built: kernel has no xts(cast6)")
"""
BAD = "t/test_it.py::test_bad"


def _bite(name: str, *tests: str, equivalent: str = "", fix: str = "") -> Bite:
    places = tuple(f"t/test_it.py::{test}" for test in tests)
    return Bite(Mutant(name, (Change(f"{name}.c", name, "a", "b"),), places, equivalent, fix))


@pytest.mark.deadline(120)
def test_what_noticed_is_in_the_properties(tmp_path: Path) -> None:
    """One test a mutant: that some test noticed it, that none did, that all which claim a fix did."""
    project = Project(tmp_path)
    project.tests(TESTS)
    bites = (
        _bite("x:f.killed", "test_good", "test_bad", "test_after"),
        _bite("x:f.survives", "test_good"),
        _bite("x:f.same", "test_good", equivalent="nothing differs"),
        _bite("fix:abc", "test_good", fix="abc"),
        _bite("fix:abc.2", "test_bad", fix="abc"),
    )
    Bites(bites, "builtins:dict", 10.0, whole=False).save(tmp_path / "bites.json")
    place = ROOT / "vm" / "teeth" / "bites.py"
    run = project.run(
        "-c", str(tmp_path / "pytest.ini"), "-p", "vm.teeth.plugin", f"--teeth={tmp_path / 'bites.json'}", str(place)
    )
    found = {test.test.partition("[")[2][:-1]: test for test in events.load(run.directory).kernels[0].tests}
    assert {name: test.verdict.value for name, test in found.items()} == {
        "x:f.killed": "passed",
        "x:f.survives": "failed",
        "x:f.same": "passed",
        "fix:abc": "passed",
        "fix:abc.2": "failed",
    }
    said = {each.name: each.value for each in found["x:f.killed"].properties}
    assert json.loads(said["noticed"]) == {BAD: "AssertionError: it is bad"}
    assert said["ran"] == "2"  # of each function one case, until one notices
    assert found["x:f.survives"].reason == "AssertionError: no test notices, of 2"
    assert "notices as well: t/test_it.py::test_bad" in found["fix:abc.2"].reason


@pytest.fixture
def forker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forker]:
    project = Project(tmp_path)
    project.tests(TESTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HANGS", "1")
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST"):
        monkeypatch.delenv(name, raising=False)
    # On a busy host the start takes long; a test that hangs need not.
    found = Forker(["t"], 1.0)
    found.factor = 0.1
    yield found
    found.close()


@pytest.mark.deadline(60)
def test_forks_run_what_they_are_told(forker: Forker) -> None:
    """In that order, to the first failure or to the end; each fork begins afresh."""
    numbers = {nodeid.partition("::")[2]: number for number, nodeid in enumerate(forker.tests)}
    bad, after, good = numbers["test_bad"], numbers["test_after"], numbers["test_good[2]"]
    stopped = forker.run([good, after, bad], stop=True, seconds=30)
    assert (stopped.ran, list(stopped.failures), stopped.cut) == (2, [after], False)
    whole = forker.run([after, good, bad], stop=False, seconds=30)
    assert (whole.ran, list(whole.failures)) == (3, [after, bad])
    assert forker.run([good, bad], stop=False, seconds=0).cut
    assert forker.fixes[numbers["test_claims"]] == ["def", "abc"]


@pytest.mark.deadline(60)
def test_a_skip_that_no_run_accepts_notices(forker: Forker) -> None:
    """What the kernel should have is gone with the change; what it was built without was never there."""
    numbers = {nodeid.partition("::")[2]: number for number, nodeid in enumerate(forker.tests)}
    outcome = forker.run([numbers["test_never_there"], numbers["test_lost"]], stop=False, seconds=30)
    assert outcome.failures == {numbers["test_lost"]: "skipped: unexplained: kernel has no xts(serpent)"}


@pytest.mark.deadline(60)
def test_a_test_that_hangs_noticed(forker: Forker) -> None:
    """It is killed, and the next fork is as good as the first."""
    numbers = {nodeid.partition("::")[2]: number for number, nodeid in enumerate(forker.tests)}
    hung = forker.run([numbers["test_hangs"], numbers["test_good[1]"]], stop=False, seconds=30)
    assert hung.failures == {numbers["test_hangs"]: "it hangs"}
    assert forker.run([numbers["test_good[1]"]], stop=False, seconds=30).failures == {}


@pytest.mark.deadline(60)
def test_a_suite_that_cannot_be_collected_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not only that there is no answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(RuntimeError, match="nowhere"):
        Forker(["nowhere"], 1.0)


@pytest.mark.deadline(60)
def test_a_fork_tells_what_its_tests_reach(forker: Forker) -> None:
    """Of each test, when it is asked to; here no module has flags."""
    number = forker.tests.index("t/test_it.py::test_good[1]")
    assert forker.run([number], stop=False, seconds=30, count=True).reached == {number: {}}
    assert forker.run([number], stop=False, seconds=30).reached == {}
