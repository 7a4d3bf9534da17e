"""The guest's process 1: ``init.sh``, filled in for one VM."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from vm.base import process
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.machine import initramfs, own_root
from vm.machine.vm import CONFIG_VARIABLE, Vm

# Hidden in the guest by empty file systems, so that tests can write there and nothing of the host shows.
COVERED = ("/tmp", "/var/tmp", "/run")
# Hidden by what a guest has of its own there; a cache may be in /dev/shm.
_HIDDEN = (*COVERED, "/dev")
# Kept open by descriptors of one digit, which is all that a shell must know: 3 to 8, and 9 is the status port.
_MOST_KEPT = 6
OVERLAID = ("/etc", "/root", "/home", "/var/lib", "/var/cache", "/var/log")

# What process 1 does, by mode. The last line of a shell or a command gives the host time to read the one
# before: it ends the VM as soon as it has.
_RUN = {
    "worker": """\
exec 9>$(port vm.status)
echo init >&9
@wake@
@python@ -u -m vm.guest.serve 0<>$(port vm.worker) 1>&0 2>/dev/console
echo exit $? >&9""",
    "shell": """\
exec 9>$(port vm.status)
echo init >&9
@setup@
echo ready >&9
setsid cttyhack @shell@ </dev/@console@ >/dev/@console@ 2>&1 9>&-
echo exit $? >&9
sleep 10""",
    # The host's sh, since this one prefers its own applets. Pipes between the command and the ports: a second open()
    # of a port is EBUSY (drivers/char/virtio_console.c, port_fops_open), so that /dev/stderr would fail. The word at
    # the end of each, set by vm/shell/shell.py, tells that all of it has come through.
    "command": """\
exec 9>$(port vm.status)
echo init >&9
@setup@
echo ready >&9
mkfifo /run/vm/out /run/vm/err
(cat /run/vm/out; printf %s $end) >$(port vm.out) 9>&- &
(cat /run/vm/err; printf %s $end) >$(port vm.err) 9>&- &
setsid /bin/sh -c @script@ </dev/null >/run/vm/out 2>/run/vm/err 9>&-
code=$?
wait
echo exit $code >&9
sleep 10""",
}


def render(vm: Vm, directory: Path) -> str:
    """Return the guest's process 1: init.sh with the names of this VM filled in."""
    host = vm.root == "host"
    kept = _kept_paths(vm, directory) if host else []
    status = {"VM_STATUS_FD": "9"} if vm.mode == "worker" else {}
    status |= {"VM_WAKE_FD": "8"} if vm.resumes else {}
    environment = {**status, "PYTHONDONTWRITEBYTECODE": "1", **vm.environment}
    if not host and CONFIG_VARIABLE in environment:
        environment[CONFIG_VARIABLE] = f"{own_root.FILES}/{Path(environment[CONFIG_VARIABLE]).name}"
    values = {
        "busybox": str(initramfs.busybox()) if host else "/usr/bin/busybox",
        "open_kept": "\n".join(f"exec {3 + n}<{shlex.quote(path)}" for n, path in enumerate(kept)),
        "bind_kept": "\n".join(
            f"mkdir -p {shlex.quote(path)} && mount --bind /proc/self/fd/{3 + n} {shlex.quote(path)}; exec {3 + n}<&-"
            for n, path in enumerate(kept)
        ),
        "covered": " ".join(COVERED if host else []),
        "overlaid": shlex.join(path for path in [*(OVERLAID if host else ()), *_writable(vm)] if Path(path).is_dir()),
        "modules": shlex.quote(_modules(vm)),
        "release": vm.release,
        "modprobe": _modprobe() if host else "/usr/sbin/modprobe",
        # One that may be saved is told its name later.
        "hostname": "guest" if vm.resumes else vm.name,
        "path": shlex.quote(
            f"{sys.prefix}/bin:{os.environ.get('PATH', '')}:{process.SYSTEM_PATH}" if host else process.SYSTEM_PATH
        ),
        "term": shlex.quote(os.environ.get("TERM", "linux")),
        "environment": "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment.items()),
        "cwd": shlex.quote(vm.cwd),
        "run": _RUN[vm.mode],
        "wake": "exec 8<$(port vm.wake)" if vm.resumes else "",
        "serial": " ".join(_serial(vm)),
        "console": vm.architecture.console,
        # Last: what comes from the user may hold anything, also a name between two @.
        "python": shlex.quote(sys.executable if host else vm.python),
        "shell": _shell() if host else "/usr/bin/bash --norc",
        "setup": vm.setup,
        "script": shlex.quote(vm.script),
    }
    text = (Path(__file__).parent / "init.sh").read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def write(vm: Vm, directory: Path) -> None:
    """Write the process 1 of ``vm`` into its directory, as ``init``."""
    init = directory / "init"
    init.write_text(render(vm, directory))
    init.chmod(0o755)


