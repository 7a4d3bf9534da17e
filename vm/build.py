"""A kernel made for these tests, from source: quickly, reproducibly, and never by writing to the source tree.

    source tree ─► shadow of links ─► configuration ─► make ─► cache entry
    vm/sources                        vm/kconfig               bzImage, .config, modules

Each tree has one shadow in the cache, and in it one build directory per set of variants, which is kept: what is
built again is what changed. What the guests boot is a copy of the result, named by its content, so that a later
build does not change a kernel under a run that tests it.

``python -m vm.build SPEC…`` builds and prints the paths of the images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm import cache, files, kconfig, modules, process, prune, sources
from vm.errors import BuildFailed, UsageError
from vm.kconfig import Series
from vm.kernel import BZIMAGE, SOURCE_PREFIX, SUITE, VERSION, Kernel
from vm.symbols import scan

Progress = Callable[[str], None]

# Generous: everything with KASAN, on one slow CPU.
BUILD_DEADLINE = 6 * 3600.0
# A line of progress: often at first, seldom in a build of an hour.
SAY_EVERY_SECONDS = 5.0
SAY_EVERY_PART = 1 / 20
KEPT_RESULTS = 3
# Bytes on a disk that is full, but for what a compiler removed when it failed.
ALMOST_NOTHING = 8_000_000

# What a build calls, and the Debian package that has it. Each was missing once on a fresh machine.
TOOLS = {
    **{"make": "make", "gcc": "gcc", "ld": "binutils", "flex": "flex", "bison": "bison", "bc": "bc"},
    **{"perl": "perl", "depmod": "kmod"},
}
# Header of the library that objtool, a part of the kernel's build, reads object files with.
HEADERS = {"gelf.h": "libelf-dev"}


@dataclass(frozen=True)
class WorkAround:
    """What a range of series needs to be built by the compilers of today.

    Attributes:
        first, last: series, both included.
        make: variables for the command line of make.
        reason: why.
    """

    first: Series
    last: Series
    make: tuple[str, ...]
    reason: str


WORK_AROUNDS: tuple[WorkAround, ...] = ()

# The same input must give the same image, whoever builds it, when and where.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "afalg",
    "KBUILD_BUILD_HOST": "tests",
    "KBUILD_BUILD_VERSION": "1",
}

# ccache must hit in other directories (all paths are relative) and for configuration headers written anew.
CCACHE = {
    "CCACHE_NOHASHDIR": "1",
    "CCACHE_SLOPPINESS": "include_file_mtime,include_file_ctime",
    "CCACHE_MAXSIZE": "5G",
}

# Variables by which make would be told to build something else, or to wait for a job server that is gone.
UNSET = (
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GNUMAKEFLAGS", "KBUILD_OUTPUT", "ARCH", "SRCARCH", "CROSS_COMPILE"),
    *("LOCALVERSION", "KCONFIG_CONFIG", "KCONFIG_ALLCONFIG", "KCFLAGS", "KAFLAGS", "LLVM", "CONFIG_SHELL"),
)


@dataclass(frozen=True)
class Plan:
    """One build: a tree, its variants, and what follows from them.

    Attributes:
        tree: what is built.
        variants: names of fragments, sorted.
        shadow: the directory of links that stands for the tree.
        out: the build directory, in it.
        fragments: in the order of merging.
    """

    tree: sources.Tree
    variants: tuple[str, ...]
    shadow: Path
    out: Path
    fragments: tuple[kconfig.Fragment, ...]

    @property
    def label(self) -> str:
        """The kernel's name: ``6.12.117-src+debug``."""
        return "+".join((self.tree.label, *self.variants))

    @property
    def log(self) -> Path:
        """Everything that make and the compiler said, of the newest build."""
        return self.out / "build.log"

    @property
    def make_variables(self) -> tuple[str, ...]:
        """What stands on make's command line because of the variants and the tree's version."""
        own = [word for fragment in self.fragments for word in fragment.make]
        around = [w.make for w in WORK_AROUNDS if w.first <= self.tree.series <= w.last]
        return (*own, *(word for words in around for word in words))


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
    base, variants = split(spec)
    kconfig.chosen(variants)  # which says no before anything is fetched
    if base.startswith(SOURCE_PREFIX):
        tree = sources.fetch(base.removeprefix(SOURCE_PREFIX), progress)
    elif not Path(base).expanduser().exists() and (VERSION.match(base) or SUITE.match(base)):
        tree = sources.fetch(base, progress)
    else:
        tree = sources.local(Path(base))
    return dataclasses.replace(build(tree, variants, progress), spec=spec)


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
    builds = cache.cache_dir() / "builds"
    with cache.locked(builds / f"shadow-{tree.label}", lambda: progress(f"{tree.label}: waiting for another run")):
        shadow = cache.hold(sources.shadow(tree))
    out = shadow / "-".join((sources.BUILD_PREFIX, *variants))
    plan = Plan(tree, tuple(variants), shadow, out, tuple(kconfig.chosen(variants)))
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


