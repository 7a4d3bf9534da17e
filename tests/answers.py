"""What kernels answer where their versions differ, as known beforehand (tests/answers.toml), and whether this one does.

Tests that have to know how a kernel behaves ask it (tests/errors/probes.py, tests/requests/traits.py); what they expect
follows what it says. So that an answer which changes is a failure and not another expectation, each question has its
answers in tables ``[[answer]]``:

    question  name of the test in tests/errors/test_differences.py that asks, or of the probe
    before    what kernels answer without the change
    after     what they answer with it
    issue     the change is the fix of that known issue (tests/known_issues.toml), which has the versions; else:
    commit    first 12 digits of the commit that changed it on mainline, or the document that says so
    since     versions since which it is ``after``, by series; the last one is the release of mainline
    without   series that came before that release and stay as they were, as looked up

An answer of a series that is not named is ``undecided`` until somebody looks it up. On a kernel whose version tells
nothing (a vendor's, or somebody's own) each is right; the results have it (``record_property``).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from vm.base import toml
from vm.guest.expect import State, Undecided
from vm.run import known
from vm.run.known import Issue

FILE = Path(__file__).parent / "answers.toml"
ISSUES = Path(__file__).parent / "known_issues.toml"
# AF_ALG is that old: before a change all kernels that have it answer the same.
_BEGIN = ("2.6.38",)


@dataclass(frozen=True)
class Answer:
    """One table of the file; see above for its members."""

    question: str
    before: str
    after: str
    issue: str = ""
    commit: str = ""
    since: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def expected(self, version: str) -> str | None:
        """Return what the kernel of ``version`` should answer; None where the file does not say.

        Args:
            version: that tells a series (vm/run/known.py).
        """
        state = self._change().state(version)
        return {State.PRESENT: self.before, State.ABSENT: self.after}.get(state)

    def why(self, version: str) -> str:
        """Return which change makes it so, and since when, in words."""
        change = self._change()
        return f"{change.first_fixed(version).replace('fixed', 'changed')} by {self.issue or self.commit}"

    def _change(self) -> Issue:
        """Return the change as the fix of an issue, which is that the answer is the old one."""
        if self.issue:
            return _issues()[self.issue]
        return Issue(self.commit, self.question, introduced=_BEGIN, fixed=self.since, unfixed=self.without)


def load(path: Path = FILE) -> dict[str, Answer]:
    """Read the answers; by question.

    Raises:
        UsageError: the file cannot be read, or a table is not as described above.
    """
    answers = toml.tables(path, "answer", Answer, "the known answers", "tests/answers.py", _check_form)
    return {answer.question: answer for answer in answers}


def check(question: str, got: str, version: str | None = None) -> None:
    """Fail unless the kernel answers as one of its version should; pass a question that has no table.

    Args:
        question: as in the file.
        got: what it answered.
        version: of the kernel; left out, the one that is running.

    Raises:
        Undecided: nobody looked it up for this series.
    """
    version = known.running() if version is None else version
    answer = _answers().get(question)
    if answer is None or not known.series_of(version):
        return
    expected = answer.expected(version)
    if expected is None:
        raise Undecided(f"nobody looked up what {version} should answer to {question}: it answers {got!r}")
    assert got == expected, (
        f"a change: {version} should answer {expected!r} to {question} ({answer.why(version)}), and answers {got!r}"
    )


@functools.cache
def _answers() -> dict[str, Answer]:
    return load()


@functools.cache
def _issues() -> dict[str, Issue]:
    return known.load(ISSUES)


def _check_form(answer: Answer) -> None:
    if answer.before == answer.after:
        raise ValueError(f"{answer.question!r} changes from {answer.before!r} to the same")
    if answer.issue:
        if answer.issue not in _issues() or answer.commit or answer.since or answer.without:
            raise ValueError(f"'issue' of {answer.question!r} has to be a known one, which has its versions")
    elif not re.match(r"[0-9a-f]{12}$|Documentation/", answer.commit) or not answer.since:
        raise ValueError(f"{answer.question!r} says neither by 'issue' nor by 'commit' and 'since' what changed it")
    known.require_versions((*answer.since, *answer.without), answer.question)
