"""Line and branch coverage of the five files of AF_ALG, from kernels built with ``+coverage``.

    pytest -p vm.coverage.plugin --kernel source:6.12+coverage tests/

The kernel counts (CONFIG_GCOV_KERNEL, Documentation/dev-tools/gcov.rst) and shows its counters in debugfs. The
guest sends them along with the reports of its tests, at most once a second: the counters of a guest that
crashes are those of the report before. The host keeps the newest of each guest and adds them up when the run
ends: a table for the terminal, and a directory of HTML.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vm.base import cache, process
from vm.base.errors import UsageError
from vm.base.words import last_line
from vm.coverage import unreached
from vm.guest import internals

DEBUGFS = Path("/sys/kernel/debug/gcov")
FILES = ("af_alg", "algif_hash", "algif_skcipher", "algif_aead", "algif_rng")
EVERY_SECONDS = 1.0
# Bytes of the counters of one file.
_MOST_COUNTERS = 1 << 24
# What a report carries from the guest to the host: {"af_alg": compressed counters, …}.
ATTRIBUTE = "gcov_counters"
# The version of gcovr's own format (gcovr 8.8) that is written here.
TRACEFILE_VERSION = "0.15"

# (line, function, number of the branch on that line): one line can belong to several functions by inlining.
BranchKey = tuple[int, str, int]


@dataclass
class FileCoverage:
    """Counts of one source file, added up over guests.

    Attributes:
        lines: how often each line ran; lines without code are not in it.
        branches: how often each branch was taken.
        functions: first line and calls of each function.
        source: the text that was compiled.
    """

    lines: dict[int, int] = field(default_factory=dict)
    branches: dict[BranchKey, int] = field(default_factory=dict)
    functions: dict[str, tuple[int, int]] = field(default_factory=dict)
    source: str = ""

    def add(self, counted: Mapping[str, Any]) -> None:
        """Add what ``gcov --json-format`` says about this file in one guest."""
        for line in counted["lines"]:
            number, function = line["line_number"], line.get("function_name", "")
            self.lines[number] = self.lines.get(number, 0) + line["count"]
            for index, branch in enumerate(line["branches"]):
                key = (number, function, index)
                self.branches[key] = self.branches.get(key, 0) + branch["count"]
        for function in counted["functions"]:
            _, calls = self.functions.get(function["name"], (0, 0))
            self.functions[function["name"]] = (function["start_line"], calls + function["execution_count"])


# Says that a directory is of such runs alone.
_OURS = ".coverage-of-the-kernel"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --coverage-dir."""
    parser.getgroup("coverage of the kernel").addoption(
        "--coverage-dir", metavar="DIR",
        help="where coverage of the kernel goes: counters, HTML (default: coverage in the run's results)",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Be the guest's half, the host's half, or, without a machine, both."""
    in_guest = internals.workerinput(config) is not None
    distributed = bool(getattr(config.option, "tx", None)) or bool(getattr(config.option, "vm_kernels", None))
    if in_guest or not distributed:
        config.pluginmanager.register(Sender(DEBUGFS), "kernel-coverage-sender")
    if not in_guest:
        if config.getoption("--coverage-dir"):
            claim(_directory(config))
        config.pluginmanager.register(Collector(), "kernel-coverage-collector")


class Sender:
    """The guest's half: attaches the counters to the reports of tests."""

    def __init__(self, debugfs: Path) -> None:
        self.debugfs = debugfs
        self.sent = -math.inf
        self.last = False

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, nextitem: pytest.Item | None) -> Generator[None, object, object]:
        """Learn whether this is the guest's last test."""
        self.last = nextitem is None
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Attach the counters after a test, when they are due."""
        report = yield
        now = time.monotonic()
        if call.when == "teardown" and (self.last or now - self.sent >= EVERY_SECONDS):
            self.sent = now
            if counters := snapshot(self.debugfs):
                internals.attach(report, **{ATTRIBUTE: {name: zlib.compress(data) for name, data in counters.items()}})
        return report


class Collector:
    """The host's half: keeps the newest counters of each guest, and reports at the end."""

    def __init__(self) -> None:
        self.newest: dict[str, dict[str, bytes]] = {}
        # Tests of each guest that ended after it sent its newest counters.
        self.uncounted: Counter[str] = Counter()
        self.lost: list[str] = []
        self.text = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the counters off the report, before anybody writes it to a file."""
        packed: dict[str, bytes] | None = internals.detach(report, ATTRIBUTE)
        node = getattr(report, "node", None)
        name = node.gateway.id if node is not None else "here"
        if packed:
            # Their names are those of files here, and a few bytes may grow to gigabytes.
            self.newest[name] = {file: _unpacked(packed[file]) for file in FILES if file in packed}
            self.uncounted[name] = 0
        elif report.when == "teardown":
            self.uncounted[name] += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Note what a guest did that its counters do not show, when it went down before it could send them."""
        name = node.gateway.id
        if error or self.uncounted[name]:
            tests = f"{self.uncounted[name]} tests that ended since its last counters"
            self.lost.append(f"{name}: {tests}" + (", and the one it went down in" if error else ""))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the counters and the report; a run for coverage that has none is a failure."""
        if session.config.option.collectonly:
            return
        directory = _directory(session.config)
        try:
            save(self.newest, directory / "counters")
            # The option is vm.run.plugin's, for whoever runs without this one.
            known = session.config.pluginmanager.hasplugin("vm.run.plugin")
            named: str = session.config.getini("coverage_reasons") if known else ""
            reasons = unreached.load(session.config.rootpath / named) if named else []
            self.text = report(directory / "counters", directory / "html", reasons=reasons)
            self.text += "".join(f"\nnot counted, {lost}" for lost in self.lost)
        except UsageError as error:
            self.text = f"error: no coverage of the kernel: {error}"
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the table."""
        if self.text:
            terminalreporter.section("coverage of the kernel")
            terminalreporter.write_line(self.text)


