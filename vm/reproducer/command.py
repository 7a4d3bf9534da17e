"""A C program that shows why a test is red, to be sent to somebody who has no Python.

    python -m vm reproducer TEST --kernel 5.10.223                   prints it, tried on that kernel
    python -m vm reproducer TEST --kernel 5.10.223 --good 6.12.117   tried on a good one, too, which says more
    python -m vm reproducer TEST… --kernel 5.10.223 --into DIR       several tests: a directory each
    python -m vm reproducer tests --sample 200 --into DIR --kernel 6.12    how many of 200 tests have one that is right
    python -m vm reproducer tests --pytest=-mfixed_by --into DIR --kernel 5.10.223 --good 6.12    the same of bugs
    python -m vm reproducer run FILE --kernel 6.12                   what it says there: a C file, or a static program

The test is run once more in a guest, where its system calls are recorded; then the program is written, its steps are
left out one by one as long as it shows the same, and it is tried. The exit status is 0 when each program does what it
is to do, else 1, with the reason.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vm.base import arch, files, toml
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.kernels.resolve import resolve_one
from vm.reproducer import guest, make
from vm.reproducer.compile import compiled, compiler
from vm.reproducer.make import Order, Program
from vm.results import reproducers
from vm.roots import options as root_options

# For all tests together: each of them has a deadline of its own.
_SECONDS = 6 * 3600.0


@command
def main(arguments: Sequence[str]) -> int:
    """Make programs, or run one; return the exit status."""
    if arguments[:1] == ["run"]:
        return _run(arguments[1:])
    options = _parser().parse_args(arguments)
    if not all(options.tests):
        raise UsageError(
            "expected a test: TEST=tests/regressions/test_aead.py::test_… (python -m vm results lists what is bad)"
        )
    kernel = resolve_one(options.kernel, say)
    compiler(kernel.architecture)
    with tempfile.TemporaryDirectory(prefix="vm-reproducer-") as name:
        machine = guest.Machine(options.kernel, _arguments(options), _SECONDS)
        good = guest.Machine(options.good, _arguments(options), _SECONDS) if options.good else None
        order = Order(
            machine,
            good,
            kernel.architecture,
            f"Linux {kernel.release}" + (f" ({kernel.version})" if kernel.version else ""),
            Path(name),
            whole=options.whole,
            fixes=fixed_by,
        )
        made = make.programs(order, options.tests, _chosen(options), say)
    return _told(made, Path(options.into) if options.into else None, options.good)


def _chosen(options: argparse.Namespace) -> list[str]:
    """Return options for pytest."""
    if options.sample and not options.into:
        raise UsageError("--sample makes programs of many tests: give --into DIR for them")
    return [f"--sample={options.sample}", f"--seed={options.seed}", *options.pytest]


def _told(made: Sequence[Program], into: Path | None, good: str) -> int:
    """Print or keep what was made; return the exit status."""
    if into is None and len(made) > 1:
        red = [each for each in made if each.outcome != "passed"]
        if len(red) != 1:
            raise UsageError(f"{len(made)} tests were run, {len(red)} of them red: give one, or --into DIR for all")
        made = red
    for each in made:
        if each.text:
            if into is None:
                sys.stdout.write(each.text)
            else:
                say(f"{files.shown(kept(each, into))}: {_summary(each)}")
        if into is None or not each.text:
            say(f"{each.test}: {_summary(each)}")
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
        (into / "summary.json").write_text(make.summary(made) + "\n")
        print(make.table(made, good))
    return 0 if all(each.works or each.outcome == "skipped" for each in made) else 1


def kept(program: Program, directory: Path) -> Path:
    """Write a program into a directory of its own; return its path."""
    place = directory / reproducers.slug(program.test)
    place.mkdir(parents=True, exist_ok=True)
    path = place / reproducers.NAME
    path.write_text(program.text)
    return path


def _summary(program: Program) -> str:
    if not program.works:
        return f"no program that shows it: {program.reason}"
    steps, whole = program.steps
    said = f"{len(program.text.splitlines())} lines, {steps} of {whole} calls; "
    said += "says as expected" if program.outcome == "passed" else f"shows it: {program.shown and program.shown.line}"
    return said + (", as expected on the good kernel" if program.good is not None else "")


def fixed_by(commits: Sequence[str]) -> list[str]:
    """Return what tests/known_issues.toml says of commits, a line each."""
    path = ROOT / "tests" / "known_issues.toml"
    known = {each["fix"]: each for each in toml.read(path).get("issue", [])} if path.exists() else {}
    lines = []
    for commit in commits:
        issue = known.get(commit, {})
        title = f' ("{issue["title"]}")' if "title" in issue else ""
        cve = f", {issue['cve']}" if "cve" in issue else ""
        lines.append(f"commit {commit}{title}{cve}")
    return lines


def _run(arguments: Sequence[str]) -> int:
    """Run a program in a guest; return its exit status, 1 when it takes the machine down."""
    parser = Parser(prog="python -m vm reproducer run", description=__doc__)
    parser.add_argument("program", type=Path, metavar="FILE", help="C source, or a static program")
    _add_machine(parser)
    options = parser.parse_args(arguments)
    kernel = resolve_one(options.kernel, say)
    with tempfile.TemporaryDirectory(prefix="vm-reproducer-") as name:
        binary = prepared(options.program, Path(name), kernel.architecture)
        machine = guest.Machine(options.kernel, _arguments(options))
        outcome = guest.run(machine, {"program": shlex.quote(str(binary))}, Path(name), say)["program"]
    print(outcome.output if outcome.status is not None else f"the machine went down: {outcome.output}")
    return 1 if outcome.status is None else outcome.status


def prepared(program: Path, place: Path, architecture: arch.Architecture) -> Path:
    """Return a program that can be run in a guest that sees ``place``: compiled when it is C, a copy of it else.

    Raises:
        UsageError: there is none, or it does not compile.
    """
    if not program.is_file():
        raise UsageError(f"no program {program}: expected C, or a static program (make reproducer writes one)")
    target = place / "program"
    if program.suffix == ".c":
        source = place / "program.c"
        shutil.copyfile(program, source)
        compiled(source, target, architecture)
    else:
        shutil.copyfile(program, target)
        target.chmod(0o755)
    return target


def _arguments(options: argparse.Namespace) -> tuple[str, ...]:
    words = [f"--cpus={options.cpus}", f"--memory={options.memory}", f"--root={options.root}"]
    return (*words, *(f"--kernel-argument={each}" for each in options.kernel_argument))


def _add_machine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kernel", default="", metavar="SPEC", help="kernel to run on (default: the newest packaged one)")
    add("--cpus", type=int, default=1, metavar="N", help="processors of the guest (default: %(default)s)")
    add("--memory", type=int, default=1024, metavar="MIB", help="memory of the guest (default: %(default)s)")
    add("--root", choices=root_options.KINDS, default="auto", help=root_options.HELP)
    add("--kernel-argument", action="append", default=[], metavar="ARG", help="append to the kernel's command line")


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm reproducer", description=__doc__, formatter_class=formatter)
    parser.add_argument("tests", nargs="+", metavar="TEST", help="id of a test without the kernel: a.py::b")
    _add_machine(parser)
    parser.add_argument("--good", default="", metavar="SPEC", help="a kernel on which the test passes")
    parser.add_argument("--whole", action="store_true", help="leave no step out")
    parser.add_argument("--into", default="", metavar="DIR", help="write programs there instead of printing one")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="of many tests N, chosen by chance")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of that chance: the same tests each time")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG", help="further option for pytest")
    return parser
