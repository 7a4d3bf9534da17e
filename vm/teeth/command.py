"""``python -m vm teeth``: build kernels with faults made for the purpose, and see which tests notice."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from vm.base import process
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.words import plural
from vm.kernels.build import build as kernels
from vm.kernels.build.plan import Plan
from vm.run import command as run
from vm.run import near
from vm.teeth import build, reach, report, reproducers
from vm.teeth.changes import Mutant, base, fixes, mutants
from vm.teeth.plan import Bite, Bites
from vm.teeth.reach import Reach

DATA = ROOT / "tests" / "teeth"
NEAR = "near.json"
VARIANT = "mutants"
_SECONDS = 15.0
_WHOLE = 180.0
# Tests that noticed others of a file, with which a mutant of it begins.
_NEAR = 20
# Of the suite, on the host.
_COLLECT = 300.0
_NOTHING = Reach()


@command
def main(arguments: Sequence[str]) -> int:
    """Change a kernel, one fault after the other, and say which tests noticed: ``python -m vm teeth --help``.

    Returns:
        0 when every mutant that is not equivalent was noticed and every fix has its proof; 1 else.

    Raises:
        UsageError: no such mutant, or the kernel cannot be built.
    """
    options, further = _parser().parse_known_args(run.joined(arguments))
    chosen = [] if options.reach else _chosen(options.names)
    if options.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    spec = f"{options.kernel}+{VARIANT}"
    tree, variants = kernels.tree_of(spec, say)
    kernels.build(tree, variants, say)
    kernel = kernels.planned(tree, variants, say)
    if options.reach:
        return _reach(spec, kernel, options.names, further, DATA / NEAR if options.record else None)
    always, release = base(DATA / "base.toml")
    built = build.build(kernel, chosen, always, say)
    killers = report.recorded(DATA)
    if options.reproducers is not None:
        return reproducers.main(kernel, spec, built, killers, release, options.reproducers, options.whole, say)
    if (known := reach.load(_map_of(kernel))) is None:
        say(f"{kernel.label}: which tests reach a mutant is not known; with --reach once, it is noticed sooner")
        known = Reach()
    # Mixed, so that what was done of a run that is ended early is a fair sample; and always alike.
    mixed = sorted(built, key=lambda one: hashlib.sha256(one.mutant.name.encode()).digest())
    plan = Bites(
        bites=tuple(_bite(one, killers, known) for one in mixed if one.modules),
        release=release,
        seconds=options.seconds or (_WHOLE if options.whole else _SECONDS),
        whole=options.whole,
        folders=_folders() if known.tests else (),
        known=tuple(one.test for one in known.tests),
        took=tuple(one.seconds for one in known.tests),
    )
    return report.main(built, _run(spec, plan, further), DATA if options.record else None)


def _run(spec: str, plan: Bites, further: Sequence[str]) -> Path | None:
    """Have guests do it, and return where their results are."""
    with tempfile.TemporaryDirectory(dir=build.directory()) as directory:
        path = Path(directory, "bites.json")
        plan.save(path)
        last = run.Run()
        if plan.bites:
            _compile()
            pytest.main(_words(spec, path, further), plugins=[last])
        return last.directory


def _reach(spec: str, kernel: Plan, places: Sequence[str], further: Sequence[str], record: Path | None) -> int:
    """Find out which functions each test of some places reaches, and keep it. Returns an exit status.

    Args:
        record: file for the tests near each function, None for none.
    """
    folders = _folders()
    for place in places:
        if not place.startswith(folders) or not (ROOT / place).exists():
            raise UsageError(f"{place}: no place of tests that look for mutants; they are in {', '.join(folders)}")
    always, release = base(DATA / "base.toml")
    functions: dict[str, dict[str, None]] = {}
    for mutant in _mutants():
        if mutant.function:
            functions.setdefault(mutant.sources[0], {})[mutant.function] = None
    modules, names = build.counting(kernel, functions, always)
    files = tuple((name, str(file)) for name, file in modules.items())
    bites = tuple(
        Bite(Mutant(f"reach:{place}", (), (place,), unchanged=""), files, counts=True) for place in places or folders
    )
    packed, lost = report.reached(bites, _run(spec, Bites(bites, release, _SECONDS, whole=True), further))
    known = reach.load(_map_of(kernel)) or Reach()
    found = reach.unpack(packed, names).besides(known)
    found.save(_map_of(kernel))
    if record:
        near.save(record, found.nearest(report.recorded(DATA)))
    unseen = [name for place, name in enumerate(names) if not any(one.flags[place] == "Y" for one in found.tests)]
    print(f"{len(found.tests)} tests, {plural(len(names), 'function')}; reached by none: {', '.join(unseen) or '-'}")
    for name, why in lost.items():
        print(f"{name}: {why}")
    return 1 if lost else 0


def _map_of(kernel: Plan) -> Path:
    """Return where it is kept what the tests of a kernel reach."""
    digest = hashlib.sha256(str(kernel.out).encode() + (kernel.out / "done.json").read_bytes()).hexdigest()
    return build.directory() / f"reach-{digest[:16]}.json.z"


def _folders() -> tuple[str, ...]:
    """Return the folders (``tests/errors``), and files beside them, whose tests look for mutants."""
    places = {place.partition("::")[0] for mutant in _mutants() for place in mutant.tests}
    folders = {"/".join(place.split("/")[:2]) for place in places}
    return tuple(sorted(folders))


def _bite(one: build.Built, killers: Mapping[str, tuple[str, ...]], known: Reach = _NOTHING) -> Bite:
    """Return a mutant for a guest. Without a change, what noticed any mutant of the file must not notice anything."""
    mutant, files = one.mutant, tuple((name, str(file)) for name, file in one.modules.items())
    own = f"{mutant.name.partition(':')[0]}:"
    if mutant.fix:
        return Bite(mutant, files, killers.get(mutant.name, ()))
    if mutant.changes:
        near = (*_noticed(killers, f"{own}{mutant.function}."), *_noticed(killers, own)[:_NEAR])
        first = tuple(dict.fromkeys((*killers.get(mutant.name, ()), *near)))
        return Bite(mutant, files, first, known.of(mutant.sources[0], mutant.function) or "")
    noticed = _noticed(killers, own)
    return Bite(dataclasses.replace(mutant, tests=()) if noticed else mutant, files, noticed)


def _noticed(killers: Mapping[str, tuple[str, ...]], place: str) -> tuple[str, ...]:
    """Return the tests that noticed mutants whose names begin so, those that noticed most first."""
    counts = Counter(test for name, tests in killers.items() if name.startswith(place) for test in tests)
    return tuple(test for test, _ in counts.most_common())


def _compile() -> None:
    """Have the suite's bytecode beside it, so that not each machine has to make it; a guest takes a minute for it."""
    words = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", "tests"]
    process.run(words, deadline=_COLLECT, cwd=ROOT, environment={"PYTHONDONTWRITEBYTECODE": ""})


