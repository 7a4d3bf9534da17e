"""Makes a guest's root: packages and wheels unpacked and packed into one read-only image.

Nothing of them is executed but a Python, which compiles. Packing gives equal files equal bytes. What changes is what
the Debian release has on the day: ``root.json`` names it. A root stays as it is until what goes into it by our rules
changes (vm/roots/parts.py), or somebody asks for a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import arch, cache, process
from vm.base.arch import Architecture
from vm.base.errors import UsageError
from vm.base.files import ROOT_PARTS
from vm.base.progress import Progress
from vm.kernels import packaged
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.roots import parts

_FETCH_SECONDS = 1800.0
PACK_SECONDS = 600.0
# Empty, for what is mounted there.
_PLACES = ("usr/lib/modules",)
_ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
_PATH = ("usr/bin", "usr/sbin")
# For shells, and for what tests may call: of busybox, where no package has a better one.
_APPLETS = """
awk basename cat chmod chown clear cp cut date dd df diff dirname dmesg du echo env expr false find free grep gunzip
gzip head hexdump hostname id ifconfig ip kill less ln ls md5sum mkdir mkfifo mknod mktemp more mount mv nproc od printf
ps pwd readlink reset rm rmdir sed seq sha256sum sleep sort stat strings stty sync sysctl tail tar tee test time top
touch tr true tty umount uname uniq uptime vi wc which xargs xxd yes zcat
"""


@dataclass(frozen=True)
class Root:
    """A root that is in the cache.

    Attributes:
        directory: the entry.
        architecture: whose programs it has.
    """

    directory: Path
    architecture: Architecture

    @property
    def image(self) -> Path:
        """The image, a squashfs."""
        return self.directory / "root.squashfs"

    @property
    def busybox(self) -> Path:
        """Its static busybox."""
        return self.directory / "busybox"

    @property
    def record(self) -> dict[str, object]:
        """What it was made of: suite, packages and wheels by name, and the image's digest."""
        found: dict[str, object] = json.loads((self.directory / "root.json").read_text())
        return found

    @property
    def release(self) -> parts.Release:
        """The Debian release it was made of."""
        return parts.Extra(suite=str(self.record["suite"])).releases[0]


def place(architecture: Architecture, extra: parts.Extra = parts.NOTHING) -> Path:
    """Return where the root of an architecture is in the cache, there or not."""
    return cache.cache_dir() / "roots" / f"{architecture.name}-{parts.key(architecture, extra)}"


def cached(architecture: Architecture, progress: Progress, extra: parts.Extra = parts.NOTHING) -> Root:
    """Return the root of an architecture, made when it is not in the cache.

    Args:
        architecture: of the guests.
        progress: told in one line each what is waited for.
        extra: what it has besides the usual.

    Raises:
        UsageError: no network, no space, no apt, no mksquashfs; no such release or package.
    """
    path = place(architecture, extra)
    made = cache.entry(
        path,
        lambda temporary: _make(architecture, extra, temporary, progress),
        lambda: progress(f"root of {architecture.name}: waiting, for {cache.holder(path)} makes it"),
    )
    return Root(cache.hold(made), architecture)


def pack(tree: Path, image: Path, *options: str) -> None:
    """Pack a directory into a squashfs that has the same bytes for the same files.

    Not compressed: what is read stays in the page cache of the host, and an emulated guest unpacks slowly.

    Args:
        tree: the directory.
        image: the file to make.
        options: further ones of mksquashfs.

    Raises:
        UsageError: there is no mksquashfs, or it failed.
        OSError: no space.
    """
    plain = ("-noI", "-noD", "-noF", "-noX")
    same = ("-all-root", "-no-xattrs", "-mkfs-time", "0", "-reproducible", "-processors", "1")
    command = ["mksquashfs", str(tree), str(image), "-quiet", "-no-progress", "-noappend", *plain, *same, *options]
    if process.find("mksquashfs") is None:
        raise UsageError("mksquashfs is not installed; install the package squashfs-tools, or give --root host")
    process.run(command, deadline=PACK_SECONDS).require(f"cannot pack {image.name}", image.parent)


