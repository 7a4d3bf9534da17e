"""A kernel made for these tests, from source: quickly, reproducibly, and never by writing to the source tree.

    source tree ─► shadow of links ─► configuration ─► make ─► cache entry
    vm/sources                        vm/kconfig               image, .config, modules

Each tree has one shadow in the cache, and in it one build directory per set of variants, which is kept: what is
built again is what changed. What the guests boot is a copy of the result, named by its content, so that a later
build does not change a kernel under a run that tests it.

``python -m vm build SPEC…`` builds and prints the paths of the images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vm.base import arch, cache, files, process, prune, room
from vm.base.errors import BuildFailed, UsageError
from vm.base.progress import Progress
from vm.kernels import kconfig, modules
from vm.kernels.build import make as build_make
from vm.kernels.build import sources
from vm.kernels.build.plan import Plan
from vm.kernels.spec import SOURCE_PREFIX, SUITE, VERSION, Kernel
from vm.kernels.symbols import scan


def resolve(spec: str, progress: Progress) -> Kernel:
    """Return the kernel that a source spec names, built when it has to be.

    Args:
        spec: ``source:6.12``, ``source:SUITE/6.12.94``, the path of a source tree; each with ``+VARIANT``,
            several of them add up: ``~/linux+debug+faults``.
        progress: told in one line each what is waited for.

    Raises:
        BuildFailed: the tree does not build, or not with what its configuration must have.
        UsageError: no such tree, version or variant; a tool is missing; no space.
    """
    tree, variants = tree_of(spec, progress)
    return dataclasses.replace(build(tree, variants, progress), spec=spec)


def tree_of(spec: str, progress: Progress) -> tuple[sources.Tree, tuple[str, ...]]:
    """Return the tree, fetched when it has to be, and the variants that a source spec names.

    Raises:
        UsageError: no such tree, version or variant; no space.
    """
    base, variants = split(spec)
    kconfig.chosen(variants)  # which says no before anything is fetched
    if base.startswith(SOURCE_PREFIX):
        return sources.fetch(base.removeprefix(SOURCE_PREFIX), progress), variants
    if not Path(base).expanduser().exists() and (VERSION.match(base) or SUITE.match(base)):
        return sources.fetch(base, progress), variants
    return sources.local(Path(base)), variants


def split(spec: str) -> tuple[str, tuple[str, ...]]:
    """Split ``source:6.12.94-1~bpo12+1+debug`` into ``source:6.12.94-1~bpo12+1`` and its variants, sorted.

    A ``+`` may be part of a version or of a path: what follows it is a variant when it is a name in lower case
    and nothing of the whole name exists.
    """
    base, found = spec, []
    while not Path(base).expanduser().exists():
        head, plus, name = base.rpartition("+")
        if not plus or not re.fullmatch(r"(?!deb\d)[a-z][a-z0-9_-]*", name):
            break
        base = head
        found.append(name)
    return base, tuple(sorted(set(found)))


def build(tree: sources.Tree, variants: Sequence[str], progress: Progress) -> Kernel:
    """Return the kernel of ``tree`` with ``variants``, built when it has to be.

    Two runs that want the same build wait for each other, and the second finds it done. A build that was
    interrupted goes on where it was.

    Raises:
        BuildFailed: it does not build, or not with what its configuration must have.
        UsageError: a tool is missing; no space.
    """
    plan = planned(tree, variants, progress)
    out = plan.out
    with cache.locked(out, lambda: progress(_waiting(plan))):
        out.mkdir(exist_ok=True)
        try:
            kernel, fresh = _built(plan, progress)
        except OSError as error:
            raise UsageError(f"cannot build in {out}: {error}; free some space, or set "
                             f"{cache.ENVIRONMENT_VARIABLE} to another directory") from error  # fmt: skip
    if fresh:
        prune.to_limit(progress)
    return kernel


def planned(tree: sources.Tree, variants: Sequence[str], progress: Progress) -> Plan:
    """Return where and of what the kernel of ``tree`` with ``variants`` is built; nothing is compiled."""
    builds = cache.cache_dir() / "builds"
    with cache.locked(builds / f"shadow-{tree.label}", lambda: progress(f"{tree.label}: waiting for another run")):
        shadow = cache.hold(sources.shadow(tree))
    out = shadow / "-".join((sources.BUILD_PREFIX, *variants))
    own = arch.default()
    return Plan(tree, tuple(variants), shadow, out, tuple(kconfig.chosen(variants, own)), own)


# -- steps -------------------------------------------------------------------------------------------------


def _waiting(plan: Plan) -> str:
    return f"{plan.label}: waiting, for {cache.holder(plan.out)} builds it (what it does: {plan.log})"


def _built(plan: Plan, progress: Progress) -> tuple[Kernel, bool]:
    """Return the kernel, and whether anything was compiled for it."""
    asked = _asked(plan)
    # A tree in the cache never changes: nothing to run when all that went in is as it was.
    state = _state(plan, asked)
    done = files.json_of(plan.out / "done.json")
    if done and done["state"] == state and plan.tree.fixed and cache.hold(Path(done["entry"])).is_dir():
        return _kernel(plan, Path(done["entry"])), False
    build_make.require_tools()
    started = time.monotonic()
    _mend(plan.out)
    plan.log.unlink(missing_ok=True)
    _configure(plan, asked, progress)
    fresh = not done or done["state"] != state
    compiled = _compile(plan, progress, count=fresh)
    entry = _keep(plan)
    _write_if_changed(plan.out / "done.json", json.dumps({"state": state, "entry": str(entry)}) + "\n")
    if compiled:
        progress(f"{plan.label}: built, {compiled} files compiled in {time.monotonic() - started:.0f} s")
    return _kernel(plan, entry), bool(compiled)


def _asked(plan: Plan) -> dict[str, kconfig.Option]:
    modular = any(fragment.as_modules for fragment in plan.fragments)
    return kconfig.merge(plan.fragments, scan(plan.tree.path, plan.architecture.directory) if modular else None)


def _state(plan: Plan, asked: Mapping[str, kconfig.Option]) -> str:
    compiler = process.run(["gcc", "--version"], deadline=30).output if process.find("gcc") else ""
    parts = (str(plan.tree.path), kconfig.render(asked), *plan.make_variables, compiler)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _configure(plan: Plan, asked: Mapping[str, kconfig.Option], progress: Progress) -> None:
    """Make ``.config``; write it only when it differs, or all would be compiled anew."""
    fragment, new, config = (plan.out / name for name in ("asked.config", ".config.new", ".config"))
    _write_if_changed(fragment, kconfig.render(asked))
    progress(f"{plan.label}: configuring")
    new.unlink(missing_ok=True)
    if build_make.make(plan, [f"KCONFIG_CONFIG={new}", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"]):
        raise build_make.failure(plan)
    got = kconfig.read_config(new)
    lost = kconfig.missing(asked, got, plan.tree.series, plan.tree.path)
    (plan.out / "missing.txt").write_text("".join(f"{one}\n" for one in lost))
    if wrong := [one for one in lost if not one.explained]:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise BuildFailed(
            f"{plan.label}: {wrong[0]}{more}; all are in {plan.out / 'missing.txt'}; "
            "mark the series that lack it in its fragment, or add what it depends on"
        )
    if not config.exists() or config.read_text() != new.read_text():
        new.replace(config)
    new.unlink(missing_ok=True)


def _compile(plan: Plan, progress: Progress, *, count: bool) -> int:
    """Run make; return how many files were compiled."""
    targets = [plan.architecture.image.name]
    if _has_modules(plan):
        targets.append("modules")
    marker = plan.out / MARKER
    marker.touch()
    status = build_make.make(plan, ["prepare"]) if count else 0
    watch = build_make.Watch(plan, progress, build_make.count(plan, targets) if count and not status else 0)
    if not status:
        status = build_make.make(plan, [f"-j{room.processors()}", *targets], watch=watch)
    # Not in a finally: whatever ends us here leaves it, and the next build mends what was half written.
    marker.unlink()
    watch(0)
    if status:
        raise build_make.failure(plan)
    return watch.compiled


def _keep(plan: Plan) -> Path:
    """Copy what a guest needs into an entry of the cache that is named by its content."""
    release = (plan.out / "include/config/kernel.release").read_text().strip()
    with_modules = _has_modules(plan)
    image = plan.out / plan.architecture.image
    digest = hashlib.sha256(image.read_bytes() + (plan.out / ".config").read_bytes())
    if with_modules:
        for module in sorted(plan.out.rglob("*.ko")):
            digest.update(module.read_bytes())

    def make(entry: Path) -> None:
        shutil.copyfile(image, entry / image.name)
        shutil.copyfile(plan.out / ".config", entry / "config")
        shutil.copyfile(plan.out / "missing.txt", entry / "missing.txt")
        _link_or_copy(plan.out / "vmlinux", entry / "vmlinux")
        if with_modules:
            _install_modules(plan, entry, release)
        _keep_counters(plan, entry)
        (entry / "release").write_text(release + "\n")

    results = cache.cache_dir() / "built" / f"{plan.shadow.name}{plan.out.name.removeprefix(sources.BUILD_PREFIX)}"
    return cache.entry(results / digest.hexdigest()[:16], make)


def _kernel(plan: Plan, entry: Path) -> Kernel:
    return Kernel(
        name=plan.label,
        spec="",
        release=(entry / "release").read_text().strip(),
        image=entry / plan.architecture.image.name,
        modules=entry if (entry / "lib/modules").is_dir() else None,
        config=entry / "config",
        version="+".join((plan.tree.version, *plan.variants)),
        vmlinux=entry / "vmlinux",
        architecture=plan.architecture,
    )


# -- helpers -----------------------------------------------------------------------------------------------


MARKER = "running"


def _mend(out: Path) -> None:
    """Have made again what make takes for finished and is not: the last of a killed build, and what is of the future.

    A target of kbuild is finished when its command file (``.x.o.cmd``) is written, after it. One that is
    newer than its command file was cut off; one of the last seconds may have a cut off command file. To make, what a
    clock that was ahead has dated is newer than every change since.
    """
    killed = (out / MARKER).exists()
    written = {file: file.stat().st_mtime for file in out.rglob(".*.cmd")}
    future = {file for file, when in written.items() if math.isinf(files.age(when))}
    newest = max((when for file, when in written.items() if file not in future), default=0.0)
    for file, when in written.items():
        target = file.with_name(file.name[1:-4])
        cut_off = killed and (when > newest - 2 or (target.exists() and target.stat().st_mtime > when))
        if cut_off or file in future:
            file.unlink()
            target.unlink(missing_ok=True)
    (out / MARKER).unlink(missing_ok=True)


def _has_modules(plan: Plan) -> bool:
    return "m" in kconfig.read_config(plan.out / ".config").values()


def _install_modules(plan: Plan, entry: Path, release: str) -> None:
    staging = entry / "staging"
    if build_make.make(plan, ["modules_install", f"INSTALL_MOD_PATH={staging}", "DEPMOD=true"]):
        raise build_make.failure(plan)
    modules.install(staging / "lib/modules" / release, entry, release)
    shutil.rmtree(staging)


def _keep_counters(plan: Plan, entry: Path) -> None:
    """Copy what explains coverage counters: the compiler's notes (.gcno) and the sources they speak of."""
    for notes in sorted((plan.out / "crypto").glob("*.gcno")):
        target = entry / "gcov" / "crypto"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notes, target / notes.name)
        shutil.copyfile(plan.shadow / "crypto" / f"{notes.stem}.c", target / f"{notes.stem}.c")


def _link_or_copy(source: Path, target: Path) -> None:
    # The linker writes a new file, never into the old one: the link keeps the old content.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        files.replace_text(path, text)
