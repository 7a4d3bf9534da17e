"""QEMU's command line for one VM."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

from vm.base.errors import UsageError
from vm.kernels import vmlinux
from vm.machine import features, initramfs, profile
from vm.machine.vm import Vm

# A panic ends the VM at once (-no-reboot turns the reboot into an exit); states a VM cannot leave
# become panics. An NMI sent to a VM that hangs makes it print where, then panic.
_PANICS = ("panic=-1", "oops=panic", "softlockup_panic=1", "hung_task_panic=1")
_LOG = ("loglevel=5", "printk.devkmsg=on")
# Hardware the guest does not have, which the kernel would wait for or complain about.
_ABSENT = ("raid=noautodetect",)
# Loose: without it every import goes to the host again, which doubles their time; the root is read-only. For
# people, what they edit on the host shall show at once.
_CACHE = {"worker": "loose", "shell": "none", "command": "loose"}


def command_line(vm: Vm, directory: Path, status_fd: int, qmp_fd: int, wake_fd: int | None = None) -> list[str]:
    """Return QEMU's command line for ``vm``.

    virtme-ng knows how to show the host's root to a guest: that part is its own, asked for with ``--dry-run``. Board,
    processor, console, ports and process 1 are ours.

    Args:
        vm: the VM.
        directory: its own; the console goes there.
        status_fd: where what the guest writes to its status port goes.
        qmp_fd: a socket for QEMU's monitor.
        wake_fd: a socket by which a machine is told to go on, where it may be saved (vm/guest/wake.py).

    Raises:
        UsageError: virtme-ng refuses, with its own words.
    """
    theirs, their_cmdline = _virtme_command(vm)
    return [
        *theirs,
        *profile.arguments(vm.architecture, vm.profile or vm.accelerator, vm.accelerator, vm.cpu),
        *("-append", " ".join(_cmdline(vm, directory, their_cmdline))),
        # What the guest may not do: reach a network, write to the host, outlive a reboot.
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "none", "-net", "none"),
        *(features.SANDBOX if vm.sandbox else ()),
        # Entropy, so that nothing in the guest waits for it.
        *("-device", f"virtio-rng-{vm.architecture.bus}"),
        *("-chardev", f"socket,id=qmp,fd={qmp_fd}", "-qmp", "chardev:qmp"),
        # Before the ports: the console is the first of the serial ones.
        *_console(vm, directory),
        *("-device", f"virtio-serial-{vm.architecture.bus}", *output_port(vm, "vm.status", status_fd)),
        *_worker(vm),
        *(_wake(vm, wake_fd) if wake_fd is not None else ()),
        *_images(vm, directory),
        *_disks(vm),
        *vm.qemu_arguments,
    ]


def output_port(vm: Vm, name: str, descriptor: int) -> list[str]:
    """Return QEMU's arguments for a port ``name`` of a guest that writes into the file open as ``descriptor``."""
    identity = name.replace(".", "-")
    return ["-chardev", f"file,id={identity},path=/dev/fd/{descriptor}", *_port(vm, name, identity)]


def _port(vm: Vm, name: str, chardev: str) -> list[str]:
    """Return QEMU's arguments for a port. Serial ones have no name: the guest knows in which order they are made."""
    if vm.ports == "serial":
        return ["-device", f"{vm.architecture.further_serial},chardev={chardev}"]
    return ["-device", f"virtserialport,chardev={chardev},name={name}"]


def option_value(value: object) -> str:
    """Return a value as it stands in an option of QEMU that has several, where a comma ends it unless it is doubled."""
    return str(value).replace(",", ",,")


def _cmdline(vm: Vm, directory: Path, theirs: list[str]) -> list[str]:
    """Return the words of the kernel's command line; ``theirs`` are virtme-ng's."""
    host = [
        f"rootflags=version=9p2000.L,trans=virtio,access=any,msize=524288,cache={_CACHE[vm.mode]}",
        # Quoted, as the kernel and our RAM disk understand it (Documentation/admin-guide/kernel-parameters.rst).
        f'init="{directory}/init"',
    ]
    return [
        *(
            word
            for word in theirs
            if not word.startswith(("console=", "virtme", "init=", "quiet", "root=", "rootwait"))
        ),
        *(*_PANICS, *vm.architecture.nmi_arguments, *vm.architecture.console_arguments, *_LOG),
        *(*_ABSENT, *vm.architecture.kernel_arguments),
        *vm.architecture.profiles[vm.profile or vm.accelerator].kernel_arguments,
        *vm.kernel_arguments,
        *([] if vm.images else host),
    ]


def _disks(vm: Vm) -> list[str]:
    """Return QEMU's arguments for the guest's disks: opened read-only, each with its name as the serial number."""
    arguments: list[str] = []
    for name, path in vm.images.items() if vm.root == "image" else ():
        arguments += ["-drive", f"if=none,id=disk-{name},file={option_value(path)},format=raw,readonly=on"]
        arguments += ["-device", f"virtio-blk-{vm.architecture.bus},drive=disk-{name},serial={name}"]
    return arguments