def _make(architecture: Architecture, extra: parts.Extra, entry: Path, progress: Progress) -> None:
    if not apt_get.available():
        raise UsageError(
            f"the root of {architecture.name} guests is made by {', '.join(apt_get.PROGRAMS)} (Debian), not found here;"
            " bring one along (python -m vm root --help), or give --root host"
        )
    started = time.monotonic()
    tree = entry / "tree"
    tree.mkdir()
    with apt_get.workplace() as work:
        release, debs = _fetch_release(architecture, extra, work, progress)
        wheels = fetch_wheels(release, architecture, work, progress)
        progress(f"root of {architecture.name}: unpacking {len(debs)} packages and {len(wheels)} wheels")
        for file in debs:
            packaged.unpack(file, tree)
        for file in wheels:
            unpack_wheel(file, tree / release.site)
        names = [file.name for file in (*debs, *wheels)]
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (*debs, *wheels)]
    _arrange(release, tree)
    (tree / ROOT_PARTS.relative_to("/")).write_text("".join(f"{name}\n" for name in names))
    shutil.copyfile(tree / "usr/bin/busybox", entry / "busybox")
    (entry / "busybox").chmod(0o755)
    _compile(release, architecture, tree, progress)
    progress(f"root of {architecture.name}: packing")
    pack(tree, entry / "root.squashfs", "-all-time", "0")
    shutil.rmtree(tree)
    record = {
        "architecture": architecture.name,
        "suite": release.suite,
        "parts": dict(zip(names, digests, strict=True)),
        "sha256": hashlib.sha256((entry / "root.squashfs").read_bytes()).hexdigest(),
    }
    (entry / "root.json").write_text(json.dumps(record, indent=1) + "\n")
    size = (entry / "root.squashfs").stat().st_size
    progress(f"root of {architecture.name}: {apt_get.mega(size)} in {time.monotonic() - started:.0f} s")


def _fetch_release(
    architecture: Architecture, extra: parts.Extra, work: Path, progress: Progress
) -> tuple[parts.Release, list[Path]]:
    """Fetch the packages of the first release that the mirror has whole for an architecture."""
    trouble: UsageError
    for release in extra.releases:
        into = work / release.suite
        into.mkdir()
        names = [*parts.packages(release, architecture), *extra.packages]
        try:
            return release, _fetch_packages(release, architecture, names, into, progress)
        except (apt_get.Gone, apt_get.NoSuite, apt.NoMatch) as error:
            trouble = error
            progress(f"root of {architecture.name}: not of {release.suite}: {error}")
    if isinstance(trouble, apt_get.NoSuite):
        # Ubuntu's mirrors, and those of other distributions that have apt.
        raise UsageError(
            f"{trouble}; roots are made of Debian: name a mirror of it (sources.list(5)), bring a root along "
            "(python -m vm root --help), or give --root host"
        ) from trouble
    raise trouble


def _fetch_packages(
    release: parts.Release, architecture: Architecture, names: Sequence[str], work: Path, progress: Progress
) -> list[Path]:
    """Fetch the packages with all they need; apt finds out what that is, and checks it against the signed index."""

    def fetch(age: float) -> list[Path]:
        lists = next(apt.renewed(release.suite, progress, older_than=age, architecture=architecture.debian))
        return apt.fetch_closure(lists, names, work, progress)

    def offline(reason: str) -> list[Path]:
        raise UsageError(f"{reason}; the root of {architecture.name} guests cannot be made now; give --root host")

    return apt.ask(fetch, offline)


def fetch_wheels(release: parts.Release, architecture: Architecture, work: Path, progress: Progress) -> list[Path]:
    into = work / "wheels"
    into.mkdir()
    pins = work / "pins.txt"
    pins.write_text(parts.requirements(release, architecture))
    progress(f"root of {architecture.name}: fetching wheels")
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "-r", str(pins), "-d", str(into)]
    command += ["--implementation", "cp", "--python-version", release.python]
    command += [word for tag in parts.platforms(release, architecture) for word in ("--platform", tag)]
    done = process.run(command, deadline=_FETCH_SECONDS)
    done.require(f"pip cannot fetch the wheels of {parts.REQUIREMENTS.name}", into)
    return sorted(into.glob("*.whl"))


