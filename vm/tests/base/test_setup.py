"""vm/setup.sh: what it installs on a machine that has little, and when it makes .venv anew.

It runs in a scratch checkout, on a machine that has what a directory of commands holds: apt-get notes what it is asked
for, and python3 makes environments as the real one does, with the place in their scripts, but in no time.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vm.base.files import ROOT

# What setup.sh itself calls: in the essential packages of Debian.
TOOLS = ("sh", "cat", "cksum", "dirname", "env", "flock", "grep", "rm")
APT_GET = """\
#!/bin/sh
echo "$*" >>"$ASKED"
for name; do
    case $name in
    flex | bison) ln -s cat "$COMMANDS/$name" ;;
    esac
done
"""
# VERSION stands for another Python.
PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m venv")
    mkdir -p "$3/bin"
    cp "$COMMANDS/made-python" "$3/bin/python"
    ;;
*)
    "{python}" "$@" || exit
    case $2 in *sys.prefix*) [ -z "$VERSION" ] || echo "$VERSION" ;; esac
    ;;
esac
"""
# The Python of an environment: as pip it installs one script, as the interpreter of that script it says where it is.
MADE_PYTHON = """\
#!/bin/sh
if [ "$1 $2 $3" = "-m pip install" ]; then
    for file; do
        case $file in *.txt) ! grep -q no-such $file || exit 1 ;; esac
    done
    echo "$*" >>.venv/asked
    printf '#!%s\\n' "$PWD/.venv/bin/python" >.venv/bin/pytest
    chmod +x .venv/bin/pytest
else
    echo "$0"
fi
"""


