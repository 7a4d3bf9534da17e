"""The faults of the fake guests, on real machines: few, since every boot takes seconds.

The kernel is the newest packaged one of this machine's sources, or ``$VM_TEST_KERNEL``.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.results import events
from vm.tests.harness import Project, Run, poll

pytestmark = [pytest.mark.vm, pytest.mark.deadline(1000)]

KERNEL = f"--kernel={os.environ.get('VM_TEST_KERNEL', '')}"
FACTOR = 3.0
# verdict, and what its report must say
FAULTS = {
    "test_before": ("passed", ""),
    "test_warning": ("failed", "af_alg_fake"),
    "test_taint": ("failed", "tainted"),
    "test_power_off": ("crashed", "the guest switched itself off"),
    "test_between": ("passed", ""),
    "test_hang_in_user_space": ("failed", "deadline: not finished after"),
    "test_lockup": ("hung", "silent for"),
    "test_out_of_memory": ("crashed", "Out of memory: Killed process"),
    "test_skip": ("skipped", ""),
    "test_after": ("passed", ""),
    "test_last_panics": ("crashed", "sysrq triggered crash"),
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Run:
    project = Project(tmp_path_factory.mktemp("real"), FACTOR)
    (project.directory / "t/test_faults.py").write_text((ROOT / "vm/tests/guest/faults.py").read_text())
    options = ["-v", KERNEL, "--vms=2", "--vm-memory=512", "--test-deadline=8", "--vm-deadline=13"]
    with project.started(*options, kernels=[], fake=None, qemu="qemu-system-x86_64") as process:
        run = project.finish(process, seconds=900)
    project.assert_nothing_left()
    return run


@pytest.mark.parametrize("name", FAULTS)
def test_fault_has_its_verdict(faults: Run, name: str) -> None:
    verdict, reason = FAULTS[name]
    found = {nodeid.split("::")[1].split("[")[0]: word for nodeid, word in faults.verdicts.items()}
    text = "".join(case.text for case_name, case in faults.cases.items() if case_name.startswith(f"{name}["))
    assert found[name] == verdict
    assert reason in text


def test_each_fault_is_reported_once_and_nothing_else(faults: Run) -> None:
    assert faults.status == 1
    assert sorted(name.split("[")[0] for name in faults.outcomes) == sorted(FAULTS)
    assert "INTERNALERROR" not in faults.output
    assert "Traceback" not in faults.output


def test_machine_that_hangs_prints_where(faults: Run) -> None:
    """It is sent an NMI, which unknown_nmi_panic turns into a panic with a trace of the processor."""
    text = "".join(case.text for name, case in faults.cases.items() if name.startswith("test_lockup["))
    machine = Path(text.split("console ")[1].split()[0]).parent.name
    assert "Kernel panic - not syncing: NMI" in faults.console(machine)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("rdinit=/nonexistent", "boot failed: Kernel panic - not syncing: "),
        ("module_blacklist=9p", "boot failed: cannot mount the host's root"),
        # A module up to 6.1, built in since.
        (
            "module_blacklist=virtio_console initcall_blacklist=virtio_console_init",
            "boot failed: the guest has no virtio port",
        ),
    ],
    ids=["no init", "no 9p", "no virtio port"],
)
def test_boot_that_fails_says_why(tmp_path: Path, arguments: str, reason: str) -> None:
    project = Project(tmp_path, FACTOR)
    project.tests("def test_a(): pass\n")
    options = [KERNEL, f"--kernel-argument={arguments}"]
    run = project.run(*options, kernels=[], fake=None, qemu="qemu-system-x86_64")
    assert run.status == 1
    assert sorted(run.verdicts.values()) == ["boot failed", "not run"], run.output
    assert reason in run.output
    project.assert_nothing_left()


def test_results_may_be_in_a_directory_with_spaces_and_commas(tmp_path: Path) -> None:
    """Its name is in options of QEMU, in the kernel's command line, and in the guest's scripts."""
    project = Project(tmp_path, FACTOR)
    project.tests("def test_a(): pass\n")
    run = project.run(KERNEL, "--results=one, two,", kernels=[], fake=None, qemu="qemu-system-x86_64")
    assert run.status == 0, run.output
    (console,) = project.directory.glob("one, two,/latest/vms/*/console.log")
    assert "test_a" in console.read_text()


def test_the_machine_that_users_have_under_kvm(tmp_path: Path) -> None:
    """Its board, processor and packed kernel, emulated: all of it but KVM itself."""
    project = Project(tmp_path, FACTOR)
    project.tests(
        "def test_a():\n"
        "    flags = next(line for line in open('/proc/cpuinfo') if line.startswith('flags')).split()\n"
        "    assert 'aes' in flags and 'arch_perfmon' not in flags and 'cx16' not in flags\n"
    )
    options = [KERNEL, "--profile=kvm", "--cpu=Haswell-v4"]
    run = project.run(*options, kernels=[], fake=None, qemu="qemu-system-x86_64")
    assert run.status == 0, run.output
    (kernel,) = events.load(run.directory).kernels
    assert "Haswell" in kernel.processor
    assert "aes" in kernel.processor_flags.split()
    assert "cryptomgr.notests" not in kernel.cmdline
    (command,) = run.directory.glob("vms/*/command")
    assert "vmlinuz" in shlex.split(command.read_text())[shlex.split(command.read_text()).index("-kernel") + 1]


def test_file_that_only_looks_like_a_kernel(tmp_path: Path) -> None:
    project = Project(tmp_path, FACTOR)
    project.tests("def test_a(): pass\n")
    run = project.run("--boot-deadline=2", fake=None, qemu="qemu-system-x86_64")
    assert run.status == 1
    assert sorted(run.verdicts.values()) == ["boot failed", "not run"]
    project.assert_nothing_left()


LONG = """
def test_one():
    print("begin one", file=open("/dev/console", "w"))
    time.sleep(300)
def test_two():
    print("begin two", file=open("/dev/console", "w"))
    time.sleep(300)
"""


def test_qemu_killed_then_pytest_killed(tmp_path: Path) -> None:
    """The machine of the first test is shot, the second test goes on with another; then pytest itself is shot."""
    project = Project(tmp_path, FACTOR)
    project.tests(LONG)
    vms = project.results / "latest/vms"

    def on_console(words: str) -> bool:
        return any(words in path.read_text(errors="replace") for path in vms.glob("*/console.log"))

    options = ["-v", KERNEL, "--test-deadline=200", "--vm-deadline=300"]
    with project.started(*options, kernels=[], fake=None, qemu="qemu-system-x86_64") as process:
        poll(lambda: on_console("begin one"), 200, "the first test did not begin")
        os.kill(json.loads(next(vms.glob("*-1/status.json")).read_text())["pid"], signal.SIGKILL)
        poll(lambda: on_console("begin two"), 200, "the second test did not begin")
        assert any("qemu-system" in words for words in project.processes())
        process.kill()
        output, _ = process.communicate(timeout=20)
        project.assert_nothing_left()
    assert "VM LOST" in output
