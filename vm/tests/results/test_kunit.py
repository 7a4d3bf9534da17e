"""KTAP as the kernel's own parser (tools/testing/kunit) reads it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vm.base import cache
from vm.kernels.build import sources
from vm.results import ktap
from vm.results.model import KernelRun, Run, Verdict
from vm.tests.records import EVERYTHING, kernel, run

KUNIT = "tools/testing/kunit"
# It says what it reads on standard output, so the answer goes to a file.
PROGRAM = """\
import dataclasses, json, sys
sys.path.insert(0, sys.argv[1])
import kunit_parser

def told(test):
    return [test.name, test.status.name, [told(each) for each in test.subtests]]

read = kunit_parser.parse_run_tests(sys.stdin.read().splitlines())
with open(sys.argv[2], "w") as answer:
    json.dump({"counts": dataclasses.asdict(read.counts), "tests": told(read)[2]}, answer)
"""


@pytest.fixture(
    params=["cached", pytest.param("source:6.12", marks=[pytest.mark.vm, pytest.mark.deadline(3600)])], scope="module"
)
def parser(request: pytest.FixtureRequest) -> Path:
    """Return the directory of the parser: of any kernel tree that is there, and of one that is fetched when it must."""
    if request.param != "cached":
        version = request.param.removeprefix("source:")
        return sources.fetch(version, lambda _: None).path / KUNIT
    found = sorted((cache.cache_dir() / "sources").glob(f"*/tree/{KUNIT}/kunit_parser.py"))
    if not found:
        pytest.skip("no kernel tree is cached: python -m vm build source:6.12 fetches one")
    return found[-1].parent


def read(parser: Path, whole: Run, tmp_path: Path) -> Any:
    """Return what the kernel's parser makes of a run."""
    answer = tmp_path / "answer.json"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(parser), str(answer)],
        input=ktap.render(whole),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(answer.read_text())
    assert said["counts"]["errors"] == 0, done.stdout
    return said


def status(verdict: Verdict) -> str:
    if verdict is Verdict.SKIPPED:
        return "SKIPPED"
    return "SUCCESS" if verdict.good else "FAILURE"


def told(each: KernelRun) -> list[list[Any]]:
    return [[test.test.replace("#", "_"), status(test.verdict), []] for test in each.tests]


def test_the_kernels_parser_reads_every_verdict_without_an_error(parser: Path, tmp_path: Path) -> None:
    said = read(parser, EVERYTHING, tmp_path)
    # A kernel of which no test was chosen is one that is skipped.
    words = Counter(status(test.verdict) for each in EVERYTHING.kernels for test in each.tests) + Counter(SKIPPED=1)
    assert said["counts"] == {
        "passed": words["SUCCESS"],
        "failed": words["FAILURE"],
        "skipped": words["SKIPPED"],
        "crashed": 0,
        "errors": 0,
    }
    everything, good, empty = EVERYTHING.kernels
    assert said["tests"] == [
        [everything.name, "FAILURE", told(everything)],
        [good.name, "SUCCESS", told(good)],
        [empty.name, "SKIPPED", []],
    ]


def test_the_kernels_parser_counts_a_kernel_without_a_result_as_failed(parser: Path, tmp_path: Path) -> None:
    cut_off = dataclasses.replace(run(kernel("6.12", Verdict.PASSED), kernel("7.3")), exit_status=2)
    said = read(parser, cut_off, tmp_path)
    assert said["counts"] == {"passed": 1, "failed": 1, "skipped": 0, "crashed": 0, "errors": 0}


def test_words_of_a_failure_are_no_lines_of_ktap_to_the_kernels_parser(parser: Path, tmp_path: Path) -> None:
    details = "Subtest: fake\nSubtest: 6.12\nTest: fake\n1..9\nok 1 fake\nfake: ok\nKTAP version 1"
    failed = dataclasses.replace(kernel("6.12", Verdict.FAILED).tests[0], details=details, kernel_log=details)
    said = read(parser, run(kernel("6.12", tests=(failed, failed))), tmp_path)
    assert said["counts"] == {"passed": 0, "failed": 2, "skipped": 0, "crashed": 0, "errors": 0}
