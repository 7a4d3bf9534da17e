"""A guest with a root of its own: who gets one, and its images.

The initial RAM disk (vm/machine/initramfs.py) puts them together. It makes ``/`` in memory, where everything can be
written: ``/usr`` is the root's image, ``/etc`` a copy of the image's, the kernel's modules and the project's files are
two further images, mounted where programs look for them. No overlayfs is needed for it, and nothing of the host can be
seen. Where the kernel lacks what reads such images, the initial RAM disk has it all, and the kernel unpacks it into
memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from vm.base import arch
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.progress import Progress
from vm.kernels import drivers
from vm.kernels.spec import Kernel
from vm.machine import profile
from vm.machine.vm import Vm
from vm.roots import archives, build, disks, parts
from vm.roots.parts import Extra

_NEEDS = {"image": drivers.DISK, "initramfs": drivers.MEMORY, "host": drivers.SHARE}

FILES = "/.vm"
"""Directory in the guest with what is of this VM alone: nothing that is shown of the host can be mounted over it."""


def extra(packages: str, suite: str) -> Extra:
    """Return what the options ``--root-packages`` and ``--root-suite`` ask for.

    Raises:
        UsageError: no root is made of that release.
    """
    asked = Extra(tuple(sorted({word.strip() for word in packages.split(",")} - {""})), suite)
    assert asked.releases
    return asked


@dataclass(frozen=True)
class Choice:
    """What a guest runs from.

    Attributes:
        kind: of :data:`vm.roots.options.KINDS`, and not ``auto``.
        reason: why it is not the usual one; empty when it is.
        ports: how it is talked to, as of :class:`vm.machine.vm.Vm`.
    """

    kind: str
    reason: str = ""
    ports: str = "virtio"


def choose(asked: str, kernel: Kernel, extra: Extra = parts.NOTHING, *, shares: bool = True) -> Choice:
    """Decide what a guest runs from.

    Args:
        asked: one of :data:`vm.roots.options.KINDS`; ``auto`` is the host's root where its programs run in the guest
            and the kernel has 9p, else a root of its own: on a disk where the kernel can read it, else in memory.
        kernel: that it boots.
        extra: what a root of its own shall have besides.
        shares: whether QEMU has 9p.

    Raises:
        UsageError: the host's root is asked for, and its programs do not run in the guest, or packages are; the kernel
            can have none, or nothing to be talked to by.
    """
    found = _root(asked, kernel, extra, shares=shares)
    lacking = drivers.lacking(kernel, drivers.PORTS)
    if not lacking:
        return found
    if not kernel.architecture.further_serial:
        raise UsageError(f"{kernel.name} cannot be booted here: {_no(lacking)}; set it and build it again")
    why = filter(None, [found.reason, f"talked to by serial ports, for {_no(lacking)}"])
    return Choice(found.kind, "; ".join(why), ports="serial")


def _no(options: Sequence[str]) -> str:
    return f"the kernel has no {_symbols(options)}"


def _symbols(options: Sequence[str]) -> str:
    return ", ".join(f"CONFIG_{name}" for name in options)


def _root(asked: str, kernel: Kernel, extra: Extra, *, shares: bool) -> Choice:
    foreign = kernel.architecture != arch.default()
    if asked == "host" and foreign:
        raise UsageError(f"programs of this machine do not run on {kernel.architecture.debian}: leave out --root host")
    if asked == "host" and extra != parts.NOTHING:
        raise UsageError("packages go into a root of the guest's own: leave out --root host")
    if asked == "host" and not shares:
        raise UsageError(
            "QEMU has no 9p here (configure --enable-virtfs): leave out --root host, or give another --qemu"
        )
    if asked != "auto":
        return Choice(asked)
    usual = ["image"] if foreign or extra != parts.NOTHING else ["host", "image"]
    why = []
    for kind in usual:
        lacking = drivers.lacking(kernel, _NEEDS[kind])
        if kind == "host" and not shares:
            why.append("QEMU has no 9p")
        elif lacking:
            why.append(_no(lacking))
        else:
            # Of a kernel that says nothing of itself the usual is believed.
            return Choice(kind, "; ".join(why))
    if lacking := drivers.lacking(kernel, drivers.MEMORY):
        wanted = _symbols(lacking)
        raise UsageError(f"{kernel.name} cannot be booted here: {'; '.join(why)}; set {wanted} and build it again")
    return Choice("initramfs", "; ".join(why))


def prepare(vm: Vm, chosen: Choice, places: Sequence[Path], progress: Progress, extra: Extra = parts.NOTHING) -> Vm:
    """Return ``vm`` with a root of its own, whose images are made when they are not in the cache.

    Args:
        vm: with a kernel to boot.
        chosen: of :func:`choose`; of ``host`` there is nothing to be made.
        places: absolute paths that the guest shall see besides the project.
        progress: told in one line each what is waited for.
        extra: what the root shall have besides the usual.

    Raises:
        UsageError: they cannot be made.
    """
    vm = dataclasses.replace(vm, root=chosen.kind, ports=chosen.ports)
    if chosen.kind == "host":
        return vm
    root = build.cached(vm.architecture, progress, extra)
    form = "squashfs" if chosen.kind == "image" else "cpio"
    image = root.image if chosen.kind == "image" else archives.root(root)
    images = {"root": str(image), "project": str(disks.project(places, root, form))}
    if vm.modules is not None:
        images["modules"] = str(disks.modules(Path(vm.modules), vm.release, form))
    return dataclasses.replace(
        vm,
        images=images,
        busybox=str(root.busybox),
        python=root.release.interpreter,
        places=[str(path) for path in (ROOT, *places)],
    )


def resumable(vm: Vm) -> Vm:
    """Return ``vm`` as one that may be saved, and go on from one that was (vm/machine/course.py), where it can.

    Not with the host's files by 9p, for QEMU does not migrate with them; nor with serial ports, which keep nothing
    while nobody listens; nor under KVM with the host's processor (vm/machine/saved.py).
    """
    model = profile.cpu(vm.architecture, vm.profile or vm.accelerator, vm.accelerator, vm.cpu).partition(",")[0]
    whatever = vm.accelerator == "kvm" and model == "host"
    seen = vm.architecture.name in arch.RESUMES
    return dataclasses.replace(vm, resumes=seen and bool(vm.images) and vm.ports == "virtio" and not whatever)


def has(distribution: str) -> bool:
    """Say whether every root has a Python distribution, by its name on the package index."""
    return canonicalize_name(distribution) in parts.pinned()
