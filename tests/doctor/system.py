"""What the doctor asks of a machine."""

from __future__ import annotations

import functools
import gzip
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.afalg.sockets import Socket
from tests.doctor.kinds import KINDS, Kind

CONFIG_VARIABLE = "VM_KERNEL_CONFIG"
"""Environment variable with the path of the running kernel's .config, for kernels that do not carry it."""


@dataclass(frozen=True)
class System:
    """Everything the doctor asks of a machine; tests give answers of their own.

    Attributes:
        socket: open and close an AF_ALG socket; raises OSError.
        read: text of a file, None when it cannot be read.
        exists: whether a path exists.
        modprobe: what modprobe with these arguments prints, empty when it fails or cannot be run.
        executable: whether a path is a program that can be run.
        release: ``uname -r``.
        machine: ``uname -m``.
        config: options by name without CONFIG_ (``y``, ``m`` or a value), None when it is unknown.
        config_source: where it comes from.
        kinds: the types to try.
    """

    socket: Callable[[], None]
    read: Callable[[str], str | None]
    exists: Callable[[str], bool]
    modprobe: Callable[[Sequence[str]], str]
    executable: Callable[[str], bool]
    release: str
    machine: str
    config: dict[str, str] | None
    config_source: str
    kinds: Sequence[Kind] = field(default_factory=lambda: KINDS)


def this_system() -> System:
    """Return the machine this Python runs on."""
    release = os.uname().release
    config, source = _find_config(release)
    return System(
        socket=lambda: Socket.create().close(),
        read=_read,
        exists=os.path.exists,
        modprobe=lambda arguments: _modprobe(tuple(arguments)),
        executable=lambda path: os.access(path, os.X_OK),
        release=release,
        machine=os.uname().machine,
        config=config,
        config_source=source,
    )


def parse_config(text: str) -> dict[str, str]:
    """Return the options of a kernel's .config: name without CONFIG_ to value, quotes removed, ``n`` for unset ones.

    An option the kernel does not know, or whose dependencies are not met, is not in the file nor in the answer.
    """
    options = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.strip().partition("=")
            options[name.removeprefix("CONFIG_")] = value.strip('"')
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            options[line[len("# CONFIG_") : -len(" is not set")]] = "n"
    return options


def _find_config(release: str) -> tuple[dict[str, str] | None, str]:
    named = os.environ.get(CONFIG_VARIABLE)
    candidates = ["/proc/config.gz", *([named] if named else [])]
    candidates += [f"/boot/config-{release}", f"/lib/modules/{release}/config"]
    for path in candidates:
        try:
            data = Path(path).read_bytes()
        except OSError:
            continue
        return parse_config((gzip.decompress(data) if path.endswith(".gz") else data).decode()), path
    return None, f"unknown ({', '.join(candidates)}: none there)"


@functools.cache
def _modprobe(arguments: tuple[str, ...]) -> str:
    """Ask the modprobe that the kernel would run, or else the one on the path: once, since nobody changes its files."""
    helper = (_read("/proc/sys/kernel/modprobe") or "").strip()
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    program = helper if os.access(helper, os.X_OK) else shutil.which("modprobe", path=search)
    if not program:
        return ""
    try:
        answer = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None
