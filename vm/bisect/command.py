"""Find what changed the answer of a test: which package, which image, or which commit.

    python -m vm bisect TEST… --good 6.12.74 --bad 6.12.90                    among packaged kernels
    python -m vm bisect TEST… --kernels A B C D …                             among kernels given in order
    python -m vm bisect TEST… --tree ~/linux --good v6.12.95 --bad v6.12.117  among commits, by git bisect
    python -m vm bisect step TEST… --kernel PATH                              one step: exit status 0, 1, 125, 128
    python -m vm bisect --program FILE --good … --bad …                       by a program of vm/reproducer

Good may be older than bad or newer: then it says what fixed it. Both ends are judged first. What was judged is kept
below ``results/bisect``, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vm.base import files
from vm.base.command import USAGE, Parser, say
from vm.base.errors import BuildFailed, UsageError
from vm.base.files import ROOT
from vm.base.progress import Progress
from vm.base.words import plural
from vm.bisect import git as bisect_git
from vm.bisect import packages as bisect_packages
from vm.bisect import search as bisect_search
from vm.bisect.judge import Answer, Hunt, Judgement, assert_there_is_a_test, judge
from vm.bisect.notebook import Notebook
from vm.kernels import packaged
from vm.kernels.build import build, sources
from vm.kernels.catalogue import Candidate
from vm.kernels.resolve import resolve_one

FOUND, NOT_FOUND = 0, 1


class Bisection:
    """Asks one kernel after the other, tells and keeps the answers.

    Args:
        notebook: of what is known.
        hunt: what to run.
        progress: told in one line each what is done.
    """

    def __init__(self, notebook: Notebook, hunt: Hunt, progress: Progress) -> None:
        self.notebook = notebook
        self.hunt = hunt
        self.progress = progress
        self.searched: tuple[str, ...] = ()

    def ask(self, label: str, spec: Callable[[], str]) -> Judgement:
        """Judge one kernel, unless that was done already.

        Args:
            label: names it to people.
            spec: gives its spec, built or fetched first when that has to be.
        """
        said = self.notebook.of(label)
        if said is None:
            began = time.monotonic()
            self.progress(f"{label}: …")
            try:
                ready = spec()
            except BuildFailed as error:
                said = Judgement("skip", f"does not build: {error}")
            except UsageError as error:
                said = Judgement("skip", f"cannot be had: {error}")
            else:
                build = time.monotonic() - began
                said = judge(ready, self.hunt, self.searched, self.notebook.place(label), self.progress)
                said = replace(said, seconds={"build": round(build, 1), **said.seconds})
            self.notebook.add(label, said)
        self.progress(f"{label}: {said.answer}: {said.reason}")
        return said

    def ends(self, good: tuple[str, Callable[[], str]], bad: tuple[str, Callable[[], str]]) -> None:
        """Make sure that the ends are what the user says, and learn what the bug looks like.

        Raises:
            UsageError: one of them is not.
        """
        self.searched = ()
        said = self._end("bad", *bad)
        self.searched = said.fingerprints
        for each in self.searched:
            self.progress(f"looking for: {each}")
        self._end("good", *good)

    def _end(self, answer: str, label: str, spec: Callable[[], str]) -> Judgement:
        said = self.ask(label, spec)
        if said.answer != answer:
            instead = f"is not {answer} but {said.answer}" if said.answer in ("good", "bad") else "cannot be judged"
            raise UsageError(f"{label} {instead} ({said.reason}): nothing to bisect; see {said.log}")
        return said


def among(
    labels: Sequence[str], specs: Sequence[Callable[[], str]], good_first: bool, bisection: Bisection
) -> bisect_search.Change | None:
    """Find where the answer changes among kernels in order.

    Raises:
        UsageError: the ends are not good and bad.
    """
    ends = [(labels[index], specs[index]) for index in (0, -1)]
    bisection.ends(*(ends if good_first else ends[::-1]))
    words = ("good", "bad") if good_first else ("bad", "good")
    bisection.progress(f"{len(labels)} kernels, about {bisect_search.estimate(len(labels))} steps")
    return bisect_search.search(
        len(labels), lambda index: bisection.ask(labels[index], specs[index]), words[0], words[1]
    )


def report(bisection: Bisection, order: Sequence[str] = ()) -> list[str]:
    """Return the steps as a table: kernel, answer, seconds and reason; in ``order``, or as they were made."""
    steps = dict(bisection.notebook.steps)
    labels = [label for label in order if label in steps] or list(steps)
    rows: list[tuple[str, ...]] = [("kernel", "answer", "runs", "build s", "boot s", "test s", "total s", "why")]
    for label in labels:
        said = steps[label]
        times = [f"{said.seconds[name]:.0f}" if name in said.seconds else "-" for name in ("build", "boot", "test")]
        total = f"{said.seconds.get('build', 0) + said.seconds.get('total', 0):.0f}"
        rows.append((label, said.answer, str(said.runs), *times, total, said.reason[:100]))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[7]]) for row in rows]


def certainty(bisection: Bisection, unknown: int) -> str:
    """Say how sure the result is."""
    steps = dict(bisection.notebook.steps).values()
    runs = bisection.hunt.repeat
    words = [f"both ends were judged, each good kernel by {plural(runs, 'run')}"]
    if runs == 1:
        words.append("a race may need REPEAT=n")
    others = sum(one.answer == "skip" for one in steps)
    words.append(f"{others} could not be judged" if others else "every kernel on the way could be judged")
    if unknown:
        words.append(f"{unknown} of them between the two")
    return "; ".join(words)


# -- the ways to ask ---------------------------------------------------------------------------------------


def packages(options: argparse.Namespace, hunt: Hunt) -> int:
    """Bisect over packaged kernels."""
    span, good_first = bisect_packages.between(options.good, options.bad, options.suite, say)
    for note in span.notes:
        say(note)
    if span.holes:
        say(f"left out, since they cannot be had: {', '.join(span.holes)}")
    labels = [candidate.version for candidate in span.candidates]
    question = ["packages", labels, *_asked(hunt)]
    bisection = Bisection(Notebook.open(_place(options), question, say), hunt, say)
    specs = [functools.partial(_fetched, candidate) for candidate in span.candidates]
    change = among(labels, specs, good_first, bisection)
    status = _conclude(bisection, labels, change, good_first)
    if change is not None:
        older, newer = span.candidates[change.before], span.candidates[change.after]
        _print_changelog(older, newer)
    return status


def listed(options: argparse.Namespace, hunt: Hunt) -> int:
    """Bisect over kernels given one by one; the first is good unless ``--good`` names the last."""
    labels = list(options.kernels)
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise UsageError(f"expected at least two different kernels in order, got {' '.join(labels)!r}")
    good_first = options.good != labels[-1]
    bisection = Bisection(Notebook.open(_place(options), ["kernels", labels, *_asked(hunt)], say), hunt, say)
    change = among(labels, [functools.partial(_resolved, label) for label in labels], good_first, bisection)
    return _conclude(bisection, labels, change, good_first)


def commits(options: argparse.Namespace, hunt: Hunt) -> int:
    """Bisect over the commits of a tree, in a work tree of our own."""
    with bisect_git.WorkTree.taken(options.tree, options.good, options.bad, say) as work:
        question = ["commits", work.source, work.good, work.bad, options.build, *_asked(hunt)]
        bisection = Bisection(Notebook.open(_place(options), question, say), hunt, say)
        ends = {}
        for name, commit in (("good", work.good), ("bad", work.bad)):
            ends[name] = (work.describe(commit), _at(work, commit, options.build))
        bisection.ends(ends["good"], ends["bad"])
        found = work.bisect(lambda commit: _exit_status(bisection, work, commit, options.build), say)
        lines = report(bisection)
        print("\n".join(["", *lines, ""]))
        if found.commit is None:
            print(f"not found: {found.words}")
            return NOT_FOUND
        bad_is_new = work.bad_is_newer
        said = [
            f"{'first bad' if bad_is_new else 'first good'} commit: {work.oneline(found.commit)}",
            f"test: {hunt.named}",
            f"again: {_step_command(hunt, options.tree, found.commit, bad_is_new)}",
            f"sure: {certainty(bisection, 0)}",
        ]
        bisection.notebook.save(finished=True, found=said)
        print("\n".join(said))
    return FOUND


def step(options: argparse.Namespace, hunt: Hunt) -> int:
    """Judge one kernel and leave with the status that ``git bisect run`` wants.

    Without ``--fingerprint`` every failure of the test counts as the bug.
    """
    try:
        spec = bisect_git.built(Path(options.kernel), options.build) if options.build else _resolved(options.kernel)
    except BuildFailed as error:
        say(f"skip: does not build: {error}")
        return Answer.SKIP.value
    place = _place(options)
    place.mkdir(parents=True, exist_ok=True)
    directory = place / f"step-{time.strftime('%Y-%m-%dT%H-%M-%S')}-{os.getpid()}"
    said = judge(spec, hunt, options.fingerprint, directory, say)
    print(f"{said.answer}: {said.reason} ({files.shown(directory)})")
    for each in said.fingerprints:
        print(f"fingerprint: {each}")
    return Answer[said.answer.upper()].value


# -- helpers -----------------------------------------------------------------------------------------------


def _exit_status(bisection: Bisection, work: bisect_git.WorkTree, commit: str, build: str) -> str:
    return bisection.ask(work.describe(commit), _at(work, commit, build)).answer


def _at(work: bisect_git.WorkTree, commit: str, build: str) -> Callable[[], str]:
    def spec() -> str:
        work.checkout(commit)
        return bisect_git.built(work.path, build) if build else _resolved(str(work.path))

    return spec


def _resolved(spec: str) -> str:
    """Build or fetch a kernel; return the spec of exactly the result."""
    if Path(spec).is_dir():
        # Not what others built of the tree: that may be of another commit. And by a name without a version, so that
        # the builds of all commits share one directory.
        tree = sources.local(Path(spec))
        kernel = build.build(replace(tree, label=f"bisect-{tree.path.name}"), (), say)
    else:
        kernel = resolve_one(spec, say)
    # A tree would be asked again whether it is built, and may change meanwhile; the copy of its result does not.
    return str(kernel.image) if kernel.image is not None else kernel.spec


def _fetched(candidate: Candidate) -> str:
    packaged.KERNELS.fetch(candidate, say)
    return bisect_packages.spec_of(candidate)


def _conclude(
    bisection: Bisection, labels: Sequence[str], change: bisect_search.Change | None, good_first: bool
) -> int:
    """Print the table and the result; return the exit status."""
    print("\n".join(["", *report(bisection, labels), ""]))
    if change is None:
        _, last = bisection.notebook.steps[-1]
        print(f"stopped: {last.reason}; give the same command again to go on")
        return NOT_FOUND
    before, after = labels[change.before], labels[change.after]
    words = ("is the last good one", "is the first bad one") if good_first else (
        "is the last bad one", "is the first good one"
    )  # fmt: skip
    said = [f"{before} {words[0]}, {after} {words[1]}"]
    if change.unknown:
        said.append(f"between them, and could not be judged: {', '.join(labels[index] for index in change.unknown)}")
    said += [f"test: {bisection.hunt.named}", f"sure: {certainty(bisection, len(change.unknown))}"]
    bisection.notebook.save(finished=True, found=said)
    print("\n".join(said))
    print(f"logs: {files.shown(bisection.notebook.directory)}")
    return FOUND


def _print_changelog(older: Candidate, newer: Candidate) -> None:
    try:
        lines = bisect_packages.crypto_changes(older, newer, say)
    except UsageError as error:
        print(f"changelog: {error}")
        return
    print(f"crypto in the changelog between them: {len(lines) or 'nothing'}")
    for line in lines:
        print(f"  {line}")


def _step_command(hunt: Hunt, tree: str, commit: str, is_bad: bool) -> str:
    good, bad = (f"{commit}^", commit) if is_bad else (commit, f"{commit}^")
    words = ["make", "bisect", f"TREE={tree}", f"GOOD={good}", f"BAD={bad}"]
    words.append(f"ARGS=--program {shlex.quote(hunt.program)}" if hunt.program else f"TEST={' '.join(hunt.tests)}")
    return shlex.join(words)


def _asked(hunt: Hunt) -> list[object]:
    asked = [hunt.tests, hunt.repeat, hunt.boot_failure_is_bad, hunt.arguments]
    if hunt.program:
        asked.append(hashlib.sha256(Path(hunt.program).read_bytes()).hexdigest())
    return asked


def _place(options: argparse.Namespace) -> Path:
    place = Path(options.results or ROOT / "results" / "bisect").absolute()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write in {place}: {error.strerror}; give another directory by --results") from error
    return place


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm bisect", description=__doc__, formatter_class=formatter)
    parser.add_argument("tests", nargs="*", metavar="TEST", help="file or id of the test, without the kernel: a.py::b")
    parser.add_argument("--program", default="", metavar="FILE", help=(
        "judge by this program in place of tests: C, or static (python -m vm reproducer writes one)"
    ))  # fmt: skip
    parser.add_argument("--good", default="", help="a kernel or commit on which the test passes")
    parser.add_argument("--bad", default="", help="one on which it fails")
    parser.add_argument("--tree", default="", help="git repository of the kernel")
    parser.add_argument("--kernels", nargs="+", default=[], metavar="SPEC", help="kernels in order, oldest first")
    parser.add_argument("--kernel", default=".", help="step: the kernel (default: the tree in this directory)")
    parser.add_argument("--suite", action="append", default=[], help="also look for packages here")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="for a race: good takes N good runs")
    parser.add_argument("--boot-failure", choices=("skip", "bad"), default="skip", help="what no boot means")
    parser.add_argument("--fingerprint", action="append", default=[], help="step: the failure to look for")
    parser.add_argument("--build", default="", metavar="COMMAND", help=(
        "make a commit's kernel by this, in its work tree; the last line it prints is the image"
    ))  # fmt: skip
    parser.add_argument("--results", default="", metavar="DIR", help="where logs go (default: results/bisect)")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG", help="further option for pytest")
    parser.add_argument("--project", default=str(ROOT), help=argparse.SUPPRESS)
    return parser


def _choose(options: argparse.Namespace, is_step: bool) -> Callable[[argparse.Namespace, Hunt], int]:
    if is_step:
        return step
    if options.kernels:
        return listed
    if not options.good or not options.bad:
        raise UsageError("expected --good and --bad: kernels (6.12.74), or with --tree commits (v6.12.95)")
    return commits if options.tree else packages


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end it as Ctrl-C does: guests are switched off, and what was judged is kept."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def main(arguments: Sequence[str]) -> int:
    """Run one bisection, or one step of one; return the exit status.

    That is 0 when it was found, 1 when not, 4 for wrong usage and 130 when interrupted; for a step see
    :class:`vm.bisect.judge.Answer`, with 128 for wrong usage too, since git takes less for an answer.
    """
    is_step = arguments[:1] == ["step"]
    wrong = Answer.STOP.value if is_step else USAGE
    try:
        options = _parser().parse_args(arguments[1:] if is_step else arguments)
        if options.repeat < 1:
            raise UsageError(f"expected a number of runs of at least 1 by --repeat, got {options.repeat}")
        tests = tuple(filter(None, options.tests))
        if bool(tests) == bool(options.program):
            raise UsageError("expected a test (TEST=tests/splice/test_in.py::test_…), or --program FILE in its place")
        hunt = Hunt(
            tests, options.repeat, options.boot_failure == "bad", tuple(options.pytest), Path(options.project),
            options.program,
        )  # fmt: skip
        with _terminable():
            if not is_step:
                assert_there_is_a_test(hunt)
            return _choose(options, is_step)(options, hunt)
    except UsageError as error:
        say(f"error: {error}")
        return wrong
    except KeyboardInterrupt:
        say("interrupted; give the same command again to go on")
        return 130
