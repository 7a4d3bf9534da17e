"""Whole runs of the runner on small scratch projects: start one, look at everything it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base.files import ROOT
from vm.tests.archive import bzimage

FAKE_GUEST = shlex.join([sys.executable, "-m", "vm.tests.fake_guest"])
SECONDS = 90.0

# A scratch project loads the plugin as the real one does.
CONFTEST = """\
from vm.machine import accel
accel.FACTORS = {{"kvm": 1.0, "tcg": {factor}}}
pytest_plugins = ["vm.run.plugin"]
"""
INI = """\
[pytest]
xfail_strict = true
addopts = -ra
"""


@dataclass(frozen=True)
class Case:
    """One test as JUnit has it.

    Attributes:
        outcome: ``passed``, ``failed`` (an error is one) or ``skipped``; the worst, when it is there twice.
        text: everything said of it.
    """

    outcome: str
    text: str


@dataclass(frozen=True)
class Run:
    """What one run left.

    Attributes:
        status: its exit status.
        output: its terminal, both streams.
        directory: of its results; does not exist when it got nowhere.
        seconds: it took.
    """

    status: int
    output: str
    directory: Path
    seconds: float

    @property
    def cases(self) -> dict[str, Case]:
        """Return the cases of ``junit.xml`` by the name of the test with its parameters."""
        found: dict[str, Case] = {}
        order = ["passed", "skipped", "failed"]
        for case in ElementTree.parse(self.directory / "junit.xml").iter("testcase"):
            name = case.attrib.get("name", "")  # nameless: begun when the run was interrupted
            for child in case:
                word = {"failure": "failed", "skipped": "skipped", "error": "failed"}.get(child.tag, "passed")
                text = f"{child.attrib.get('message', '')}\n{child.text or ''}"
                old = found.get(name, Case("passed", ""))
                found[name] = Case(max(word, old.outcome, key=order.index), old.text + text)
            found.setdefault(name, Case("passed", ""))
        return found

    @property
    def outcomes(self) -> dict[str, str]:
        """Return the outcome of each case by its name."""
        return {name: case.outcome for name, case in self.cases.items()}

    @property
    def words(self) -> dict[str, list[str]]:
        """Return the words that ``-v`` showed for each test id: ``PASSED``, ``NOT RUN``."""
        found: dict[str, list[str]] = {}
        for line in self.output.splitlines():
            # "[gw1] [ 50%] PASSED test" of a machine, "test NOT RUN    [ 50%]" of none.
            if shown := re.match(r"\[gw\d+\] \[ *\d+%\] ([A-Z ]+) (.*\S)", line):
                found.setdefault(shown[2], []).append(shown[1])
            elif shown := re.match(r"(\S*::.*?) ([A-Z][A-Z ]*[A-Z]) *(?:\[ *\d+%\])?$", line):
                found.setdefault(shown[1], []).append(shown[2])
        return found

    @property
    def verdicts(self) -> dict[str, str]:
        """Return the verdict of each test id in ``results.json``."""
        record = json.loads((self.directory / "results.json").read_text())
        return {test["nodeid"]: test["verdict"] for kernel in record["kernels"] for test in kernel["tests"]}

    def console(self, machine: str) -> str:
        """Return the console of ``machine`` (``6.1.0-fake-1``)."""
        return (self.directory / "vms" / machine / "console.log").read_text(errors="replace")

    @property
    def machines(self) -> list[str]:
        """Return the names of the machines that were started, sorted."""
        return sorted(path.name for path in self.directory.glob("vms/*"))


class Project:
    """A scratch directory with tests, and the means to run them on fake guests.

    Args:
        directory: where to make it; empty.
        factor: what deadlines are multiplied by under emulation. A fake guest is as fast as the host, and a real one
            not as slow as what its deadlines otherwise allow for.
    """

    def __init__(self, directory: Path, factor: float = 1.0) -> None:
        self.directory = directory
        self.temporary = directory / "tmp"
        self.results = directory / "results"
        self.temporary.mkdir(parents=True)
        (directory / "t").mkdir()
        (directory / "conftest.py").write_text(CONFTEST.format(factor=factor))
        (directory / "pytest.ini").write_text(INI)
        self.qemu = directory / "qemu"
        # The probe takes exit status 33 for "code ran" (vm/machine/accel.py).
        self.qemu.write_text("#!/bin/sh\nexit 33\n")
        self.qemu.chmod(0o755)

    def tests(self, text: str, name: str = "test_it.py") -> None:
        """Write a test file; ``guest`` is vm.tests.fake_guest in it."""
        path = self.directory / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "import os, sys, time\nimport pytest\nfrom vm.tests import fake_guest as guest\n\n" + textwrap.dedent(text)
        )

    def guest_hook(self, hook: str, act: str, where: str = "True") -> None:
        """Have guests do something of their own in a hook of pytest; ``guest`` is vm.tests.fake_guest there too.

        Args:
            hook: with its arguments: ``pytest_sessionfinish()``.
            act: a statement.
            where: an expression that holds in the guests meant.
        """
        (self.directory / "t" / "conftest.py").write_text(
            "import os\nfrom vm.tests import fake_guest as guest\n\n"
            f"def {hook}:\n    if 'VM_CONSOLE' in os.environ and ({where}):\n        {act}\n"
        )

    def kernel(self, release: str) -> str:
        """Make a file that is taken for a kernel image and return its path."""
        path = self.directory / f"vmlinuz-{release}"
        path.write_bytes(bzimage(release))
        return str(path)

    def run(self, *arguments: str, **options: object) -> Run:
        """Run to the end; see :meth:`started` for the arguments."""
        with self.started(*arguments, **options) as process:  # type: ignore[arg-type]
            return self.finish(process)

    @contextlib.contextmanager
    def started(
        self,
        *arguments: str,
        kernels: Sequence[str] = ("6.1.0-fake",),
        fake: str | None = "",
        environment: Mapping[str, str] | None = None,
        qemu: str | None = None,
        program: str = "pytest",
        below: str = "",
        stdout: int = subprocess.PIPE,
    ) -> Iterator[subprocess.Popen[str]]:
        """Start ``pytest --kernel …`` in a process group of its own; kill what is left of it at the end.

        Args:
            arguments: for pytest, after those chosen here.
            kernels: releases of stub images, or ``running``.
            fake: behaviours of the fake guest; None for a real QEMU.
            environment: variables to set.
            qemu: path of the QEMU to use, a stub by default.
            program: ``pytest``, or ``vm test``.
            below: the working directory, relative to the project's.
            stdout: descriptor of its output, else a pipe.
        """
        specs = [kernel if kernel == "running" else self.kernel(kernel) for kernel in kernels]
        command = [sys.executable, "-m", *program.split(), *(f"--kernel={spec}" for spec in specs)]
        command += [f"--results={self.results}", f"--qemu={qemu or self.qemu}", "--vms=1"]
        command += [f"--vm-command={FAKE_GUEST} {fake}"] if fake is not None else []
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary), "COLUMNS": "150"}
        for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST"):
            env.pop(name, None)
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=self.directory / below,
            env={**env, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def finish(self, process: subprocess.Popen[str], seconds: float = SECONDS) -> Run:
        """Wait for a started run and return what it left."""
        began = time.monotonic()
        output, _ = process.communicate(timeout=seconds)
        took = time.monotonic() - began
        print(output)  # pytest shows it below a test that fails
        return Run(process.returncode, output, (self.results / "latest").resolve(), took)

    @contextlib.contextmanager
    def mounted(self, options: str) -> Iterator[Path]:
        """Mount a file system in memory with ``options`` (``size=64k``) for the block; needs root."""
        path = self.directory / "mounted"
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)

    def processes(self) -> list[str]:
        """Return the command lines of all living processes that have to do with this project."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                if str(self.directory).encode() in words + (entry / "environ").read_bytes():
                    found.append(words.decode(errors="replace"))
        return found

    def assert_nothing_left(self, seconds: float = 5.0) -> None:
        """Assert that within ``seconds`` no process of the run lives, and that no temporary file is there."""
        poll(lambda: not self.processes(), seconds, lambda: f"still running: {self.processes()}")
        assert sorted(path.name for path in self.temporary.iterdir()) == []


def poll(condition: Callable[[], bool], seconds: float, what: Callable[[], str] | str) -> None:
    """Wait until ``condition`` holds, at most ``seconds``; then fail with ``what``."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what if isinstance(what, str) else what()
        time.sleep(0.02)
