"""The archive for a machine that tests its own kernel: what is in it, and that it runs where it is unpacked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.results import events
from vm.roots import build, tarball

# Some run the archive, on whatever the host has to give.
pytestmark = pytest.mark.deadline(120)

HERE = ".".join(map(str, sys.version_info[:2]))
STUB = "def test_stub(): pass\n"


@pytest.fixture
def wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have one wheel instead of those that pip fetches: what it has besides is this Python's."""
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in ("x/__init__.py", "cryptography_vectors/x509/y", "cryptography_vectors/hashes/y"):
            file.writestr(name, "")
    monkeypatch.setattr(build, "fetch_wheels", lambda *_: [wheel])
    return wheel


def made(tmp_path: Path, python: str = HERE) -> Path:
    """Make an archive, unpack it, and put a stub in place of the tests."""
    tarball.make(tmp_path / "a.tar.gz", python, arch.default(), lambda _: None)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "lab")
    place = tmp_path / "lab" / tarball.NAME
    for file in [*place.joinpath("tests").rglob("test_*.py"), *place.joinpath("tests").rglob("conftest.py")]:
        file.unlink()
    (place / "tests/test_stub.py").write_text(STUB)
    settings = place / "pyproject.toml"
    settings.write_text(re.sub(r"^kernel_check = .*\n", "", settings.read_text(), flags=re.MULTILINE))
    return place


def ran(place: Path, words: Sequence[str] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AFALG_", "PYTHON"))}
    return subprocess.run(
        [place / "run", *words], cwd="/", env={**kept, "PYTHON": sys.executable, **variables},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.usefixtures("wheels")
def test_it_runs_where_it_is_unpacked(tmp_path: Path) -> None:
    place = made(tmp_path)
    done = ran(place, ["-k", "stub"])
    assert done.returncode == 0, done.stdout
    assert "PASSED tests/test_stub.py::test_stub" in done.stdout
    run = events.load(place / "results/latest")
    assert [kernel.spec for kernel in run.kernels] == ["running"]
    assert run.revision == (place / tarball.REVISION).read_text().strip() != ""


@pytest.mark.usefixtures("wheels")
def test_what_it_has(tmp_path: Path) -> None:
    place = made(tmp_path)
    assert (place / "lib/x/__init__.py").exists()
    assert not (place / "lib/cryptography_vectors/x509").exists(), "nobody reads it"
    assert (place / "lib/cryptography_vectors/hashes/y").exists()
    assert (place / "tests/known_issues.toml").exists()
    for name in (".git", ".venv", ".ci", "vm/tests", "tests/selftests", "results"):
        assert not (place / name).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "lab", "x.whl"]


@pytest.mark.usefixtures("wheels")
def test_another_python_is_said(tmp_path: Path) -> None:
    done = ran(made(tmp_path, "3.9"))
    assert done.returncode == 4
    assert f"this archive is for Python 3.9, {sys.executable} is Python {HERE}" in done.stdout


@pytest.mark.usefixtures("wheels")
def test_what_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["a", "--python", "3"], "--python takes a version like 3.11"),
        (["a", "--architecture", "vax"], "no architecture 'vax'"),
        ([str(tmp_path / "none/a")], "cannot write"),
    ):
        assert tarball.main(words) == 4
        assert said in capsys.readouterr().err
    with pytest.raises(UsageError, match="cannot write"):
        tarball.make(tmp_path / "none/a", HERE, arch.default(), lambda _: None)


def test_a_machine_that_needs_packages_is_told(wheels: Path, tmp_path: Path) -> None:
    said: list[str] = []
    row = arch.asked("riscv64")
    assert row
    tarball.make(tmp_path / "a.tar.gz", "3.13", row, said.append)
    assert said[-1].startswith("the machine needs Debian's python3-cffi-backend, python3-cryptography")
