"""KTAP: what is written is read again by a reader of our own."""

from __future__ import annotations

import dataclasses

import pytest

from vm.results import ktap
from vm.results.model import TestResult, Verdict
from vm.tests.ktap_reader import read_ktap
from vm.tests.records import EVERYTHING, SPLAT, kernel, result, run


def test_ktap_of_every_verdict() -> None:
    read = read_ktap(ktap.render(EVERYTHING))
    assert list(read) == ["not ok 6.12.94", "ok 5.10", "ok 7.3"]
    status = {
        name.split("test_")[1].removesuffix(".py::"): (ok, directive) for ok, name, directive in read["not ok 6.12.94"]
    }
    bad = ("not ok", "")
    assert status == {
        "passed": ("ok", ""),
        "skipped": ("ok", "SKIP"),
        "known": ("ok", "XFAIL"),
        **{v.name.lower(): bad for v in Verdict if v.value not in ("passed", "skipped", "known")},
    }
    assert [directive for _, _, directive in read["ok 5.10"]] == ["", "SKIP"]
    assert read["ok 7.3"] == []


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (0, "ok 2 7.3 # SKIP no test was chosen"),
        (1, "ok 2 7.3 # SKIP no test was chosen"),
        (2, "not ok 2 7.3"),
        (5, "not ok 2 7.3"),
        (None, "not ok 2 7.3"),
    ],
)
def test_ktap_of_a_kernel_of_which_no_test_was_chosen_agrees_with_the_exit_status(
    status: int | None, line: str
) -> None:
    whole = dataclasses.replace(run(kernel("6.12", Verdict.PASSED), kernel("7.3")), exit_status=status)
    assert ktap.render(whole).splitlines()[-1] == line
    assert "not ok" in ktap.render(dataclasses.replace(whole, kernels=(kernel("7.3", reason="does not build"),)))


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
    text = ktap.render(run(kernel("k", Verdict.SKIPPED, Verdict.KNOWN)))
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


def test_tap_13_is_one_flat_list() -> None:
    lines = ktap.render_tap(EVERYTHING).splitlines()
    tests = [(kernel.name, test) for kernel in EVERYTHING.kernels for test in kernel.tests]
    assert lines[:2] == ["TAP version 13", f"1..{len(tests)}"]
    results = [line for line in lines if line.startswith(("ok ", "not ok "))]
    assert len(results) == len(tests)
    for number, (line, (kernel_name, test)) in enumerate(zip(results, tests, strict=True), 1):
        status = "ok" if test.verdict.good else "not ok"
        assert line.startswith(f"{status} {number} {kernel_name}: {test.test.replace('#', '_')}")
    assert all(line.startswith(("ok ", "not ok ", "# ", "1..", "TAP ", "Bail out!")) for line in lines)


def test_a_kernel_without_a_result_is_no_success_in_tap_13() -> None:
    cut = dataclasses.replace(run(kernel("6.12", Verdict.PASSED), kernel("7.3")), exit_status=2)
    assert ktap.render_tap(cut).splitlines()[-1] == "Bail out! a kernel has no result"
    empty = ktap.render_tap(run()).splitlines()
    assert empty == ["TAP version 13", "1..0 # SKIP no test was run", "Bail out! a kernel has no result"]
    assert "Bail out" not in ktap.render_tap(run(kernel("6.12", Verdict.PASSED)))


def test_what_is_known_of_a_kernel_is_told_beside_it() -> None:
    whole = run(kernel("6.12", Verdict.PASSED, reason="two\nlines"))
    facts = ["release: 6.12-amd64", "version: 6.12-1~bpo12+1", "accelerator: tcg", "reason: two lines"]
    assert ktap.render(whole).splitlines()[-5:-1] == [f"# {fact}" for fact in facts]
    assert ktap.render_tap(whole).splitlines()[2:6] == [f"# 6.12: {fact}" for fact in facts]


@pytest.mark.parametrize(("count", "cut"), [(ktap.MOST_LINES, 0), (ktap.MOST_LINES + 1, 1)])
def test_details_that_just_fit_are_whole(count: int, cut: int) -> None:
    details = "\n".join(f"line {n}" for n in range(count))
    bad = dataclasses.replace(result(Verdict.FAILED), details=details, kernel_log="")
    text = ktap.render(run(kernel("k", tests=(bad,))))
    assert text.count("lines left out") == cut
    assert text.count("# | line ") == ktap.MOST_LINES
