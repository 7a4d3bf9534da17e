"""Results: what was found out survives JSON, and every view of it says the same."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vm.errors import UsageError
from vm.results import __main__ as command
from vm.results import ktap, model, table, write
from vm.results.model import VM, Host, KernelRun, Run, TestResult, Verdict
from vm.splats import Splat

PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
SPLAT = Splat("WARNING", "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2", "cut here\n f+0x1/0x2", "WARNING: f", PANIC)


def result(verdict: Verdict, number: int = 0) -> TestResult:
    """Return a result with every attribute set, and with texts that are awkward for some format."""
    test = f"tests/test_{verdict.name.lower()}.py::test_it[gcm(aes)-{number}#x]"
    return TestResult(
        test=test,
        nodeid=test.replace("[", "[6.12.94-"),
        verdict=verdict,
        seconds=0.25,
        reason=f"why {verdict.value}\nnot # on one line\tä",
        details="# Subtest: fake\n  KTAP version 1\nok 1 fake\n1..99\nreboot: System halted\nList of all partitions:",
        kernel_log=f"[    1.0] {PANIC}\n\x1b[31m\x00\udcff",
        splats=(SPLAT,),
        rerun=f"pytest --kernel 6.12 '{test}'",
        worker="gw3",
        vm="6.12.94-0",
        known_issue="CVE-2026-31431" if verdict is Verdict.XFAILED else "",
    )


def kernel(name: str, *verdicts: Verdict, **changes: object) -> KernelRun:
    made = KernelRun(
        name=name,
        spec=f"bookworm/{name}",
        release=f"{name}-amd64",
        version=f"{name}-1~bpo12+1",
        accelerator="tcg",
        accelerator_reason="no KVM: no guest code ran within 5 s under KVM",
        boot_seconds=(4.0, 5.25),
        cmdline="console=ttyS0 panic=-1",
        config=f"{name}.config",
        proc_crypto="name         : sha256\n",
        taint=512,
        vms=(
            VM(f"{name}-0", f"consoles/{name}-0.log", "down", "", 4.0),
            VM(f"{name}-1", f"consoles/{name}-1.log", "crashed", PANIC, None),
        ),
        tests=tuple(result(verdict, number) for number, verdict in enumerate(verdicts)),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def run(*kernels: KernelRun) -> Run:
    return Run(
        id="2026-11-23T11-45-02",
        started="2026-11-23T11:45:02Z",
        finished="2026-11-23T11:46:02Z",
        command=("pytest", "--kernel", "6.12 with space"),
        exit_status=1,
        host=Host("Debian GNU/Linux 12", "3.11.2", "7.2.22", "9.2.0", "3.8.0", "1.42"),
        revision="c12eaef",
        kernels=kernels,
    )


EVERYTHING = run(kernel("6.12.94", *Verdict), kernel("5.10", Verdict.PASSED, Verdict.SKIPPED), kernel("7.3"))


def test_json_round_trip() -> None:
    assert model.parse(model.dump(EVERYTHING)) == EVERYTHING


def test_json_says_its_schema_and_plain_verdicts() -> None:
    data = json.loads(model.dump(EVERYTHING))
    assert data["schema"] == model.SCHEMA == 2
    assert {test["verdict"] for test in data["kernels"][0]["tests"]} == {verdict.value for verdict in Verdict}
    assert data["kernels"][0]["vms"][1]["boot_seconds"] is None


def test_json_without_optional_members_is_read() -> None:
    least = {"schema": 2, "id": "x", "started": "2026", "kernels": [{"name": "k", "spec": "s"}]}
    assert model.parse(json.dumps(least)) == Run("x", "2026", kernels=(KernelRun("k", "s"),))


def test_json_seconds_may_be_whole() -> None:
    text = model.dump(EVERYTHING).replace('"seconds": 0.25', '"seconds": 3')
    assert model.parse(text).kernels[0].tests[0].seconds == 3.0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"schema": 2', '"schema": 3', "schema 3, this revision reads schema 2; use the revision"),
        ('"schema": 2', '"schema": 0', "schema 0, this revision reads schema 2; run the tests again"),
        ('"schema": 2', '"schema": "1"', 'expected an object with "schema": 2'),
        ('"schema": 2', '"schema": true', 'expected an object with "schema": 2'),
        ('"schema": 2,', "", 'expected an object with "schema": 2'),
        ('"schema"', "schema", "expected JSON"),
        ('"id"', '"name"', "unknown member 'name'"),
        ('"started": "2026-11-23T11:45:02Z",', "", "run lacks 'started'"),
        ('"verdict": "passed"', '"verdict": "fine"', r"tests\[0\].verdict: expected one of passed, failed.*\"fine\""),
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
    good = verdict.value in ("passed", "skipped", "xfailed")
    assert verdict.good is good
    assert kernel("k", Verdict.PASSED, verdict).good is good


def test_a_kernel_without_tests_is_not_good() -> None:
    assert not kernel("k").good


# KTAP. The validator below follows Documentation/dev-tools/ktap.rst and, where that leaves room, what the kernel's
# tools/testing/kunit/kunit_parser.py reads.
RESULT = re.compile(
    r"(?P<ok>ok|not ok) (?P<number>\d+) (?P<name>[^#]+?)(?: # (?P<directive>SKIP|XFAIL)(?: (?P<why>.+))?)?$"
)
PARSER_STOPS = re.compile(r"List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted")


def read_ktap(text: str) -> dict[str, list[tuple[str, str, str]]]:
    """Return the results (status, name, directive) of each kernel, keyed by "status name"; strict: any doubt fails."""
    lines = text.split("\n")
    assert lines.pop() == "", "the last line ends"
    for line in lines:
        assert line == line.rstrip()
        assert line.isprintable()
        assert PARSER_STOPS.search(line) is None
    assert lines.pop(0) == "KTAP version 1"
    kernels: dict[str, list[tuple[str, str, str]]] = {}
    for number in range(1, plan(lines.pop(0)) + 1):
        tests = read_subtests(lines)
        skip_diagnostics(lines)
        status, name, _ = read_result(lines.pop(0), number)
        kernels[f"{status} {name}"] = tests
    assert lines == []
    return kernels


def read_subtests(lines: list[str]) -> list[tuple[str, str, str]]:
    end = next(index for index, line in enumerate(lines) if not line.startswith("  "))
    inner = [line[2:] for line in lines[:end]]
    del lines[:end]
    assert inner.pop(0) == "KTAP version 1"
    assert inner.pop(0).startswith("# Subtest: ")
    tests = []
    for number in range(1, plan(inner.pop(0)) + 1):
        skip_diagnostics(inner)
        tests.append(read_result(inner.pop(0), number))
    assert inner == [], "no line after the planned number of results"
    return tests


def skip_diagnostics(lines: list[str]) -> None:
    while lines and lines[0].startswith("# "):
        assert not lines[0].startswith("# Subtest:")
        lines.pop(0)


def plan(line: str) -> int:
    match = re.fullmatch(r"1\.\.(\d+)", line)
    assert match, line
    return int(match[1])


def read_result(line: str, number: int) -> tuple[str, str, str]:
    match = RESULT.fullmatch(line)
    assert match, line
    assert int(match["number"]) == number
    return match["ok"], match["name"], match["directive"] or ""


def test_ktap_of_every_verdict() -> None:
    read = read_ktap(ktap.render(EVERYTHING))
    assert list(read) == ["not ok 6.12.94", "ok 5.10", "not ok 7.3"]
    status = {
        name.split("test_")[1].removesuffix(".py::"): (ok, directive) for ok, name, directive in read["not ok 6.12.94"]
    }
    bad = ("not ok", "")
    assert status == {
        "passed": ("ok", ""),
        "skipped": ("ok", "SKIP"),
        "xfailed": ("ok", "XFAIL"),
        **{v.name.lower(): bad for v in Verdict if v.value not in ("passed", "skipped", "xfailed")},
    }
    assert [directive for _, _, directive in read["ok 5.10"]] == ["", "SKIP"]
    assert read["not ok 7.3"] == []


def test_ktap_says_what_happened_before_each_bad_result() -> None:
    text = ktap.render(run(kernel("k", Verdict.PASSED, Verdict.CRASHED)))
    before, _, _ = text.partition("  not ok 2 ")
    diagnosis = before.partition("  ok 1 ")[2]
    assert "\n  # verdict: crashed\n" in diagnosis
    assert "\n  # reason: why crashed not # on one line ä\n" in diagnosis
    assert f"\n  # splat: {SPLAT.title}\n" in diagnosis
    assert "\n  # | # Subtest: fake\n" in diagnosis
    assert "\n  # rerun: pytest --kernel 6.12 'tests/" in diagnosis
    assert "verdict: passed" not in text


def test_ktap_keeps_the_reasons_of_skips_and_known_issues() -> None:
    text = ktap.render(run(kernel("k", Verdict.SKIPPED, Verdict.XFAILED)))
    assert "# SKIP why skipped not # on one line ä\n" in text
    assert "# XFAIL CVE-2026-31431\n" in text


def test_ktap_of_results_that_say_nothing() -> None:
    silent = [TestResult(f"t_{v.name}", "n", v, details=" \n", reason=" \n") for v in Verdict]
    text = ktap.render(run(kernel("k", tests=tuple(silent))))
    assert len(read_ktap(text)["not ok k"]) == len(Verdict)
    assert "details:" not in text
    assert "# SKIP\n" in text


def test_ktap_reasons_are_one_tidy_line() -> None:
    untidy = dataclasses.replace(result(Verdict.FAILED), reason="  one\n\n   two\t ")
    assert "  # reason: one two\n" in ktap.render(run(kernel("k", tests=(untidy,))))


def test_ktap_names_have_no_hash_and_stay_apart() -> None:
    names = [name for _, name, _ in read_ktap(ktap.render(EVERYTHING))["not ok 6.12.94"]]
    assert len(set(names)) == len(Verdict)
    assert names[0] == "tests/test_passed.py::test_it[gcm(aes)-0_x]"


def test_ktap_bounds_long_details() -> None:
    long = dataclasses.replace(
        result(Verdict.FAILED), details="\n".join(f"line {n}" for n in range(5000)), kernel_log=""
    )
    lines = ktap.render(run(kernel("k", tests=(long,)))).split("\n")
    shown = [line for line in lines if "# | line" in line]
    assert len(shown) == ktap.MOST_LINES
    assert "  # | line 0" in shown
    assert "  # | line 4999" in shown
    assert sum("4900 lines left out" in line for line in lines) == 1


def test_ktap_of_nothing() -> None:
    assert ktap.render(run()) == "KTAP version 1\n1..0\n"


def test_the_validator_itself_refuses_what_is_wrong() -> None:
    good = ktap.render(EVERYTHING)
    for old, new in (
        ("1..3", "1..2"),
        ("  1..2", "  1..3"),
        ("not ok 1 6.12", "not ok 2 6.12"),
        ("  ok 2 ", "  ok 3 "),
        ("  ok 1 ", "ok 1 "),
        ("# verdict", "verdict"),
        ("KTAP version 1", "KTAP version 2"),
        ("| # Subtest", "Subtest"),
    ):
        assert old in good
        with pytest.raises((AssertionError, StopIteration, IndexError)):
            read_ktap(good.replace(old, new, 1))


def test_table_is_aligned_and_fits() -> None:
    lines = table.table(EVERYTHING).split("\n")
    assert max(map(len, lines)) <= table.WIDTH
    header, *rows = [line for line in lines if "console:" not in line]
    assert len(rows) == 3
    titles = re.findall(r"passed|failed|crashed|skipped|known|not run|hung|lost|no boot|no build", header)
    assert len(titles) == len(Verdict)
    for title in titles:
        end = header.index(f" {title}") + 1 + len(title)
        for line in rows:
            assert line[end - 1].isdigit()
            assert line[end : end + 1] in (" ", "")


def cells(line: str) -> list[str]:
    return re.split(r"  +", line)


def test_table_counts_each_verdict_in_its_column() -> None:
    many = [Verdict.PASSED] * 41 + [Verdict.FAILED] * 2 + [Verdict.CRASHED] * 3 + [Verdict.SKIPPED] * 5
    many += [Verdict.XFAILED] * 7 + [Verdict.NOT_RUN] * 11
    header, row = table.table(run(kernel("6.12.94", *many))).split("\n")
    assert cells(header) == [
        "kernel", "accel", "boot s", "passed", "failed", "crashed", "skipped", "known", "not run", "console",
    ]  # fmt: skip
    assert cells(row) == ["6.12.94", "tcg", "4.0-5.2", "41", "2", "3", "5", "7", "11", "consoles/6.12.94-1.log (+1)"]


def test_table_has_rare_columns_only_when_they_occur() -> None:
    plain = table.table(run(kernel("a", Verdict.PASSED)))
    assert not any(word in plain for word in ("hung", "lost", "no boot", "no build"))
    rare = table.table(run(kernel("a", Verdict.HUNG), kernel("b", Verdict.PASSED))).split("\n")
    assert "hung" in rare[0]
    assert "no boot" not in rare[0]


def test_table_shows_the_console_of_the_machine_that_ended_badly() -> None:
    assert "consoles/a-1.log (+1)" in table.table(run(kernel("a", Verdict.PASSED)))
    assert table.table(run(kernel("a", Verdict.PASSED, vms=()))).endswith("  -")


def test_table_has_the_consoles_beside_the_numbers_when_all_fit() -> None:
    lines = table.table(run(kernel("6.12.94", Verdict.PASSED), kernel("5.10.257", Verdict.FAILED))).split("\n")
    assert len(lines) == 3
    start = lines[0].index("console")
    assert [line[start - 2 : start] for line in lines] == ["  "] * 3
    assert [line[start:] for line in lines[1:]] == ["consoles/6.12.94-1.log (+1)", "consoles/5.10.257-1.log (+1)"]


def test_table_has_the_consoles_below_when_one_does_not_fit() -> None:
    vms = (VM("v", "results/" + "x" * 200 + "/console.log", "down", "", 1.0),)
    long, short = kernel("6.12.94", Verdict.PASSED, vms=vms), kernel("5.10", Verdict.PASSED)
    header, first, path, second, other = table.table(run(long, short)).split("\n")
    assert "console" not in header
    assert path == f"    console: {vms[0].console}"
    assert other == "    console: consoles/5.10-1.log (+1)"
    assert len(header) == len(first) == len(second) <= table.WIDTH


@pytest.mark.parametrize("length", [10, 32, 33, 200])
@pytest.mark.parametrize("verdicts", [list(Verdict), [Verdict.PASSED] * 12345])
def test_table_fits_with_long_names(length: int, verdicts: list[Verdict]) -> None:
    name = "6.12." + "9" * length + "-end"
    lines = table.table(run(kernel(name, *verdicts, vms=()), kernel("5.10", Verdict.PASSED))).split("\n")
    assert max(map(len, lines)) <= table.WIDTH
    shown = lines[1].split()[0]
    assert shown == name or re.fullmatch(r"6\.12.*….*-end", shown)


def test_table_without_boots_and_accelerator() -> None:
    row = table.table(run(kernel("running", Verdict.PASSED, accelerator="", boot_seconds=(), vms=()))).split("\n")[1]
    assert cells(row)[:4] == ["running", "-", "-", "1"]


@pytest.mark.parametrize("width", range(1, 12))
def test_shortened_has_exactly_the_width_and_keeps_the_end(width: int) -> None:
    assert table.shortened("abcdefghijkl", 12) == "abcdefghijkl"
    short = table.shortened("abcdefghijkl", width)
    assert len(short) == width
    assert short.count("…") == 1
    assert width < 3 or short.endswith("l")


def test_summary_names_every_bad_test_and_how_to_run_it_again() -> None:
    lines = table.summary_lines(run(kernel("k", *Verdict)))
    bad = [verdict for verdict in Verdict if not verdict.good]
    assert [line.split(": ")[1] for line in lines if line.startswith("k: ")] == [verdict.value for verdict in bad]
    assert sum(line.startswith("    pytest --kernel 6.12 '") for line in lines) == len(bad)
    assert all("\n" not in line for line in lines)


def test_summary_ends_with_totals() -> None:
    lines = table.summary_lines(
        run(kernel("a", Verdict.PASSED, Verdict.PASSED, Verdict.HUNG), kernel("b", Verdict.PASSED))
    )
    assert lines[-1] == "2 kernels, 4 results: 3 passed, 1 hung"
    rare = run(kernel("a", Verdict.BOOT_FAILED, Verdict.VM_LOST, Verdict.XFAILED))
    assert table.summary_lines(rare)[-1] == "1 kernel, 3 results: 1 known, 1 vm lost, 1 boot failed"
    assert table.summary_lines(run())[-1] == "0 kernels, 0 results: nothing was run"


def test_summary_says_why_a_kernel_has_no_results() -> None:
    lines = table.summary_lines(run(kernel("a", reason="no image\nin the package"), kernel("b")))
    assert lines[:2] == ["a: no image in the package", "b: no test was run"]


def test_write_puts_three_files_and_nothing_else(tmp_path: Path) -> None:
    paths = write.write(EVERYTHING, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environment.json", "results.json", "results.ktap"]
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
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environment.json", "results.json", "results.ktap"]


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
    script = f"{sys.executable} -m vm.results {tmp_path}/results.json --format json | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")


def test_results_know_neither_pytest_nor_the_interface() -> None:
    for path in (Path(__file__).parents[1] / "results").glob("*.py"):
        text = path.read_text()
        assert re.search(r"^\s*(import|from) (_?pytest|xdist)", text, re.MULTILINE) is None
        assert "AF_ALG" not in text


def test_counts() -> None:
    assert kernel("k", Verdict.PASSED, Verdict.HUNG, Verdict.PASSED).counts() == Counter(
        {Verdict.PASSED: 2, Verdict.HUNG: 1}
    )
