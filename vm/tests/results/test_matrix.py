"""Several kernels side by side, and what changed between two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vm.results import diff, matrix, model
from vm.results.model import KernelRun, TestResult, Verdict


def kernel(name: str, *tests: tuple[str, Verdict], known: str = "", proc_crypto: str = "") -> KernelRun:
    results = tuple(
        TestResult(test, f"{test}[{name}]", verdict, known_issue=known if verdict is Verdict.KNOWN else "")
        for test, verdict in tests
    )
    return KernelRun(name, name, tests=results, proc_crypto=proc_crypto)


P, F, C, K, S = Verdict.PASSED, Verdict.FAILED, Verdict.CRASHED, Verdict.KNOWN, Verdict.SKIPPED
OLD = kernel(
    "6.1",
    ("tests/a/test_x.py::test_same", P),
    ("tests/a/test_x.py::test_many[1]", K),
    ("tests/a/test_x.py::test_many[2]", K),
    ("tests/a/test_x.py::test_many[3]", P),
    ("tests/b/test_y.py::test_dies", C),
    ("tests/b/test_y.py::test_old", S),
    known="Copy Fail: fixed in 6.1.170 by a664bf3d603d",
)
NEW = kernel(
    "6.12",
    ("tests/a/test_x.py::test_same", P),
    ("tests/a/test_x.py::test_many[1]", P),
    ("tests/a/test_x.py::test_many[2]", P),
    ("tests/a/test_x.py::test_many[3]", P),
    ("tests/b/test_y.py::test_dies", F),
    ("tests/b/test_y.py::test_new", P),
)


def test_a_group_has_the_verdicts_of_its_tests_on_each_kernel() -> None:
    groups = matrix.matrix([OLD, NEW]).groups
    assert groups == {
        "tests/a/test_x.py": {"6.1": {"passed": 2, "known": 2}, "6.12": {"passed": 4}},
        "tests/b/test_y.py": {"6.1": {"crashed": 1, "skipped": 1}, "6.12": {"failed": 1, "passed": 1}},
    }


def test_cases_that_differ_alike_are_one_difference() -> None:
    found = {each.test: (each.cases, each.verdicts) for each in matrix.matrix([OLD, NEW]).differences}
    assert found == {
        "tests/a/test_x.py::test_many": (2, {"6.1": "known", "6.12": "passed"}),
        "tests/b/test_y.py::test_dies": (1, {"6.1": "crashed", "6.12": "failed"}),
        "tests/b/test_y.py::test_old": (1, {"6.1": "skipped", "6.12": "absent"}),
        "tests/b/test_y.py::test_new": (1, {"6.1": "absent", "6.12": "passed"}),
    }


def test_the_text_has_table_differences_and_known_issues() -> None:
    text = matrix.render(matrix.matrix([OLD, NEW]))
    lines = [line.split() for line in text.splitlines()]
    assert ["6.1", "6.12"] in lines
    assert ["tests/a/test_x.py", "2", "2k", "4"] in lines
    assert ["tests/b/test_y.py", "1s", "1C", "1", "1F"] in lines
    assert "tests/a/test_x.py::test_many (2 cases)" in text
    assert "known: 6.1; passed: 6.12" in text
    assert "Copy Fail: fixed in 6.1.170 by a664bf3d603d: 2 tests" in text
    assert "      6.1: Copy Fail: fixed in 6.1.170 by a664bf3d603d\n" in text


def test_what_differs_says_why_once_for_the_kernels_that_agree() -> None:
    def lacking(name: str, reason: str) -> KernelRun:
        return KernelRun(name, name, tests=(TestResult("t.py::test_x", "", S, reason=reason),))

    runs = [kernel("6.1", ("t.py::test_x", P)), lacking("7.2", "has no x"), lacking("7.3", "has no x")]
    assert "skipped: 7.2, 7.3\n      7.2, 7.3: has no x\n" in matrix.render(matrix.matrix(runs))
    (difference,) = matrix.differences([runs[0], lacking("7.2", "y" * 200)])
    assert difference.reasons == {"7.2": "y" * 200}, "JSON has all of it"
    assert "y" * 149 + "…" in matrix.render(matrix.matrix([runs[0], lacking("7.2", "y" * 200)]))


def test_what_is_the_same_everywhere_is_no_difference() -> None:
    view = matrix.matrix([NEW, model.KernelRun("7.1", "7.1", tests=NEW.tests)])
    assert view.differences == ()
    assert "no differences" in matrix.render(view)


def test_only_what_changed_is_in_the_difference_of_two(tmp_path: Path) -> None:
    changed = diff.diff(OLD, NEW, (frozenset({"aes", "cfb(aes)"}), frozenset({"aes", "hctr2(aes)"})))
    assert (changed.gone, changed.come) == (("cfb(aes)",), ("hctr2(aes)",))
    assert changed.issues_gone == ("Copy Fail: a664bf3d603d",)
    text = diff.render(changed)
    assert text.startswith("6.1 → 6.12\n")
    assert "test_same" not in text
    assert "test_many[3]" not in text
    assert "known → passed\n  tests/a/test_x.py::test_many (2 cases)" in text
    assert "crashed → failed\n  tests/b/test_y.py::test_dies" in text
    assert "      Copy Fail: fixed in 6.1.170 by a664bf3d603d\n" in text
    assert "known issues shown by 6.1 alone\n  Copy Fail: a664bf3d603d\n" in text


def test_an_issue_both_have_is_no_change_though_it_was_fixed_in_other_versions() -> None:
    other = kernel(
        "6.12", ("t.py::test_x", K), known="Copy Fail: never fixed in 6.12, on mainline since 7.0 by a664bf3d603d"
    )
    one = kernel("6.1", ("t.py::test_x", K), known="Copy Fail: fixed in 6.1.170 by a664bf3d603d")
    changed = diff.diff(one, other, (frozenset(), frozenset()))
    assert changed.empty
    assert "nothing changed" in diff.render(changed)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Return the file of a run of both kernels."""
    (tmp_path / "proc_crypto").write_text("name         : aes\ndriver       : aes-generic\n")
    runs = (OLD, kernel("6.12", ("tests/a/test_x.py::test_same", F), proc_crypto="proc_crypto"))
    path = tmp_path / "results.json"
    path.write_text(model.dump(model.Run("id", "now", kernels=runs)))
    return path


