"""The policies under which programs are tried: who runs them, what the kernel lets them, what is there at all.

FIPS mode is the kernel's own: it is asked for as ``KERNEL@fips``, and is the only policy of such a kernel.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.afalg import seccomp
from tests.afalg.privileges import NAMESPACE_ROOT, PLAIN_USER, ROOT, ROOT_WITHOUT_CAPABILITIES, SYS_ADMIN, Identity
from tests.algorithms.modules import program
from vm import uses

TYPES = ("skcipher", "hash", "aead", "rng")
SOCKETS = tuple(f"algif_{type_}" for type_ in TYPES)

_MODPROBE = Path("/run/vm/modprobe.d/programs.conf")
_PROFILE = "no-af-alg"
# What a program needs stays allowed; the family's name in AppArmor's language is alg.
_PROFILE_TEXT = f"""\
profile {_PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  file, capability, mount, umount, ptrace, signal, unix, dbus,
  network,
  deny network alg,
}}
"""


@dataclass(frozen=True)
class Policy:
    """One policy.

    Attributes:
        name: for ids and the table.
        says: what it is, in words.
        identity: who runs the program.
        level: of crypto.af_alg_restrict; 0 where nothing is said, which is as if there were none.
        missing: modules that are not there.
        confined: ``seccomp`` or ``AppArmor`` refuse the family.
        fips: of a kernel in FIPS mode.
    """

    name: str
    says: str
    identity: Identity = field(default=ROOT)
    level: int = 0
    missing: tuple[str, ...] = ()
    confined: str = ""
    fips: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """The types that are missing; all where it matters for none of them."""
        return tuple(module.removeprefix("algif_") for module in self.missing if module in SOCKETS)


NONE = Policy("none", "root, everything allowed")
_PEOPLE = (
    (ROOT, "root"),
    (SYS_ADMIN, "a user with CAP_SYS_ADMIN"),
    (PLAIN_USER, "a user"),
    (ROOT_WITHOUT_CAPABILITIES, "root without capabilities"),
    (NAMESPACE_ROOT, "root of a user namespace, as in a container"),
)
POLICIES = (
    NONE,
    # Without a policy nobody asks for capabilities (tests/policy).
    *(
        Policy(f"none,{who.name}", f"{says}, everything allowed", who)
        for who, says in _PEOPLE
        if who in (PLAIN_USER, NAMESPACE_ROOT)
    ),
    *(Policy(f"level-1,{who.name}", f"{says}, crypto.af_alg_restrict=1", who, level=1) for who, says in _PEOPLE),
    Policy("level-2", "root, crypto.af_alg_restrict=2", level=2),
    *(
        Policy(f"level-2,{who.name}", f"{says}, crypto.af_alg_restrict=2", who, level=2)
        for who, says in _PEOPLE
        if who in (PLAIN_USER, NAMESPACE_ROOT)
    ),
    *(Policy(f"no-{module}", f"root, the module {module} blacklisted", missing=(module,)) for module in SOCKETS),
    # To a program this is a kernel that is built without it: see _without.
    Policy("no-af_alg", "root, the module af_alg blacklisted, or not built", missing=(*SOCKETS, "af_alg")),
    Policy("fips", "root, a kernel booted with fips=1", fips=True),
    Policy(
        "seccomp", "root, AF_ALG refused by a filter of system calls (EPERM), as in a container", confined="seccomp"
    ),
    Policy("apparmor", "root, AF_ALG refused by AppArmor", confined="AppArmor"),
)


def applied(policy: Policy) -> contextlib.AbstractContextManager[None]:
    """Have a policy hold for all of this machine, as far as it is the machine's, during the block."""
    if policy.missing:
        return _without(policy.missing)
    return _level(policy.level) if uses.RESTRICT.exists() else contextlib.nullcontext()


def confine(policy: Policy) -> None:
    """Have a policy hold for this process and what it becomes, as far as it is the process's."""
    if policy.confined == "seccomp":
        calls = {seccomp.AUDIT_ARCH_X86_64: seccomp.SOCKET_X86_64, seccomp.AUDIT_ARCH_I386: seccomp.SOCKET_I386}
        seccomp.refuse_alg_sockets(errno.EPERM, calls)
    elif policy.confined:
        # aa_change_onexec(3)
        Path("/proc/self/attr/apparmor/exec").write_text(f"exec {_PROFILE}")


def has_apparmor() -> bool:
    """Say whether the kernel has AppArmor, and uses it."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return enabled.exists() and enabled.read_text().strip() == "Y"


def load_profile(place: Path) -> str:
    """Load AppArmor's profile; return why that cannot be, or an empty text."""
    parser = program("apparmor_parser")
    if not has_apparmor():
        return "the kernel has no AppArmor, or does not use it"
    if parser is None:
        return "no apparmor_parser (package apparmor)"
    file = place / _PROFILE
    file.write_text(_PROFILE_TEXT)
    done = subprocess.run([parser, "-K", "-r", str(file)], capture_output=True, text=True, timeout=300)
    return f"apparmor_parser: {done.stderr.strip()}" if done.returncode else ""


@contextlib.contextmanager
def _level(level: int) -> Iterator[None]:
    before = uses.RESTRICT.read_text()
    uses.RESTRICT.write_text(str(level))
    try:
        yield
    finally:
        uses.RESTRICT.write_text(before)


@contextlib.contextmanager
def _without(modules: tuple[str, ...]) -> Iterator[None]:
    """Take modules away, and keep the kernel from loading them again, during the block."""
    before = uses.RESTRICT.read_text() if uses.RESTRICT.exists() else ""
    modprobe, rmmod = program("modprobe"), program("rmmod")
    assert modprobe
    assert rmmod
    _MODPROBE.write_text("".join(f"install {module} /bin/false\n" for module in modules))
    try:
        loaded = {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}
        subprocess.run([rmmod, *(module for module in modules if module in loaded)], check=True, timeout=60)
        if before and "af_alg" not in modules:
            uses.RESTRICT.write_text("0")
        if "af_alg" in modules:
            # What any kernel says to a family that it does not have (socket(2)).
            assert uses.probe("", "") == "socket: EAFNOSUPPORT"
        yield
    finally:
        _MODPROBE.unlink()
        subprocess.run([modprobe, "--all", *reversed(modules)], check=True, timeout=60)
        if before:
            uses.RESTRICT.write_text(before)
