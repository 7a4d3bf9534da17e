"""The project's own tests on healthy kernels that refuse things: what is missing is skipped with its class, no more.

The kernel is the newest packaged one of this machine's sources, or ``$VM_TEST_KERNEL``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vm.base.files import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.deadline(1000)]

KERNEL = f"--kernel={os.environ.get('VM_TEST_KERNEL', '')}"
HARDENED = (
    "fips=1",
    "ia32_emulation=off",
    "lockdown=confidentiality",
    "slab_nomerge",
    "init_on_alloc=1",
    "init_on_free=1",
    "page_alloc.shuffle=1",
    "randomize_kstack_offset=on",
    "vsyscall=none",
    "debugfs=off",
    "module_blacklist=algif_rng",
    "sysctl.user.max_user_namespaces=0",
    "sysctl.kernel.io_uring_disabled=2",
    "sysctl.kernel.dmesg_restrict=1",
    "sysctl.kernel.kptr_restrict=2",
)


@dataclass(frozen=True)
class Suite:
    """What a run of the project's tests left.

    Attributes:
        status: its exit status.
        output: its terminal.
        kernel: its only kernel, of the JSON.
    """

    status: int
    output: str
    kernel: dict[str, Any]

    @property
    def verdicts(self) -> Counter[str]:
        """How many tests have each verdict."""
        return Counter(test["verdict"] for test in self.kernel["tests"])

    @property
    def reasons(self) -> set[str]:
        """Reasons of skips that have a class."""
        return {test["reason"] for test in self.kernel["tests"] if test["verdict"] == "skipped" and test["absence"]}


def suite(results: Path, arguments: tuple[str, ...], tests: tuple[str, ...]) -> Suite:
    """Run tests of the project on a kernel that is booted with these arguments."""
    options = [KERNEL, f"--results={results}", "--vms=1", *(f"--kernel-argument={argument}" for argument in arguments)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, *tests], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    output = done.stdout + done.stderr
    records = list(results.glob("latest/results.json"))
    assert records, output
    (kernel,) = json.loads(records[0].read_text())["kernels"]
    return Suite(done.returncode, output, kernel)


def test_fips_mode(tmp_path: Path) -> None:
    """Its own tests run there, oracles answer, and what is not approved is skipped for that reason."""
    tests = ("tests/policy/test_fips.py", "tests/algorithms/test_known_answers.py", "tests/errors/test_setsockopt.py")
    run = suite(tmp_path, ("fips=1",), tests)
    assert run.status == 0, run.output
    assert run.verdicts["passed"] > 100
    assert "fips: kernel has no skcipher chacha20" in run.reasons
    assert not any("not in FIPS mode" in test["reason"] for test in run.kernel["tests"])


def test_hardened_command_line(tmp_path: Path) -> None:
    """No machine is lost, and every absence has the class of what takes it away."""
    tests = (
        "tests/policy/test_fips.py",
        "tests/policy/test_confinement.py",
        "tests/errors/test_32_bit.py",
        "tests/errors/test_getsockopt.py",
        "tests/requests/test_uring_sockets.py",
        "tests/test_rfc_2010.py",
    )
    run = suite(tmp_path, HARDENED, tests)
    assert run.status == 0, run.output
    assert len(run.kernel["vms"]) == 1
    assert run.verdicts["passed"] > 60
    assert run.reasons >= {
        "architecture: kernel has no 32-bit system calls: ia32_emulation=off",
        "module blacklisted: kernel has no rng: algif_rng by module_blacklist=algif_rng",
        "restricted by sysctl: kernel has no io_uring: kernel.io_uring_disabled=2",
        "restricted by sysctl: kernel has no user namespaces: user.max_user_namespaces=0",
    }


def test_kernel_without_af_alg_is_one_verdict(tmp_path: Path) -> None:
    run = suite(tmp_path, ("module_blacklist=af_alg",), ("tests/errors",))
    reason = "module blacklisted: this kernel has no AF_ALG: af_alg by module_blacklist=af_alg"
    assert run.status == 1
    assert [(test["verdict"], test["reason"]) for test in run.kernel["tests"]] == [("failed", reason)]
    assert reason in run.output
