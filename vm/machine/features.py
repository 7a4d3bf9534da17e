"""What this QEMU was built with: without some of it no guest boots, without other parts guests are less well kept.

Distributions build QEMU in several flavours, and people build their own: without virtfs (9p), without seccomp.
"""

from __future__ import annotations

import functools
import re
import subprocess
from dataclasses import dataclass

from vm.base.arch import Architecture
from vm.base.errors import UsageError

# A guest that breaks out of QEMU finds a process that may not start others or gain privileges.
SANDBOX = ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
NEEDED = {
    "virtio-serial-{bus}": "carries tests and verdicts",
    "virtserialport": "carries tests and verdicts",
    "virtio-rng-{bus}": "gives entropy",
}
"""Devices that no guest can do without, named by its architecture's bus, and what for."""

_SECONDS = 60.0


@dataclass(frozen=True)
class Features:
    """What a QEMU has.

    Attributes:
        sandbox: whether it can be kept from starting programs and the like (seccomp).
        shares: whether it can show the host's files by 9p (configure --enable-virtfs).
        generation: whether it can tell a kernel that it goes on as another machine (vmgenid).
    """

    sandbox: bool = True
    shares: bool = True
    generation: bool = False

    @property
    def missing(self) -> str:
        """What is done without, in one line for people; empty when nothing is."""
        return "" if self.sandbox else "QEMU has no sandbox here (seccomp): a guest that breaks out of it can do more"


@functools.cache
def probe(architecture: Architecture, qemu: str | None = None) -> Features:
    """Return what a QEMU has; it is asked once per process.

    Args:
        architecture: of the guests.
        qemu: name or path, that of the architecture when None.

    Raises:
        UsageError: it has not what guests need, or cannot be run.
    """
    path = architecture.find_qemu(qemu)
    listed = _run(path, "-machine", "none", "-device", "help")
    devices = set(re.findall(r'^name "([^"]+)"', listed.stdout, re.MULTILINE))
    for form, purpose in NEEDED.items():
        if (device := form.format(bus=architecture.bus)) not in devices:
            said = (listed.stderr.strip().splitlines() or [""])[0]
            raise UsageError(
                f"{path} has no device {device}, which {purpose}{f' ({said})' if said else ''}; "
                f"give another QEMU by --qemu (Debian: the package {architecture.package} has it)"
            )
    tried = _run(path, *SANDBOX, "-machine", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio")
    return Features(
        sandbox=tried.returncode == 0,
        shares=f"virtio-9p-{architecture.bus}" in devices,
        generation="vmgenid" in devices,
    )


def _run(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [path, *arguments], input="quit\n", capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except OSError as error:
        raise UsageError(f"cannot run {path}: {error.strerror}; give another QEMU by --qemu") from error
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"{path} did not say within {_SECONDS:g} s what devices it has; give another QEMU by --qemu"
        ) from error
