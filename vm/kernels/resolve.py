"""How the name of a kernel on the command line becomes one: fetched or built where it has to be."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vm.base import arch, cache, prune
from vm.base.command import Parser, command, say
from vm.base.errors import BuildFailed, UsageError
from vm.base.files import first_existing
from vm.base.progress import Progress
from vm.base.words import plural
from vm.kernels import axes, built, installed, kconfig, modules, packaged, versions
from vm.kernels import image as images
from vm.kernels.spec import GRAMMAR, RUNNING, SOURCE_PREFIX, SUITE, VARIANTS, VERSION, Kernel


def resolve(specs: Sequence[str], progress: Progress) -> list[Kernel]:
    """Return the kernels that ``specs`` name, fetched or built where they have to be, with unique names.

    Specs that come down to the same kernel give it once, which ``progress`` is told.

    Args:
        specs: see resolve_one; none at all means the newest packaged kernel of the machine's own sources.
        progress: told in one line each what is waited for.

    Raises:
        UsageError: one of them names no kernel; nothing is left half-made. One that names a kernel which
            does not build gives one with ``trouble`` instead.
    """
    found: list[Kernel] = []
    for spec in specs or [""]:
        try:
            kernel = _resolve_one(spec, progress)
        except BuildFailed as error:
            # A verdict about this kernel: the others are tested all the same.
            name = versions.printable(spec.rstrip("/").rpartition("/")[2])
            found.append(Kernel(name, spec, "", None, trouble=str(error)))
            continue
        same = next((other for other in found if _same(kernel, other)), None)
        if same:
            progress(f"{spec!r} is the same kernel as {same.spec!r}: taken once")
        else:
            found.append(kernel)
    # Now that all of them are held.
    prune.when_grown(progress)
    return _named(found)


def resolve_one(spec: str, progress: Progress) -> Kernel:
    """Return the kernel that ``spec`` names, fetched or built when it has to be.

    Args:
        spec: path of an image or of a kernel tree; ``6.12``, ``6.12.94``, ``6.1.192-2``; ``SUITE/VERSION``
            or ``SUITE``; ``running``; ``source:VERSION``; a source spec with ``+VARIANT``; empty for the
            newest packaged kernel of the machine's own sources. A file or directory of that name comes first,
            except for versions: write ``./6.12`` for a directory.
        progress: told in one line each what is waited for.

    Raises:
        UsageError: it names no kernel, or the kernel cannot be had.
    """
    kernel = _resolve_one(spec, progress)
    prune.when_grown(progress)
    return kernel


def _resolve_one(spec: str, progress: Progress) -> Kernel:
    plain, names = (spec, ()) if os.path.lexists(spec) else axes.split(spec)
    if not names:
        return _resolve_plain(spec, progress)
    if plain == RUNNING:
        raise UsageError(f"{spec}: the running kernel is as it was booted")
    kernel = _resolve_plain(plain, progress)
    return replace(kernel, name=kernel.name + axes.suffix(names), spec=spec, axes=names)


def _resolve_plain(spec: str, progress: Progress) -> Kernel:
    """Resolve a spec without axes: ``ARCHITECTURE:`` may stand before it, and then the kernel must be of that one."""
    word, _, rest = spec.partition(":")
    architecture = arch.asked(word) if rest or spec.endswith(":") else None
    if architecture is None or os.path.lexists(spec):
        return _resolve_word(spec, None, progress)
    kernel = replace(_resolve_word(rest, architecture, progress), spec=spec)
    if kernel.architecture != architecture:
        raise UsageError(f"{rest} is of {kernel.architecture.debian}, not of {architecture.debian}")
    return kernel


def _resolve_word(spec: str, architecture: arch.Architecture | None, progress: Progress) -> Kernel:
    if spec == RUNNING:
        return _running()
    path = Path(spec)
    with contextlib.suppress(RuntimeError):  # ~nobody-of-that-name: no such file, then
        path = path.expanduser()
    there = bool(spec) and os.path.lexists(path)
    if spec.startswith(SOURCE_PREFIX) or (VARIANTS.match(spec) and not there):
        return _build(spec, architecture, progress)
    if spec == "" or VERSION.match(spec):
        return _packaged(spec, None, spec, architecture, progress)
    if there:
        return _tree(spec, path, architecture, progress) if path.is_dir() else _image(spec, path, progress)
    if named := SUITE.match(spec):
        return _packaged(spec, named["suite"], named["version"] or "", architecture, progress)
    if "/" in spec:
        raise UsageError(f"no file or directory {spec}; a kernel is {GRAMMAR}")
    raise UsageError(f"{spec!r} names no kernel; a kernel is {GRAMMAR}")


def _running() -> Kernel:
    release = os.uname().release
    configs = (f"/boot/config-{release}", "/proc/config.gz", f"/lib/modules/{release}/config")
    config = first_existing(map(Path, configs))
    tree = Path("/lib/modules") / release
    return Kernel(RUNNING, RUNNING, release, None, Path("/") if tree.is_dir() else None, config, release)


def _packaged(
    spec: str, suite: str | None, version: str, architecture: arch.Architecture | None, progress: Progress
) -> Kernel:
    architecture = architecture or arch.default()
    entry = packaged.KERNELS.resolve(suite, version, progress, architecture.debian)
    cache.hold(entry.directory)
    name = versions.printable(versions.with_flavour(versions.upstream(entry.version), entry.release))
    return Kernel(
        # Another architecture's is another kernel: in ids of tests, in names of files.
        name=name if architecture == arch.default() else f"{name}-{architecture.debian}",
        spec=spec,
        release=entry.release,
        image=entry.image,
        modules=entry.directory,
        config=entry.config if entry.config.exists() else None,
        version=entry.version,
        architecture=architecture,
    )


def _image(spec: str, path: Path, progress: Progress) -> Kernel:
    """An image: an installed or unpacked one with its modules in lib/modules, or one in its build tree."""
    image = images.read(path)
    release, architecture = image.release, image.architecture
    path = path.absolute()
    place = architecture.image.parts
    if path.parts[-len(place) :] == place and ((tree := path.parents[len(place) - 1]) / ".config").exists():
        return _built(spec, tree, architecture, progress)
    folders = path.resolve().parents
    lib = first_existing(folder / lib / "modules" / release for folder in folders for lib in ("lib", "usr/lib"))
    beside = [path.with_name(f"config-{release}"), path.with_name("config")]
    config = first_existing([*beside, *([lib / "config"] if lib else [])])
    vmlinux = first_existing([Path(f"/usr/lib/debug/boot/vmlinux-{release}")])
    found = {} if lib is None else installed.find(lib)
    if config is not None:
        built.require_visible(kconfig.read_config(config), found, str(path))
    view = None
    if lib is None:
        progress(f"no lib/modules/{release} beside {path}: everything it needs must be built in")
    else:
        # One of our own cache is pruned already.
        ready = (lib.parents[2] / "kernel.json").exists()
        view = lib.parents[2] if ready else _installed(lib, found, release, progress)
    name = versions.printable(release)
    return Kernel(name, spec, release, path, view, config, release, vmlinux, architecture=architecture)


def _installed(lib: Path, found: dict[str, Path], release: str, progress: Progress) -> Path | None:
    if others := installed.replaced(lib, found):
        more = ", …" if len(others) > 3 else ""
        progress(f"{lib}: {plural(len(others), 'module')} from outside of kernel/: {', '.join(others[:3])}{more}")
    return _view(found, lib, release)


def _tree(spec: str, path: Path, asked: arch.Architecture | None, progress: Progress) -> Kernel:
    config = path / ".config"
    architecture = (arch.of_config(kconfig.read_config(config)) if config.is_file() else None) or arch.default()
    if (path / architecture.image).exists() and config.exists():
        return _built(spec, path, architecture, progress)
    if (path / "Kbuild").exists() and (path / "Makefile").exists():
        if config.exists():
            progress(f"{path} has a .config but no {architecture.image}: built apart, with kconfigs/ and not with that")
        return _build(spec, asked, progress)
    if source := built.source_of(path):
        raise UsageError(
            f"{path} is a build directory (O=) of {source} without .config and {architecture.image}: "
            f"run make -C {path} {architecture.image.name} modules, or give {source}"
        )
    images_in = sorted(file for form in (architecture.image.name, "vmlinuz*") for file in path.glob(form))
    raise UsageError(
        f"{path} is no kernel tree: it has neither {architecture.image} and .config (a built one) "
        "nor Kbuild and Makefile (a source tree)" + (f"; give the image itself: {images_in[0]}" if images_in else "")
    )


def _built(spec: str, tree: Path, architecture: arch.Architecture, progress: Progress) -> Kernel:
    """A build tree: its modules are where the compiler left them, listed in modules.order."""
    tree = tree.resolve()
    image, config = images.read(tree / architecture.image), tree / ".config"
    release = image.release
    built.require_current(tree, architecture)
    files = built.modules(tree)
    built.require_visible(kconfig.read_config(config), files, str(tree))
    if built.is_stale(tree, image):
        place = architecture.image
        progress(f"{tree}: vmlinux is not the one in {place}, which is booted; else run make -C {tree} {place.name}")
    view = _view(files, tree, release)
    vmlinux = first_existing([tree / "vmlinux"])
    name = versions.printable(release)
    return Kernel(name, spec, release, image.path, view, config, release, vmlinux, architecture=image.architecture)


def _view(files: dict[str, Path], tables: Path, release: str) -> Path | None:
    return modules.view(files, tables, release) if files else None


def _build(spec: str, architecture: arch.Architecture | None, progress: Progress) -> Kernel:
    if architecture not in (None, arch.default()):
        raise UsageError(
            f"{spec}: kernels are built for this machine's own architecture only; build it elsewhere, and give "
            f"{architecture.debian}:path/to/{architecture.image.name}"
        )
    from vm.kernels.build import build  # only now: most runs build nothing

    return build.resolve(spec, progress)


def _same(one: Kernel, other: Kernel) -> bool:
    mine, theirs = ((each.image, each.modules, each.release, each.axes, each.architecture) for each in (one, other))
    return mine == theirs


def _named(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Give every kernel the shortest name that no other has: version, package version, spec, and a number."""
    longer: list[Callable[[int, Kernel], str]] = [
        lambda _, kernel: kernel.name,
        lambda _, kernel: versions.printable(kernel.version or kernel.name) + axes.suffix(kernel.axes),
        lambda _, kernel: versions.printable(kernel.spec),
        lambda number, kernel: f"{kernel.name}.{number}",
    ]
    names = [longer[0](0, kernel) for kernel in kernels]
    for form in longer[1:]:
        taken = list(names)
        names = [
            form(number, kernel) if taken.count(taken[number - 1]) > 1 else taken[number - 1]
            for number, kernel in enumerate(kernels, 1)
        ]
    return [replace(kernel, name=name) for kernel, name in zip(kernels, names, strict=True)]


@command
def main(arguments: Sequence[str]) -> None:
    """Print what each of ``arguments`` (specs) resolves to: ``python -m vm resolve SPEC…``."""
    parser = Parser(prog="python -m vm resolve", description="Fetch or build kernels, and print where each is.")
    parser.add_argument("specs", metavar="SPEC", nargs="+", help="a kernel, as 6.12, path/to/linux or source:6.12")
    for kernel in resolve(parser.parse_args(arguments).specs, say):
        print(kernel.name)
        for field in ("spec", "release", "version", "image", "modules", "config", "vmlinux"):
            print(f"  {field:8} {getattr(kernel, field)}")
