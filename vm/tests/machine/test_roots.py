"""Guests with a root of their own, on each architecture: they pass, fail and crash as others do, and see no host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.files import ROOT
from vm.kernels.resolve import resolve_one
from vm.tests.harness import Project, Run

pytestmark = [pytest.mark.vm, pytest.mark.deadline(1000)]

# Of each architecture one that Debian has.
KERNELS = {
    row.name: f"{row.debian}:{'trixie/6.12' if row.name == 'riscv64' else 'bookworm/6.1'}" for row in arch.ARCHITECTURES
}
CLOUD = "bookworm/6.1-cloud"
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
    assert len({{disk[0] for disk in disks}}) == {disks!r}  # Some are mounted in several places.
    assert all(disk[3].startswith("ro") for disk in disks)
    assert os.uname().machine in {machines!r}
'''


ALONE = """
import os
import socket
from pathlib import Path


def test_passes():
    assert os.uname().release == {release!r}
    assert "/dev/vd" not in Path("/proc/mounts").read_text()
    socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET).bind(("hash", "sha256"))


def test_says_much(record_property):
    record_property("much", "x" * 300_000)


def test_fails():
    assert not "a failure is told"
"""


@pytest.fixture(
    scope="module",
    params=[
        *(
            pytest.param((row, "image"), id=row.debian, marks=[] if row == arch.default() else pytest.mark.long)
            for row in arch.ARCHITECTURES
        ),
        pytest.param((arch.default(), "initramfs"), id="in-memory"),
    ],
)
def faults(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run some of the faults in a guest of an architecture."""
    row: arch.Architecture
    row, root = request.param
    if shutil.which(row.qemu) is None:
        pytest.skip(f"{row.qemu} is not installed: install the package {row.package}")
    project = Project(tmp_path_factory.mktemp("roots"), 3.0)
    secret = tmp_path_factory.mktemp("secret")
    text = (ROOT / "vm/tests/guest/faults.py").read_text()
    # A processor of 64 bits calls itself so in 32-bit mode as well.
    machines = {row.name, "armv8l" if row.name == "armv7l" else row.name}
    (project.directory / "t/test_faults.py").write_text(
        text + SEES.format(secret=str(secret), machines=sorted(machines), disks=3 if root == "image" else 0)
    )
    options = [
        "-v",
        f"--kernel={KERNELS[row.name]}",
        f"--root={root}",
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


@pytest.mark.parametrize(
    ("without", "said"),
    [
        (["fs/squashfs/squashfs"], "initramfs (the kernel has no CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS; "),
        (["fs/squashfs/squashfs", "drivers/char/virtio_console"], "talked to by serial ports, for the kernel has no "),
    ],
    ids=["memory", "memory-and-serial"],
)
def test_a_kernel_with_a_console_alone_is_tested(
    without: list[str], said: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One of Debian's cloud kernels, which have no 9p, some of whose modules are taken away."""
    found = resolve_one(CLOUD, lambda _line: None)
    assert found.image is not None
    assert found.modules is not None
    shutil.copytree(found.modules / "lib", tmp_path / "lib")
    (tmp_path / "boot").mkdir()
    image = shutil.copyfile(found.image, tmp_path / "boot" / found.image.name)
    for name in without:
        (tmp_path / "lib/modules" / found.release / f"kernel/{name}.ko").unlink()
    project = Project(tmp_path_factory.mktemp("cloud"), 3.0)
    (project.directory / "t/test_it.py").write_text(ALONE.format(release=found.release))
    options = [f"--kernel={image}", "--vms=1", "--test-deadline=8", "--no-known-issues"]
    with project.started(*options, kernels=[], fake=None, qemu=arch.default().qemu) as process:
        run = project.finish(process, seconds=900)
    assert said in run.output
    verdicts = {nodeid.split("::")[1].split("[")[0]: word for nodeid, word in run.verdicts.items()}
    assert verdicts == {"test_passes": "passed", "test_says_much": "passed", "test_fails": "failed"}, run.output


def test_the_root_is_told_apart_from_the_host(faults: Run) -> None:
    assert "INTERNALERROR" not in faults.output
    assert faults.status == 1
    assert Path(ROOT, "vm").is_dir()
