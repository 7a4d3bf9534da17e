"""A machine with an empty cache, whose apt knows a mirror made for the purpose (vm/tests/archive.py)."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vm.base import process
from vm.base.files import ROOT
from vm.kernels import resolve as kernel
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.kernels.spec import Kernel
from vm.tests.archive import World

SECONDS = 60.0


class Lines(list[str]):
    """A progress callback that keeps what it was told."""

    def __call__(self, line: str) -> None:
        self.append(line)

    def count_of(self, text: str) -> int:
        return sum(text in line for line in self)


class Machine:
    """A machine with an empty cache whose apt knows ``world``."""

    def __init__(self, world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.cache, self.temporary = world, place / "cache", place / "tmp"
        self.temporary.mkdir()
        self.said = Lines()
        self.environment = {
            "APT_CONFIG": str(world.configuration),
            "AFALG_CACHE": str(self.cache),
            "TMPDIR": str(self.temporary),
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("AFALG_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)

    def resolve(self, *specs: str) -> list[Kernel]:
        return kernel.resolve(specs, self.said)

    def version(self, spec: str) -> str:
        return kernel.resolve_one(spec, self.said).version

    def start(self, *specs: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vm", "resolve", *specs]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **self.environment},
        )  # fmt: skip

    def age_lists(self, seconds: float) -> None:
        """Make every kept list older."""
        for generation in self.cache.glob("apt/*/*/"):
            generation.rename(generation.with_name(str(int(generation.name) - int(seconds))))

    def entries(self) -> list[str]:
        return sorted(path.name for path in self.cache.glob("kernels/*") if path.suffix != ".lock")

    def leftovers(self) -> list[Path]:
        """What a run must not leave: work of apt, half-made entries, packages."""
        return [
            path
            for place in (self.cache, self.temporary)
            for path in place.rglob("*")
            if path.name.startswith(apt_get.WORK_PREFIX) or path.name.endswith((".tmp", ".deb"))
        ]


def forbid_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test when apt is run from now on."""

    def refuse(argv: Sequence[str], **options: Any) -> process.Result:
        assert argv[0] not in ("apt-get", str(apt.HELPER)), f"apt ran: {argv}"
        return run(argv, **options)

    run = process.run
    monkeypatch.setattr(process, "run", refuse)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """Give the address of a port that refuses connections, and that no other program is given meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
