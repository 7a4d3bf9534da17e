"""Several runs as one: parts of the suite run apart, or a run that was cut off and the one that did the rest."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from vm.base.errors import UsageError
from vm.results.boots import inside
from vm.results.model import KernelRun, Run, TestResult, Verdict

# What a run did not get to know, another may.
_FACTS = (
    *("release", "version", "config", "proc_crypto", "processor", "processor_flags", "cmdline"),
    *("architecture", "banner", "commit"),
)


def merge(runs: Sequence[Run]) -> Run:
    """Return one run with the kernels and tests of all.

    Of a test that is in several, a verdict on the kernel counts before none (``not run``, ``vm lost``), else the worst:
    what failed once has failed.

    Args:
        runs: one at least, kernels that were booted otherwise told apart (vm/results/boots.py); their paths
            lead from where the result will be (:func:`placed`).

    Raises:
        UsageError: two have kernels of one name that are not the same.
    """
    if len(runs) == 1 and not runs[0].shard:
        return runs[0]
    kernels: dict[str, KernelRun] = {}
    for run in runs:
        for kernel in _whole(run):
            kernels[kernel.name] = _together(kernels[kernel.name], kernel) if kernel.name in kernels else kernel
    ends = [run.finished for run in runs]
    merged = Run(
        id="+".join(run.id for run in runs),
        started=min(run.started for run in runs),
        finished=max(end or "" for end in ends) or None,
        exit_status=0,
        host=runs[0].host,
        revision=" ".join(dict.fromkeys(run.revision for run in runs)),
        kernels=tuple(_with_missing(kernel, runs) for kernel in kernels.values()),
    )
    return dataclasses.replace(merged, exit_status=merged.status)


def absent_shards(runs: Sequence[Run], kernel: str) -> list[str]:
    """Return the shards of a kernel that are in none of the runs: ``3/5``."""
    there = {run.shard for run in runs if run.shard and any(each.name == kernel for each in run.kernels)}
    counts = sorted({int(shard.partition("/")[2]) for shard in there})
    return [f"{n}/{count}" for count in counts for n in range(1, count + 1) if f"{n}/{count}" not in there]


def _with_missing(kernel: KernelRun, runs: Sequence[Run]) -> KernelRun:
    """Return a kernel with a bad verdict on each test that is in no shard."""
    there = {test.test for test in kernel.tests}
    absent = ", ".join(absent_shards(runs, kernel.name))
    reason = f"not run: shard {absent} is not among these runs" if absent else "not run: in no shard of these runs"
    missing = [
        TestResult(test, _nodeid(test, kernel.name), Verdict.NOT_RUN, reason=reason)
        for test in kernel.selected
        if test not in there
    ]
    return dataclasses.replace(kernel, tests=(*kernel.tests, *missing), selected=())


def _nodeid(test: str, kernel: str) -> str:
    """Return pytest's id of a test on a kernel, which is its first parameter."""
    path, separator, name = test.partition("::")
    function, bracket, parameters = name.partition("[")
    return f"{path}{separator}{function}[{kernel}{'-' if bracket else ''}{parameters or ']'}"


def placed(run: Run, place: str) -> Run:
    """Return ``run`` with its paths below ``place``, and names of its VMs that no other run has."""

    def path(given: str) -> str:
        return f"{place}/{given}" if given and "\n" not in given and not given.startswith("/") else given

    def vm(name: str) -> str:
        return name and f"{run.id}/{name}"

    def kernel(given: KernelRun) -> KernelRun:
        return dataclasses.replace(
            given,
            config=path(given.config),
            proc_crypto=path(given.proc_crypto),
            vms=tuple(dataclasses.replace(v, name=vm(v.name), console=path(v.console)) for v in given.vms),
            tests=tuple(dataclasses.replace(test, vm=vm(test.vm)) for test in given.tests),
            stalls=tuple(dataclasses.replace(stall, vm=vm(stall.vm)) for stall in given.stalls),
        )

    return dataclasses.replace(run, kernels=tuple(map(kernel, run.kernels)))


def keep_files(run: Run, source: Path, target: Path) -> None:
    """Copy what ``run`` speaks of (consoles, configurations) from its directory to ``target``, as far as it is there.

    Raises:
        UsageError: ``target`` cannot be written.
    """
    paths = [path for kernel in run.kernels for path in (kernel.config, kernel.proc_crypto)]
    paths += [vm.console for kernel in run.kernels for vm in kernel.vms]
    for path in filter(inside, paths):
        with contextlib.suppress(OSError):
            content = (source / path).read_bytes()
            try:
                (target / path).parent.mkdir(parents=True, exist_ok=True)
                (target / path).write_bytes(content)
            except OSError as error:
                raise UsageError(f"cannot write {target / path}: {error.strerror}") from error


def _whole(run: Run) -> list[KernelRun]:
    """Return the kernels of a run; one that did not go to its end, and has no test to show for it, gets a bad one."""
    if run.status in (0, 1):
        return list(run.kernels)
    reason = "the run was cut off" if run.exit_status is None else f"the run ended with status {run.exit_status}"
    marked = []
    for kernel in run.kernels:
        bad: tuple[TestResult, ...] = ()
        if kernel.good or not kernel.tests:
            name = f"machine[{kernel.name}]::cut-off"
            bad = (TestResult(name, name, Verdict.NOT_RUN, reason=f"{reason} ({run.id})"),)
        marked.append(dataclasses.replace(kernel, tests=kernel.tests + bad))
    return marked


def _together(a: KernelRun, b: KernelRun) -> KernelRun:
    for what in ("release", "version"):
        if getattr(a, what) and getattr(b, what) and getattr(a, what) != getattr(b, what):
            raise UsageError(
                f"{a.name} is {getattr(a, what)} in one run and {getattr(b, what)} in another: these are two kernels; "
                "compare them by --format diff"
            )
    tests = {test.test: test for test in a.tests}
    for test in b.tests:
        tests[test.test] = max(tests.get(test.test, test), test, key=_weight)
    return dataclasses.replace(
        a,
        **{field: getattr(a, field) or getattr(b, field) for field in _FACTS},
        selected=tuple(dict.fromkeys(a.selected + b.selected)),
        boot_seconds=a.boot_seconds + b.boot_seconds,
        taint=a.taint | b.taint,
        reason=a.reason and b.reason,
        vms=a.vms + b.vms,
        tests=tuple(tests.values()),
        stalls=a.stalls + b.stalls,
    )


def _weight(test: TestResult) -> tuple[bool, int]:
    return test.verdict.ran, test.verdict.rank
