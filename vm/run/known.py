"""Known issues: what a kernel of some version is expected to have, and what becomes of the tests that show it.

A test names the fix of the bug it guards by a marker::

    @pytest.mark.fixed_by("a664bf3d603d", "crypto: algif_aead - Revert to operating out-of-place", cve="CVE-2026-31431")

and a TOML file (ini option ``known_issues``) says which versions lack it, in tables ``[[issue]]``:

    fix         first 12 digits of the commit that fixed it on mainline
    title       subject of that commit
    cve         left out where there is none
    name        what people call it; left out: the title
    introduced  versions since which it is there: ``6.16`` is a release of mainline, ``6.18.22`` of that series alone
    fixed       versions since which it is gone, by series; the last one is the release of mainline
    packages    package versions that had the fix before ``fixed`` says so, each for its series: ``5.10.251-2``
    unfixed     series that ended without the fix, or have not got it yet: that it came later, the test tells
    seen        newest versions that were seen to have it, of series of which it is not known when they got the fix
    fails       what its tests say when they fail by it: regular expressions, searched for in the one-line reason
    crashes     what the kernel says when a test takes it down: the same, searched for in each complaint and the
                functions it came from. Such a test is run last, and on kernels that are not known to be without the
                issue each of its cases has a machine for itself

Each issue has at least one of these looks, and none may be so wide that any failure has it. A test may name several
issues: its failure must look like one of them.

A kernel that has an issue by its version is expected to fail that issue's tests, and to look like it. That is strict:
a test that passes all the same fails as "fixed earlier than the table says", and one that fails in another way fails.
The same failure on a kernel that should be fixed is a failure, and on one whose version tells nothing; on a series that
the table does not name, and on the -rc kernels of the release that a fix was first in, it is ``undecided``.
``--no-known-issues`` expects nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from vm.base import toml
from vm.base.errors import UsageError
from vm.base.words import plural
from vm.guest.expect import Expectation, State, looks_like
from vm.kernels import image, versions
from vm.kernels.spec import Kernel

# What goes wrong in any test: a look that fits one of these tells no bug from another.
_ANYTHING = (
    "",
    "NameError: name 'x' is not defined",
    "AssertionError",
    "AssertionError: assert False",
    "AssertionError: assert 1 == 2",
    r"AssertionError: assert b'\x00' == b'\x01'",
    "AssertionError: expected EPERM, got EXFULL",
    "OSError: [Errno 54] Exchange full",
    "Failed: DID NOT RAISE <class 'OSError'>",
    "vm.guest.worker.DeadlineExceeded: deadline: not finished after 10 s",
    "crashed: the guest switched itself off",
    "crashed: BUG: kernel NULL pointer dereference, address: 0000000000000010",
    "crashed: Kernel panic - not syncing: Fatal exception",
    "crashed: Kernel panic - not syncing: sysrq triggered crash",
    "hung: silent for 60 s",
    "Kernel panic - not syncing: Attempted to kill init! in kernel panic: f < g",
    "BUG: kernel NULL pointer dereference, address: 0000000000000010 in NULL pointer dereference: f < g",
)


@dataclass(frozen=True)
class Issue:
    """One table of the file; see above for its members."""

    fix: str
    title: str
    cve: str = ""
    name: str = ""
    introduced: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    unfixed: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()
    crashes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is called in one line: ``Copy Fail (CVE-2026-31431)``."""
        return f"{self.name or self.title}{f' ({self.cve})' if self.cve else ''}"

    def state(self, version: str) -> State:
        """Say whether the kernel of ``version`` has it.

        Args:
            version: of a package (``5.10.251-5``) or a kernel (``6.12.95``); empty when nobody knows.
        """
        series = series_of(version)
        if not series:
            return State.UNPLACED
        release, candidate, _ = version.partition("~rc")
        if candidate and release in (*self.introduced, *self.fixed):
            # With which -rc it came, the table does not say.
            return State.UNDECIDED
        if not reached(self.introduced, version) or self._patched(version, series):
            return State.ABSENT
        if series in self.unfixed or series in map(series_of, self.fixed):
            return State.ABSENT if reached(self.fixed, version) else State.PRESENT
        if reached(self.fixed, version):
            return State.ABSENT
        here = versions.key(versions.upstream(version))
        if any(series_of(each) == series and here <= versions.key(each) for each in self.seen):
            return State.PRESENT
        # Before its first fixed series nobody backported it, or it was not looked up.
        return State.UNDECIDED

    def first_fixed(self, version: str) -> str:
        """Return the first fixed version in the series of ``version``, else the release of mainline, in words."""
        series = series_of(version)
        own = [fixed for fixed in self.fixed if series_of(fixed) == series]
        if own:
            return f"fixed in {own[0]}"
        if series in map(series_of, self.seen):
            return f"seen in {series}, on mainline fixed in {self.fixed[-1]}"
        return f"never fixed in {series}, on mainline since {self.fixed[-1]}" if self.fixed else "not fixed anywhere"

    def excuse(self, version: str) -> str:
        """Return the reason of an expected failure on the kernel of ``version``."""
        return f"{self.label}: {self.first_fixed(version)} by {self.fix}"

    def _patched(self, version: str, series: str) -> bool:
        plain = re.sub(r"~(bpo|deb).*", "", version)
        return any(
            series_of(package) == series and versions.key(plain) >= versions.key(package) for package in self.packages
        )