def _unpacked(data: bytes) -> bytes:
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(data, _MOST_COUNTERS)
    return b""


def snapshot(debugfs: Path = DEBUGFS) -> dict[str, bytes]:
    """Return the counters (.gcda) of the files of AF_ALG in the running kernel; empty when it has none."""
    found = {}
    for path in debugfs.rglob("*.gcda") if debugfs.is_dir() else ():
        if path.stem in FILES:
            found[path.stem] = path.read_bytes()
    return found


def claim(directory: Path) -> None:
    """Make the directory that the user named ours, in which what an earlier run left may be replaced.

    Raises:
        pytest.UsageError: it has files of somebody else, or cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()) and not (directory / _OURS).exists():
            raise pytest.UsageError(f"--coverage-dir: {directory} has other files in it; give a new or an empty one")
        (directory / _OURS).touch()
    except OSError as error:
        raise pytest.UsageError(f"--coverage-dir: cannot write {directory}: {error.strerror}; give another") from error


def save(guests: Mapping[str, Mapping[str, bytes]], directory: Path) -> None:
    """Write ``DIRECTORY/GUEST/FILE.gcda``, in place of what an earlier run left there."""
    shutil.rmtree(directory, ignore_errors=True)
    for guest, counters in guests.items():
        (directory / guest).mkdir(parents=True)
        for name, data in counters.items():
            (directory / guest / f"{name}.gcda").write_bytes(data)


def report(
    counters: Path, html: Path, notes: Iterable[Path] | None = None, reasons: Sequence[unreached.Reason] = ()
) -> str:
    """Add up the counters of all guests, write HTML, and return a table, and the lines that were not reached.

    Args:
        counters: holds ``GUEST/FILE.gcda``.
        html: the directory to make; ``index.html`` in it is where to begin.
        notes: directories with ``FILE.gcno`` and ``FILE.c``; None for those of the kernels in the cache.
        reasons: reasons why lines cannot be reached.

    Raises:
        UsageError: there are no counters, no notes that belong to them, or gcov or gcovr failed.
    """
    places = list(notes) if notes is not None else _cached_notes()
    total = {name: FileCoverage() for name in FILES}
    guests = sorted(p for p in counters.glob("*") if p.is_dir() and any(p.glob("*.gcda")))
    if not guests:
        raise UsageError("no counters came; test a kernel with +coverage (KERNEL=source:6.12+coverage)")
    for guest in guests:
        for data in sorted(guest.glob("*.gcda")):
            _add(total[data.stem], data, places)
    _write_html(total, html)
    missing = f"\n\n{unreached.describe(total, reasons)}" if reasons else ""
    return f"{table(total)}{missing}\n\nfrom {len(guests)} guests; {html / 'index.html'}"


def table(total: Mapping[str, FileCoverage]) -> str:
    """Return covered and all lines and branches, a line a file and one for the sum."""
    rows = [(f"crypto/{name}.c", [*one.lines.values()], [*one.branches.values()]) for name, one in total.items()]
    all_lines = [count for _, lines, _ in rows for count in lines]
    all_branches = [count for _, _, branches in rows for count in branches]
    text = [f"{'file':26} {'lines':>18} {'branches':>18}"]
    for name, lines, branches in [*rows, ("total", all_lines, all_branches)]:
        text.append(f"{name:26} {_share(lines):>18} {_share(branches):>18}")
    return "\n".join(text)


def _directory(config: pytest.Config) -> Path:
    named: str = config.getoption("--coverage-dir") or ""
    if named:
        return config.rootpath / named
    # Only here: the guest has no need of it, and imports cost seconds there.
    from vm.run.config import RUN_DIRECTORY

    run: Path = config.stash.get(RUN_DIRECTORY, config.rootpath / "results")
    return run / "coverage"


# -- reading -----------------------------------------------------------------------------------------------


def _cached_notes() -> list[Path]:
    return sorted(cache.cache_dir().glob("built/*/[!.]*/gcov/crypto"))


def _add(total: FileCoverage, data: Path, places: Iterable[Path]) -> None:
    for place in places:
        notes = place / f"{data.stem}.gcno"
        # Bytes 8 to 12 of both files are the stamp of one compilation (gcc: gcov-io.h).
        if notes.exists() and notes.read_bytes()[8:12] == data.read_bytes()[8:12]:
            break
    else:
        raise UsageError(f"no kernel in the cache has the notes (.gcno) of the counters {data}; build it again")
    total.add(_gcov(notes, data))
    total.source = (place / f"{data.stem}.c").read_text(errors="replace")


def _gcov(notes: Path, data: Path) -> Mapping[str, Any]:
    """Have gcov put the counters together with the compiler's notes; return what concerns the file itself."""
    with tempfile.TemporaryDirectory(prefix="gcov.") as name:
        stage = Path(name)
        shutil.copyfile(notes, stage / notes.name)
        shutil.copyfile(data, stage / data.name)
        result = process.run(
            ["gcov", "--json-format", "--branch-probabilities", "--stdout", data.name],
            deadline=60, cwd=stage,
        )  # fmt: skip
    if result.status:
        raise UsageError(f"gcov cannot read {data}: {result.errors.strip()}")
    own = [f for f in json.loads(result.output)["files"] if f["file"].endswith(f"crypto/{data.stem}.c")]
    if len(own) != 1 or "stamp mismatch" in result.errors:
        raise UsageError(f"gcov finds nothing about crypto/{data.stem}.c in {data}: {result.errors.strip()}")
    counted: Mapping[str, Any] = own[0]
    return counted