class Checkout:
    """A scratch checkout with nothing but what setup.sh needs, and a machine around it."""

    def __init__(self, place: Path) -> None:
        self.directory = place / "checkout"
        self.commands, self.asked = place / "commands", place / "asked"
        (self.directory / "vm").mkdir(parents=True)
        (self.directory / "requirements").mkdir()
        shutil.copy(ROOT / "vm/setup.sh", self.directory / "vm")
        shutil.copytree(ROOT / "vm/advice", self.directory / "vm/advice")
        self.pin("")
        self.asked.touch()
        self.commands.mkdir()
        for tool in (*TOOLS, "chmod", "cp", "ln", "mkdir"):
            found = shutil.which(tool)
            assert found, tool
            (self.commands / tool).symlink_to(found)
        self.command("id", "#!/bin/sh\necho 0\n")
        self.command("apt-get", APT_GET)
        self.command("python3", PYTHON.format(python=sys.executable))
        self.command("made-python", MADE_PYTHON)

    def pin(self, text: str, *groups: str) -> None:
        for group in groups or ("guest", "run", "check"):
            (self.directory / f"requirements/{group}.txt").write_text(text)

    def installed(self) -> list[str]:
        """Return the groups of pins that pip was asked for, a call each, since this was called last."""
        asked = self.directory / ".venv/asked"
        lines = [line.split() for line in asked.read_text().splitlines() if "--require-hashes" in line]
        asked.write_text("")
        return [" ".join(Path(word).stem for word in words if word.endswith(".txt")) for words in lines]

    def command(self, name: str, text: str) -> None:
        (self.commands / name).unlink(missing_ok=True)
        (self.commands / name).write_text(text)
        (self.commands / name).chmod(0o755)

    def has_all_but(self, *missing: str) -> None:
        """Have every command that setup.sh looks for, but for these. Its files are on each machine that runs us."""
        for line in (ROOT / "vm/setup.sh").read_text().splitlines():
            words = line.replace("'", "").split()
            for proof in words[2:] if words[:1] == ["need"] else []:
                if not proof.startswith("/") and proof not in missing and not (self.commands / proof).exists():
                    (self.commands / proof).symlink_to("cat")

    def setup(self, *arguments: str, status: int = 0, **environment: str) -> str:
        """Run setup.sh, check its exit status, and return what it said."""
        done = subprocess.run(
            ["vm/setup.sh", *arguments],
            cwd=self.directory,
            env={
                "PATH": str(self.commands), "COMMANDS": str(self.commands), "ASKED": str(self.asked), **environment,
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == status, done.stdout
        return done.stdout

    def works(self) -> bool:
        """Whether scripts in .venv run, by the Python of this .venv."""
        script = self.directory / ".venv/bin/pytest"
        try:
            done = subprocess.run([script], capture_output=True, text=True, timeout=60)
        except OSError:
            return False
        return done.stdout == f"{self.directory.resolve()}/.venv/bin/python\n"


MADE = "setup: making .venv\nsetup: installing pinned packages into .venv\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout on a machine that has all commands."""
    made = Checkout(tmp_path)
    made.has_all_but()
    return made


def test_what_is_missing_is_installed_once(tmp_path: Path) -> None:
    made = Checkout(tmp_path)
    made.has_all_but("flex", "bison")
    assert made.setup() == MADE
    assert made.asked.read_text() == "", "only building needs them"
    assert made.setup("build") == "setup: installing flex bison\n"
    assert made.asked.read_text() == "install -qq -y --no-install-recommends flex bison\n"
    assert made.setup("build") == ""
    assert made.works()


def test_the_running_kernel_needs_nothing_of_virtual_machines(tmp_path: Path) -> None:
    made = Checkout(tmp_path)
    for name in ("modprobe",):
        (made.commands / name).symlink_to("cat")
    assert made.setup("in-place") == MADE
    assert made.asked.read_text() == ""
    assert made.installed() == ["guest"]
    made.has_all_but()
    assert made.setup() == INSTALLING, "what else there is comes on top"
    assert made.installed() == ["guest run"]
    assert made.setup("in-place") == made.setup() == ""


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        (["test", "KERNEL=running"], "in-place"),
        (["setup", "KERNEL=running"], "in-place"),
        (["test", "KERNEL=running 6.12"], ""),
        (["test"], ""),
        (["bench", "KERNEL=running"], ""),
        (["test", "KERNEL=running source:6.12"], "build"),
    ],
)
def test_make_asks_for_what_the_kernels_need(words: list[str], mode: str) -> None:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[0].split() == ["vm/setup.sh", *mode.split()]


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("ID=fedora\nVERSION_ID=43\n", "call dnf install lz4 xz gcc make bison, then call make again"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "call dnf install lz4 xz gcc make bison, then"),
        ("ID=arch\n", "call pacman -S --needed lz4 xz gcc make bison, then"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "call zypper install lz4 xz gcc make bison, then"),
        ("ID=nixos\n", "install by your package manager what Debian calls"),
        ("", "install by your package manager what Debian calls"),
    ],
)
def test_another_distribution_is_told_its_own_names(tmp_path: Path, release: str, said: str) -> None:
    made = Checkout(tmp_path)
    made.has_all_but("bison", "lz4", "xz", "gcc", "make")
    (made.commands / "apt-get").unlink()
    (tmp_path / "os-release").write_text(release)
    found = made.setup("build", status=4, OS_RELEASE=str(tmp_path / "os-release"))
    assert found.startswith("setup: this is not Debian")
    assert said in found


@pytest.mark.parametrize("target", ["check-vm", "kernel"])
def test_what_compiles_has_compilers_installed(target: str) -> None:
    """Their tests build kernels and programs: 26 of them failed on a machine without flex, bison and libelf-dev."""
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("vm/setup.sh build\n"), done


def test_what_checks_the_project_is_installed_where_it_is_checked() -> None:
    done = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("vm/setup.sh build check\n"), done


@pytest.mark.parametrize(
    "become",
    [Path.rename, functools.partial(shutil.copytree, symlinks=True)],
    ids=["moved", "copied"],
)
def test_an_environment_at_another_place_is_made_anew(become: Callable[[Path, Path], Path], checkout: Checkout) -> None:
    checkout.setup()
    checkout.directory = become(checkout.directory, checkout.directory.with_name("new"))
    assert checkout.setup() == MADE
    assert checkout.works()
    assert checkout.setup() == ""