def series_of(version: str) -> str:
    """Return the series of a version: ``6.12`` of ``6.12.95-1~bpo12+1``; empty when it is no version."""
    found = re.match(r"\d+\.\d+(?=$|[.~+-])", version)
    return found[0] if found else ""


def require_versions(words: Iterable[str], of: str) -> None:
    """Raise ValueError unless each word of a table, that of the entry ``of``, is a version."""
    for word in words:
        if not series_of(word):
            raise ValueError(f"{word!r} of {of!r} is no version")


def reached(since: Sequence[str], version: str) -> bool:
    """Say whether ``version`` is at or after the point ``since`` names in its series, or its line of mainline."""
    here = versions.key(versions.upstream(version))
    if own := [each for each in since if series_of(each) == series_of(version)]:
        return here >= versions.key(own[0])
    # The releases of mainline had three numbers until 2.6.39.
    mainline = [each for each in since if each.count(".") == 1 or each.startswith("2.6.")]
    return any(here >= versions.key(each) for each in mainline)


def load(path: Path) -> dict[str, Issue]:
    """Read the table of known issues; by commit.

    Raises:
        UsageError: the file cannot be read, or a table is not as described above.
    """
    issues = toml.tables(path, "issue", Issue, "the known issues", "vm/run/known.py", _check)
    return {issue.fix: issue for issue in issues}


def version_of(kernel: Kernel) -> str:
    """Return the version by which issues are looked up: the package's where it is known, else the kernel's.

    A distribution's release (``6.1.0-50-amd64``) tells its ABI, not its version; the image tells both.
    """
    if re.match(r"\d+\.\d+(\.\d+)?-rc\d", kernel.version):
        return version_in(kernel.version)  # of a source tree
    if kernel.version and kernel.version != kernel.release:
        # Which stable releases went into one of Ubuntu's, its version does not tell.
        return "" if versions.UBUNTU.match(kernel.version) else kernel.version
    if kernel.image is None:
        return running()
    try:
        return version_in(image.read(kernel.image).version)
    except UsageError:
        return version_in(kernel.release)


def running() -> str:
    """Return the version of the kernel this Python runs on."""
    return version_in(f"{os.uname().release} {os.uname().version}")


def version_in(banner: str) -> str:
    """Return the version in what a kernel calls itself, empty when it tells none.

    >>> version_in("6.1.0-50-amd64 (debian-kernel@lists.debian.org) #1 SMP Debian 6.1.176-1 (2026-06-02)")
    '6.1.176-1'
    """
    if package := re.search(r"\bDebian (\d[\w.+~-]*)", banner):
        return package[1]
    release = banner.split()[0] if banner.split() else ""
    if re.match(r"\d+\.\d+\.0-\d", release):
        return ""  # the ABI of a distribution, which tells no stable release: Debian, Ubuntu, RHEL, SLES
    found = re.match(r"(\d+\.\d+)(\.\d+)?(-rc\d+)?", release)
    if found is None:
        return ""
    patch = "" if found[3] and found[2] == ".0" else found[2] or ""
    return f"{found[1]}{patch}{(found[3] or '').replace('-', '~')}"


def expectations(issues: Mapping[str, Issue], version: str) -> dict[str, Expectation]:
    """Return what to expect of the kernel of ``version``, by commit."""
    return {
        fix: Expectation(issue.state(version).value, issue.excuse(version), issue.fails, issue.crashes)
        for fix, issue in issues.items()
    }


def load_for(config: pytest.Config) -> dict[str, Issue]:
    """Return the table that the project's settings name; empty without one.

    Raises:
        UsageError: as :func:`load`.
    """
    named = config.getini("known_issues")
    if not named:
        return {}
    return load(config.rootpath / named)


def summary(version: str, issues: Mapping[str, Issue], shown: Mapping[str, int]) -> list[str]:
    """Return the known issues of one kernel, one line each.

    Args:
        version: of the kernel.
        issues: the table.
        shown: how many tests failed as expected, by the reason they gave.
    """
    present = [issue.excuse(version) for issue in issues.values() if issue.state(version) is State.PRESENT]
    lines = [f"{reason}: {plural(count, 'test')}" for reason, count in shown.items()]
    return [
        *lines,
        *(f"{reason}: by its version, no test of this run showed it" for reason in present if reason not in shown),
    ]


def _check(issue: Issue) -> None:
    if not re.fullmatch(r"[0-9a-f]{12}", issue.fix) or not issue.title:
        raise ValueError(f"expected 12 digits of a commit as 'fix' and its subject as 'title', found {issue}")
    require_versions((*issue.introduced, *issue.fixed, *issue.packages, *issue.unfixed, *issue.seen), issue.fix)
    if not issue.fails and not issue.crashes:
        raise ValueError(f"{issue.fix!r} says neither as 'fails' nor as 'crashes' what it looks like")
    for look in (*issue.fails, *issue.crashes):
        _check_look(look, issue.fix)


def _check_look(look: str, fix: str) -> None:
    try:
        re.compile(look)
    except re.error as error:
        raise ValueError(f"{look!r} of {fix!r} is no regular expression: {error}") from None
    for said in _ANYTHING:
        if looks_like(said, [look]):
            raise ValueError(f"{look!r} of {fix!r} fits what is no sign of it as well: {said!r}")
