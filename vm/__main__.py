"""The runner's one program: ``python -m vm SUBCOMMAND …``. What each takes, ``python -m vm SUBCOMMAND --help`` says."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from vm.base.command import command
from vm.base.errors import UsageError

SUBCOMMANDS = {
    "test": ("vm.run.command", "boot kernels and run tests in them: pytest, --kernel SPEC may stand before a path"),
    "ci": ("vm.ci.command", "run tests as a job of GitHub, GitLab, LAVA, tmt or NIPA"),
    "axes": ("vm.kernels.axes", "list what a kernel can be booted with besides the usual: 6.12@no-avx2"),
    "root": ("vm.roots.command", "list or make the roots that guests run from"),
    "tarball": ("vm.roots.tarball", "pack what a machine needs to test its own kernel, with no network"),
    "kernels": ("vm.kernels.listing", "list the kernels that are cached and those that can be had"),
    "resolve": ("vm.kernels.resolve", "fetch or build what a spec names, and print where it is"),
    "build": ("vm.kernels.build_command", "build kernels and print their images"),
    "shell": ("vm.shell.shell", "a root shell, or one command, in the guest that tests have"),
    "doctor": ("tests.doctor.__main__", "say what works on a kernel, and why the rest does not"),
    "uses": ("vm.uses", "run a command, or watch the machine: who uses AF_ALG, with what, under which policy it works"),
    "coverage": ("vm.coverage.command", "run tests, and say which lines and branches of AF_ALG they reach"),
    "teeth": ("vm.teeth.command", "change a kernel in small ways, and say which tests notice"),
    "bisect": ("vm.bisect.command", "find which package or commit changed the answer of a test"),
    "reproducer": ("vm.reproducer.command", "write a C program that shows why a test is red, and try it"),
    "results": ("vm.report.command", "show runs once more, convert, merge or compare them"),
    "matrix": ("vm.results.matrix", "several kernels side by side: where they differ"),
    "diff": ("vm.results.diff", "only what changed between two kernels"),
    "console": ("vm.klog.console", "split the console of a machine by test"),
    "bench": ("vm.bench.command", "what the runner costs, as ratios"),
    "flakes": ("vm.bench.flakes", "run the suite again and again, and say which verdicts differ"),
    "clean-results": ("vm.results.clean", "remove the results of old runs"),
    "cache": ("vm.base.prune", "keep the cache within its bounds, or remove all of it"),
    "accel": ("vm.machine.accel", "say what QEMU runs guests with on this host, and why"),
}
"""Name: module with the function ``main(arguments)``, and one line of help. Only what is called is imported."""


@command
def main(arguments: Sequence[str]) -> int:
    """Run a subcommand; return its exit status.

    Raises:
        UsageError: there is none of that name.
    """
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if arguments else 4
    name, *rest = arguments
    if name not in SUBCOMMANDS:
        raise UsageError(f"no subcommand {name!r}; there are {', '.join(SUBCOMMANDS)} (python -m vm --help)")
    found: Callable[[Sequence[str]], int] = importlib.import_module(SUBCOMMANDS[name][0]).main
    return found(rest)


def usage() -> str:
    """Return the help: one line a subcommand."""
    lines = [f"  {name:13} {text}\n" for name, (_, text) in SUBCOMMANDS.items()]
    return "".join(["usage: python -m vm SUBCOMMAND …\n\n", *lines, "\nEach has its own --help.\n"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
