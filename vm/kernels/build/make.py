"""Running the kernel's make: with what tools and variables, how far it is, and what it says when it fails."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from vm.base import cache, process
from vm.base.errors import BuildFailed, UsageError
from vm.base.progress import Progress
from vm.kernels.build.plan import Plan

# Generous: everything with KASAN, on one slow CPU.
BUILD_DEADLINE = 6 * 3600.0
# A line of progress: often at first, seldom in a build of an hour.
SAY_EVERY_SECONDS = 5.0
SAY_EVERY_PART = 1 / 20
# Bytes on a disk that is full, but for what a compiler removed when it failed.
ALMOST_NOTHING = 8_000_000

# What a build calls, and the Debian package that has it. Each was missing once on a fresh machine.
TOOLS = {
    **{"make": "make", "gcc": "gcc", "ld": "binutils", "flex": "flex", "bison": "bison", "bc": "bc"},
    **{"perl": "perl", "depmod": "kmod"},
}
# Header of the library that objtool, a part of the kernel's build, reads object files with.
HEADERS = {"gelf.h": "libelf-dev"}

# The same input must give the same image, whoever builds it, when and where.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
    "KBUILD_BUILD_USER": "afalg",
    "KBUILD_BUILD_HOST": "tests",
    "KBUILD_BUILD_VERSION": "1",
}

# ccache must hit in other directories (all paths are relative) and for configuration headers written anew.
CCACHE = {
    "CCACHE_NOHASHDIR": "1",
    "CCACHE_SLOPPINESS": "include_file_mtime,include_file_ctime",
    "CCACHE_MAXSIZE": "5G",
}

# Variables by which make would be told to build something else, or to wait for a job server that is gone.
UNSET = (
    *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "GNUMAKEFLAGS", "KBUILD_OUTPUT", "ARCH", "SRCARCH", "CROSS_COMPILE"),
    *("LOCALVERSION", "KCONFIG_CONFIG", "KCONFIG_ALLCONFIG", "KCFLAGS", "KAFLAGS", "LLVM", "CONFIG_SHELL"),
)


def require_tools() -> None:
    """Raise UsageError when a tool or a header is missing: which, and the package that has it."""
    missing = {tool: package for tool, package in TOOLS.items() if process.find(tool) is None}
    if "gcc" not in missing:
        missing |= {name: package for name, package in HEADERS.items() if not _has_header(name)}
    if missing:
        packages = " ".join(dict.fromkeys(missing.values()))
        raise UsageError(
            f"building a kernel needs {', '.join(missing)}, not found here; "
            f"install them (on Debian: apt-get install {packages}), or give a packaged version"
        )


def _has_header(name: str) -> bool:
    return process.run(["gcc", "-E", "-include", name, "-x", "c", "/dev/null"], deadline=30).status == 0


def make(
    plan: Plan,
    arguments: Sequence[str],
    watch: Callable[[float], None] = lambda _elapsed: None,
    log: Path | None = None,
) -> int:
    """Run make in the build directory, its output appended to the log; return its status."""
    compiler = "gcc"
    environment = dict(REPRODUCIBLE)
    if process.find("ccache"):
        compiler = "ccache gcc"
        # Paths are relative, so that one cache serves all; a user's own cache is left alone.
        environment |= {**CCACHE, "CCACHE_DIR": str(cache.cache_dir() / "ccache")}
    # LOCALVERSION= (set, empty): else a git tree's release ends in a + that comes and goes with its tags.
    own = [f"ARCH={plan.architecture.make}", f"CC={compiler}", "LOCALVERSION=", "V=0"]
    command = ["make", "-C", str(plan.shadow), f"O={plan.out}", *own]
    script = f'unset {" ".join(UNSET)}; exec "$@" >>"$0" 2>&1'
    argv = ["sh", "-c", script, str(log or plan.log), *command, *plan.make_variables, *arguments]
    with plan.log.open("a") as file:
        file.write(f"$ {' '.join([*command, *plan.make_variables, *arguments])}\n")
    return process.run(argv, deadline=BUILD_DEADLINE, environment=environment, watch=watch).status


# A file compiled or assembled: the lines of kbuild with V=0.
_COMPILED = re.compile(r"^  (?:CC|AS)(?: \[M\])? ", re.MULTILINE)


def count(plan: Plan, targets: Sequence[str]) -> int:
    """Return how many files make would compile, by a dry run; 0 when that does not work."""
    dry = plan.out / "dry-run.log"
    dry.unlink(missing_ok=True)
    # It ends in an error, since nothing that it should link is there; what it would compile comes before.
    make(plan, ["-n", *targets], log=dry)
    return len(re.findall(r"echo '  (?:CC|AS)(?: \[M\])? ", dry.read_text(errors="replace")))


class Watch:
    """Reads the log of a running build and says how far it is."""

    def __init__(self, plan: Plan, progress: Progress, total: int) -> None:
        self.label, self.log, self.progress, self.total = plan.label, plan.log, progress, total
        self.position = plan.log.stat().st_size if plan.log.exists() else 0
        self.compiled = 0
        self.said = 0.0

    def __call__(self, elapsed: float) -> None:
        with self.log.open("rb") as file:
            file.seek(self.position)
            new = file.read()
        # Whole lines only: the rest is read next time.
        new = new[: new.rfind(b"\n") + 1]
        self.position += len(new)
        self.compiled += len(_COMPILED.findall(new.decode("utf-8", "replace")))
        if elapsed - self.said >= max(SAY_EVERY_SECONDS, elapsed * SAY_EVERY_PART) and self.compiled:
            self.said = elapsed
            of = f" of {max(self.total, self.compiled)}" if self.total else ""
            self.progress(f"{self.label}: {self.compiled}{of} files compiled, {elapsed:.0f} s")


# In the order of trust: the compiler, the assembler and linker, make, whatever calls itself an error.
_SIGNS = (
    r"(fatal )?error: ",
    r"Error: ",
    r"undefined reference to|multiple definition of|cannot find -l",
    r"No rule to make target|command not found|: not found",
    r"\*\*\* (?!\[)",
    r"[Ee]rror",
)


def _is_full(directory: Path) -> bool:
    # The log is on the same disk, and may have had no room for the reason.
    return shutil.disk_usage(directory).free < ALMOST_NOTHING


def failure(plan: Plan) -> UsageError:
    """Return what a failed make means: a full disk, else BuildFailed with the first error of its log."""
    log = plan.log.read_text(errors="replace")
    if process.ran_out_of_space(log) or (not re.search(_SIGNS[0], log) and _is_full(plan.out)):
        return UsageError(
            f"no space left in {plan.out} (while building {plan.label}); free some, "
            f"or set {cache.ENVIRONMENT_VARIABLE} to a directory on a larger disk"
        )
    return BuildFailed(f"{plan.label}: {first_error(log)} (all of it: {plan.log})")


def first_error(log: str) -> str:
    """Return the line of a build's log that says what went wrong first: the compiler's, else make's."""
    lines = log.splitlines()
    for sign in _SIGNS:
        for line in lines:
            if re.search(sign, line):
                return line.strip().removeprefix("../")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it does not say why")
