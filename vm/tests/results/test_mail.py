"""The report to send: what a maintainer wants to read, and lines that a list bears."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from vm.base import files
from vm.report import command
from vm.results import model
from vm.results.model import KernelRun, Run, TestResult, Verdict
from vm.tests.records import kernel, run

P, F, K, N = Verdict.PASSED, Verdict.FAILED, Verdict.KNOWN, Verdict.NOT_RUN
BANNER = (
    "Linux version 6.12.94-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, "
    "GNU ld (GNU Binutils for Debian) 2.40) #1 SMP"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/test_it.py").write_text(
        'class TestIt:\n    def test_it(self):\n        """Keys are refused after accept (crypto/af_alg.c,\n'
        '        alg_setkey), with EBUSY.\n\n        And so on.\n        """\n'
    )
    monkeypatch.setattr(files, "ROOT", tmp_path)
    return tmp_path


def bad(day: int = 1, verdict: Verdict = F, **changes: object) -> Run:
    made = kernel("6.12.94", verdict).tests[0]
    values: dict[str, object] = {"test": "t/test_it.py::TestIt::test_it[gcm(aes)]", "nodeid": "x", **changes}
    test = dataclasses.replace(made, **values)  # type: ignore[arg-type]
    one = dataclasses.replace(kernel("6.12.94", P), tests=(test,), banner=BANNER, architecture="amd64")
    return dataclasses.replace(run(one), id=f"run-{day}", started=f"2026-11-{day:02}T00:00:00Z")


def written(directory: Path, *runs: Run) -> list[str]:
    for each in runs:
        (directory / each.id).mkdir()
        (directory / each.id / "results.json").write_text(model.dump(each))
    return [str(directory / each.id) for each in runs]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command.main(["mail", *arguments]) == 0
    return capsys.readouterr().out


def test_it_has_what_a_maintainer_asks_for(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    details = "def test_it():\n>   assert a\nE   AssertionError: expected EBUSY, got success\nE   more"
    text = said(capsys, "test_it", *written(project, bad(details=details)))
    for words in (
        "Kernel:       6.12.94-amd64 (package 6.12.94-1~bpo12+1)",
        "Architecture: amd64",
        "Compiler:     gcc-12 (Debian 12.2.0-14) 12.2.0",
        "Machine:      QEMU, tcg",
        "Test:         t/test_it.py::TestIt::test_it[gcm(aes)]",
        "Expected:\n  Keys are refused after accept (crypto/af_alg.c, alg_setkey), with EBUSY.\n\n  And so on.",
        "Got (failed):\n  why failed not # on one line ä",
        "  | AssertionError: expected EBUSY, got success",
        "The kernel complained (1 report):\n  | cut here\n  |  f+0x1/0x2",
        "To run it again:\n\n    pytest --kernel 6.12",
    ):
        assert words in text
    assert text.startswith("Subject: 6.12.94-amd64: test_it failed: WARNING: f\n")


def test_the_subject_of_a_long_name_is_cut_and_not_left_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name has no space at which it could be cut."""
    name = f"t/test_it.py::test_{'long_' * 20}end"
    subject = said(capsys, "test_long", *written(project, bad(test=name, nodeid=name))).splitlines()[0]
    assert subject.startswith("Subject: 6.12.94-amd64: test_long_long_long_")
    assert subject.endswith(" ...")
    assert len(subject) <= 75


def test_lines_are_at_most_75_wide_but_for_logs_commands_and_words_that_are_longer(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(capsys, "test_it", *written(project, bad(reason="word " * 100, splats=())))
    for line in text.splitlines():
        assert len(line) <= 75 or line.startswith(("  |", "    pytest", "    make ")) or len(line.split()) <= 2, line


def test_since_when_is_told_of_several_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = written(project, bad(1, P), bad(2), bad(3))
    assert "It fails since 2 runs, the first of them run-2." in " ".join(said(capsys, "test_it", *names).split())


def test_a_bisection_of_that_test_is_quoted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, test in (("a", "t/test_it.py::TestIt"), ("b", "t/test_it.py::TestItNot")):
        (project / "results/bisect" / name).mkdir(parents=True)
        found = [f"first bad commit: {name * 12} crypto: break", f"test: {test}", "sure: both ends were judged"]
        kept = {"finished": True, "found": found, "steps": []}
        (project / "results/bisect" / name / "bisect.json").write_text(json.dumps(kept))
    text = said(capsys, "test_it", *written(project, bad()))
    assert "Bisected:\n  first bad commit: aaaaaaaaaaaa crypto: break" in text
    assert "bbbb" not in text


def test_the_newest_bisection_that_came_to_its_end_is_quoted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day, (name, finished) in enumerate((("old", True), ("new", True), ("cut-off", False)), 1):
        (project / "results/bisect" / name).mkdir(parents=True)
        path = project / "results/bisect" / name / "bisect.json"
        found = [f"first bad commit: {name}", "test: t/test_it.py::TestIt::test_it"]
        path.write_text(json.dumps({"finished": finished, "found": found}))
        os.utime(path, (day * 86400, day * 86400))
    text = said(capsys, "test_it", *written(project, bad()))
    assert "Bisected:\n  first bad commit: new\n" in text
    assert "old" not in text
    assert "cut-off" not in text
    assert "Since when is not known" not in text


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"version": "6.12.94-amd64", "commit": "a664bf3d603d"},
            {"Tree:         bookworm/6.12.94", "Commit:       a664bf3d603d"},
        ),
        ({"version": "6.12.94-amd64", "accelerator": ""}, {"Machine:      none, the machine itself"}),
        ({"version": "6.12.94-1"}, {"Kernel:       6.12.94-amd64 (package 6.12.94-1)"}),
    ],
)
def test_the_kernel_is_told_as_far_as_it_is_known(
    changes: dict[str, str], lines: set[str], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = bad()
    one = dataclasses.replace(one, kernels=(dataclasses.replace(one.kernels[0], **changes),))  # type: ignore[arg-type]
    told = {line for line in said(capsys, "test_it", *written(project, one)).splitlines() if ":  " in line[:14]}
    assert lines <= told
    for label in ("Tree", "Commit"):
        assert any(line.startswith(label) for line in lines) == any(line.startswith(f"{label}:") for line in told)


def test_a_word_that_is_longer_than_a_line_stays_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = f"https://example.org/{'a' * 80}"
    assert f"  {link}\n" in said(capsys, "test_it", *written(project, bad(reason=f"see {link}", splats=())))


def test_the_newest_run_in_which_it_is_bad_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = written(project, bad(1, reason="old"), bad(2, reason="new"), bad(3, P), bad(4, N))
    assert "Got (failed):\n  new" in said(capsys, "test_it", *names)


def test_what_cannot_be_reported_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = KernelRun("k", "k", tests=tuple(TestResult(f"t.py::{n}", f"t.py::{n}[k]", F) for n in ("test_a", "test_b")))
    names = written(project, bad(1, P, splats=()), dataclasses.replace(run(two), id="two"))
    for words, expected in (
        (["test_it", names[0]], "1 result of it, none bad"),
        (["nothing", names[0]], "no test of that name"),
        (["test_", names[1]], "is in 2 bad tests; give one of them:\n  t.py::test_a\n  t.py::test_b"),
        (["test_a", "--kernel", "other", names[1]], "no test of that name"),
    ):
        assert command.main(["mail", *words]) == 4
        assert expected in capsys.readouterr().err