def _images(vm: Vm, directory: Path) -> list[str]:
    """Return what takes precedence over virtme-ng's choice of kernel, and our RAM disk."""
    arguments = []
    # A later -kernel wins.
    if vm.architecture.profiles[vm.profile or vm.accelerator].unpacked and vm.image:
        unpacked = vmlinux.cached(Path(vm.image), vm.architecture.image_format)
        arguments += ["-kernel", str(unpacked)] if unpacked is not None else []
    if vm.images:
        config = [directory / name for name in ("init", "config", "config.gz")]
        arguments += ["-initrd", str(initramfs.own(vm, directory, config))]
    elif vm.modules is not None or vm.release:
        image = initramfs.cached(Path(vm.modules) if vm.modules else None, vm.release)
        if image is not None:
            arguments += ["-initrd", str(image)]
    return arguments


def _virtme_command(vm: Vm) -> tuple[list[str], list[str]]:
    """Ask virtme-ng for its QEMU command: (arguments without console and kernel command line, that line)."""
    assert vm.image is not None
    qemu_binary = vm.architecture.find_qemu(vm.qemu)
    command = [sys.executable, "-m", "virtme.commands.run", "--arch", vm.architecture.virtme]
    command += ["--kimg", vm.image, "--mods", "none"]
    # 9p is read-only at the device and needs no second process. virtiofsd has --readonly in newer versions only, and
    # virtme-ng does without where it is not (1.42: virtme/commands/run.py, _supports_readonly).
    # Without it it would mount the host's files; a root in memory has no disk either.
    command += ["--root-disk", vm.images["root"]] if vm.images else []
    command += ["--force-9p", "--memory", f"{vm.memory}M", "--cpus", str(vm.cpus), "--qemu-bin", qemu_binary]
    command += ["--disable-kvm"] if vm.accelerator == "tcg" else []
    command += ["--dry-run", "--show-command"]
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in answer.stdout.splitlines() if " -kernel " in line]
    if answer.returncode != 0 or not lines:
        words = (answer.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"virtme-ng cannot run {vm.image}: {words}")
    qemu, *rest = shlex.split(lines[-1])
    kept, cmdline = [qemu], []
    # Accelerator, board and processor are the profile's: virtme-ng's accel=kvm:tcg falls back to TCG without a word
    # (1.42; https://github.com/arighi/virtme-ng/pull/98).
    ours = ("-machine", "-M", "-cpu", "-chardev", "-mon", "-serial", "-echr", "-display", "-vga", "-net")
    while rest:
        flag = rest.pop(0)
        value = [rest.pop(0)] if rest and not rest[0].startswith("-") else []
        if flag == "-append":
            # Behind "--" are arguments for a process 1 of its own; the kernel ignores what is appended to them.
            cmdline = list(itertools.takewhile(lambda word: word != "--", shlex.split(value[0]) if value else []))
        elif flag in ours or (flag == "-device" and re.match("virtio-serial|.*chardev=", value[0])):
            continue
        elif vm.images and (
            flag in ("-drive", "-fsdev") or (flag == "-device" and re.match("virtio-(9p|blk)", value[0]))
        ):
            # Its tools by 9p, and a disk without a name.
            continue
        else:
            kept += [flag, *value]
    return kept, cmdline


def _console(vm: Vm, directory: Path) -> list[str]:
    """Return QEMU's arguments for the serial console, and for the terminal of a shell."""
    if vm.mode == "shell":
        # One terminal for both: the kernel's messages and the shell. Ctrl-A X ends the VM.
        both = ["-chardev", "stdio,id=console,signal=off,mux=on", "-mon", "chardev=console"]
        return [*both, *vm.architecture.serial]
    log = f"file,id=console,path={option_value(directory / 'console.log')}"
    # Behind what the machine logged until it was saved.
    log += ",append=on" if vm.resumes else ""
    return ["-chardev", log, *vm.architecture.serial]


def _wake(vm: Vm, descriptor: int) -> list[str]:
    """Return QEMU's arguments for the port by which a machine that is paused is told to go on."""
    port = ["-chardev", f"socket,id=wake,fd={descriptor}", *_port(vm, "vm.wake", "wake")]
    # By it QEMU itself tells the kernel that it goes on as another machine (Linux kernel commit af6b54e2b5ba ("virt:
    # vmgenid: notify RNG of VM fork and supply generation ID") (in v5.18)).
    return [*port, *(("-device", "vmgenid,guid=auto") if vm.generation else ())]


def _worker(vm: Vm) -> list[str]:
    """Return QEMU's arguments for the port that its standard input and output are wired to."""
    if vm.mode != "worker":
        return []
    return ["-chardev", "stdio,id=worker,signal=off,mux=off", *_port(vm, "vm.worker", "worker")]
