"""JUnit's XML: every parser can read it, and no verdict is lost in it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from xml.etree import ElementTree

import pytest

from vm.results import junit
from vm.results.model import Property, TestResult, Verdict
from vm.tests.records import EVERYTHING, kernel, run

ROOT = ElementTree.fromstring(junit.render(EVERYTHING))


def one(test: TestResult) -> ElementTree.Element:
    text = junit.render(run(dataclasses.replace(kernel("k"), tests=(test,))))
    case = ElementTree.fromstring(text).find("testsuite/testcase")
    assert case is not None
    return case


def test_a_suite_a_kernel_and_a_case_a_test() -> None:
    suites = ROOT.findall("testsuite")
    assert [suite.get("name") for suite in suites] == [each.name for each in EVERYTHING.kernels]
    assert [len(suite.findall("testcase")) for suite in suites] == [len(each.tests) for each in EVERYTHING.kernels]
    assert [suite.get("timestamp") for suite in suites] == ["2026-11-23T11:45:02"] * 3


def test_numbers_are_those_of_the_cases() -> None:
    for suite in [ROOT, *ROOT.findall("testsuite")]:
        cases = list(suite.iter("testcase"))
        counted = Counter(child.tag for case in cases for child in case)
        assert {name: int(suite.get(name, "")) for name in ("tests", "failures", "errors", "skipped")} == {
            "tests": len(cases),
            "failures": counted["failure"],
            "errors": counted["error"],
            "skipped": counted["skipped"],
        }


@pytest.mark.parametrize("verdict", Verdict)
def test_each_verdict(verdict: Verdict) -> None:
    case = one(TestResult("t.py::a", "t.py::a[k]", verdict, reason="why", details="the traceback", rerun="pytest a"))
    (kind,) = [child.tag for child in case] or ["passed"]
    expected = {
        "passed": "passed",
        "known": "skipped",
        "skipped": "skipped",
        "failed": "failure",
        "undecided": "failure",
        "crashed": "failure",
        "hung": "failure",
    }
    assert kind == expected.get(verdict.value, "error")
    if kind == "skipped":
        assert case[0].get("type") == ("pytest.xfail" if verdict is Verdict.KNOWN else "pytest.skip")
    if kind in ("failure", "error"):
        assert (case[0].get("message"), case[0].get("type")) == ("why", verdict.value)
        assert case[0].text == "the traceback\n\nrun this again:\npytest a"


@pytest.mark.parametrize(
    ("nodeid", "classname", "name"),
    [
        ("tests/errors/test_bind.py::test_it[6.1-a::b]", "tests.errors.test_bind", "test_it[6.1-a::b]"),
        ("t.py::TestA::test_it[6.1]", "t.TestA", "test_it[6.1]"),
        ("machine[6.1-1]::boot-failed", "machine[6.1-1]", "boot-failed"),
    ],
)
def test_names_are_those_that_pytest_gives(nodeid: str, classname: str, name: str) -> None:
    case = one(TestResult("x", nodeid, Verdict.PASSED, seconds=1.5))
    assert dict(case.attrib) == {"classname": classname, "name": name, "time": "1.500"}


def test_what_xml_cannot_write_is_escaped() -> None:
    case = one(TestResult("x", "x::y", Verdict.FAILED, details="\x00 \x1b[31m \ud800 & <ä> \U0001f600"))
    assert case[0].text == "\\x00 \\x1b[31m \\xd800 & <ä> \U0001f600"


def test_properties_of_kernel_and_test() -> None:
    test = TestResult("x", "x::y", Verdict.PASSED, properties=(Property("answer", "\x01"),))
    assert [each.attrib for each in one(test).iter("property")] == [{"name": "answer", "value": "\\x01"}]
    suite = ROOT.find("testsuite/properties")
    assert suite is not None
    facts = {each.get("name"): each.get("value") for each in suite}
    assert facts["release"] == "6.12.94-amd64"
    assert facts["accelerator"] == "tcg (no KVM: no guest code ran within 5 s under KVM)"
    assert "proc_crypto" not in facts, "its text is no path"
    assert "reason" not in facts, "empty ones are left out"


def test_names_that_xml_cannot_write() -> None:
    text = junit.render(
        run(dataclasses.replace(kernel("k\x01"), tests=(TestResult("x", "\x02\udcff.py::a", Verdict.PASSED),)))
    )
    assert ElementTree.fromstring(text.encode()).findtext("testsuite") is not None


def test_seconds_are_those_of_the_tests_together() -> None:
    root = ElementTree.fromstring(junit.render(run(kernel("k", *[Verdict.PASSED] * 3), kernel("l", Verdict.FAILED))))
    assert root.get("time") == "1.000"
    assert [each.get("time") for each in root] == ["0.750", "0.250"]
    assert {each.get("time") for each in root.iter("testcase")} == {"0.250"}
