"""Results: what was found out survives JSON, and every view of it says the same."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.report import command
from vm.results import ktap, model, table, write
from vm.results.model import KernelRun, Run, Verdict
from vm.tests.ktap_reader import read_ktap
from vm.tests.records import EVERYTHING, kernel, run


def test_json_round_trip() -> None:
    assert model.parse(model.dump(EVERYTHING)) == EVERYTHING


def test_json_says_its_schema_and_plain_verdicts() -> None:
    data = json.loads(model.dump(EVERYTHING))
    assert data["schema"] == model.SCHEMA == 3
    assert {test["verdict"] for test in data["kernels"][0]["tests"]} == {verdict.value for verdict in Verdict}
    assert data["kernels"][0]["vms"][1]["boot_seconds"] is None


def test_json_without_optional_members_is_read() -> None:
    least = {"schema": 3, "id": "x", "started": "2026", "kernels": [{"name": "k", "spec": "s"}]}
    assert model.parse(json.dumps(least)) == Run("x", "2026", kernels=(KernelRun("k", "s"),))


def test_json_seconds_may_be_whole() -> None:
    text = model.dump(EVERYTHING).replace('"seconds": 0.25', '"seconds": 3')
    assert model.parse(text).kernels[0].tests[0].seconds == 3.0


@pytest.mark.parametrize("schema", [1, 2])
def test_json_of_an_older_schema_is_read(schema: int) -> None:
    """A known issue was "xfailed" in these."""
    text = model.dump(EVERYTHING).replace('"schema": 3', f'"schema": {schema}').replace('"known"', '"xfailed"')
    assert '"xfailed"' in text
    assert model.parse(text) == EVERYTHING


def test_members_of_another_revision_are_passed_over() -> None:
    text = model.dump(EVERYTHING).replace('"started":', '"mood": ["fine"], "started":')
    assert model.parse(text) == EVERYTHING


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"schema": 3', '"schema": 4', "schema 4, this revision reads schemas 1 to 3; use the one that wrote it"),
        ('"schema": 3', '"schema": 0', "schema 0, this revision reads schemas 1 to 3"),
        ('"schema": 3', '"schema": "1"', 'expected an object with "schema": 3'),
        ('"schema": 3', '"schema": true', 'expected an object with "schema": 3'),
        ('"schema": 3,', "", 'expected an object with "schema": 3'),
        ('"schema"', "schema", "expected JSON"),
        ('"id"', '"name"', "run lacks 'id'"),
        ('"started": "2026-11-23T11:45:02Z",', "", "run lacks 'started'"),
        ('"verdict": "passed"', '"verdict": "fine"', r"tests\[0\].verdict: expected one of passed, known.*\"fine\""),
        ('"verdict": "passed"', '"verdict": ["passed"]', "verdict: expected one of"),
        ('"seconds": 0.25', '"seconds": "0.25"', r"run.kernels\[0\].tests\[0\].seconds: expected a number, found \""),
        ('"taint": 512', '"taint": 5.5', "taint: expected an integer, found 5.5"),
        ('"taint": 512', '"taint": true', "taint: expected an integer, found true"),
        ('"revision": "c12eaef"', '"revision": null', "revision: expected a string, found null"),
        ('"exit_status": 1', '"exit_status": "1"', "exit_status: expected an integer"),
        ('"splats": [', '"splats": "none", "worker": [', "splats: expected an array"),
    ],
)
def test_json_of_another_form_is_refused(old: str, new: str, complaint: str) -> None:
    text = model.dump(EVERYTHING)
    assert old in text
    with pytest.raises(UsageError, match=complaint) as raised:
        model.parse(text.replace(old, new, 1), "some/results.json")
    assert "some/results.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("member", "value"), [("host", []), ("kernels", [3]), ("kernels", [None])])
def test_json_with_something_else_for_an_object_is_refused(member: str, value: object) -> None:
    data = json.loads(model.dump(EVERYTHING)) | {member: value}
    with pytest.raises(UsageError, match=rf"run\.{member}.*: expected an object"):
        model.parse(json.dumps(data))


@pytest.mark.parametrize("text", ["", "[]", "null", "3", '"schema"', "{", "\0"])
def test_what_is_no_results_json_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"results\.json"):
        model.parse(text)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        model.load(tmp_path / "none")
    with pytest.raises(UsageError, match="Is a directory"):
        model.load(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe{}")
    with pytest.raises(UsageError, match="no UTF-8"):
        model.load(tmp_path / "binary")


@pytest.mark.parametrize("verdict", Verdict)
def test_only_known_outcomes_are_good(verdict: Verdict) -> None:
    good = verdict.value in ("passed", "skipped", "known")
    assert verdict.good is good
    assert kernel("k", Verdict.PASSED, verdict).good is good


def test_a_kernel_without_tests_is_not_good() -> None:
    assert not kernel("k").good


def test_write_puts_four_files_and_nothing_else(tmp_path: Path) -> None:
    paths = write.write(EVERYTHING, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "environment.json",
        "junit.xml",
        "results.json",
        "results.ktap",
    ]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert {oct(path.stat().st_mode & 0o777) for path in paths} == {"0o644"}
    assert model.load(tmp_path / "results.json") == EVERYTHING
    read_ktap((tmp_path / "results.ktap").read_text())


def test_environment_has_the_machine_and_the_kernels_without_tests() -> None:
    facts = json.loads(json.dumps(write.environment(EVERYTHING)))
    assert facts["host"]["qemu"] == "7.2.22"
    assert facts["kernels"][0]["cmdline"] == "console=ttyS0 panic=-1"
    assert [set(one) & {"tests", "vms"} for one in facts["kernels"]] == [set(), set(), set()]


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write.write(run(), tmp_path)
    before = (tmp_path / "results.json").read_text()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(UsageError, match=r"results\.json: No space left on device; free some"):
        write.write(EVERYTHING, tmp_path)
    assert (tmp_path / "results.json").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "environment.json",
        "junit.xml",
        "results.json",
        "results.ktap",
    ]


def test_a_missing_directory_is_the_users_to_know(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        write.write(EVERYTHING, tmp_path / "none")


@pytest.mark.parametrize("form", ["table", "ktap", "json"])
def test_command_line_renders_again(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write.write(EVERYTHING, tmp_path)
    assert command.main([str(tmp_path / "results.json"), "--format", form]) == 0
    out = capsys.readouterr().out
    expected = {"ktap": ktap.render(EVERYTHING), "json": model.dump(EVERYTHING)}
    assert out == expected.get(form, out)
    if form == "table":
        assert out.endswith("\n\n" + table.table(EVERYTHING) + "\n")


def test_command_line_refuses_bad_input_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path / "none.json")]) == 4
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "none.json" in err
    assert command.main([]) == 4
    assert command.main(["x.json", "--format", "xml"]) == 4
    assert command.main(["--help"]) == 0


def test_command_line_ends_quietly_when_its_reader_does(tmp_path: Path) -> None:
    many = run(kernel("k", *[Verdict.FAILED] * 2000))
    write.write(many, tmp_path)
    results = shlex.join([sys.executable, "-m", "vm", "results", f"{tmp_path}/results.json", "--format", "json"])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{results} | head -1"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_results_know_neither_pytest_nor_the_interface() -> None:
    for path in (Path(__file__).parents[2] / "results").glob("*.py"):
        text = path.read_text()
        assert re.search(r"^\s*(import|from) (_?pytest|xdist)", text, re.MULTILINE) is None
        assert "AF_ALG" not in text


def test_counts() -> None:
    assert kernel("k", Verdict.PASSED, Verdict.HUNG, Verdict.PASSED).counts() == Counter(
        {Verdict.PASSED: 2, Verdict.HUNG: 1}
    )
