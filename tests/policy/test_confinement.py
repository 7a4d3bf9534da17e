"""Namespaces, chroot and filters of system calls: what confines a process, and what of AF_ALG is left to it."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.afalg import Hash, Socket, seccomp
from tests.afalg.constants import AF_ALG, SOCK_SEQPACKET
from tests.afalg.privileges import (
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    NAMESPACE_ROOT,
    PLAIN_USER,
    ROOT,
    Identity,
)
from tests.errors import probes
from tests.errors.raises import outcome
from tests.errors.subjects import HASH, KEYED, SKCIPHER, Subject
from tests.errors.test_autoload import need_module
from tests.need import need, need_32_bit, run_as

NAMESPACES = [
    NAMESPACE_ROOT,
    Identity("user-namespace", namespaces=CLONE_NEWUSER),
    Identity("network-namespace", 0, None, CLONE_NEWNET),
    Identity("pid-namespace", 0, None, CLONE_NEWPID),
]


@pytest.mark.parametrize("identity", NAMESPACES, ids=lambda identity: identity.name)
@pytest.mark.parametrize("subject", KEYED, ids=lambda subject: subject.type_)
def test_namespaces_make_no_difference(subject: Subject, identity: Identity) -> None:
    """AF_ALG belongs to none: a socket can be made, bound and used in any."""
    subject.open().close()

    def use() -> bool:
        with subject.open() as transform:
            subject.works(transform.op)
        return True

    # In a child of the child, because a process that makes a pid namespace is not in it.
    assert run_as(identity, lambda: run_as(ROOT, use))


@pytest.mark.parametrize("subject", KEYED, ids=lambda subject: subject.type_)
def test_socket_works_for_whoever_inherits_it(subject: Subject) -> None:
    """Neither accept(2) nor a request asks who makes the call (crypto/af_alg.c): rights count at socket and bind."""
    with subject.open() as transform:
        subject.works(transform.op)

        def use() -> bool:
            subject.works(transform.op)
            with transform.tfm.accept() as op:
                subject.works(op)
            return True

        assert run_as(PLAIN_USER, use)


def test_root_of_a_namespace_limits_only_itself() -> None:
    """net.core.optmem_max belongs to a network namespace since Linux 6.7, and to the initial one alone before."""
    with HASH.open() as h:

        def inside() -> list[int]:
            written = outcome(limit_option_memory)
            with Socket.bound(HASH.type_, HASH.name) as tfm:
                return [written, outcome(lambda: tfm.set_key(b"key"))]

        assert run_as(NAMESPACE_ROOT, inside) in ([0, errno.ENOMEM], [errno.ENOENT, 0], [errno.EACCES, 0])
        h.tfm.set_key(HASH.key or b"")
        HASH.works(h.op)


def test_modules_come_in_for_a_process_in_a_chroot(tmp_path: Path) -> None:
    """The kernel runs modprobe in its own root, whatever that of the caller holds.

    Source: call_modprobe, kernel/module/kmod.c.
    """
    need_module("wp512")
    need(Hash, "wp512").close()
    need(Hash, "sha256").close()
    subprocess.run(["modprobe", "-r", "wp512"], timeout=60, check=True, capture_output=True)

    def use() -> bool:
        os.chroot(tmp_path)
        with Socket.bound("hash", "wp512"):
            return True

    assert run_as(ROOT, use)
    assert Path("/sys/module/wp512").exists()


# seccomp -------------------------------------------------------------------------------------------------------------


def test_filter_of_socket_is_enough_against_new_sockets() -> None:
    """What was opened before goes on working: its calls are others (seccomp(2))."""
    with SKCIPHER.open() as cipher:

        def confined() -> list[int]:
            seccomp.refuse_alg_sockets(errno.EACCES, {seccomp.AUDIT_ARCH_X86_64: seccomp.SOCKET_X86_64})
            new = outcome(lambda: Socket.create().close())
            SKCIPHER.works(cipher.op)
            return [new, outcome(lambda: socket.socket(socket.AF_UNIX).close())]

        assert run_as(PLAIN_USER, confined) == [errno.EACCES, 0]
        SKCIPHER.works(cipher.op)


@pytest.mark.parametrize("both", [False, True], ids=["64-bit-filter", "both-filters"])
def test_32_bit_entry_needs_a_filter_of_its_own(both: bool) -> None:
    """A filter that knows the calls of one architecture lets those of the other pass (seccomp(2), on arch)."""
    need_32_bit()
    calls = {seccomp.AUDIT_ARCH_X86_64: seccomp.SOCKET_X86_64}
    if both:
        calls[seccomp.AUDIT_ARCH_I386] = seccomp.SOCKET_I386

    def confined() -> list[int]:
        seccomp.refuse_alg_sockets(errno.EACCES, calls)
        direct = outcome(lambda: Socket.create().close())
        detour = seccomp.call_32_bit(seccomp.SOCKET_I386, AF_ALG, SOCK_SEQPACKET, 0)
        return [direct, min(detour, 0)]

    assert run_as(PLAIN_USER, confined) == [errno.EACCES, -errno.EACCES if both else 0]


def limit_option_memory() -> None:
    with open(probes.OPTMEM, "w") as file:
        file.write("1")
