"""Show, convert, merge and compare runs.

    python -m vm results RUN… [--format FORMAT] [--html FILE] [--merge DIR]
    python -m vm results merge RUN… [--into DIR]         shards and kernels as one: complete, or what is missing
    python -m vm results history RUN…                    streaks, flips, first bad runs, flaky tests
    python -m vm results mail TEST [RUN…]                one failure as a report to send

RUN is the directory of a run (``results/latest``), or a file in it: ``results.json``, or ``events.jsonl``, which a run
that was killed has as well. Several runs are shown as one, in which a test that failed once has failed; matrix and diff
keep them apart.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from vm.base.command import Parser, command
from vm.base.errors import UsageError
from vm.base.files import whole_directory
from vm.base.words import plural
from vm.report import files, kcidb, page
from vm.results import diff, events, junit, ktap, lava, markdown, matrix, model, timings, tmt, write
from vm.results.boots import told_apart
from vm.results.merge import absent_shards, keep_files, merge, placed
from vm.results.table import summary_lines, table

_OTHERS = {"history": "vm.results.history", "mail": "vm.results.mail"}


@command
def main(argv: Sequence[str]) -> int:
    """Print one view of runs; return the exit status."""
    if argv and argv[0] in _OTHERS:
        return int(importlib.import_module(_OTHERS[argv[0]]).main(argv[1:]))
    if argv and argv[0] == "merge":
        return merge_command(argv[1:])
    options = _options(argv)
    if options.format in _COMPARISONS:
        if options.merge or options.status:
            raise UsageError(f"--format {options.format} keeps runs apart: give no --merge and no --status")
        return _COMPARISONS[options.format]([str(path) for path in options.results])
    if options.base and options.format != "markdown":
        raise UsageError("--base is what --markdown compares with; two runs side by side: --format diff")
    if sum(map(bool, (options.html, options.kcidb, options.merge))) > 1:
        raise UsageError("give one of --html, --kcidb and --merge; call this once for each file")
    if options.status and (options.html or options.kcidb):
        raise UsageError("--status is of what is printed or merged: give it without --html and --kcidb")
    if options.kcidb:
        return _kcidb(_merged(options.results, None), options)
    if options.html:
        return _page(options.results, options.html)
    run = _merged(options.results, options.merge)
    if options.merge:
        pass
    elif options.format == "markdown":
        _print(markdown.render(run, events.load(options.base) if options.base else None))
    else:
        _print(_FORMATS[options.format](run))
    return run.status if options.status else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m vm results", description=__doc__, formatter_class=formatter)
    parser.add_argument("results", metavar="RUN", nargs="+", type=Path, help="directory of a run, or a file in it")
    formats = [*_FORMATS, "markdown", *_COMPARISONS]
    parser.add_argument("--format", choices=formats, default="table", help="what to print (default: %(default)s)")
    parser.add_argument("--markdown", action="store_const", dest="format", const="markdown", help=(
        "the run in short, for a summary on GitHub or a mail: --format markdown"
    ))  # fmt: skip
    parser.add_argument("--html", metavar="FILE", type=Path, help=(
        "write the page of these runs to FILE: kernels side by side, or runs of one kernel"
    ))  # fmt: skip
    parser.add_argument("--kcidb", metavar="FILE", type=Path, help=(
        "write the run for KCIDB (schema 5.3) to FILE, and say which kernels the dashboard will not list"
    ))  # fmt: skip
    parser.add_argument("--origin", default="", metavar="NAME", help=(
        f"kcidb: who submits, as KernelCI knows it (default: ${kcidb.ORIGIN_VARIABLE}, or {kcidb.ORIGIN})"
    ))  # fmt: skip
    parser.add_argument("--tree", metavar="DIR", type=Path, help=(
        "kcidb: a clone of the kernel, to look up the commits of packaged kernels' upstream versions"
    ))  # fmt: skip
    parser.add_argument("--base", metavar="RUN", type=Path, help="markdown: an earlier run; say what changed since")
    parser.add_argument("--merge", metavar="DIR", type=Path, help="write one run's files into DIR, print nothing")
    parser.add_argument("--status", action="store_true", help="end with the exit status that the run has")
    return parser.parse_args(argv)


def _page(paths: Sequence[Path], target: Path) -> int:
    if why := page.available():
        raise UsageError(why)
    try:
        page.write(events.load_all(paths), target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; give --html a file in a directory") from error
    print(target)
    return 0


def _kcidb(run: model.Run, options: argparse.Namespace) -> int:
    said = kcidb.document(run, options.origin, options.tree)
    write.put(options.kcidb, json.dumps(said) + "\n")
    for comment in kcidb.unlisted(said):
        print(f"no commit is known, the dashboard will not list it: {comment}")
    print(options.kcidb)
    return 0


def merge_command(argv: Sequence[str]) -> int:
    """Put shards and kernels together; return 0 when they are complete and well."""
    parser = Parser(prog="python -m vm results merge", description=(
        "Put the shards and kernels of several runs together, and say what is missing. A kernel that was booted with "
        "another command line or .config is another: 6.12.117 (fips=1). The exit status is that of the whole: 0 when "
        "every shard is there and all is well."
    ))  # fmt: skip
    parser.add_argument("results", metavar="RUN", nargs="+", type=Path, help="directory of a run, or a file in it")
    parser.add_argument("--into", metavar="DIR", type=Path, help="write the files of the whole run there; it is new")
    parser.add_argument("--kernel", action="append", default=[], metavar="NAME", help=(
        "a kernel that must be among them, as the results name it or as it was asked for; may be given several times"
    ))  # fmt: skip
    options = parser.parse_args(argv)
    found = _found(options.results)
    run = _together(found, options.into)
    missing = [
        f"missing: kernel {wanted}, which is in none of these runs"
        for wanted in options.kernel
        if not any(wanted in (kernel.name, kernel.spec) for kernel in run.kernels)
    ]
    for kernel in run.kernels:
        count = sum(not test.verdict.ran for test in kernel.tests)
        if shards := absent_shards([each for _, each in found], kernel.name):
            missing.append(f"missing: shard {', '.join(shards)} of {kernel.name}: {plural(count, 'test')} not run")
    _print("\n".join([*missing, _table(run)]))
    return run.status or int(bool(missing))


def _print(text: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # as the XML says of itself
    sys.stdout.write(text)


def _merged(paths: Sequence[Path], target: Path | None) -> model.Run:
    """Return the runs as one, and write it to ``target`` when there is one; a shard may be by itself."""
    found = _found(paths)
    return found[0][1] if len(found) == 1 and target is None else _together(found, target)


def _found(paths: Sequence[Path]) -> list[tuple[Path, model.Run]]:
    """Return runs with their directories, kernels of one name that were booted otherwise told apart."""
    found = events.load_all(paths)
    return list(zip([place for place, _ in found], told_apart(found), strict=True))


def _together(found: Sequence[tuple[Path, model.Run]], target: Path | None) -> model.Run:
    """Return the runs as one, in which tests of shards that are not there are missing; write it to ``target``."""
    if target is None:
        return merge([placed(run, str(place)) if len(found) > 1 else run for place, run in found])
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise UsageError(f"{target} is there already; give --merge a directory that is new")
    # Two directories may have runs of one name, from two machines.
    names = [f"{number}-{run.id[:40]}" for number, (_, run) in enumerate(found, 1)]
    run = merge([placed(run, name) for (_, run), name in zip(found, names, strict=True)])
    try:
        with whole_directory(target) as new:
            for (place, each), name in zip(found, names, strict=True):
                keep_files(each, place, new / name)
            files.write(run, new)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; give another directory") from error
    return run


def _table(run: model.Run) -> str:
    return "\n".join([*summary_lines(run), "", table(run), ""])


_FORMATS = {
    "table": _table,
    "json": model.dump,
    "junit": junit.render,
    "ktap": ktap.render,
    "tap": ktap.render_tap,
    "tmt": tmt.render,
    "lava": lava.render,
    "timings": timings.render,
}
_COMPARISONS = {"matrix": matrix.main, "diff": diff.main}
