"""One VM: what to boot stands in ``vm.json`` of its directory, how far it came in ``status.json``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from vm.base import arch, files
from vm.kernels import axes
from vm.kernels.spec import Kernel

CONFIG_VARIABLE = "VM_KERNEL_CONFIG"
"""Environment variable of the guest with the path of the kernel's .config, where the host has it."""
INITRD = "initrd"
"""File in the directory of a VM with a root of its own, until that has booted: with a root in it it has 160 MB."""


@dataclass(frozen=True)
class Vm:
    """What to boot, as kept in ``vm.json``.

    Attributes:
        name: host name of the guest, unique within the run: ``6.12.94-1``.
        kernel: label of the kernel, for messages.
        release, image, modules: of :class:`vm.kernels.resolve.Kernel`; ``image`` None means no VM at all, the
            command runs on the kernel we run on.
        accelerator: ``kvm`` or ``tcg``.
        memory: MiB of guest memory.
        cpus: virtual processors.
        boot_deadline: seconds until what the guest runs must have begun.
        cwd: working directory of the guest's command.
        environment: further variables for the guest's command.
        kernel_arguments: appended to the kernel's command line.
        qemu: the QEMU binary, that of the architecture when None.
        qemu_arguments: appended to QEMU's command line.
        command: run instead of QEMU (tests of the runner); gets our own environment and the variables
            ``VM_STATUS_FD`` and ``VM_CONSOLE``.
        profile: board, processor and console (vm/base/arch.py), the accelerator's when empty.
        cpu: processor model, in QEMU's words; the profile's when empty.
        mode: ``worker``; ``shell`` (a login on our terminal); or ``command`` (run ``script``, vm/shell/shell.py).
        script: the shell command of mode ``command``.
        setup: lines of shell that the guest runs before a shell or a command.
        sandbox: whether QEMU has one (vm/machine/features.py).
        architecture: the kernel's; in the file its name.
        root: what it runs from, of :data:`vm.roots.options.KINDS`: ``host``, ``image`` or ``initramfs``.
        ports: how it is talked to: ``virtio``, or ``serial`` where its kernel has no virtio-console.
        images: files that its root is made of, by name: ``root``, ``project``, ``modules``; none when the guest has
            the host's files by 9p (vm/machine/own_root.py).
        busybox: the root's, on the host.
        python: the root's, in the guest.
        places: paths outside of the project that the guest sees as well.
        generation: whether QEMU has the device vmgenid.
        resumes: whether it may go on from a machine that was saved, and be saved itself (vm/machine/course.py).
    """

    name: str
    kernel: str
    release: str
    image: str | None
    modules: str | None
    accelerator: str
    memory: int = 1024
    cpus: int = 1
    boot_deadline: float = math.inf
    cwd: str = field(default_factory=os.getcwd)
    environment: dict[str, str] = field(default_factory=dict)
    kernel_arguments: list[str] = field(default_factory=list)
    qemu: str | None = None
    qemu_arguments: list[str] = field(default_factory=list)
    command: list[str] | None = None
    profile: str = ""
    cpu: str = ""
    mode: str = "worker"
    script: str = ""
    setup: str = ""
    sandbox: bool = True
    architecture: arch.Architecture = field(default_factory=arch.default)
    root: str = "host"
    ports: str = "virtio"
    images: dict[str, str] = field(default_factory=dict)
    busybox: str = ""
    python: str = ""
    places: list[str] = field(default_factory=list)
    generation: bool = False
    resumes: bool = False

    @classmethod
    def of(cls, kernel: Kernel, accelerator: str, *kernel_arguments: str) -> Vm:
        """Return the VM that boots ``kernel`` in the current directory; the rest is told by dataclasses.replace().

        Args:
            kernel: to boot.
            accelerator: ``kvm`` or ``tcg``.
            kernel_arguments: for the kernel's command line, after its own.
        """
        return cls(
            name=kernel.name,
            kernel=kernel.name,
            release=kernel.release,
            image=str(kernel.image) if kernel.image else None,
            modules=str(kernel.modules) if kernel.modules else None,
            accelerator=accelerator,
            kernel_arguments=[*kernel.own_arguments, *kernel_arguments],
            cpu=",".join(axes.without(kernel.axes)),
            architecture=kernel.architecture,
        )

    def save(self, directory: Path) -> None:
        """Write ``vm.json`` into ``directory``."""
        values = {**vars(self), "architecture": self.architecture.name}
        (directory / "vm.json").write_text(json.dumps(values, indent=1))

    @classmethod
    def load(cls, directory: Path) -> Vm:
        """Read ``vm.json`` from ``directory``."""
        values = json.loads((directory / "vm.json").read_text())
        return cls(**{**values, "architecture": arch.named(values["architecture"])})


def config_environment(config: Path | None, directory: Path) -> dict[str, str]:
    """Return the variable that tells a guest the path of its kernel's .config; none where that is unknown.

    Args:
        config: the file.
        directory: of the VM, where a copy goes: the original may be on a path that the guest covers.
    """
    if config is None or not config.is_file():
        return {}
    copy = directory / ("config.gz" if config.suffix == ".gz" else "config")
    copy.write_bytes(config.read_bytes())
    return {CONFIG_VARIABLE: str(copy)}


@dataclass(frozen=True)
class Status:
    """How far a VM came, as kept in ``status.json``.

    Attributes:
        state: ``starting``, ``booting``, ``up``, ``boot failed`` or ``down``.
        reason: one line why, for ``boot failed`` and for a ``down`` that nobody asked for; else empty.
        boot_seconds: from the start of QEMU to the guest's Python, once it is up.
        resumed: whether it did not boot, but went on from a machine that was saved.
        note: what became of a saved machine that could not be used, or of this one, that could not be saved; one line.
        pid: of QEMU, while it runs.
    """

    state: str = "starting"
    reason: str = ""
    boot_seconds: float | None = None
    pid: int | None = None
    resumed: bool = False
    note: str = ""

    def save(self, directory: Path) -> None:
        """Write ``status.json``, whole or not at all."""
        files.replace_text(directory / "status.json", json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> Status:
        """Read ``status.json``; a VM that has not written it yet is ``starting``."""
        try:
            return cls(**json.loads((directory / "status.json").read_text()))
        except FileNotFoundError:
            return cls()
