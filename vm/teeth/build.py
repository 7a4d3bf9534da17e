"""Modules of a kernel with changes in their source, each in a directory of its own.

The kernel itself was built by ``kernels/build`` and stays as it is. A changed source file is compiled by the command
that kbuild noted for it (``.X.o.cmd``), and linked with what modpost made for the module: that is half a second, where
make would take five. So a change must not use symbols that the module did not use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vm.base import cache, process, room
from vm.base.errors import BuildFailed
from vm.base.progress import Progress
from vm.kernels.build import make
from vm.kernels.build.plan import Plan
from vm.teeth.changes import Change, DoesNotApply, Mutant, apply

DEADLINE = 300.0

Owners = dict[str, tuple[str, tuple[str, ...]]]
"""Each source file's module, and all source files of that module."""


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
        progress: told now and then how far it is.
    """
    owners = _owners(plan)
    workers = room.processors()
    progress(f"{plan.label}: building {len(mutants)} mutants")
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda mutant: _one(plan, owners, mutant, base), mutants))


def directory() -> Path:
    """Return the directory of the cache that has changed modules."""
    path = cache.cache_dir() / "mutants"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _one(plan: Plan, owners: Owners, mutant: Mutant, base: Sequence[Change]) -> Built:
    try:
        changed = _changed(plan.tree.path, mutant, base)
    except DoesNotApply as error:
        return Built(mutant, {}, str(error), applies=False)
    modules: dict[str, Path] = {}
    for source in changed:
        if source not in owners:
            return Built(mutant, {}, f"{source} is in no module of this kernel", applies=False)
    for module in dict.fromkeys(owners[source][0] for source in changed):
        try:
            modules[module] = _module(plan, module, owners, changed)
        except BuildFailed as error:
            return Built(mutant, {}, str(error))
    return Built(mutant, modules)


def _changed(tree: Path, mutant: Mutant, base: Sequence[Change]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for source in dict.fromkeys([*mutant.sources, *(change.source for change in base)]):
        if not (tree / source).is_file():
            raise DoesNotApply(f"there is no {source}")
        texts[source] = (tree / source).read_text(errors="surrogateescape")
    for change in (*base, *mutant.changes):
        texts[change.source] = apply(texts[change.source], change)
    return texts


def _owners(plan: Plan) -> Owners:
    """Return each source file's module and all of that module's source files, as kbuild noted them (``X.mod``)."""
    owners = {}
    for noted in sorted((plan.out / "crypto").glob("*.mod")):
        sources = tuple(word.removesuffix(".o") + ".c" for word in noted.read_text().split() if word.endswith(".o"))
        for source in sources:
            owners[source] = (f"crypto/{noted.stem}", sources)
    return owners


def _module(plan: Plan, module: str, owners: Owners, changed: dict[str, str]) -> Path:
    sources = next(all_ for owner, all_ in owners.values() if owner == module)
    texts = {
        source: changed.get(source, (plan.tree.path / source).read_text(errors="surrogateescape")) for source in sources
    }
    for source in changed:
        if source in texts and not texts[source].endswith("\n\n"):
            texts[source] += "\n"  # Compiled anew even where nothing else is changed.
    digest = hashlib.sha256()
    for part in (str(plan.out), (plan.out / "done.json").read_text(), *sorted(texts), *texts.values()):
        digest.update(part.encode(errors="surrogateescape") + b"\0")
    entry = directory() / f"{Path(module).name}-{digest.hexdigest()[:16]}"
    made = cache.entry(entry, lambda directory: _compile(plan, module, texts, directory))
    return made / f"{Path(module).name}.ko"


def _compile(plan: Plan, module: str, texts: dict[str, str], directory: Path) -> None:
    name = Path(module).name
    commands = []
    objects = [f"crypto/{Path(source).stem}.o" for source in texts]
    for source, text in texts.items():
        stem = Path(source).stem
        if text == (plan.tree.path / source).read_text(errors="surrogateescape"):
            continue
        (directory / f"{stem}.c").write_text(text, errors="surrogateescape")
        own = {f"crypto/{stem}.o": directory / f"{stem}.o", f"../{source}": directory / f"{stem}.c"}
        own[f"crypto/.{stem}.o.d"] = directory / f"{stem}.d"
        commands.append(_moved(_saved(plan, f"crypto/{stem}.o"), own) + " -I../crypto")
        objects[objects.index(f"crypto/{stem}.o")] = str(directory / f"{stem}.o")
    if len(objects) > 1:
        commands.append(f"ld -z noexecstack -r -o {directory}/{name}.o {' '.join(objects)}")
    own = {f"{module}.ko": directory / f"{name}.ko", f"{module}.o": directory / f"{name}.o"}
    commands.append(_moved(_saved(plan, f"{module}.ko"), own))
    commands.append(f"strip --strip-debug {directory}/{name}.ko")
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
