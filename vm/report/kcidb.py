"""A run as KCIDB takes it, schema 5.3, which KernelCI's dashboard shows. It is a file: who has a token sends it.

Each kernel is a checkout and a build, each result a test; booting is the test ``boot``. A known issue is an issue with
an incident, and one that a test shows to be mended an incident that says so. What KCIDB has no word for (the finer
verdict, pytest's id, why something is lacking) is in ``misc``.

KCIDB's status: passed PASS; skipped SKIP; known, failed, crashed, hung, undecided FAIL; a test whose own code broke
ERROR; not run and vm lost MISS. A kernel that was not built is a build that FAILed, one that did not boot a ``boot``
that did. The dashboard compares trees by path, config, architecture and ``environment.misc.platform``, and shows only
checkouts of which the commit is known: see :func:`unlisted`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vm.base import toml
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.results.cause import Issue, issue_of
from vm.results.model import KernelRun, Run, TestResult, Verdict

NAME = "kcidb.json"
ORIGIN_VARIABLE = "AFALG_ORIGIN"
ORIGIN = "unregistered"
"""Who submits, where nobody said: KernelCI gives each its name, together with a token."""

VERSION = {"major": 5, "minor": 3}
MOST_OF_A_LOG = 16384
_STATUS = {
    Verdict.PASSED: "PASS",
    Verdict.KNOWN: "FAIL",
    Verdict.SKIPPED: "SKIP",
    Verdict.UNDECIDED: "FAIL",
    Verdict.FAILED: "FAIL",
    Verdict.NOT_RUN: "MISS",
    Verdict.VM_LOST: "MISS",
    Verdict.HUNG: "FAIL",
    Verdict.CRASHED: "FAIL",
    Verdict.BOOT_FAILED: "FAIL",
    Verdict.BUILD_FAILED: "FAIL",
}
# Of a test's own code: no kernel answers with these.
_BROKEN = re.compile(
    r"error while collecting: |(Name|Type|Attribute|Import|ModuleNotFound|Syntax|Indentation|Key|Index)Error\b"
)
_MENDED = "fixed earlier than the table says: this kernel should have "
_STABLE = "https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git"
# What JSON can say and receivers cannot take: NUL and its like, halves of surrogate pairs.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


@dataclass
class _Document:
    """What has been said so far; each kind in the order in which it goes into the file."""

    origin: str
    checkouts: list[dict[str, Any]] = field(default_factory=list)
    builds: list[dict[str, Any]] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)
    issues: dict[str, dict[str, Any]] = field(default_factory=dict)
    incidents: list[dict[str, Any]] = field(default_factory=list)

    def id(self, *words: str) -> str:
        """Return an id; the same words give the same, so that what is sent twice is there once."""
        return f"{self.origin}:{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:24]}"


def render(run: Run, origin: str = "", tree: Path | None = None) -> str:
    """Return ``run`` as JSON.

    Args:
        run: one, or several merged.
        origin: name of who submits, as KernelCI knows it; empty for what the environment says, or ``unregistered``.
        tree: a clone of the kernel, in which the commit of a packaged kernel's upstream version is looked up.

    Raises:
        UsageError: an origin cannot be called so.
    """
    return json.dumps(document(run, origin, tree)) + "\n"


def document(run: Run, origin: str = "", tree: Path | None = None) -> dict[str, Any]:
    """Return the same as JSON's types."""
    origin = origin or os.environ.get(ORIGIN_VARIABLE, "") or ORIGIN
    if not re.fullmatch(r"[a-z0-9_]+", origin):
        raise UsageError(f"an origin of KCIDB is of small letters, digits and _, not {origin!r}")
    made = _Document(origin)
    for kernel in run.kernels:
        _add_kernel(made, run, kernel, tree)
    kinds = {
        "checkouts": made.checkouts,
        "builds": made.builds,
        "tests": made.tests,
        "issues": list(made.issues.values()),
        "incidents": made.incidents,
    }
    said: dict[str, Any] = _fit({"version": VERSION, **{name: each for name, each in kinds.items() if each}})
    return said


def unlisted(said: Mapping[str, Any]) -> list[str]:
    """Return the comments of checkouts that the dashboard will not list, since nobody knows their commit."""
    return [each["comment"] for each in said.get("checkouts", ()) if "git_commit_hash" not in each]


def upstream(version: str) -> str:
    """Return the tag of the upstream version that a package was made of: ``v6.12.117``; empty where it does not tell.

    >>> upstream("6.12.117-1~deb12u1"), upstream("7.3~rc2-1~exp1"), upstream("6.8.0-45.45")
    ('v6.12.117', 'v7.3-rc2', '')
    """
    found = re.fullmatch(r"(\d+\.\d+(?:\.[1-9]\d*)?)(?:~(rc\d+))?-\d+(?:[~+.][\w.~+]*)?", version)
    return "" if found is None else f"v{found[1]}{f'-{found[2]}' if found[2] else ''}"


