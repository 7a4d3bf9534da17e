"""How a test's verdict on one kernel differs from that on another: KernelCI's seven classes of change.

A known issue counts as a failure here: the bug is there, whoever expected it. What says nothing of the kernel (skipped,
not run, no boot) is no verdict, and a test that a kernel was not asked for is absent.
"""

from __future__ import annotations

from enum import Enum

from vm.results.model import Verdict


class Change(str, Enum):
    """A class of change, the worst first."""

    REGRESSION = "regression"  # passed, and now fails
    NEW_FAILURE = "new failure"  # had no verdict, or was not there, and fails
    STILL_FAILING = "still failing"
    DISAPPEARED = "disappeared"  # had a verdict and has none, or is not there any more
    FIXED = "fixed"
    NEW_PASS = "new pass"
    APPEARED = "appeared"  # was not there, and has no verdict


_PASS, _FAIL, _NONE, _ABSENT = "pass", "fail", "none", "absent"
_CHANGES = {
    (_PASS, _FAIL): Change.REGRESSION,
    (_PASS, _NONE): Change.DISAPPEARED,
    (_PASS, _ABSENT): Change.DISAPPEARED,
    (_FAIL, _PASS): Change.FIXED,
    (_FAIL, _FAIL): Change.STILL_FAILING,
    (_FAIL, _NONE): Change.DISAPPEARED,
    (_FAIL, _ABSENT): Change.DISAPPEARED,
    (_NONE, _PASS): Change.NEW_PASS,
    (_NONE, _FAIL): Change.NEW_FAILURE,
    (_NONE, _ABSENT): Change.DISAPPEARED,
    (_ABSENT, _PASS): Change.NEW_PASS,
    (_ABSENT, _FAIL): Change.NEW_FAILURE,
    (_ABSENT, _NONE): Change.APPEARED,
}


def fails(verdict: Verdict) -> bool:
    """Whether a verdict says that the kernel does what it should not, expected or not."""
    return verdict is Verdict.KNOWN or (verdict.ran and not verdict.good)


def change(before: Verdict | None, after: Verdict | None) -> Change | None:
    """Return the class of a change, None where nothing changed; a verdict that is None is that of an absent test."""
    return _CHANGES.get((_state(before), _state(after)))


def _state(verdict: Verdict | None) -> str:
    if verdict is None:
        return _ABSENT
    if verdict is Verdict.PASSED:
        return _PASS
    return _FAIL if fails(verdict) else _NONE
