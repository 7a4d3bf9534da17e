"""How kernels differ, asked of the kernel itself: never its version, which distributions change under."""

from __future__ import annotations

import errno
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.afalg import Pipe, Rng, Skcipher, Socket, set_op, splice
from tests.afalg.constants import (
    ALG_OP_ENCRYPT,
    ALG_SET_DRBG_ENTROPY,
    ALG_SET_KEY_BY_KEY_SERIAL,
    CRYPTO_ALG_KERN_DRIVER_ONLY,
    MSG_DONTWAIT,
    MSG_MORE,
)
from tests.doctor.absence import has_type
from tests.errors.raises import outcome
from tests.need import need

MSG_CMSG_COMPAT = -(2**31)
RESTRICT = Path("/proc/sys/crypto/af_alg_restrict")
OPTMEM = Path("/proc/sys/net/core/optmem_max")


def _of_each_type() -> Iterator[tuple[str, str]]:
    """Yield a type that the kernel has and an algorithm of it; any will do where the answer is that of all."""
    for type_, name in (("hash", "sha256"), ("skcipher", "cbc(aes)"), ("aead", "gcm(aes)")):
        if has_type(type_):
            yield type_, name


@functools.cache
def passes_on_template_errors() -> bool:
    """Whether bind gives the error of a template that refused its parameters; before Linux 6.4 all are ENOENT."""
    type_ = next(type_ for type_, _ in _of_each_type())
    return (
        outcome(lambda: Socket.bound(type_, "hmac(sha256)" if type_ == "skcipher" else "cbc(aes)").close())
        != errno.ENOENT
    )


@functools.cache
def ignores_lookup_flags() -> bool:
    """Whether feat and mask of the address have no effect: since Linux 7.2."""
    flag = CRYPTO_ALG_KERN_DRIVER_ONLY
    type_, name = next(_of_each_type())
    return outcome(lambda: Socket.bound(type_, name, flag, flag).close()) == 0


@functools.cache
def refuses_compat_flag() -> bool:
    """Whether sendmsg and recvmsg refuse MSG_CMSG_COMPAT, as a socket that is none of AF_ALG's answers.

    It is the kernel's own where 32-bit programs can run, and no flag at all where they cannot (CONFIG_COMPAT).
    """
    one, other = socket.socketpair()
    with one, other:
        return outcome(lambda: one.sendmsg([b"x"], [], MSG_CMSG_COMPAT)) == errno.EINVAL


@functools.cache
def has_key_serials() -> bool:
    """Whether ALG_SET_KEY_BY_KEY_SERIAL exists: since Linux 6.2, where keys are configured."""
    with Socket.bound(*next(_of_each_type())) as tfm:
        return outcome(lambda: tfm.setsockopt(ALG_SET_KEY_BY_KEY_SERIAL, b"")) != errno.ENOPROTOOPT


@functools.cache
def has_drbg_entropy() -> bool:
    """Whether ALG_SET_DRBG_ENTROPY exists: with CONFIG_CRYPTO_USER_API_RNG_CAVP."""
    with need(Rng, "jitterentropy_rng") as rng:
        return outcome(lambda: rng.tfm.setsockopt(ALG_SET_DRBG_ENTROPY, b"")) != errno.ENOPROTOOPT


@functools.cache
def splice_begins_a_request() -> bool:
    """Whether an op socket that was only spliced into has a request; where not, a send must begin it.

    Linux before 6.5 had none, but for stable branches in which spliced data is copied.
    """
    with need(Skcipher, "ecb(aes)", bytes(16)) as cipher, Pipe() as pipe:
        os.write(pipe.write_end, bytes(16))
        splice(pipe.read_end, cipher.op, 16)
        return outcome(lambda: cipher.op.recv(16, MSG_DONTWAIT)) != errno.EAGAIN


@functools.cache
def splices_by_reference() -> bool:
    """Whether spliced pages stay their owner's until recv, who may change them; where not, they are copied at once.

    Linux took pages by reference until 7.2, and until their counterparts of that fix in stable branches.
    """
    need(Skcipher, "ecb(aes)").close()
    with Socket.bound("skcipher", "ecb(aes)") as tfm, Pipe() as pipe:
        tfm.set_key(bytes(16))
        file = os.memfd_create("af-alg-probe", os.MFD_CLOEXEC)
        try:
            with tfm.accept() as op:
                results = []
                for late in (b"a" * 16, b"b" * 16):
                    os.pwrite(file, b"a" * 16, 0)
                    op.sendmsg([], set_op(ALG_OP_ENCRYPT), MSG_MORE)
                    splice(file, pipe.write_end, 16, offset_in=0)
                    splice(pipe.read_end, op, 16)
                    os.pwrite(file, late, 0)
                    results.append(op.recv(16))
        finally:
            os.close(file)
        return results[0] != results[1]


@functools.cache
def optmem_max() -> int:
    """Bytes of memory one socket may take for options and requests."""
    return int(OPTMEM.read_text())