def path_of(test: str) -> str:
    """Return the path of a test in KCIDB: dotted words, the first of which is the suite.

    Words have letters, digits, ``_`` and ``-`` alone. Where an id had others, digits of its digest tell it from one
    that differs only there.
    """
    if test.startswith("machine["):
        return f"{suite()}.machine.{_word(test.rpartition('::')[2])}"
    path, _, rest = test.partition("::")
    name, bracket, parameters = rest.partition("[")
    words = [*path.removesuffix(".py").split("/"), *name.split("::")]
    if bracket:
        words.append(parameters.removesuffix("]"))
    words = list(filter(None, words))
    plain = [_word(word) for word in words]
    if plain != words:
        plain[-1] += f"-{hashlib.sha256(test.encode(errors='replace')).hexdigest()[:8]}"
    return ".".join([suite(), *plain])


def suite() -> str:
    """Return the name of the suite, as a word: that of the project."""
    try:
        return _word(str(toml.read(ROOT / "pyproject.toml")["project"]["name"])).replace("-", "_")
    except (UsageError, KeyError, TypeError):
        return "tests"


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text) or "_"


# ---- one kernel


def _add_kernel(made: _Document, run: Run, kernel: KernelRun, tree: Path | None) -> None:
    # Two machines may begin a run in the same second.
    words = (run.id, run.started, run.host.os, *run.command, kernel.name, kernel.banner)
    checkout, build = made.id("checkout", *words), made.id("build", *words)
    made.checkouts.append(_checkout(made, run, kernel, tree) | {"id": checkout})
    made.builds.append(_build(made, kernel) | {"id": build, "checkout_id": checkout})
    environment = _environment(kernel)
    common = {"origin": made.origin, "build_id": build, "environment": environment}
    if boot := _boot(kernel):
        made.tests.append({"id": made.id("boot", *words), **common, **boot})
    counts: dict[str, int] = {}
    for test in kernel.tests:
        if test.verdict in (Verdict.BOOT_FAILED, Verdict.BUILD_FAILED):
            continue
        path = path_of(test.test)
        counts[path] = counts.get(path, 0) + 1
        if counts[path] > 1:  # of machines, each of which may have complained
            path = f"{path}-{counts[path]}"
        id_ = made.id("test", *words, test.nodeid)
        made.tests.append({"id": id_, **common, **_test(test, path)})
        for issue, present in _shown(test):
            _add_incident(made, issue, id_, present=present)


def _checkout(made: _Document, run: Run, kernel: KernelRun, tree: Path | None) -> dict[str, Any]:
    package = kernel.version if kernel.version != kernel.release else ""
    tag = upstream(package)
    commit = kernel.commit if re.fullmatch(r"[0-9a-f]{40}", kernel.commit) else ""
    comment = f"{kernel.name}: {kernel.release or kernel.spec}"
    if tag:
        comment = f"{kernel.name}: package {package}, which is {tag} with its distribution's patches"
        commit = commit or (_commit_of(tree, tag) if tree else "")
    elif kernel.commit and not commit:
        comment += f", commit {kernel.commit}"
    said = {
        "origin": made.origin,
        "comment": comment,
        "start_time": run.started,
        "valid": True,
        "git_commit_hash": commit,
        "git_commit_name": tag,
        "tree_name": "stable" if tag else "",
        "git_repository_url": _STABLE if tag else "",
        "misc": {"spec": kernel.spec, "package": package, "release": kernel.release, "run": run.id},
    }
    # The tree had no changes, or the package's are no patches that anybody could apply.
    if commit:
        said["patchset_hash"] = ""
    return {name: value for name, value in said.items() if value not in ("", None) or name == "patchset_hash"}


