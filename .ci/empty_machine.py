"""Run make check and make test on a machine that has nothing, as README says, and then once more.

The machine is a Debian root with git and make, made by mmdebstrap from this machine's package sources, in namespaces of
its own. Of this machine it has the kernel, the network, and the configuration of apt and pip. The project is a clone of
HEAD at a path with a space, reached by a symbolic link. What was made is removed at the end, whatever ends it.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import namespaces  # beside this file

from vm.base.command import Parser, command, say
from vm.base.errors import UsageError
from vm.base.process import SYSTEM_PATH
from vm.kernels.apt import sources as apt_sources

PROJECT = Path(__file__).resolve().parents[1]
PREFIX = "af-alg-tests.ci."
"""Of the directories with machines, in $TMPDIR or /var/tmp."""
REAL, LINK = "srv/af alg", "home/somebody"
"""In the machine: the directory that the clone is in, and a symbolic link to that."""

# An old and a new series; the list grows when a suite of the mirror does.
KERNELS = "bookworm/6.1 trixie-backports/7.3"
# Environment variables by which programs find the network, and whom to trust there.
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
SUMMARY = re.compile(r"^=* ?(\d+ [a-z][a-z ]*(, \d+ [a-z][a-z ]*)*|no tests ran) in [\d.]+s")


@dataclass(frozen=True)
class Stage:
    """A command to give there.

    Attributes:
        command: for the shell.
        installs: whether it may install anything.
        always: part of every run, and not only of those with ``--all``.
    """

    command: str
    installs: bool = True
    always: bool = True


STAGES = (
    Stage("make check"),
    Stage(f'make test KERNEL="{KERNELS}"'),
    # The second time: what they test is known by now, so that a part does.
    Stage("make check TEST=vm/tests/base", installs=False),
    Stage("make test TEST=tests/errors", installs=False),
    Stage(
        "make programs KERNEL=trixie-backports/7.3 TEST=tests/programs/test_programs.py"
        ' ARGS="--only benchmark,kcapi,openssl"',
        installs=False,
    ),
    Stage("make check-vm ARGS=\"-m 'vm and not long'\"", installs=False),
    Stage("make check-vm ARGS=\"-m 'vm and long'\"", always=False),
    # The algorithms that packaged kernels leave out.
    Stage("make test KERNEL=source:6.12 TEST=tests/algorithms", always=False),
)


@dataclass(frozen=True)
class Outcome:
    """What became of a stage.

    Attributes:
        stage: which.
        seconds: it took.
        summary: pytest's last line, as it stands.
        wrong: why it failed; nothing when it did not.
    """

    stage: Stage
    seconds: float
    summary: str
    wrong: str


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Do all stages; return 1 when one failed."""
    parser = Parser(prog=".ci/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="bookworm", help="of Debian, for the machine [%(default)s]")
    parser.add_argument("--all", action="store_true", help="also what takes long: all VM tests, a kernel from source")
    parser.add_argument(
        "--only", metavar="COMMAND", action="append", default=[], help="give this one instead; repeatable"
    )
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # whatever the locale can show
    stages = [Stage(only) for only in options.only] or [one for one in STAGES if one.always or options.all]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    outcomes: list[Outcome] = []
    with workplace() as place:
        began = time.monotonic()
        machine = Machine(place / "root")
        machine.make(options.suite)
        made = time.monotonic() - began
        try:
            for stage in stages:
                outcomes.append(machine.run(stage))
        finally:
            print(f"\nOn an empty {options.suite}, made in {made:.0f} s; all took {time.monotonic() - began:.0f} s:")
            for outcome in outcomes:
                print(f"\n$ {outcome.stage.command}\n  {outcome.seconds:.0f} s: {outcome.wrong or 'good'}")
                print(outcome.summary, flush=True)
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


class Machine:
    """An empty Debian with a clone of the project.

    Args:
        root: the directory for its files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pip = pip_configuration()
        proxies = [name for name in os.environ if name.lower() in PROXIES]
        bundles = [name for name in BUNDLES if Path(os.environ.get(name, "")).is_file()]
        self.environment = {name: os.environ[name] for name in proxies + bundles}
        self.environment.update(PATH=SYSTEM_PATH, HOME="/root")
        named = _paths([*self.pip.values(), *(os.environ[name] for name in bundles)])
        self.files = [path for path in named if path.is_file()]
        # The pages of an index link to files that lie beside it.
        indexes = _paths([self.pip.get("index-url", ""), self.pip.get("extra-index-url", "")])
        shown = [path.parent if path in indexes else path for path in named if path.is_dir()]
        self.directories = [path for path in dict.fromkeys(shown) if path != Path("/")]

    def make(self, suite: str) -> None:
        """Make it; the root does not exist yet.

        Args:
            suite: of Debian.

        Raises:
            UsageError: it cannot be made.
        """
        self._unpack(suite)
        # Its own authorities: ca-certificates, when something needs it there, makes the list of all anew.
        own = Path("/usr/local/share/ca-certificates").glob("*.crt")
        for file in (*self.files, *own, Path("/etc/resolv.conf"), Path("/etc/hosts")):
            if file.is_file():
                _copy(file, self.root)
        with (self.root / "etc/pip.conf").open("w") as to:
            parser = configparser.RawConfigParser()
            parser.read_dict({"global": self.pip})
            parser.write(to)
        self._clone()

    def run(self, stage: Stage) -> Outcome:
        """Run a stage to its end, showing what it says."""
        print(f"\n$ {stage.command}", flush=True)
        lines: list[str] = []

        def show(line: str) -> None:
            print(line, end="", flush=True)
            lines.append(line.strip())

        before, began = self._installed(), time.monotonic()
        status = namespaces.run(
            ["/bin/sh", "-c", f"cd /{LINK}/checkout && {stage.command}"],
            root=self.root, shown=self.directories, environment=self.environment, say=show,
        )  # fmt: skip
        seconds = time.monotonic() - began
        wrong = [f"exit status {status}"] if status else []
        if not stage.installs:
            wrong += [f"installs ({line})" for line in lines if line.startswith("setup: ")]
            wrong += [f"changed {name}" for name, state in self._installed().items() if state != before[name]]
        summary = next((line for line in reversed(lines) if SUMMARY.search(line)), "")
        return Outcome(stage, seconds, summary, ", ".join(wrong if summary else [*wrong, "no summary of pytest"]))

    def _unpack(self, suite: str) -> None:
        """Have mmdebstrap unpack an empty Debian: what is essential, apt, git, make."""
        configured = apt_sources.machine_sources()
        texts = [apt_sources.source_text(suite, configured)]
        for more in (f"{suite}-updates", f"{suite}-security"):
            with contextlib.suppress(UsageError):  # a machine that does not ask for security updates
                texts.append(apt_sources.source_text(more, configured))
        listed = self.root.with_name("debian.sources")
        listed.write_text("\n".join(texts))
        argv = ["/usr/bin/mmdebstrap", "--mode=root", "--variant=apt", "--include=git,make", "--format=directory"]
        argv += [f"--aptopt={line}" for line in _apt_options()]
        lines: list[str] = []
        status = namespaces.run(
            [*argv, suite, str(self.root), str(listed)],
            environment={**self.environment, "TMPDIR": str(self.root.parent)}, say=lines.append,
        )  # fmt: skip
        if status:
            raise UsageError(f"mmdebstrap cannot make {suite} (status {status}): {''.join(lines[-20:])}")
        for words in re.findall(r"^signed-by:(.*)$", listed.read_text(), re.MULTILINE):
            for key in words.split():
                if key.startswith("/") and not (self.root / key[1:]).exists():
                    _copy(Path(key), self.root)

    def _clone(self) -> None:
        """Clone HEAD of the project as it is committed."""
        checkout = self.root / REAL / "checkout"
        checkout.parent.mkdir(parents=True)
        (self.root / LINK).symlink_to(f"/{REAL}")
        with tempfile.NamedTemporaryFile("w", suffix=".gitconfig") as config:
            # Whoever it belongs to.
            config.write("[safe]\n\tdirectory = *\n")
            config.flush()
            environment = {**os.environ, "GIT_CONFIG_GLOBAL": config.name}
            for argv in (["status", "--short"], ["clone", "--quiet", "--no-local", str(PROJECT), str(checkout)]):
                done = subprocess.run(
                    ["/usr/bin/git", "-C", str(PROJECT), *argv], env=environment, capture_output=True, text=True
                )
                if done.returncode:
                    raise UsageError(f"git {argv[0]}: {done.stderr.strip()}")
                if argv[0] == "status" and done.stdout:
                    say(f"not committed, so not tested:\n{done.stdout.rstrip()}")

    def _installed(self) -> dict[str, str]:
        """Return the state of what installing changes."""
        environment = self.root / REAL / "checkout/.venv"
        files = sorted(path for path in environment.rglob("*") if path.suffix != ".pyc" and path.is_file())
        times = "".join(f"{path} {path.stat().st_mtime_ns}\n" for path in files)
        packages = (self.root / "var/lib/dpkg/status").read_text()
        return {".venv": times, "Debian's packages": packages}


def pip_configuration() -> dict[str, str]:
    """Return pip's options on this machine, from all its files and its environment.

    https://pip.pypa.io/en/stable/topics/configuration/ has which count, the last the most.
    """
    own = os.environ.get("PIP_CONFIG_FILE", "")
    system = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    files = [Path(place) / "pip/pip.conf" for place in reversed(system.split(":"))]
    files += [Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", Path(user) / "pip/pip.conf"]
    parser = configparser.RawConfigParser()
    parser.read([] if own == os.devnull else [*files, Path(own)])
    found = {
        name: value
        for section in ("global", "install")
        if parser.has_section(section)
        for name, value in parser.items(section)
    }
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE" and value:
            found[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return found


def _paths(values: Iterable[str]) -> list[Path]:
    """Return the files and directories of this machine that are named in ``values``, as URLs or as they are."""
    words = [word.removeprefix("file://") for value in values for word in value.split()]
    return [Path(word) for word in dict.fromkeys(words) if word.startswith("/") and Path(word).exists()]


def _apt_options() -> list[str]:
    """Return this machine's settings of how apt fetches: proxies, certificates, whether dates are checked."""
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return re.findall(r'^Acquire::(?:http|https|Check-|Retries).* ".+";$', dumped, re.MULTILINE)


def _copy(file: Path, root: Path) -> None:
    """Copy a file of this machine to the same place below ``root``."""
    to = root / file.relative_to("/")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    shutil.copy(file, to)


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    """Give a directory on a disk, removed at the end; remove those of runs that were killed."""
    above = Path(os.environ.get("TMPDIR") or "/var/tmp")
    place = Path(tempfile.mkdtemp(prefix=PREFIX, dir=above))
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            place.chmod(0o755)  # apt fetches as a user of its own
            for left in above.glob(f"{PREFIX}*"):
                with contextlib.suppress(OSError), (left / "lock").open() as other:
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(left)
            yield place
        finally:
            _remove(place)


def _remove(place: Path) -> None:
    """Remove a machine, unless something is mounted there: then what would be removed is another's.

    The mounts of machines are in namespaces that have ended. rm has a session of its own, which no Ctrl-C reaches.
    """
    below = str(place.resolve()).replace(" ", "\\040") + "/"
    if any(line.split()[4].startswith(below) for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        say(f"{place} is left: something is mounted there; umount it, and remove it by rm -r --one-file-system")
        return
    subprocess.run(["rm", "-rf", "--one-file-system", str(place)], start_new_session=True)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