def unpack_wheel(file: Path, site: Path) -> None:
    """Unpack a wheel as pip does, without its scripts and headers (PEP 427)."""
    with zipfile.ZipFile(file) as wheel:
        for member in wheel.infolist():
            first, _, rest = member.filename.partition("/")
            if first.endswith(".data"):
                kind, _, rest = rest.partition("/")
                if kind not in ("purelib", "platlib"):
                    continue
                member.filename = rest
            wheel.extract(member, site)


def _join(tree: Path) -> None:
    """Have programs and libraries in ``/usr`` only, as on every system: up to Debian 12 packages have both."""
    for name in {"bin", "sbin", *(path.name for top in (tree, tree / "usr") for path in top.glob("lib*"))}:
        if not (tree / name).is_symlink():
            if (tree / name).is_dir():
                shutil.copytree(tree / name, tree / "usr" / name, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(tree / name)
            (tree / name).symlink_to(f"usr/{name}")


def _arrange(release: parts.Release, tree: Path) -> None:
    """Leave out what no guest reads, and add what scripts of packages would have made."""
    for pattern in parts.LEFT_OUT:
        for path in tree.glob(pattern):
            shutil.rmtree(path)
    _join(tree)
    for name in _PLACES:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, text in _ACCOUNTS.items():
        (tree / "etc" / name).write_text(text)
    if not (tree / "usr/bin/sh").exists():
        (tree / "usr/bin/sh").symlink_to("dash")
    for name in _APPLETS.split():
        if not any((tree / folder / name).is_symlink() or (tree / folder / name).exists() for folder in _PATH):
            (tree / "usr/bin" / name).symlink_to("busybox")
    scripts = tree / "usr/local/bin"
    scripts.mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        (scripts / name).symlink_to(f"../..{release.interpreter.removeprefix('/usr')}")
    (scripts / "pytest").write_text(
        f"#!/usr/bin/python{release.python}\nimport pytest\n\nraise SystemExit(pytest.console_main())\n"
    )
    (scripts / "pytest").chmod(0o755)


def python_of(release: parts.Release, tree: Path) -> tuple[list[str], dict[str, str]]:
    """Return the words that run the Python in a root's files on this machine, and the environment it needs."""
    loader = min((tree / "usr/lib").glob("*/ld*.so.[0-9]"))
    words = [str(loader), "--library-path", str(loader.parent), str(tree / release.interpreter[1:])]
    return words, {
        "PYTHONHOME": str(tree / "usr"),
        "PYTHONPATH": "",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONHASHSEED": "0",
    }


def _compile(release: parts.Release, architecture: Architecture, tree: Path, progress: Progress) -> None:
    """Compile the Python in ``tree``: guests cannot keep what they compile, and each would do it again.

    By the Python of the release, as the host's may be another. It is that of this machine's architecture, a root of
    another one has none that runs here; what it writes is the same for all.
    """
    native = arch.default()
    if os.uname().machine not in native.hosts:
        progress(f"root of {architecture.name}: nothing is compiled, for no Python {release.python} runs here: slower")
        return
    interpreter = tree
    if native.name != architecture.name:
        interpreter = tree.with_name("compiler")
        interpreter.mkdir()
        with apt_get.workplace() as work:
            for file in _fetch_packages(release, native, [f"python{release.python}"], work, progress):
                packaged.unpack(file, interpreter)
        _join(interpreter)
    progress(f"root of {architecture.name}: compiling its Python")
    words = ["-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/"]
    python, environment = python_of(release, interpreter)
    places = (tree / f"usr/lib/python{release.python}", tree / "usr/lib/python3", tree / release.site)
    done = process.run(
        [*python, *words, *(str(path) for path in places if path.exists())],
        deadline=PACK_SECONDS,
        environment=environment,
    )
    # Templates and tests of other versions do not compile, and nobody imports them.
    if done.status not in (0, 1):
        done.require("cannot compile the Python of the root", tree)
    if interpreter != tree:
        shutil.rmtree(interpreter)
