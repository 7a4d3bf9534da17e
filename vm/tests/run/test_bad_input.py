"""Bad input is one line that says what was expected, what came and what to do; exit status 4, nothing left."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from vm.tests.harness import Project, Run


def assert_refused(project: Project, run: Run, *words: str) -> None:
    """Assert that ``run`` ended as bad input should, its message with all of ``words`` in one line."""
    assert run.status == 4, run.output
    lines = [line for line in run.output.splitlines() if all(word in line for word in words)]
    assert lines, f"no line with {words}"
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output
    assert not run.machines
    project.assert_nothing_left()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vms=0"], ["--vms", "at least 1", "'0'"]),
        (["--vms=two"], ["--vms", "whole number", "'two'"]),
        (["--vm-cpus=-1"], ["--vm-cpus", "at least 1", "'-1'"]),
        (["--vm-memory=1G"], ["--vm-memory", "whole number", "'1G'"]),
        (["--boot-deadline=0"], ["--boot-deadline", "positive number of seconds", "'0'"]),
        (["--test-deadline=soon"], ["--test-deadline", "positive number of seconds", "'soon'"]),
        (["--vm-deadline=-3"], ["--vm-deadline", "positive number of seconds", "'-3'"]),
        (["--vm-deadline=nan"], ["--vm-deadline", "positive number of seconds", "'nan'"]),
        (["--vm-restarts=-1"], ["--vm-restarts", "'-1'"]),
        (["--vm-restarts=x"], ["--vm-restarts", "'x'"]),
        (["--accel=xen"], ["--accel", "'xen'", "tcg"]),
        (["-n2"], ["--kernel boots its own workers", "--vms"]),
        (["--tx=popen"], ["--kernel boots its own workers", "--vms"]),
        (["--pdb"], ["--pdb cannot reach into a guest", "make shell"]),
        (["--no-such-option"], ["unrecognized arguments", "--no-such-option"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0].startswith("-") else "",
)
def test_wrong_option(project: Project, options: Sequence[str], words: Sequence[str]) -> None:
    project.tests("def test_a(): pass\n")
    assert_refused(project, project.run(*options), *words)


def test_kernel_that_is_no_kernel(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    (project.directory / "notes.txt").write_text("no kernel\n" * 500)
    run = project.run("--kernel=notes.txt", kernels=[])
    assert_refused(project, run, "notes.txt", "no kernel image", "expected an x86-64 bzImage")


def test_kernel_that_does_not_exist(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    assert_refused(project, project.run("--kernel=./missing/bzImage", kernels=[]), "./missing/bzImage", "a kernel is")


def test_no_qemu(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    run = project.run(qemu="/nonexistent/qemu-system-x86_64", fake=None)
    assert_refused(project, run, "/nonexistent/qemu-system-x86_64", "install the package qemu-system-x86")


@pytest.mark.skipif(not os.access("/dev/kvm", os.W_OK), reason="no /dev/kvm that opens, so the probe ends before QEMU")
def test_kvm_that_is_dead_but_requested(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    project.qemu.write_text("#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) sleep 60;; esac\nexit 33\n")
    assert_refused(project, project.run("--accel=kvm"), "no guest code ran within", "KVM", "use tcg")


def test_kvm_that_is_dead_gives_tcg_with_the_reason(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    project.qemu.write_text("#!/bin/sh\ncase \"$*\" in *'-accel kvm'*) exit 1;; esac\nexit 33\n")
    run = project.run()
    assert run.status == 0, run.output
    assert "accelerator: tcg (no KVM: " in run.output


def test_qemu_that_cannot_even_emulate(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    project.qemu.write_text("#!/bin/sh\necho 'qemu: broken' >&2\nexit 1\n")
    assert_refused(project, project.run("--accel=tcg"), "expected", "run code under TCG", "qemu: broken")


def test_results_below_a_file(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    (project.directory / "file").touch()
    run = project.run(f"--results={project.directory}/file/results")
    assert_refused(project, run, "cannot write results", "--results DIR")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_results_on_a_read_only_file_system(project: Project) -> None:
    project.tests("def test_a(): pass\n")
    with project.mounted("ro") as path:
        assert_refused(project, project.run(f"--results={path}/results"), "cannot write results", "Read-only")
