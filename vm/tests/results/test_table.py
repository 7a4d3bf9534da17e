"""The table for the terminal: aligned, complete, within its width."""

from __future__ import annotations

import dataclasses
import re

import pytest

from vm.results import table
from vm.results.model import VM, KernelRun, Run, TestResult, Verdict
from vm.tests.records import EVERYTHING, kernel, run


def test_table_is_aligned_and_fits() -> None:
    lines = table.table(EVERYTHING).split("\n")
    assert max(map(len, lines)) <= table.WIDTH
    header, *rows = [line for line in lines if "console:" not in line]
    assert len(rows) == 3
    titles = re.findall(r"passed|failed|crashed|skipped|known|not run|hung|undecided|lost|no boot|no build", header)
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
    many += [Verdict.KNOWN] * 7 + [Verdict.NOT_RUN] * 11
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


def test_table_says_that_no_machine_booted() -> None:
    vms = (VM("v", "vms/v/console.log", "down", "", 0.4, resumed=True),)
    row = table.table(run(kernel("6.12", Verdict.PASSED, boot_seconds=(), vms=vms))).split("\n")[1]
    assert cells(row)[2] == "resumed"


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
    rare = run(kernel("a", Verdict.BOOT_FAILED, Verdict.VM_LOST, Verdict.KNOWN))
    assert table.summary_lines(rare)[-1] == "1 kernel, 3 results: 1 known, 1 boot failed, 1 vm lost"
    assert table.summary_lines(run())[-1] == "0 kernels, 0 results: nothing was run"


def test_summary_says_why_a_kernel_has_no_results() -> None:
    lines = table.summary_lines(run(kernel("a", reason="no image\nin the package"), kernel("b")))
    assert lines[:2] == ["a: no image in the package", "b: no test was chosen"]
    interrupted = dataclasses.replace(run(kernel("b")), exit_status=2)
    assert table.summary_lines(interrupted)[0] == "b: no test was run"


def test_tests_that_were_not_run_for_one_reason_are_one_line() -> None:
    """An interrupted run had thousands of them before its table."""
    alike = [TestResult(f"t{n}", f"t{n}", Verdict.NOT_RUN, reason="interrupted") for n in range(500)]
    other = TestResult("other", "other", Verdict.NOT_RUN, reason="lost")
    lines = table.summary_lines(Run("r", "now", "then", kernels=(KernelRun("6.1", "6.1", tests=(*alike, other)),)))
    assert lines[:2] == ["6.1: not run: other: lost", "6.1: 500 tests not run: interrupted"]