def _serial(vm: Vm) -> list[str]:
    """Return ``PORT:TERMINAL`` for each port of a guest that has serial ones (vm/machine/qemu.py makes them)."""
    names = ["vm.status", *{"worker": ["vm.worker"], "command": ["vm.out", "vm.err"]}.get(vm.mode, [])]
    terminals = vm.architecture.further_console if vm.ports == "serial" else ()
    return [f"{name}:{terminal}" for name, terminal in zip(names, terminals, strict=False)]


def _modules(vm: Vm) -> str:
    """Return where the guest has the kernel's modules; empty for a kernel without any."""
    if vm.modules is None:
        return ""
    return f"/usr/lib/modules/{vm.release}" if vm.root != "host" else str(Path(vm.modules) / "lib/modules" / vm.release)


def _shell() -> str:
    bash = shutil.which("bash")
    return f"{shlex.quote(bash)} --norc" if bash else "/bin/sh"


def _writable(vm: Vm) -> list[str]:
    """Return the directories that people expect to write to: pytest's cache, an editor's swap file."""
    if vm.mode == "worker" or vm.root == "initramfs":
        return []
    wanted = [str(ROOT)]
    if ROOT not in (Path(vm.cwd), *Path(vm.cwd).parents):
        wanted.append(vm.cwd)
    return [name for name in wanted if name not in ("/", *OVERLAID, *COVERED)]


def _kept_paths(vm: Vm, directory: Path) -> list[str]:
    """Return the directories the guest needs that lie below the ones it hides, outermost only.

    By either name where a link is on the way: NixOS has its programs in ``/run/current-system``, a link.
    """
    needed = [ROOT, directory, Path(sys.prefix), Path(sys.base_prefix), Path(vm.cwd), Path(_modprobe()).parent]
    needed += [Path(vm.modules)] if vm.modules else []
    needed += [*map(Path, vm.places), *_directories("PYTHONPATH")]
    outermost = _outermost(needed)
    if len(outermost) > _MOST_KEPT:
        raise UsageError(f"too many directories below {', '.join(_HIDDEN)} are needed in the guest: {outermost}")
    # Programs that tests may call, as far as there is room.
    for place in _directories("PATH"):
        more = _outermost([*needed, place])
        if len(more) <= _MOST_KEPT:
            needed, outermost = [*needed, place], more
    return outermost


def _directories(variable: str) -> list[Path]:
    return [path for word in os.environ.get(variable, "").split(os.pathsep) if (path := Path(word)).is_absolute()]


def _outermost(needed: list[Path]) -> list[str]:
    names = {name for path in needed if path.is_dir() for name in (str(path.absolute()), str(path.resolve()))}
    below = {name for name in names if name.startswith(tuple(f"{hidden}/" for hidden in _HIDDEN))}
    return sorted(name for name in below if not any(str(parent) in below for parent in Path(name).parents))


def _modprobe() -> str:
    found = process.find("modprobe")
    if found is None:
        raise UsageError("modprobe is not installed; install the package kmod")
    return found
