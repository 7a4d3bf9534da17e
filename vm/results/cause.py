"""Why tests are bad, so that those with one cause stand together: a known issue, a splat, a machine's end, words.

A known issue is told to us as text (vm/run/known.py): ``Copy Fail (CVE-2026-31431): fixed in 6.12.85 by a664bf3d603d``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from vm.results.model import KernelRun, TestResult, Verdict

# What differs between two failures of one cause: addresses, lengths, times.
_VARIES = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|\d+")
_MOST_WORDS = 200
_ISSUE = re.compile(r"(?P<name>.+?): (?P<state>(?:fixed|never fixed|seen|not fixed) .*) by (?P<fix>[0-9a-f]{12,40})$")


@dataclass(frozen=True)
class Issue:
    """A known issue.

    Attributes:
        name: what people call it.
        cve: ``CVE-2026-31431``, empty where there is none.
        fix: digits of the commit that fixed it on mainline, empty where the text names none.
        state: since when it is fixed: ``fixed in 6.12.85``.
    """

    name: str
    cve: str = ""
    fix: str = ""
    state: str = ""

    @property
    def link(self) -> str:
        """Where the fix can be read, empty when there is none."""
        return f"https://git.kernel.org/linus/{self.fix}" if self.fix else ""

    @property
    def cve_link(self) -> str:
        """Where the CVE can be read, empty when there is none."""
        return f"https://www.cve.org/CVERecord?id={self.cve}" if self.cve else ""


@dataclass(frozen=True)
class Cause:
    """One cause.

    Attributes:
        kind: ``known issue``, ``splat``, ``words``, or a verdict that speaks for itself: ``boot failed``.
        key: the same for all tests that it explains.
        title: for people.
        issue: when it is a known one.
    """

    kind: str
    key: str
    title: str
    issue: Issue | None = None


@dataclass
class Group:
    """Tests of one cause.

    Attributes:
        cause: that.
        tests: each with the kernel it ran on.
    """

    __test__: ClassVar[bool] = False

    cause: Cause
    tests: list[tuple[KernelRun, TestResult]] = field(default_factory=list)

    @property
    def kernels(self) -> list[str]:
        """Names of the kernels it was seen on, each once."""
        return list(dict.fromkeys(kernel.name for kernel, _ in self.tests))


def issue_of(text: str) -> Issue:
    """Return the known issue that a text names."""
    found = _ISSUE.search(text)
    name = found["name"] if found else text
    cve = re.search(r"\s*\((CVE-\d+-\d+)\)", name)
    plain = name.replace(cve[0], "") if cve else name
    return Issue(plain, cve[1] if cve else "", found["fix"] if found else "", found["state"] if found else "")


def cause_of(test: TestResult) -> Cause:
    """Return why a test is not simply passed."""
    if test.known_issue:
        issue = issue_of(test.known_issue)
        return Cause("known issue", f"issue {issue.fix or issue.name}", issue.name, issue)
    if test.splats:
        splat = test.splats[-1] if test.verdict is Verdict.CRASHED else test.splats[0]
        return Cause("splat", f"splat {splat.fingerprint or splat.title}", splat.fingerprint or splat.title)
    line = " ".join(test.reason.split())[:_MOST_WORDS]
    words = line.removeprefix(f"{test.verdict.value}: ") or test.verdict.value
    kind = "words" if test.verdict in (Verdict.FAILED, Verdict.UNDECIDED) else test.verdict.value
    return Cause(kind, f"{test.verdict.value} {_VARIES.sub('N', words)}", words)


def groups(kernels: Iterable[KernelRun]) -> list[Group]:
    """Return the tests that are not good, by cause: what most kernels and tests have first; known issues last."""
    found: dict[str, Group] = {}
    for kernel in kernels:
        for test in kernel.tests:
            if not test.verdict.good or test.known_issue:
                cause = cause_of(test)
                found.setdefault(cause.key, Group(cause)).tests.append((kernel, test))
    return sorted(found.values(), key=_order)


def _order(group: Group) -> tuple[bool, bool, int, int]:
    missing = all(not test.verdict.ran for _, test in group.tests)
    return group.cause.kind == "known issue", missing, -len(group.kernels), -len(group.tests)