# -- writing -----------------------------------------------------------------------------------------------


def _share(counts: Sequence[int]) -> str:
    taken = sum(1 for count in counts if count)
    return f"{taken}/{len(counts)} {100 * taken / len(counts):5.1f}%" if counts else "0/0    -  "


def _write_html(total: Mapping[str, FileCoverage], html: Path) -> None:
    shutil.rmtree(html, ignore_errors=True)
    html.mkdir(parents=True)
    root = html / "source"
    (root / "crypto").mkdir(parents=True)
    for name, one in total.items():
        (root / "crypto" / f"{name}.c").write_text(one.source)
    tracefile = html / "coverage.json"
    files = [_traced(name, one) for name, one in total.items() if one.lines]
    tracefile.write_text(json.dumps({"gcovr/format_version": TRACEFILE_VERSION, "files": files}))
    # Not by PATH: it is in the virtual environment that we run in.
    if importlib.util.find_spec("gcovr") is None:
        raise UsageError("gcovr is not installed; run make setup")
    command = [
        sys.executable,
        "-m",
        "gcovr",
        "--root",
        str(root),
        "--add-tracefile",
        str(tracefile),
        "--html-title",
        "AF_ALG",
    ]
    command += ["--html-details", str(html / "index.html")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode:
        raise UsageError(f"gcovr failed: {last_line(result.stderr)}")


def _traced(name: str, one: FileCoverage) -> dict[str, Any]:
    lines = []
    for number, count in sorted(one.lines.items()):
        branches = [taken for key, taken in sorted(one.branches.items()) if key[0] == number]
        lines.append(
            {
                "line_number": number,
                "count": count,
                "branches": [
                    {"branchno": n, "count": taken, "fallthrough": False, "throw": False, "source_block_id": 0}
                    for n, taken in enumerate(branches)
                ],
            }
        )
    functions = [
        {"name": function, "lineno": line, "execution_count": calls, "blocks_percent": 100.0 * bool(calls)}
        for function, (line, calls) in sorted(one.functions.items())
    ]
    return {"file": f"crypto/{name}.c", "lines": lines, "functions": functions}