def first_error(log: str) -> str:
    """Return the line of a build's log that says what went wrong first: the compiler's, else make's."""
    lines = log.splitlines()
    for sign in _SIGNS:
        for line in lines:
            if re.search(sign, line):
                return line.strip().removeprefix("../")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it does not say why")


# -- steps -------------------------------------------------------------------------------------------------


def _waiting(plan: Plan) -> str:
    return f"{plan.label}: waiting, for {cache.holder(plan.out)} builds it (what it does: {plan.log})"


def _built(plan: Plan, progress: Progress) -> tuple[Kernel, bool]:
    """Return the kernel, and whether anything was compiled for it."""
    asked = _asked(plan)
    # A tree in the cache never changes: nothing to run when all that went in is as it was.
    state = _state(plan, asked)
    done = _read_json(plan.out / "done.json")
    if done and done["state"] == state and plan.tree.fixed and cache.hold(Path(done["entry"])).is_dir():
        return _kernel(plan, Path(done["entry"])), False
    _require_tools()
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
    _prune(plan, entry)
    return _kernel(plan, entry), bool(compiled)


def _asked(plan: Plan) -> dict[str, kconfig.Option]:
    modular = any(fragment.as_modules for fragment in plan.fragments)
    return kconfig.merge(plan.fragments, scan(plan.tree.path) if modular else None)


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
    if _make(plan, [f"KCONFIG_CONFIG={new}", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"]):
        raise _failure(plan)
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
    targets = ["bzImage"]
    if _has_modules(plan):
        targets.append("modules")
    marker = plan.out / MARKER
    marker.touch()
    status = _make(plan, ["prepare"]) if count else 0
    watch = _Watch(plan, progress, _count(plan, targets) if count and not status else 0)
    if not status:
        status = _make(plan, [f"-j{len(os.sched_getaffinity(0))}", *targets], watch=watch)
    # Not in a finally: whatever ends us here leaves it, and the next build mends what was half written.
    marker.unlink()
    watch(0)
    if status:
        raise _failure(plan)
    return watch.compiled


def _keep(plan: Plan) -> Path:
    """Copy what a guest needs into an entry of the cache that is named by its content."""
    release = (plan.out / "include/config/kernel.release").read_text().strip()
    with_modules = _has_modules(plan)
    digest = hashlib.sha256((plan.out / BZIMAGE).read_bytes() + (plan.out / ".config").read_bytes())
    if with_modules:
        for module in sorted(plan.out.rglob("*.ko")):
            digest.update(module.read_bytes())

    def make(entry: Path) -> None:
        shutil.copyfile(plan.out / BZIMAGE, entry / "bzImage")
        shutil.copyfile(plan.out / ".config", entry / "config")
        shutil.copyfile(plan.out / "missing.txt", entry / "missing.txt")
        _link_or_copy(plan.out / "vmlinux", entry / "vmlinux")
        if with_modules:
            _install_modules(plan, entry, release)
        _keep_counters(plan, entry)
        (entry / "release").write_text(release + "\n")

    return cache.entry(_results(plan) / digest.hexdigest()[:16], make)


def _kernel(plan: Plan, entry: Path) -> Kernel:
    return Kernel(
        name=plan.label,
        spec="",
        release=(entry / "release").read_text().strip(),
        image=entry / "bzImage",
        modules=entry if (entry / "lib/modules").is_dir() else None,
        config=entry / "config",
        version="+".join((plan.tree.version, *plan.variants)),
        vmlinux=entry / "vmlinux",
    )


# -- helpers -----------------------------------------------------------------------------------------------


def _require_tools() -> None:
    missing = {tool: package for tool, package in TOOLS.items() if process.find(tool) is None}
    if "gcc" not in missing:
        missing |= {name: package for name, package in HEADERS.items() if not _has_header(name)}
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise UsageError(
            f"building a kernel needs {', '.join(missing)}, not found here; "
            f"install them (on Debian: apt-get install {packages}), or give a packaged version"
        )


def _has_header(name: str) -> bool:
    return process.run(["gcc", "-E", "-include", name, "-x", "c", "/dev/null"], deadline=30).status == 0


def _make(
    plan: Plan,
    arguments: Sequence[str],
    watch: Callable[[float], None] = lambda _elapsed: None,
    log: Path | None = None,
) -> int:
    """Run make in the build directory, its output appended to the log; return its status."""
    compiler = "gcc"
    environment = dict(REPRODUCIBLE)
    if process.find("ccache"):
        compiler = "ccache gcc"
        # Paths are relative, so that one cache serves all; a user's own cache is left alone.
        environment |= {**CCACHE, "CCACHE_DIR": str(cache.cache_dir() / "ccache")}
    # LOCALVERSION= (set, empty): else a git tree's release ends in a + that comes and goes with its tags.
    make = ["make", "-C", str(plan.shadow), f"O={plan.out}", f"CC={compiler}", "LOCALVERSION=", "V=0"]
    script = f'unset {" ".join(UNSET)}; exec "$@" >>"$0" 2>&1'
    argv = ["sh", "-c", script, str(log or plan.log), *make, *plan.make_variables, *arguments]
    with plan.log.open("a") as file:
        file.write(f"$ {' '.join([*make, *plan.make_variables, *arguments])}\n")
    return process.run(argv, deadline=BUILD_DEADLINE, environment=environment, watch=watch).status


# A file compiled or assembled: the lines of kbuild with V=0.
_COMPILED = re.compile(r"^  (?:CC|AS)(?: \[M\])? ", re.MULTILINE)


def _count(plan: Plan, targets: Sequence[str]) -> int:
    """Return how many files make would compile, by a dry run; 0 when that does not work."""
    dry = plan.out / "dry-run.log"
    dry.unlink(missing_ok=True)
    # It ends in an error, since nothing that it should link is there; what it would compile comes before.
    _make(plan, ["-n", *targets], log=dry)
    return len(re.findall(r"echo '  (?:CC|AS)(?: \[M\])? ", dry.read_text(errors="replace")))


class _Watch:
    """Reads the log of a running build and says how far it is."""

    def __init__(self, plan: Plan, progress: Progress, total: int) -> None:
        self.label, self.log, self.progress, self.total = plan.label, plan.log, progress, total
        self.position = plan.log.stat().st_size if plan.log.exists() else 0
        self.compiled = 0
        self.said = 0.0

    def __call__(self, elapsed: float) -> None:
        with self.log.open("rb") as file:
            file.seek(self.position)
            new = file.read()
        # Whole lines only: the rest is read next time.
        new = new[: new.rfind(b"\n") + 1]
        self.position += len(new)
        self.compiled += len(_COMPILED.findall(new.decode("utf-8", "replace")))
        if elapsed - self.said >= max(SAY_EVERY_SECONDS, elapsed * SAY_EVERY_PART) and self.compiled:
            self.said = elapsed
            of = f" of {max(self.total, self.compiled)}" if self.total else ""
            self.progress(f"{self.label}: {self.compiled}{of} files compiled, {elapsed:.0f} s")


# In the order of trust: the compiler, the assembler and linker, make, whatever calls itself an error.
_SIGNS = (
    r"(fatal )?error: ",
    r"Error: ",
    r"undefined reference to|multiple definition of|cannot find -l",
    r"No rule to make target|command not found|: not found",
    r"\*\*\* (?!\[)",
    r"[Ee]rror",
)


def _is_full(directory: Path) -> bool:
    # The log is on the same disk, and may have had no room for the reason.
    return shutil.disk_usage(directory).free < ALMOST_NOTHING


def _failure(plan: Plan) -> UsageError:
    log = plan.log.read_text(errors="replace")
    if "No space left on device" in log or (not re.search(_SIGNS[0], log) and _is_full(plan.out)):
        return UsageError(
            f"no space left in {plan.out} (while building {plan.label}); free some, "
            f"or set {cache.ENVIRONMENT_VARIABLE} to a directory on a larger disk"
        )
    return BuildFailed(f"{plan.label}: {first_error(log)} (all of it: {plan.log})")


MARKER = "running"


def _mend(out: Path) -> None:
    """After a build that was killed, have all that it may have left half written made again.

    A target of kbuild is finished when its command file (``.x.o.cmd``) is written, after it. One that is
    newer than its command file was cut off; one of the last seconds may have a cut off command file.
    """
    marker = out / MARKER
    if not marker.exists():
        return
    commands = list(out.rglob(".*.cmd"))
    newest = max((c.stat().st_mtime for c in commands), default=0.0)
    for command in commands:
        target = command.with_name(command.name[1:-4])
        written = command.stat().st_mtime
        if written > newest - 2 or (target.exists() and target.stat().st_mtime > written):
            command.unlink()
            target.unlink(missing_ok=True)
    marker.unlink()


def _has_modules(plan: Plan) -> bool:
    return "m" in kconfig.read_config(plan.out / ".config").values()


def _install_modules(plan: Plan, entry: Path, release: str) -> None:
    staging = entry / "staging"
    if _make(plan, ["modules_install", f"INSTALL_MOD_PATH={staging}", "DEPMOD=true"]):
        raise _failure(plan)
    modules.install(staging / "lib/modules" / release, entry, release)
    shutil.rmtree(staging)


def _keep_counters(plan: Plan, entry: Path) -> None:
    """Copy what explains coverage counters: the compiler's notes (.gcno) and the sources they speak of."""
    for notes in sorted((plan.out / "crypto").glob("*.gcno")):
        target = entry / "gcov" / "crypto"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(notes, target / notes.name)
        shutil.copyfile(plan.shadow / "crypto" / f"{notes.stem}.c", target / f"{notes.stem}.c")


def _results(plan: Plan) -> Path:
    return cache.cache_dir() / "built" / f"{plan.shadow.name}{plan.out.name.removeprefix(sources.BUILD_PREFIX)}"


def _prune(plan: Plan, newest: Path) -> None:
    """Remove old results of this build: not the newest ones, nor what a run of today may still boot."""
    entries = sorted(
        (p for p in _results(plan).glob("[!.]*") if p.is_dir()), key=lambda p: p.stat().st_mtime, reverse=True
    )
    for entry in entries[KEPT_RESULTS:]:
        if entry != newest and time.time() - entry.stat().st_mtime > 24 * 3600:
            cache.remove(entry)


def _link_or_copy(source: Path, target: Path) -> None:
    # The linker writes a new file, never into the old one: the link keeps the old content.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        files.replace_text(path, text)


def _read_json(path: Path) -> dict[str, str] | None:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def main(arguments: Sequence[str]) -> int:
    """Build each of ``arguments`` (specs of any kind) and print its image: ``python -m vm.build SPEC…``."""
    kernel = importlib.import_module("vm.kernel")
    try:
        for spec in arguments:
            print(kernel.resolve_one(spec, lambda line: print(line, file=sys.stderr, flush=True)).image)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, importlib.import_module("vm.build").BuildFailed) else 4
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    # Not this file's second life as __main__, whose classes are other than everybody's.
    raise SystemExit(importlib.import_module("vm.build").main(sys.argv[1:]))
