"""Every command of README, typed as it stands there, in a clone beside a kernel of the reader's own.

Most run here on guests that are faked, with a package mirror made for the purpose and tests that are stubs: what is
tried is the way from the words to the results. The slow ones run on real kernels (``make check-vm``), and what another
test types is named. A command that README gains belongs into one of the three.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.results import events
from vm.tests import archive
from vm.tests.archive import bzimage, split, whole
from vm.tests.harness import FAKE_GUEST

pytestmark = pytest.mark.deadline(300)

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^    ((?:make|git|\.venv/bin/\w+) .*?|make \w+)(?:  +#.*)?$", re.MULTILINE)
PAGE_CACHE = "TEST=tests/splice/test_page_cache.py"

# What each comes to: how many kernels have results, and whether all are good (5.10.223 is not, see STUB); None for no
# run.
FAKED: dict[str, tuple[int, bool] | None] = {
    "make test KERNEL=path/to/arch/x86/boot/bzImage": (1, True),
    "make test KERNEL=path/to/linux": (1, True),
    "make test KERNEL=6.12": (1, True),
    "make test KERNEL=6.1.192": (1, True),
    "make test KERNEL=trixie-backports/7.3": (1, True),
    "make test KERNEL=running": (1, True),
    'make test KERNEL="6.12@no-avx2 6.12@no-ssse3" ARGS="-k gcm"': (2, True),
    "make test KERNEL=6.12@fips": (1, True),
    "make kernels": None,
    "make kernels SUITE=trixie-backports": None,
    'make test KERNEL="bullseye/5.10 6.1 trixie-backports/7.3" VMS=2': (3, False),
    'make matrix KERNEL="bullseye/5.10 6.1 trixie-backports/7.3"': (3, False),
    "make diff A=bullseye/5.10 B=bullseye-security/5.10": (2, False),
    'make test KERNEL=6.1 TEST=tests/splice ARGS="-k gcm -x"': (1, True),
    ".venv/bin/pytest --kernel=6.1 --kernel=bullseye/5.10 --lf": (2, False),
    ".venv/bin/pytest --kernel=6.1 --collect-only -q": None,
    "make test KERNEL=6.1 TEST=tests/splice ARGS=--thorough": (1, True),
    "make clean-cache": None,
    "make clean-results": None,
    f"make bisect GOOD=bullseye-security/5.10.262 BAD=bullseye/5.10.223 {PAGE_CACHE}": None,
    ".venv/bin/python -m vm results results/latest": None,
    ".venv/bin/python -m vm results results/latest --format junit": None,
    ".venv/bin/python -m vm results results/latest --markdown": None,
    ".venv/bin/python -m vm results results/* --html all.html": None,
    ".venv/bin/python -m vm results results/latest --kcidb kcidb.json --origin lab": None,
    ".venv/bin/python -m vm results merge results/* --into all": None,
    ".venv/bin/python -m vm results history results/*": None,
    ".venv/bin/python -m vm results results/* --format diff": None,
}
# What their output has.
REAL = {
    "make doctor KERNEL=6.1": "skcipher",
    "make shell KERNEL=6.1": "error: ",  # it needs a terminal
    "make algorithms KERNEL=6.1": "algorithms, ",
    "make bench KERNEL=6.1": "",
    "make kernel KERNEL=source:6.12": "bzImage",
    "make test KERNEL=source:6.12+faults TEST=tests/faults": "passed",
}
ELSEWHERE = {
    "make test": ".ci/run",
    "make check": ".ci/run",
    "make test KERNEL=path/to/linux+debug": "vm/tests/kernels/test_build.py",
    "make coverage KERNEL=source:6.12+coverage+faults": "vm/tests/coverage/test_coverage.py",
    f"make bisect TREE=~/linux GOOD=v6.12.95 BAD=v6.12.117 {PAGE_CACHE}": "vm/tests/bisect/test_git.py",
    "git bisect run path/to/this/vm/bisect/step.sh tests/splice/test_page_cache.py": "vm/tests/bisect/test_git.py",
    'make teeth TEST="gcm:*"': "vm/tests/teeth/test_bites.py",
    "make flakes N=20 KERNEL=6.12": "vm/tests/bench/test_flakes.py",
    'make test KERNEL="arm64:6.1 s390x:bookworm/6.1" TEST=tests/splice': "vm/tests/machine/test_roots.py",
    'make test KERNEL="6.12-cloud 6.12-rt"': "vm/tests/machine/test_roots.py",
    "make test KERNEL=arm64:path/to/Image": "vm/tests/kernels/test_flat.py",
    ".venv/bin/python -m vm root": "vm/tests/roots/test_build.py",
    ".venv/bin/python -m vm root --pack root.tar.gz amd64": "vm/tests/roots/test_build.py",
    ".venv/bin/python -m vm root --unpack root.tar.gz": "vm/tests/roots/test_build.py",
    "make tarball": "vm/tests/roots/test_tarball.py",
    'make tarball ARGS="--python 3.13 --architecture arm64"': "vm/tests/roots/test_tarball.py",
    "make gdb KERNEL=6.1": "vm/tests/shell/test_shell.py",
    'make programs KERNEL="6.12 trixie-backports/7.3 6.12@fips"': "tests/selftests/test_programs.py",
    'make programs KERNEL=6.12 ARGS="--only benchmark,kcapi,openssl"': "tests/selftests/test_programs.py",
    ".venv/bin/python -m vm uses --levels -- cryptsetup benchmark": "vm/tests/test_uses.py",
    "make reproducer KERNEL=bullseye/5.10.223 GOOD=6.12 "
    'TEST="tests/regressions/test_aead.py::test_aad_of_2_gib_is_refused[4294967295]"': "vm/tests/reproducer/test_vm.py",
    'make test KERNEL=bullseye/5.10.223 TEST=tests/splice ARGS="--reproducers failures"': (
        "vm/tests/reproducer/test_vm.py"
    ),
    'make bisect GOOD=bullseye-security/5.10.262 BAD=bullseye/5.10.223 ARGS="--program reproducer.c"': (
        "vm/tests/reproducer/test_vm.py"
    ),
    'make reproducer KERNEL=6.12 TEST=tests/requests ARGS="--sample 20 --into programs"': (
        "vm/tests/reproducer/test_vm.py"
    ),
    ".venv/bin/python -m vm results mail test_that_failed": "vm/tests/results/test_mail.py",
}

# Of a kernel with a bug, where README looks for one.
STUB = """\
def test_stub(request):
    assert "5.10.223" not in request.node.name


