"""Guests with a root of their own, on each architecture: they pass, fail and crash as others do, and see no host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.files import ROOT
from vm.tests.harness import Project, Run

pytestmark = [pytest.mark.vm, pytest.mark.deadline(1000)]

# Of each architecture one that Debian has.
KERNELS = {
    row.name: f"{row.debian}:{'trixie/6.12' if row.name == 'riscv64' else 'bookworm/6.1'}" for row in arch.ARCHITECTURES
}
FAULTS = {
    "test_before": ("passed", ""),
    "test_taint": ("failed", "tainted"),
    "test_hang_in_user_space": ("failed", "deadline: not finished after"),
    "test_last_panics": ("crashed", "sysrq triggered crash"),
    "test_sees_no_host": ("passed", ""),
}
SEES = '''

def test_sees_no_host():
    """Nothing of the host but the project and these tests."""
    import os
    from pathlib import Path

    assert not Path({secret!r}).exists()
    assert "9p" not in Path("/proc/mounts").read_text()
    disks = [line.split() for line in Path("/proc/mounts").read_text().splitlines() if line.startswith("/dev/vd")]
    assert disks
    assert all(disk[3].startswith("ro") for disk in disks)
    assert os.uname().machine in {machines!r}
'''


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(row, id=row.debian, marks=[] if row == arch.default() else pytest.mark.long)
        for row in arch.ARCHITECTURES
    ],
)
def faults(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run some of the faults in a guest of an architecture."""
    row: arch.Architecture = request.param
    if shutil.which(row.qemu) is None:
        pytest.skip(f"{row.qemu} is not installed: install the package {row.package}")
    project = Project(tmp_path_factory.mktemp("roots"), 3.0)
    secret = tmp_path_factory.mktemp("secret")
    text = (ROOT / "vm/tests/guest/faults.py").read_text()
    # A processor of 64 bits calls itself so in 32-bit mode as well.
    machines = {row.name, "armv8l" if row.name == "armv7l" else row.name}
    (project.directory / "t/test_faults.py").write_text(
        text + SEES.format(secret=str(secret), machines=sorted(machines))
    )
    options = [
        "-v",
        f"--kernel={KERNELS[row.name]}",
        "--root=image",
        "--vms=1",
        "--test-deadline=8",
        "-k",
        " or ".join(FAULTS),
    ]
    with project.started(*options, kernels=[], fake=None, qemu=row.qemu) as process:
        run = project.finish(process, seconds=900)
    project.assert_nothing_left()
    return run


@pytest.mark.parametrize("name", FAULTS)
def test_fault_has_its_verdict(faults: Run, name: str) -> None:
    verdict, reason = FAULTS[name]
    found = {nodeid.split("::")[1].split("[")[0]: word for nodeid, word in faults.verdicts.items()}
    text = "".join(case.text for case_name, case in faults.cases.items() if case_name.startswith(f"{name}["))
    assert found[name] == verdict, faults.output
    assert reason in text


def test_the_root_is_told_apart_from_the_host(faults: Run) -> None:
    assert "INTERNALERROR" not in faults.output
    assert faults.status == 1
    assert Path(ROOT, "vm").is_dir()
