"""A scratch project to bisect in."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from vm.base.files import ROOT
from vm.tests.harness import FAKE_GUEST, Project

TEST = "t/test_it.py::test_bug"


class Field:
    """A scratch project and the means to bisect in it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.logs = project.directory / "bisect"

    def test(self, body: str) -> None:
        """Write the test; ``number`` is the last one of the kernel's version."""
        body = f"number = int(guest.machine().split('-')[0].split('.')[2])\n{textwrap.dedent(body)}"
        self.project.tests(f"def test_bug():\n{textwrap.indent(body, '    ')}")

    def kernels(self, count: int) -> list[str]:
        return [self.project.kernel(f"6.1.{number}-fake") for number in range(count)]

    def command(self, *arguments: str, fake: str = "") -> list[str]:
        pytest_arguments = [f"--vm-command={FAKE_GUEST} {fake}", f"--qemu={self.project.qemu}"]
        return [
            *(sys.executable, "-m", "vm", "bisect", *(["step"] if arguments[0] == "step" else []), TEST),
            *(f"--project={self.project.directory}", f"--results={self.logs}"),
            *(f"--pytest={each}" for each in pytest_arguments),
            *(arguments[1:] if arguments[0] == "step" else arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        cache = str(self.project.directory / "cache")
        return {**os.environ, "PYTHONPATH": str(ROOT), "AFALG_CACHE": cache, "PYTEST_ADDOPTS": ""}

    def run(self, *arguments: str, fake: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*arguments, fake=fake), cwd=self.project.directory, env=self.environment, timeout=280,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        print(done.stdout, done.stderr)
        return done