def test_gcm(request):
    pass
"""


def commands() -> list[str]:
    return [found[1] for found in COMMAND.finditer(README)]


def test_every_command_is_tried_somewhere() -> None:
    assert sorted(commands()) == sorted([*FAKED, *REAL, *ELSEWHERE])
    for place in ELSEWHERE.values():
        assert (ROOT / place).exists()


def test_the_example_of_a_test_passes_make_check() -> None:
    example = (
        textwrap.dedent(README.partition("never from the kernel:\n\n")[2].partition("\nA test decides")[0]).strip()
        + "\n"
    )
    assert "def test_" in example
    for words in (["check", "-q"], ["format", "--check", "-q"]):
        ruff = [sys.executable, "-m", "ruff", *words, "--stdin-filename", "tests/test_mine.py", "-"]
        done = subprocess.run(ruff, cwd=ROOT, input=example, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that apt's own user can read, with a clone, a kernel beside it, and a mirror."""
    for root in archive.temporary_root():
        clone(root / "af-alg-tests")
        stub(root / "af-alg-tests")
        build_tree(root / "linux")
        world = {
            "debian bookworm": [whole("6.1.0-50-amd64", "6.1.191-1")],
            "debian-security bookworm-security": [
                whole("6.1.0-51-amd64", "6.1.192-1"),
                whole("6.12.117+deb12-amd64", "6.12.117-1~deb12u1"),
            ],
            "debian bullseye": [whole("5.10.0-31-amd64", "5.10.223-1")],
            "debian-security bullseye-security": [whole("5.10.0-40-amd64", "5.10.262-1")],
            "debian trixie-backports": split("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"),
        }
        (root / "mirror").mkdir()
        archive.build(root / "mirror", world)
        qemu = root / "qemu"
        qemu.write_text("#!/bin/sh\nexit 33\n")
        qemu.chmod(0o755)
        yield root