def test_a_link_on_the_way_may_go(checkout: Checkout) -> None:
    """An environment that was made by way of a symbolic link does without it."""
    real = checkout.directory
    checkout.directory = real.with_name("link")
    checkout.directory.symlink_to(real)
    checkout.setup()
    checkout.directory.unlink()
    checkout.directory = real
    assert checkout.setup() == ""
    assert checkout.works()


def test_an_environment_that_is_linked_stays_its_owners(checkout: Checkout, tmp_path: Path) -> None:
    checkout.setup()
    owner = checkout.directory
    checkout.directory = shutil.copytree(owner, tmp_path / "other", ignore=shutil.ignore_patterns(".venv"))
    (checkout.directory / ".venv").symlink_to(owner / ".venv")
    assert checkout.setup() == "", "it works from there as well"
    assert checkout.setup(VERSION="4.0") == MADE
    assert checkout.works()
    checkout.directory = owner
    assert checkout.setup() == ""
    assert checkout.works()


def test_an_environment_that_was_removed_in_part_is_made_anew(checkout: Checkout) -> None:
    checkout.setup()
    checkout.command("rm", '#!/bin/sh\n[ $2 != .venv ] || { /bin/rm .venv/bin/pytest; exit 1; }\nexec /bin/rm "$@"\n')
    checkout.setup(VERSION="4.0", status=1)
    checkout.command("rm", '#!/bin/sh\nexec /bin/rm "$@"\n')
    # The first Python again.
    assert checkout.setup() == MADE
    assert checkout.works()


def test_what_pytest_finds_of_ours_is_installed_again_when_it_changed(checkout: Checkout) -> None:
    checkout.setup()
    (checkout.directory / "vm/advice/af_alg_advice.py").write_text("changed\n")
    assert checkout.setup() == "setup: installing pinned packages into .venv\n"
    assert checkout.setup() == ""


def test_pins_that_could_not_be_installed_are_tried_again(checkout: Checkout) -> None:
    checkout.setup()
    checkout.pin("no-such-package==1\n")
    assert "cannot install what requirements/ names" in checkout.setup(status=4)
    # What pip had already replaced when it failed is not known: the old pins are installed once more.
    checkout.pin("")
    assert checkout.setup() == "setup: installing pinned packages into .venv\n"
    assert checkout.setup() == ""


INSTALLING = "setup: installing pinned packages into .venv\n"


def test_what_checks_comes_on_top(checkout: Checkout) -> None:
    assert checkout.setup() == MADE
    assert checkout.installed() == ["guest run"]
    assert checkout.setup("build", "check") == INSTALLING, "and .venv is not made anew"
    assert checkout.installed() == ["guest run check"]
    assert checkout.setup() == checkout.setup("build", "check") == ""


def test_pins_of_checks_concern_nobody_else(checkout: Checkout) -> None:
    checkout.setup("build", "check")
    checkout.pin("new==2", "check")
    assert checkout.setup() == ""
    assert checkout.setup("build", "check") == INSTALLING
    checkout.pin("new==2", "guest")
    assert checkout.setup() == INSTALLING
    assert checkout.setup("build", "check") == INSTALLING
    assert checkout.setup() == ""


def test_two_at_once_leave_all_that_either_needs(checkout: Checkout) -> None:
    """The one that waited for the lock finds what it needs, and keeps what the other noted."""
    checkout.setup()
    (checkout.directory / ".venv/pins").unlink()
    waits = '#!/bin/sh\nif [ ! -e once ]; then >once; "$PWD/vm/setup.sh" build check; fi\n'
    checkout.command("flock", waits)
    assert checkout.setup() == INSTALLING
    assert checkout.setup("build", "check") == ""
