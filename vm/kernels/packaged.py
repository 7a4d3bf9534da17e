"""Prebuilt distribution kernels, by version and suite, unpacked and pruned into the cache.

A kernel is one (ABI name, package version) pair, made of one package or of several: up to 6.18
``linux-image-<abi>`` has everything; since then it is only a name, and the files are in
``linux-binary-<abi>`` (the image), ``linux-modules-<abi>`` and ``linux-base-<abi>`` (config and tables) of
the same version. Ubuntu's ``linux-image-<abi>`` is the image alone, ``linux-modules-<abi>`` has config, tables and
modules, but for those of ``linux-modules-extra-<abi>``. A general kernel is told by its ABI name, which ends in the
architecture (Debian) or in ``generic`` (Ubuntu); Debian's others have their flavour in it (vm/kernels/versions.py).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from vm.base import arch, cache, process
from vm.base.errors import UsageError
from vm.base.files import first_existing
from vm.base.progress import Progress
from vm.kernels import image, modules
from vm.kernels.apt import packages as apt
from vm.kernels.catalogue import Candidate, Catalogue

UNPACK_DEADLINE = 600.0

_NAME = re.compile(r"linux-(image|base|binary|modules-extra|modules)(-unsigned)?-(\d.*)")


# -- the index ---------------------------------------------------------------------------------------------


def _candidates(lists: apt.Lists) -> Iterator[Candidate]:
    """Put the packages of ``lists`` together to kernels."""
    kernels: dict[tuple[str, str], dict[str, apt.Package]] = {}
    pattern = _abi(lists.architecture)
    for package in lists.packages:
        role, abi = _role(package.name, pattern)
        if abi:
            kernels.setdefault((abi, package.version), {})[role] = package
    for (abi, version), parts in kernels.items():
        if candidate := _candidate(lists.suite, abi, version, parts):
            yield dataclasses.replace(candidate, architecture=lists.architecture)


@functools.cache
def _abi(architecture: str) -> re.Pattern[str]:
    """Return what the ABI names of kernels of an architecture, by Debian's name, look like."""
    row = arch.asked(architecture) or arch.default()
    flavours = "|".join(map(re.escape, row.flavours))
    return re.compile(rf"(\d[\w.+~-]*-({flavours})|\d+\.\d+\.\d+-\d+-generic)$")


def _role(name: str, abi: re.Pattern[str]) -> tuple[str, str]:
    """Split a package name: ("image", "6.1.0-50-amd64"); the ABI is empty for what is no part of a kernel."""
    unsigned = name.endswith("-unsigned")
    found = _NAME.fullmatch(name.removesuffix("-unsigned"))
    if found is None:
        return "", ""
    role = found[1] + ("-unsigned" if unsigned or found[2] else "")
    return role, found[3] if abi.match(found[3]) else ""


def _candidate(suite: str, abi: str, version: str, parts: dict[str, apt.Package]) -> Candidate | None:
    named = parts.get("image") or parts.get("image-unsigned")
    if named and re.search(r"\blinux-image-", named.depends):
        return None  # a name for whatever is newest: linux-image-6.12-amd64
    if named and not re.search(r"\blinux-(binary|modules)-", named.depends):
        return Candidate(suite, abi, version, (named, *_optional(parts)))
    needed = {"binary": parts.get("binary") or parts.get("binary-unsigned"), "modules": parts.get("modules")}
    if named and "linux-binary-" not in named.depends:
        needed["binary"] = named
    missing = [f"linux-{role}-{abi}" for role, part in needed.items() if part is None]
    present = [part for part in needed.values() if part is not None]
    if not present and named is None:
        return None
    return Candidate(suite, abi, version, (*present, *_optional(parts)), tuple(missing))


def _optional(parts: dict[str, apt.Package]) -> Iterable[apt.Package]:
    # Its config and module tables help, and nothing fails to boot without them.
    return [parts[role] for role in ("base", "modules-extra") if role in parts]


# -- unpacking ---------------------------------------------------------------------------------------------


def _make(candidate: Candidate, entry: Path, progress: Progress) -> None:
    """Fill the new cache entry ``entry`` from the packages of ``candidate``."""
    tree = entry / "unpacked"
    tree.mkdir()
    with candidate.downloaded(progress) as (_, files):
        progress(f"{candidate.suite}: unpacking {candidate.version}")
        with cache.explained(entry.parent, f"making {candidate.version}"):
            for file in files:
                unpack(file, tree)
    _lay_out(candidate, tree, entry)
    shutil.rmtree(tree)
    record = {**asdict(candidate), "rules": modules.RULES, "size": candidate.size}
    (entry / "kernel.json").write_text(json.dumps(record, indent=1) + "\n")


def _lay_out(candidate: Candidate, tree: Path, entry: Path) -> None:
    """Move what a guest needs of the unpacked packages in ``tree`` to its place in ``entry``."""
    release, boot = candidate.release, entry / "boot"
    boot.mkdir()
    lib = first_existing([tree / "usr/lib/modules" / release, tree / "lib/modules" / release])
    if lib is None:
        raise UsageError(f"the packages of {candidate.version} hold no modules of {release}")
    for name in ("vmlinuz", "config", "System.map"):
        # Where the kernel is not compressed, its file is called vmlinux.
        places = [tree / "boot" / f"{name}-{release}", lib / name]
        found = first_existing([*places, *([tree / "boot" / f"vmlinux-{release}"] if name == "vmlinuz" else [])])
        if found:
            shutil.move(found, boot / f"{name}-{release}")
        elif name == "vmlinuz":
            raise UsageError(f"the packages of {candidate.version} hold no image vmlinuz-{release}")
    if (said := image.read(boot / f"vmlinuz-{release}").release) != release:
        raise UsageError(f"the image of {candidate.version} calls itself {said}, its package {release}")
    modules.install(lib, entry, release)


def unpack(package: Path, tree: Path) -> None:
    """Unpack a .deb file into a directory.

    Raises:
        UsageError: it is damaged.
        OSError: no space.
    """
    result = process.run(["dpkg-deb", "-x", str(package), str(tree)], deadline=UNPACK_DEADLINE)
    result.require(f"cannot unpack {package.name}", tree)


KERNELS = Catalogue("kernel", "kernels", "kernel.json", "make kernels lists them", _candidates, _make)
"""The packaged kernels."""