def test_both_views_as_json(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main([str(results), "--format", "json"]) == 0
    view = json.loads(capsys.readouterr().out)
    assert view["kernels"] == ["6.1", "6.12"]
    assert diff.main([str(results), "--format", "json"]) == 0
    changed = json.loads(capsys.readouterr().out)
    assert (changed["a"], changed["b"], changed["come"], changed["unknown"]) == ("6.1", "6.12", [], ["6.1"])


def test_the_two_can_be_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diff.main([str(results), "--a", "6.12", "--b", "6.1"]) == 0
    assert capsys.readouterr().out.startswith("6.12 → 6.1\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.json"], "cannot read"),
        (["results.json", "--a", "5.10"], "no kernel '5.10'"),
    ],
)
def test_wrong_results_are_one_line(
    arguments: list[str], words: str, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results.parent)
    assert diff.main(arguments) == 4
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_one_run_by_two_names_is_one(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results.parent / "latest.json").symlink_to(results)
    assert matrix.main([str(results), str(results.parent / "latest.json")]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["6.1", "6.12"]


@pytest.mark.parametrize("text", ["", "missing", "empty"])
def test_algorithms_that_nobody_told_of_are_not_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "proc_crypto").write_text("name         : aes\ndriver       : aes-generic\n")
    (tmp_path / "empty").touch()
    test = ("tests/a/test_x.py::test_same", P)
    runs = (kernel("6.1", test, proc_crypto="proc_crypto"), kernel("6.12", test, proc_crypto=text))
    results = tmp_path / "results.json"
    results.write_text(model.dump(model.Run("id", "t", kernels=runs)))
    assert diff.main([str(results)]) == 0
    said = capsys.readouterr().out
    assert "gone" not in said
    assert "nothing changed" in said
    assert "algorithms of 6.12: not known (no machine" in said
    assert diff.main([str(results), "--a", "6.12", "--b", "6.1", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["gone"], found["come"], found["unknown"]) == ([], [], ["6.12"])


def test_algorithms_may_stand_in_the_results_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = ("tests/a/test_x.py::test_same", P)
    runs = [kernel(name, test, proc_crypto=f"name         : {name}\n") for name in ("aes", "sha256")]
    results = tmp_path / "results.json"
    results.write_text(model.dump(model.Run("id", "t", kernels=tuple(runs))))
    assert diff.main([str(results)]) == 0
    assert (
        "on aes alone (loaded or built in)\n  aes\n\nalgorithms in /proc/crypto at the end on sha256 alone\n  sha256\n"
        in capsys.readouterr().out
    )


def test_kernels_that_were_never_tested_are_not_called_the_same() -> None:
    """Of what did not run nothing is known: "no differences" was said of two kernels that did not boot."""
    lost = TestResult("a", "a", Verdict.NOT_RUN)
    runs = [KernelRun("6.1", "6.1", tests=(lost,)), KernelRun("6.12", "6.12")]
    view = matrix.matrix(runs)
    assert view.untested == {"6.1": 1, "6.12": 1}
    text = matrix.render(matrix.matrix([runs[0], KernelRun("6.12", "6.12", tests=(lost,))]))
    assert "no differences" not in text
    assert "not run on 6.1: 1 test" in text
    changed = diff.diff(runs[0], KernelRun("6.12", "6.12", tests=(lost,)), (None, None))
    assert "nothing changed" not in diff.render(changed)
    assert "not run on 6.12: 1 test" in diff.render(changed)
