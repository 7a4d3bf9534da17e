"""In a guest: runs a command while changed modules are in the place of the kernel's own.

    python -m vm.teeth.within RELEASE crypto/af_alg=FILE… -- COMMAND…

RELEASE is ``MODULE:FUNCTION``, which has the kernel let go of what it keeps of modules. Ends as the command does. A
machine that cannot be used for another command then, as one whose kernel complained, is marked as spent
(vm/reproducer/guest.py).
"""

from __future__ import annotations

import contextlib
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vm.base import toml
from vm.base.files import ROOT
from vm.klog import taint
from vm.reproducer.guest import SPENT
from vm.teeth.modules import Spent, replaced

NOT_CHANGED = 125
"""The exit status where the modules could not be put in place."""


def main(arguments: Sequence[str]) -> int:
    """Run a command so; return its exit status."""
    split = arguments.index("--")
    release, *pairs = arguments[:split]
    files = {name: Path(file) for name, _, file in (pair.partition("=") for pair in pairs)}
    options = toml.read(ROOT / "pyproject.toml")["tool"]["pytest"]["ini_options"]
    before, status = taint.read(), NOT_CHANGED
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                replaced(files, options["guest_modules"], options["guest_sysctls"], pkgutil.resolve_name(release))
            )
            # It has the descriptors that this one was given.
            status = subprocess.run(arguments[split + 1 :], close_fds=False).returncode
            if taint.read() & ~before:
                raise Spent("the kernel complained, and may be broken for the next")
            stack.close()
        except Spent as error:
            print(f"within: {error}", file=sys.stderr)
            Path(SPENT).touch()
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
