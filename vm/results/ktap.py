"""A run as KTAP, version 1 (Documentation/dev-tools/ktap.rst), which the kernel's own tools read.

One subtest list a kernel, one result line a test. Directives: SKIP for a test the kernel lacks the means for, and for
a kernel of which no test was chosen; XFAIL (with ``ok``) for a known issue. Every other bad verdict is ``not ok``,
with the verdict, its reason and what the kernel said in diagnostic lines right before the result line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vm.results.model import KernelRun, Run, TestResult, Verdict

MOST_LINES = 100


def render(run: Run) -> str:
    """Return ``run`` as KTAP text; details longer than ``MOST_LINES`` lines lose their middle."""
    lines = ["KTAP version 1", f"1..{len(run.kernels)}"]
    for number, kernel in enumerate(run.kernels, 1):
        lines += _kernel(kernel)
        lines += [f"# {line}" for line in _about(kernel)]
        if run.left_out(kernel):
            lines.append(f"ok {number} {_name(kernel.name)} # SKIP no test was chosen")
        else:
            lines.append(f"{'ok' if kernel.good else 'not ok'} {number} {_name(kernel.name)}")
    return "".join(f"{_harmless(line)}\n" for line in lines)


def render_tap(run: Run) -> str:
    """Return ``run`` as TAP, version 13, for runners that look for that line: one flat list, and no subtests.

    Each name begins with the kernel. Directives and diagnostic lines are those of KTAP, which are comments to others.
    """
    tests = [(kernel, test) for kernel in run.kernels for test in kernel.tests]
    lines = ["TAP version 13", f"1..{len(tests)}" if tests else "1..0 # SKIP no test was run"]
    for kernel in run.kernels:
        lines += [f"# {_name(kernel.name)}: {line}" for line in _about(kernel)]
    for number, (kernel, test) in enumerate(tests, 1):
        lines += [f"# {line}" for line in _diagnosis(test)]
        lines.append(result_line(number, test, f"{_name(kernel.name)}: "))
    if not run.kernels or any(not kernel.tests and not run.left_out(kernel) for kernel in run.kernels):
        lines.append("Bail out! a kernel has no result")
    return "".join(f"{_harmless(line)}\n" for line in lines)


def _kernel(kernel: KernelRun) -> Iterator[str]:
    yield "  KTAP version 1"
    yield f"  # Subtest: {_name(kernel.name)}"
    yield f"  1..{len(kernel.tests)}"
    for number, test in enumerate(kernel.tests, 1):
        for line in _diagnosis(test):
            yield f"  # {line}"
        yield f"  {result_line(number, test)}"


def result_line(number: int, test: TestResult, before: str = "") -> str:
    """Return the result line of one test; ``before`` stands before its name."""
    line = f"{'ok' if test.verdict.good else 'not ok'} {number} {before}{_name(test.test)}"
    if test.verdict is Verdict.SKIPPED:
        line += f" # SKIP {_one_line(test.reason)}"
    if test.verdict is Verdict.KNOWN:
        line += f" # XFAIL {_one_line(test.known_issue or test.reason)}"
    return line.rstrip()


def _diagnosis(test: TestResult) -> Iterator[str]:
    """Say what is wrong with a test, nothing when nothing is."""
    if test.verdict.good:
        return
    yield f"verdict: {test.verdict.value}"
    if reason := _one_line(test.reason):
        yield f"reason: {reason}"
    for splat in test.splats:
        yield f"splat: {_one_line(splat.title)}"
    for title, text in (("details", test.details), ("kernel log", test.kernel_log)):
        if text.strip():
            yield f"{title}:"
            # The bar: no line of a free text may look like a line of KTAP ("# Subtest: ") to a parser.
            yield from (f"| {_printable(line)}".rstrip() for line in _bounded(text.splitlines()))
    if test.rerun:
        yield f"rerun: {_one_line(test.rerun)}"


def _about(kernel: KernelRun) -> Iterator[str]:
    """Describe the kernel itself."""
    facts = {
        "release": kernel.release,
        "version": kernel.version,
        "accelerator": kernel.accelerator,
        "reason": kernel.reason,
    }
    yield from (f"{name}: {_one_line(value)}" for name, value in facts.items() if value)


def _bounded(lines: list[str]) -> Iterable[str]:
    if len(lines) <= MOST_LINES:
        return lines
    half = MOST_LINES // 2
    return [*lines[:half], f"… ({len(lines) - 2 * half} lines left out) …", *lines[-half:]]


def _name(text: str) -> str:
    """Return ``text`` as a description: anything but ``#`` and a newline is allowed."""
    return _one_line(text).replace("#", "_")


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


# kunit_parser.py takes these for the end of all output, wherever in a line they stand. A console excerpt has them.
_ENDINGS = ("List of all partitions:", "Kernel panic - not syncing: VFS:", "reboot: System halted")


def _harmless(line: str) -> str:
    for ending in _ENDINGS:
        line = line.replace(ending, ending.replace(":", ";"))
    return line
