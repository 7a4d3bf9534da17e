"""Verdicts as the signals that LAVA reads off a console, one a test.

Its dispatcher splits what stands between the angle brackets at white space, and each word at ``=``, which must be there
once; a result is one of four.
"""

from __future__ import annotations

import re

from vm.results.model import Run, TestResult, Verdict


def render(run: Run) -> str:
    """Return the signals of all tests of a run, each name behind its kernel's."""
    tests = [(kernel.name, test) for kernel in run.kernels for test in kernel.tests]
    return "".join(f"{signal(test, f'{name}/')}\n" for name, test in tests)


def signal(test: TestResult, before: str = "") -> str:
    """Return the signal of one test; ``before`` stands before its name."""
    name = re.sub(r"[^\w.:/\[\]()+-]+", "_", before + test.test, flags=re.ASCII)
    result = "skip" if test.verdict is Verdict.SKIPPED else "pass" if test.verdict.good else "fail"
    return f"<LAVA_SIGNAL_TESTCASE TEST_CASE_ID={name} RESULT={result if test.verdict.ran else 'unknown'}>"
