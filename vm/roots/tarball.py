"""One file with all that a machine needs to test its own kernel, but for a Python: ``python -m vm tarball FILE``.

In it are the project and the packages that requirements/guest.txt pins, for one version of Python and one
architecture. Unpacked anywhere, ``./run`` tests the running kernel: nothing is installed, and no network is used.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vm.base import arch
from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.base.progress import Progress
from vm.roots import build, parts

NAME = "af-alg-tests"
"""The directory that it unpacks to."""
REVISION = ".revision"
"""A file in that, with the revision of the project: there is no git where it is unpacked."""
# The oldest C library that wheels are taken for: older than those of the systems that people test.
_GLIBC = 28
# Tests of the project itself, and of kernels that somebody else boots.
_LEFT_OUT = re.compile(r"(\.ci|vm/tests|tests/selftests)/|\.git")
_RUN = """\
#!/bin/sh
# Tests the kernel of this machine, as root; words are those of: python -m vm test
cd -P "$(dirname "$0")" || exit 4
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (%(version)s))' || {
    echo "error: this archive is for Python %(python)s, $python is $("$python" -V 2>&1): name another by PYTHON=," \\
        "or make the archive with --python" >&2
    exit 4
}
export PYTHONPATH="$PWD/lib" PYTHONUTF8=1
exec "$python" -m vm test running "$@"
"""


@command
def main(arguments: Sequence[str]) -> None:
    """Make the archive, and print where it is.

    Raises:
        UsageError: the pins have no wheels for that Python or architecture, or the file cannot be written.
    """
    parser = Parser(prog="python -m vm tarball", description=__doc__.partition("\n")[0])
    parser.add_argument("file", metavar="FILE", type=Path, help="the archive to write: NAME.tar.gz")
    parser.add_argument("--python", metavar="X.Y", default=".".join(platform.python_version_tuple()[:2]), help=(
        "version of the Python that the machine has (default: %(default)s, which runs here)"
    ))  # fmt: skip
    parser.add_argument("--architecture", metavar="NAME", default=os.uname().machine, help=(
        "of the machine: Debian's name of it, or uname -m (default: this machine's)"
    ))  # fmt: skip
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"3\.\d+", options.python):
        raise UsageError(f"--python takes a version like 3.11, not {options.python!r}")
    row = arch.asked(options.architecture)
    if row is None:
        known = ", ".join(each.debian for each in arch.ARCHITECTURES)
        raise UsageError(f"no architecture {options.architecture!r}; there are {known}")
    make(options.file, options.python, row, say)
    print(options.file)


def make(file: Path, python: str, architecture: arch.Architecture, progress: Progress) -> None:
    """Write the archive, whole or not at all.

    Args:
        file: where to.
        python: ``3.11``.
        architecture: of the machine.
        progress: told what is waited for, and what the machine has to have.

    Raises:
        UsageError: as :func:`main`.
    """
    with tempfile.TemporaryDirectory(prefix="af-alg-tests.") as name:
        work = Path(name)
        release = parts.Release("", python, _GLIBC)
        library = work / "lib"
        for wheel in build.fetch_wheels(release, architecture, work, progress):
            build.unpack_wheel(wheel, library)
        for pattern in parts.LEFT_OUT:
            for path in library.glob(pattern.rpartition("dist-packages/")[2]):
                shutil.rmtree(path)
        progress(f"{file}: packing")
        try:
            partial = file.with_name(f".{file.name}.partial")
            try:
                _write(partial, library, python)
                partial.replace(file)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write {file}: {error.strerror}; give another file") from error
    if needed := sorted(set(architecture.without_wheel.values())):
        progress(f"the machine needs Debian's {', '.join(needed)}: there is no wheel for {architecture.name}")


def _write(target: Path, library: Path, python: str) -> None:
    revision = _git("describe", "--always", "--dirty", "--tags").strip()
    run = _RUN % {"python": python, "version": python.replace(".", ", ")}
    with tarfile.open(target, "w:gz", compresslevel=6) as archive:
        for name in sorted(filter(None, _git("ls-files", "-z").split("\0"))):
            if not _LEFT_OUT.match(name) and (ROOT / name).is_file():
                archive.add(ROOT / name, f"{NAME}/{name}", filter=_nobodys)
        archive.add(library, f"{NAME}/lib", filter=_nobodys)
        for name, text, mode in (("run", run, 0o755), (REVISION, f"{revision}\n", 0o644)):
            member = tarfile.TarInfo(f"{NAME}/{name}")
            member.size, member.mode = len(text.encode()), mode
            archive.addfile(member, io.BytesIO(text.encode()))


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _git(*words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(ROOT), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise UsageError(f"the archive is made of a clone, by git, which said: {error}") from error
