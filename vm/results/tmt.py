"""A run as the ``results.yaml`` of a tmt test with ``result: custom``, one result a test and kernel.

The text is JSON, which is YAML, and read faster. ``/`` is what became of the whole. A known issue is ``info``, which
tmt takes for good; what says nothing of the kernel is ``error``, and so is a run without any result.
"""

from __future__ import annotations

import json

from vm.base.words import plural
from vm.results.model import KernelRun, Run, TestResult, Verdict

_OUTCOMES = {Verdict.PASSED: "pass", Verdict.KNOWN: "info", Verdict.SKIPPED: "skip"}


def render(run: Run) -> str:
    """Return ``run`` as a list of tmt's results."""
    tests = [(kernel, test) for kernel in run.kernels for test in kernel.tests]
    kernels = [_kernel(kernel) for kernel in run.kernels if kernel.reason]
    return dump([_whole(run, len(tests)), *kernels, *(_test(kernel, test) for kernel, test in tests)])


def nothing(status: int) -> str:
    """Return the results of a run that has none, as the exit status tells."""
    return dump([{"name": "/", "result": "error", "note": [f"no results: the exit status is {status}"]}])


def dump(results: list[dict[str, object]]) -> str:
    """Return the text of the file."""
    return json.dumps(results, indent=0, ensure_ascii=False) + "\n"


def _whole(run: Run, count: int) -> dict[str, object]:
    result = {0: "pass", 1: "fail"}.get(run.status, "error") if count else "error"
    note = f"{plural(count, 'result')} of {plural(len(run.kernels), 'kernel')}, exit status {run.status}"
    return {"name": "/", "result": result, "note": [note]}


def _kernel(kernel: KernelRun) -> dict[str, object]:
    return {"name": f"/{_printable(kernel.name)}", "result": "error", "note": [_printable(kernel.reason)]}


def _test(kernel: KernelRun, test: TestResult) -> dict[str, object]:
    said: dict[str, object] = {
        "name": f"/{_printable(kernel.name)}/{_printable(test.test)}",
        "result": _OUTCOMES.get(test.verdict, "fail" if test.verdict.ran else "error"),
        "duration": _clock(test.seconds),
    }
    notes = [test.known_issue, test.reason, *(splat.title for splat in test.splats)]
    if test.verdict not in _OUTCOMES:
        notes = [test.verdict.value, *notes, test.rerun and f"again: {test.rerun}"]
    if words := [_printable(note) for note in notes if note]:
        said["note"] = words
    return said


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"


def _printable(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
