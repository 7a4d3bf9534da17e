"""Modules of a kernel with changes in their source, each in a directory of its own.

The kernel itself was built by ``kernels/build`` and stays as it is. A changed source file is compiled by the command
that kbuild noted for it (``.X.o.cmd``), and linked with what modpost made for the module: that is half a second, where
make would take five. So what a change refers to must be in the kernel or in modules that this one needs anyway.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vm.base import cache, process, room
from vm.base.errors import BuildFailed
from vm.base.progress import Progress
from vm.kernels.build import make
from vm.kernels.build.plan import Plan
from vm.teeth import reach
from vm.teeth.changes import Change, DoesNotApply, Mutant, apply

DEADLINE = 300.0


class Module(NamedTuple):
    """A module, by its path below ``kernel/`` without suffix (``crypto/af_alg``), and its source files."""

    path: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """``af_alg``."""
        return Path(self.path).name


@dataclass(frozen=True)
class Built:
    """What became of a mutant.

    Attributes:
        mutant: the mutant.
        modules: its file of each changed module, by the module's path below ``kernel/`` (``crypto/af_alg``).
        trouble: why there is none: it does not apply, or the compiler refused it.
        applies: False for what this kernel does not have.
    """

    mutant: Mutant
    modules: dict[str, Path]
    trouble: str = ""
    applies: bool = True


def build(plan: Plan, mutants: Sequence[Mutant], base: Sequence[Change], progress: Progress) -> list[Built]:
    """Build the modules of all mutants of one kernel; what was built once is taken from the cache.

    Args:
        plan: of the kernel, which is built.
        mutants: in any order.
        base: changes that are in each kernel besides.
        progress: told how many there are.
    """
    owners = _owners(plan)
    progress(f"{plan.label}: building {len(mutants)} mutants")
    with ThreadPoolExecutor(room.processors()) as pool:
        return list(pool.map(lambda mutant: _one(plan, owners, mutant, base), mutants))


def counting(
    plan: Plan, functions: Mapping[str, Iterable[str]], base: Sequence[Change]
) -> tuple[dict[str, Path], list[str]]:
    """Build modules that tell which of their functions were called (vm/teeth/reach.py).

    Args:
        plan: of the kernel, which is built.
        functions: of each source file.
        base: changes that are in each kernel besides.

    Returns:
        The files, as ``Built.modules``, and the functions, as ``Reach.functions``.

    Raises:
        BuildFailed: the compiler refused one.
    """
    owners, names, changed = _owners(plan), [], {}
    for source, text in _texts(plan.tree.path, [s for s in functions if s in owners], base).items():
        stem = Path(source).stem
        changed[source], flagged = reach.instrument(text, stem, functions.get(source, ()))
        names += [f"{stem}:{function}" for function in flagged]
    modules = dict.fromkeys(owners[source] for source in changed)
    return {module.path: _module(plan, module, changed) for module in modules}, names


def directory() -> Path:
    """Return the directory of the cache that has changed modules."""
    path = cache.cache_dir() / "mutants"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _one(plan: Plan, owners: dict[str, Module], mutant: Mutant, base: Sequence[Change]) -> Built:
    try:
        changed = _changed(plan.tree.path, mutant, base)
    except DoesNotApply as error:
        return Built(mutant, {}, str(error), applies=False)
    if strays := [source for source in changed if source not in owners]:
        return Built(mutant, {}, f"{strays[0]} is in no module of this kernel", applies=False)
    try:
        modules = dict.fromkeys(owners[source] for source in changed)
        return Built(mutant, {module.path: _module(plan, module, changed) for module in modules})
    except BuildFailed as error:
        return Built(mutant, {}, str(error))


def _changed(tree: Path, mutant: Mutant, base: Sequence[Change]) -> dict[str, str]:
    """Return the new text of each source file that is compiled anew."""
    texts = _texts(tree, mutant.sources, base)
    for change in mutant.changes:
        texts[change.source] = apply(texts[change.source], change)
    return texts


def _texts(tree: Path, sources: Iterable[str], base: Sequence[Change]) -> dict[str, str]:
    """Return the text of some source files, and of those with changes that each kernel has."""
    texts: dict[str, str] = {}
    for source in dict.fromkeys([*sources, *(change.source for change in base)]):
        if not (tree / source).is_file():
            raise DoesNotApply(f"there is no {source}")
        texts[source] = (tree / source).read_text(errors="surrogateescape")
    for change in base:
        texts[change.source] = apply(texts[change.source], change)
    return texts


def _owners(plan: Plan) -> dict[str, Module]:
    """Return each source file's module, as kbuild noted them (``X.mod``)."""
    owners: dict[str, Module] = {}
    for noted in sorted((plan.out / "crypto").glob("*.mod")):
        objects = [word for word in noted.read_text().split() if word.endswith(".o")]
        module = Module(f"crypto/{noted.stem}", tuple(f"{word.removesuffix('.o')}.c" for word in objects))
        owners |= dict.fromkeys(module.sources, module)
    return owners


def _module(plan: Plan, module: Module, changed: dict[str, str]) -> Path:
    texts = {source: changed[source] for source in module.sources if source in changed}
    digest = hashlib.sha256()
    for part in (str(plan.out), (plan.out / "done.json").read_text(), *texts, *texts.values()):
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    entry = directory() / f"{module.name}-{digest.hexdigest()[:16]}"
    return cache.entry(entry, lambda made: _compile(plan, module, texts, made)) / f"{module.name}.ko"


def _compile(plan: Plan, module: Module, texts: dict[str, str], made: Path) -> None:
    """Fill a directory with the module, its files in ``texts`` compiled anew and the others as they are."""
    commands, objects = [], []
    for source in module.sources:
        stem = Path(source).stem
        objects.append(f"crypto/{stem}.o")
        if source in texts:
            (made / f"{stem}.c").write_text(texts[source], errors="surrogateescape")
            own = {f"crypto/{stem}.o": made / f"{stem}.o", f"../{source}": made / f"{stem}.c"}
            own[f"crypto/.{stem}.o.d"] = made / f"{stem}.d"
            commands.append(_moved(_saved(plan, f"crypto/{stem}.o"), own) + " -I../crypto")
            objects[-1] = str(made / f"{stem}.o")
    if len(objects) > 1:
        commands.append(f"ld -z noexecstack -r -o {made}/{module.name}.o {' '.join(objects)}")
    target = made / f"{module.name}.ko"
    own = {f"{module.path}.ko": target, f"{module.path}.o": made / f"{module.name}.o"}
    commands += [_moved(_saved(plan, f"{module.path}.ko"), own), f"strip --strip-debug {target}"]
    done = process.run(["sh", "-c", " && ".join(commands)], deadline=DEADLINE, cwd=plan.out)
    if done.status:
        raise BuildFailed(make.first_error(done.errors + done.output))


def _saved(plan: Plan, target: str) -> str:
    """Return the command that kbuild noted for a target: the compiler's or the linker's, and not objtool's."""
    file = plan.out / Path(target).parent / f".{Path(target).name}.cmd"
    command = file.read_text().splitlines()[0].partition(" := ")[2]
    return command.partition(" ; ")[0].removeprefix("ccache ")


def _moved(command: str, files: dict[str, Path]) -> str:
    """Return a command with other files in the place of those that it names."""
    words = {name: str(path) for name, path in files.items()}
    pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return re.sub(rf"(?<![\w./-])({pattern})(?![\w./-])", lambda found: words[found[1]], command)
