"""A guest with a root of its own: who gets one, and its images.

The initial RAM disk (vm/machine/initramfs.py) puts them together. It makes ``/`` in memory, where everything can be
written: ``/usr`` is the root's image, ``/etc`` a copy of the image's, the kernel's modules and the project's files are
two further images, mounted where programs look for them. No overlayfs is needed for it, and nothing of the host can be
seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from vm.base import arch
from vm.base.arch import Architecture
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.progress import Progress
from vm.machine.vm import Vm
from vm.roots import build, disks, parts
from vm.roots.parts import Extra

KINDS = ("auto", "image", "host")
"""Values of ``--root``: by the architecture; the root's image on a disk; the files of this host by 9p."""

FILES = "/.vm"
"""Directory in the guest with what is of this VM alone: nothing that is shown of the host can be mounted over it."""
HELP = (
    "what guests run from: image, a root of their own, or host, this machine's files by 9p; auto takes the host's for "
    "its own architecture (default)"
)


PACKAGES_HELP = "Debian packages that a root of the guest's own has besides, with commas between them"
SUITE_HELP = "the Debian release that a root of the guest's own is made of (default: the newest stable one)"


def extra(packages: str, suite: str) -> Extra:
    """Return what the options ``--root-packages`` and ``--root-suite`` ask for.

    Raises:
        UsageError: no root is made of that release.
    """
    asked = Extra(tuple(sorted({word.strip() for word in packages.split(",")} - {""})), suite)
    assert asked.releases
    return asked


def wanted(kind: str, architecture: Architecture, extra: Extra = parts.NOTHING) -> bool:
    """Say whether a guest gets a root of its own.

    Args:
        kind: one of :data:`KINDS`; ``auto`` is the host's root where its programs run in the guest.
        architecture: of the guest.
        extra: what a root of its own shall have besides.

    Raises:
        UsageError: the host's root is asked for, and its programs do not run in the guest, or packages are.
    """
    foreign = architecture != arch.default()
    if kind == "host" and foreign:
        raise UsageError(f"programs of this machine do not run on {architecture.debian}: leave out --root host")
    if kind == "host" and extra != parts.NOTHING:
        raise UsageError("packages go into a root of the guest's own: leave out --root host")
    return kind == "image" or foreign or extra != parts.NOTHING


def prepare(vm: Vm, places: Sequence[Path], progress: Progress, extra: Extra = parts.NOTHING) -> Vm:
    """Return ``vm`` with a root of its own, whose images are made when they are not in the cache.

    Args:
        vm: with a kernel to boot.
        places: absolute paths that the guest shall see besides the project.
        progress: told in one line each what is waited for.
        extra: what the root shall have besides the usual.

    Raises:
        UsageError: they cannot be made.
    """
    root = build.cached(vm.architecture, progress, extra)
    images = {"root": str(root.image), "project": str(disks.project(places))}
    if vm.modules is not None:
        images["modules"] = str(disks.modules(Path(vm.modules), vm.release))
    return dataclasses.replace(
        vm,
        images=images,
        busybox=str(root.busybox),
        python=root.release.interpreter,
        places=[str(path) for path in (ROOT, *places)],
    )


def has(distribution: str) -> bool:
    """Say whether every root has a Python distribution, by its name on the package index."""
    return canonicalize_name(distribution) in parts.pinned()