def clone(directory: Path) -> None:
    """Copy what git tracks, and the environment that is here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    (directory / ".venv").symlink_to(ROOT / ".venv")


def stub(directory: Path) -> None:
    """Put a stub in place of the tests."""
    # Fixtures of the real ones look at what the kernel holds, of which these know nothing.
    for file in [*(directory / "tests").rglob("test_*.py"), *(directory / "tests").rglob("conftest.py")]:
        file.unlink()
    (directory / "tests/splice/test_page_cache.py").write_text(STUB)
    # The kernel of a faked guest is this machine's, which need not have AF_ALG.
    settings = directory / "pyproject.toml"
    settings.write_text(re.sub(r"^kernel_check = .*\n", "", settings.read_text(), flags=re.MULTILINE))


def build_tree(directory: Path) -> None:
    """Make what a build of a kernel without modules leaves."""
    image = directory / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True)
    image.write_bytes(bzimage("6.12.0-mine"))
    (directory / ".config").write_text("CONFIG_CRYPTO_USER_API=y\n")
    for name in ("Kbuild", "Makefile", "modules.order"):
        (directory / name).touch()


def typed(command: str, place: Path, more: dict[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Type ``command`` in the clone, with the reader's kernel for README's ``path/to``."""
    text = command.replace("path/to/arch", "../linux/arch").replace("path/to/linux", f"{place}/linux")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "AFALG_"))}
    return subprocess.run(
        ["sh", "-c", text],
        cwd=place / "af-alg-tests",
        env={**environment, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds,
    )


@pytest.mark.parametrize("command", FAKED)
def test_as_typed_on_faked_guests(command: str, place: Path) -> None:
    results = place / "af-alg-tests" / "results"
    if "vm results" in command:
        shutil.rmtree(results, ignore_errors=True)
        for _ in range(2):
            assert typed("make test KERNEL=6.1", place, faked(place), 200).returncode == 0
    if FAKED[command] is not None:
        for old in (results, place / "af-alg-tests/.pytest_cache"):  # of which --lf would take the tests that failed
            shutil.rmtree(old, ignore_errors=True)
    done = typed(command, place, faked(place), 200)
    print(done.stdout)
    assert "Traceback" not in done.stdout
    expected = FAKED[command]
    if expected is None:
        assert done.returncode == 0
        return
    kernels, good = expected
    run = events.load(results / "latest")
    assert (done.returncode == 0) == good
    assert [kernel.good for kernel in run.kernels].count(True) == (kernels if good else kernels - 1)
    assert all(kernel.tests for kernel in run.kernels)


def faked(place: Path) -> dict[str, str]:
    """Return variables by which guests, QEMU and mirror are those made here."""
    return {
        "PYTEST_ADDOPTS": shlex.join([f"--vm-command={FAKE_GUEST} ", f"--qemu={place}/qemu"]),
        "APT_CONFIG": str(place / "mirror/apt-config"),
        "AFALG_CACHE": str(place / "cache"),
        "PYTHONPATH": "",
    }


@pytest.mark.vm
@pytest.mark.long
@pytest.mark.deadline(3600)
@pytest.mark.parametrize("command", REAL)
def test_as_typed_on_real_kernels(command: str, tmp_path: Path) -> None:
    clone(tmp_path / "af-alg-tests")
    done = typed(command, tmp_path, {}, 3500)
    print(done.stdout)
    assert "Traceback" not in done.stdout
    assert REAL[command] in done.stdout
    assert done.returncode == (2 if "error: " in done.stdout else 0)