def _words(spec: str, path: Path, further: Sequence[str]) -> list[str]:
    """Return the words of the run: machines may end as often as a mutant ends them, and stalls are seen early."""
    return [
        *("-p", "vm.teeth.plugin", f"--teeth={path}", f"--kernel={spec}", "--vm-restarts=100000", "-q", "--tb=line"),
        *("--vm-memory=1536", "-p", "no:cacheprovider", "-r", "fE", "--no-known-issues"),
        *(f"--kernel-argument={word}" for word in ("slub_debug=FZPU", "sysctl.kernel.panic_on_rcu_stall=1")),
        *further,
        str(Path(__file__).with_name("bites.py").relative_to(ROOT)),
    ]


def _parser() -> Parser:
    parser = Parser(prog="python -m vm teeth", description=__doc__, epilog=(
        "Further options are the runner's: --vms 2. Mutants and proofs are in tests/teeth, see vm/teeth/changes.py."
    ))  # fmt: skip
    add = parser.add_argument
    add(
        "names",
        nargs="*",
        metavar="NAME",
        help="of mutants, * is anything: 'gcm:*' 'fix:*' (default: all)",
    )
    add(
        "--kernel",
        default="source:6.12",
        metavar="SPEC",
        help="what is changed: source:VERSION or a tree (default: %(default)s)",
    )
    add(
        "--whole",
        action="store_true",
        help="all tests of each mutant, not only until one notices: takes hours",
    )
    add(
        "--seconds",
        type=float,
        help=f"for a mutant's tests, scaled like deadlines (default: {_SECONDS:g})",
    )
    add(
        "--record",
        action="store_true",
        help="write down which tests noticed, or with --reach are near: runs begin with them",
    )
    add(
        "--reach",
        action="store_true",
        help="no mutant: find out which of the kernel's functions each test of the places NAME (default: all) reaches; "
        "runs of mutants leave out the others then (kept in the cache; again after new tests)",
    )
    add(
        "--reproducers",
        type=Path,
        metavar="DIRECTORY",
        help="no search: write there a C program of each mutant of which a test is known that notices, and try it with "
        "and without the mutant",
    )
    add("--list", action="store_true", help="only list the mutants")
    return parser


def _mutants() -> list[Mutant]:
    return [mutant for file in sorted((DATA / "mutants").glob("*.toml")) for mutant in mutants(file)]


def _chosen(names: Sequence[str]) -> list[Mutant]:
    every = _mutants()
    every += [fix.mutant() for fix in fixes(DATA / "proofs.toml") if fix.changes]
    for name in names:
        if not fnmatch.filter((mutant.name for mutant in every), name):
            raise UsageError(f"no mutant {name!r}; python -m vm teeth --list lists them")
    return [mutant for mutant in every if not names or any(fnmatch.fnmatch(mutant.name, name) for name in names)]
