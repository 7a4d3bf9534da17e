"""Records of runs that never were, with every attribute set and texts that are awkward for some format."""

from __future__ import annotations

import dataclasses

from vm.klog.splats import Splat
from vm.results.model import VM, Host, KernelRun, Run, TestResult, Verdict

PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
SPLAT = Splat("WARNING", "WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2", "cut here\n f+0x1/0x2", "WARNING: f", PANIC)


def result(verdict: Verdict, number: int = 0) -> TestResult:
    """Return a result with every attribute set, and with texts that are awkward for some format."""
    test = f"tests/test_{verdict.name.lower()}.py::test_it[gcm(aes)-{number}#x]"
    return TestResult(
        test=test,
        nodeid=test.replace("[", "[6.12.94-"),
        verdict=verdict,
        seconds=0.25,
        reason=f"why {verdict.value}\nnot # on one line\tä",
        details="# Subtest: fake\n  KTAP version 1\nok 1 fake\n1..99\nreboot: System halted\nList of all partitions:",
        kernel_log=f"[    1.0] {PANIC}\n\x1b[31m\x00\udcff",
        splats=(SPLAT,),
        rerun=f"pytest --kernel 6.12 '{test}'",
        worker="gw3",
        vm="6.12.94-0",
        known_issue="CVE-2026-31431" if verdict is Verdict.KNOWN else "",
    )


def kernel(name: str, *verdicts: Verdict, **changes: object) -> KernelRun:
    made = KernelRun(
        name=name,
        spec=f"bookworm/{name}",
        release=f"{name}-amd64",
        version=f"{name}-1~bpo12+1",
        accelerator="tcg",
        accelerator_reason="no KVM: no guest code ran within 5 s under KVM",
        boot_seconds=(4.0, 5.25),
        cmdline="console=ttyS0 panic=-1",
        config=f"{name}.config",
        proc_crypto="name         : sha256\n",
        taint=512,
        vms=(
            VM(f"{name}-0", f"consoles/{name}-0.log", "down", "", 4.0),
            VM(f"{name}-1", f"consoles/{name}-1.log", "crashed", PANIC, None),
        ),
        tests=tuple(result(verdict, number) for number, verdict in enumerate(verdicts)),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def run(*kernels: KernelRun) -> Run:
    return Run(
        id="2026-11-23T11-45-02",
        started="2026-11-23T11:45:02Z",
        finished="2026-11-23T11:46:02Z",
        command=("pytest", "--kernel", "6.12 with space"),
        exit_status=1,
        host=Host("Debian GNU/Linux 12", "3.11.2", "7.2.22", "9.2.0", "3.8.0", "1.42"),
        revision="c12eaef",
        kernels=kernels,
    )


EVERYTHING = run(kernel("6.12.94", *Verdict), kernel("5.10", Verdict.PASSED, Verdict.SKIPPED), kernel("7.3"))
