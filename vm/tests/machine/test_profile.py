"""The machines that users have under KVM, tried where no KVM is: the words of QEMU, and QEMU itself with them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from vm.base import arch
from vm.machine import profile
from vm.machine.qemu import command_line
from vm.machine.vm import Vm
from vm.tests.archive import bzimage

# What follows the arguments of virtme-ng, by accelerator and profile; the command line's own words are below.
SEES = {
    ("kvm", "kvm"): "-accel kvm -machine q35 -cpu host,pmu=off",
    ("tcg", "tcg"): "-accel tcg -machine q35 -cpu max,-cx16",
    ("tcg", "kvm"): "-accel tcg -machine q35 -cpu max,pmu=off,-cx16",
    ("kvm", "tcg"): "-accel kvm -machine q35 -cpu max,-cx16,pmu=off",
}
DEVICES = (
    "-nodefaults -no-user-config -no-reboot -display none -vga none -net none "
    "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -device virtio-rng-pci "
    "-chardev socket,id=qmp,fd=6 -qmp chardev:qmp "
    "-chardev file,id=console,path={directory}/console.log -serial chardev:console "
    "-device virtio-serial-pci "
    "-chardev file,id=vm-status,path=/dev/fd/5 -device virtserialport,chardev=vm-status,name=vm.status "
    "-chardev stdio,id=worker,signal=off,mux=off -device virtserialport,chardev=worker,name=vm.worker"
)
BY_VIRTME = (
    "{qemu} -m 512M -fsdev local,id=virtfs3,path=/,security_model=none,readonly=on,multidevs=remap "
    "-device virtio-9p-pci,fsdev=virtfs3,mount_tag=/dev/root -device i6300esb,id=watchdog0 -parallel none -smp 2 "
    "-kernel {image}"
)
CMDLINE = [
    *("panic=-1", "oops=panic", "softlockup_panic=1", "hung_task_panic=1", "unknown_nmi_panic=1"),
    *("console=ttyS0,115200", "earlyprintk=serial,ttyS0,115200", "loglevel=5", "printk.devkmsg=on"),
]
EMULATED = ["no_timer_check", "cryptomgr.notests"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage("6.1.0-fake"))
    return path


def machine(image: Path, accelerator: str, kind: str, cpu: str = "") -> Vm:
    """A machine without modules, so that nothing is made for it."""
    return Vm("v", "6.1", "", str(image), None, accelerator, 512, 2, 30.0, "/", profile=kind, cpu=cpu)


@pytest.mark.parametrize(("accelerator", "kind"), SEES)
def test_every_word_of_the_command_line(tmp_path: Path, image: Path, accelerator: str, kind: str) -> None:
    """Golden: what changes here changes the machine of every verdict."""
    words = command_line(machine(image, accelerator, kind), tmp_path, 5, 6)
    at = words.index("-append")
    cmdline = words[at + 1].split()
    qemu = shutil.which("qemu-system-x86_64")
    expected = f"{BY_VIRTME} {SEES[accelerator, kind]}".format(qemu=qemu, image=image)
    assert words[:at] == expected.split()
    rest = words[at + 2 :]
    assert rest[: len(DEVICES.split())] == DEVICES.format(directory=tmp_path).split()
    assert cmdline[cmdline.index(CMDLINE[0]) :][: len(CMDLINE)] == CMDLINE
    assert [word in cmdline for word in EMULATED] == [kind == "tcg"] * 2
    assert cmdline[-1] == f'init="{tmp_path}/init"'


@pytest.mark.parametrize(
    ("accelerator", "model", "expected"),
    [
        ("kvm", "Skylake-Client", "Skylake-Client,pmu=off"),
        ("kvm", "host,pmu=on", "host,pmu=on"),
        ("kvm", "host,-avx2", "host,-avx2,pmu=off"),
        ("tcg", "Nehalem", "Nehalem,-cx16"),
        ("tcg", "max,+cx16,-avx", "max,+cx16,-avx"),
        ("tcg", "host", "max,-cx16"),
    ],
)
def test_a_processor_of_the_users_choice(accelerator: str, model: str, expected: str) -> None:
    """What the user says of a feature stands; what the runner needs is added."""
    assert profile.cpu(arch.default(), accelerator, accelerator, model) == expected


@pytest.mark.parametrize("cpu", ["", "Nehalem", "Haswell-v4"])
@pytest.mark.parametrize("kind", arch.default().profiles)
def test_qemu_realises_every_device(tmp_path: Path, image: Path, kind: str, cpu: str) -> None:
    """The real QEMU takes the whole command line, that of KVM too; no code runs, since it is told to wait (-S)."""
    ours, theirs = socket.socketpair()
    with open(tmp_path / "status", "wb") as status, ours, theirs:
        words = command_line(machine(image, "tcg", kind, cpu), tmp_path, status.fileno(), theirs.fileno())
        # A stub is no kernel; the loader would refuse it.
        del words[words.index("-kernel") : words.index("-kernel") + 2]
        del words[words.index("-append") : words.index("-append") + 2]
        process = subprocess.Popen(
            [*words, "-S"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[status.fileno(), theirs.fileno()],
        )
        theirs.close()
        ours.settimeout(60)
        try:
            answers = said(ours, ["qmp_capabilities", "query-status", "quit"])
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0, errors
    assert answers[1]["status"] == "prelaunch", errors


def said(qmp: socket.socket, commands: list[str]) -> list[dict[str, str]]:
    """Return what QEMU's monitor answers to each command."""
    lines = qmp.makefile("r", encoding="utf-8")
    assert "QMP" in json.loads(lines.readline() or "{}"), "QEMU ended before it came up"
    answers = []
    for command in commands:
        qmp.sendall(json.dumps({"execute": command}).encode())
        answer: dict[str, dict[str, str]] = json.loads(lines.readline())
        while "return" not in answer:
            assert "error" not in answer
            answer = json.loads(lines.readline())
        answers.append(answer["return"])
    return answers