def _commit_of(tree: Path, tag: str) -> str:
    """Return the commit of a tag in a clone, empty when that does not have it.

    Raises:
        UsageError: it is no clone.
    """
    words = ["git", "-C", str(tree), "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"cannot ask git for {tag} in {tree}: {error}") from error
    if done.returncode > 1:
        raise UsageError(f"{tree} is no clone of a kernel: {done.stderr.strip()}")
    return done.stdout.strip()


def _build(made: _Document, kernel: KernelRun) -> dict[str, Any]:
    failed = next((test for test in kernel.tests if test.verdict is Verdict.BUILD_FAILED), None)
    variants = "+".join(re.findall(r"\+((?!deb\d)[a-z][a-z0-9_-]*)", kernel.spec))
    packaged = bool(kernel.version) and kernel.version != kernel.release
    said: dict[str, Any] = {
        "origin": made.origin,
        "comment": kernel.banner or kernel.release or kernel.name,
        "architecture": kernel.architecture,
        "compiler": kernel.compiler,
        "config_name": "distribution" if packaged else f"tests+{variants}" if variants else "custom",
        "status": "FAIL" if failed else "PASS",
        "misc": {name: value for name, value in (("config", kernel.config), ("cmdline", kernel.cmdline)) if value},
    }
    if failed is not None:
        said["log_excerpt"] = _excerpt(failed.details or failed.reason)
    return {name: value for name, value in said.items() if value}


def _environment(kernel: KernelRun) -> dict[str, Any]:
    if kernel.accelerator:
        platform = "-".join(filter(None, ("qemu", kernel.architecture, kernel.accelerator)))
    else:
        platform = _word(kernel.processor).strip("_") or "machine"
    misc = {
        "platform": platform,
        "processor": kernel.processor,
        "accelerator": kernel.accelerator,
    }
    return {
        "comment": f"QEMU, {kernel.accelerator}" if kernel.accelerator else "the machine itself",
        "misc": {name: value for name, value in misc.items() if value},
    }


def _boot(kernel: KernelRun) -> dict[str, Any]:
    """Return the test ``boot``; nothing of a kernel that was not booted for the run, or never built."""
    if any(test.verdict is Verdict.BUILD_FAILED for test in kernel.tests) or not kernel.accelerator:
        return {}
    failed = next((test for test in kernel.tests if test.verdict is Verdict.BOOT_FAILED), None)
    if failed is not None:
        excerpt = _excerpt(failed.details or failed.reason)
        return {"path": "boot", "status": "FAIL", "comment": failed.reason, "log_excerpt": excerpt}
    if kernel.boot_seconds:
        return {"path": "boot", "status": "PASS", "duration": kernel.boot_seconds[0]}
    if any(vm.resumed for vm in kernel.vms):
        return {"path": "boot", "status": "PASS", "comment": "resumed from a machine that booted in an earlier run"}
    return {"path": "boot", "status": "MISS"}


def _test(test: TestResult, path: str) -> dict[str, Any]:
    broken = test.verdict is Verdict.FAILED and _BROKEN.match(test.reason) and not test.splats
    misc: dict[str, Any] = {"id": test.test, "verdict": test.verdict.value}
    said: dict[str, Any] = {
        "path": path,
        "status": "ERROR" if broken else _STATUS[test.verdict],
        "duration": test.seconds,
        "start_time": test.began,
        "misc": misc,
    }
    if test.verdict is not Verdict.PASSED:
        details = {"reason": test.reason, "absence": test.absence, "rerun": test.rerun, "known_issue": test.known_issue}
        misc |= {name: value for name, value in details.items() if value}
        said["comment"] = test.known_issue or test.reason
    if test.splats:
        misc["splats"] = [each.fingerprint or each.title for each in test.splats]
    if not test.verdict.good:
        log = "\n\n".join(filter(None, (test.details, *(each.text for each in test.splats), test.kernel_log)))
        said["log_excerpt"] = _excerpt(log)
    return {name: value for name, value in said.items() if value not in ("", None)}


# ---- known issues


def _shown(test: TestResult) -> Iterator[tuple[Issue, bool]]:
    """Yield the known issues that a test speaks of, and whether it shows that they are there."""
    if test.known_issue:
        yield issue_of(test.known_issue), True
    elif test.reason.startswith(_MENDED):
        named = test.reason[len(_MENDED) :].partition(". If it has the fix")[0]
        for each in re.split(r"(?<= by [0-9a-f]{12}) and ", named):
            yield issue_of(each), False


def _add_incident(made: _Document, issue: Issue, test: str, *, present: bool) -> None:
    key = issue.fix or issue.name
    id_ = made.id("issue", key)
    said = {
        "id": id_,
        "origin": made.origin,
        "version": 1,
        "report_subject": issue.name,
        "report_url": issue.link,
        "culprit": {"code": True},
        "comment": " ".join(filter(None, (issue.name, issue.cve, issue.fix and f"fixed by {issue.fix}"))),
        "misc": {name: value for name, value in {"cve": issue.cve, "fix": issue.fix}.items() if value},
    }
    made.issues.setdefault(id_, {name: value for name, value in said.items() if value})
    made.incidents.append(
        {
            "id": made.id("incident", key, test),
            "origin": made.origin,
            "issue_id": id_,
            "issue_version": 1,
            "test_id": test,
            "present": present,
        }
    )


def _excerpt(log: str) -> str:
    """Return what tells most of a log, its end."""
    text = _UNFIT.sub("", log)
    return text if len(text) <= MOST_OF_A_LOG else "…" + text[1 - MOST_OF_A_LOG :]


def _fit(value: Any) -> Any:
    """Return JSON's types without what a receiver cannot take."""
    if isinstance(value, str):
        return _UNFIT.sub("", value)
    if isinstance(value, Mapping):
        return {name: _fit(each) for name, each in value.items()}
    if isinstance(value, Sequence):
        return [_fit(each) for each in value]
    return value
