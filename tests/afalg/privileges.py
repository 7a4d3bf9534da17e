"""Doing something as somebody else: in a child process that gives up what it may, and comes back with a result."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.afalg.libc import checked

CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21

CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

NOBODY = 65534


@dataclass(frozen=True)
class Identity:
    """Who a process is.

    Attributes:
        name: for the ids of tests.
        uid: user and group.
        capabilities: what is left of them in the initial user namespace; None leaves those of the user.
        namespaces: CLONE_NEW… flags for namespaces of its own, where it is root if one is a user namespace.
    """

    name: str
    uid: int = NOBODY
    capabilities: frozenset[int] | None = frozenset()
    namespaces: int = 0


ROOT = Identity("root", 0, None)
ROOT_WITHOUT_CAPABILITIES = Identity("root-without-capabilities", 0)
NET_ADMIN = Identity("cap-net-admin", NOBODY, frozenset({CAP_NET_ADMIN}))
SYS_ADMIN = Identity("cap-sys-admin", NOBODY, frozenset({CAP_SYS_ADMIN}))
PLAIN_USER = Identity("plain-user")
NAMESPACE_ROOT = Identity("user-namespace-root", namespaces=CLONE_NEWUSER | CLONE_NEWNET)


class ChildFailed(AssertionError):
    """The function in the child raised, or the child died; the message says how."""


def run_as(identity: Identity, function: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Run ``function`` in a child process that is ``identity``, and return what it returned.

    Args:
        function: returns what JSON can hold; tuples come back as lists. It must import nothing, for the new user
            may not be able to read the interpreter's files.
        seconds: deadline, after which the child is killed.

    Raises:
        OSError: the function raised one, or the identity could not be taken on.
        ChildFailed: anything else.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_child(identity, function, writer)
    os.close(writer)
    try:
        answer = _read_all(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answer:
        raise ChildFailed(f"the child that was to be {identity.name} gave no answer within {seconds:g} s")
    kind, value = json.loads(answer)
    if kind == "errno":
        raise OSError(value, os.strerror(value))
    if kind == "traceback":
        raise ChildFailed(value)
    return value


def _be_the_child(identity: Identity, function: Callable[[], Any], writer: int) -> None:
    try:
        try:
            become(identity)
            answer = ["value", function()]
        except OSError as error:
            answer = ["errno", error.errno] if error.errno else ["traceback", traceback.format_exc()]
        except BaseException:
            answer = ["traceback", traceback.format_exc()]
        os.write(writer, json.dumps(answer).encode())
    finally:
        os._exit(0)


def become(identity: Identity) -> None:
    if identity.uid:
        # The capabilities survive the change of user, to be dropped one by one below.
        checked(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl(PR_SET_KEEPCAPS)")
        os.setgroups([])
        os.setresgid(identity.uid, identity.uid, identity.uid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        # Or /proc/self belongs to root, and the namespaces' maps with it.
        checked(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl(PR_SET_DUMPABLE)")
    if identity.capabilities is not None:
        _set_capabilities(identity.capabilities)
    if identity.namespaces:
        checked(_libc.unshare(identity.namespaces), "unshare")
        if identity.namespaces & CLONE_NEWUSER:
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"0 {identity.uid} 1"),
                ("gid_map", f"0 {identity.uid} 1"),
            ):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)


def _set_capabilities(capabilities: frozenset[int]) -> None:
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    for capability in capabilities:
        word, bit = divmod(capability, 32)
        for which in range(2):  # effective and permitted; nothing is inheritable
            sets[3 * word + which] |= 1 << bit
    checked(_libc.capset(header, sets), "capset")


def _read_all(reader: int, end: float) -> bytes:
    parts: list[bytes] = []
    while select.select([reader], [], [], max(0.0, end - time.monotonic()))[0]:
        part = os.read(reader, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
    return b""


_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
