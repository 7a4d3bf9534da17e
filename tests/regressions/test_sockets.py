"""Bugs of af_alg itself: addresses, keys, accept."""

from __future__ import annotations

import errno
import os
import resource
import struct
import subprocess
from pathlib import Path

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT, SOL_SOCKET
from tests.doctor import absence
from tests.errors.limits import SetLimit, set_limit
from tests.errors.raises import raises_errno
from tests.need import lacking, need
from tests.oracle import hashes, skciphers

__all__ = ["set_limit"]

KEY = bytes(range(16))
SO_RESERVE_MEM = 73


@pytest.mark.fixed_by(
    "265b861bece3", "crypto: chacha20poly1305 - validate poly1305 template argument", cve="CVE-2026-64314"
)
def test_rfc7539_without_its_second_argument_is_refused() -> None:
    """The name that is not there was compared all the same: an Oops in the thread that makes algorithms.

    Source: chachapoly_create.
    """
    need(Aead, "rfc7539(chacha20,poly1305)").close()
    with raises_errno(errno.ENOENT, errno.EINVAL):
        Socket.bound("aead", "rfc7539(chacha20)").close()


@pytest.mark.fixed_by("e57121d08c38", "crypto: chacha20poly1305 - validate the digest size")
def test_rfc7539_with_a_hash_of_another_size_is_refused() -> None:
    """Poly1305 has 16 bytes (RFC 7539, 2.5): chachapoly_create took any hash, whose digest overran that room."""
    need(Aead, "rfc7539(chacha20,poly1305)").close()
    with raises_errno(errno.ENOENT, errno.EINVAL, why="a hash of 32 bytes for Poly1305"):
        Socket.bound("aead", "rfc7539(chacha20,sha256)").close()


@pytest.mark.fixed_by(
    "af3ff8045bbf", "crypto: hmac - require that the underlying hash algorithm is unkeyed", cve="CVE-2017-17806"
)
@pytest.mark.parametrize("inner", ["md5", "sha1", "sha224", "sha256", "sha256-generic", "sha3-256", "sha3-512", "sm3"])
def test_hmac_of_hmac_is_refused(inner: str) -> None:
    """The inner one was used without a key, and wrote past its state (hmac_create in crypto/hmac.c)."""
    need(Hash, "hmac(sha256)").close()
    with raises_errno(errno.ENOENT, errno.EINVAL, why="an HMAC of an HMAC"):
        Socket.bound("hash", f"hmac(hmac({inner}))").close()


@pytest.mark.fixed_by("5d26a105b5a7", 'crypto: prefix module autoloading with "crypto-"', cve="CVE-2013-7421")
def test_bind_loads_no_module_that_is_no_algorithm() -> None:
    """Any user could have any module loaded, by its name (crypto_larval_lookup, MODULE_ALIAS_CRYPTO)."""
    name = loadable_module()
    need(Hash, "sha256").close()
    with raises_errno(errno.ENOENT):
        Socket.bound("hash", name).close()
    assert name not in loaded_modules(), "bind loaded a module that is no algorithm"


# Each form by one type, all by all in a thorough run: every name that is not there costs calls of modprobe.
FORMS = [
    pytest.param(type_, form, id=f"{type_}-{form}", marks=[] if type_ == own else pytest.mark.thorough)
    for form, own in (
        ("{}(aes)", "skcipher"),
        ("{}(sha256)", "hash"),
        ("{0}({0})", "aead"),
        ("cbc({})", "skcipher"),
        ("hmac({})", "hash"),
        ("cmac({}(aes))", "hash"),
    )
    for type_ in ("hash", "skcipher", "aead")
]


@pytest.mark.parametrize(("type_", "form"), FORMS)
def test_bind_loads_no_module_that_is_no_template(type_: str, form: str) -> None:
    """The template's name was asked for as it stood, without ``crypto-``.

    Linux kernel commit 4943ba16bbc2 ("crypto: include crypto- module prefix in template"), CVE-2014-9644, in v3.19.
    """
    name = loadable_module()
    with raises_errno(errno.ENOENT, errno.EINVAL):
        Socket.bound(type_, form.format(name)).close()
    assert name not in loaded_modules()


@pytest.mark.parametrize("algorithm", ["sha256", "{}", "{}(aes)"])
def test_bind_loads_no_module_that_is_no_type(algorithm: str) -> None:
    """Types are asked for as ``algif-`` and their name (alg_bind in crypto/af_alg.c)."""
    name = loadable_module()
    with raises_errno(errno.ENOENT):
        Socket.bound(name, algorithm.format(name)).close()
    assert name not in loaded_modules()


@pytest.mark.fixed_by("c840ac6af3f8", "crypto: af_alg - Disallow bind/setkey/... after accept(2)")
def test_the_key_of_a_socket_in_use_is_left_alone() -> None:
    """A request in flight lost its transform (alg_setsockopt, -EBUSY)."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        cipher.op.sendmsg([bytes(16)], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        with raises_errno(errno.EBUSY, why="setkey of a socket in use"):
            cipher.tfm.set_key(bytes(16))
        with raises_errno(errno.EBUSY, why="bind of a socket in use"):
            cipher.tfm.bind("skcipher", "ctr(aes)")
        assert cipher.op.recv(16) == skciphers.crypt("cbc(aes)", KEY, bytes(16), bytes(16))


@pytest.mark.fixed_by("a383292c8667", "crypto: af_alg - Fix socket double-free when accept fails")
def test_an_accept_that_fails_frees_its_socket_once(set_limit: SetLimit) -> None:
    """When the type has no memory for the new socket's context, that was freed, and again with the descriptor.

    Source: af_alg_accept.
    """
    for kind, name, key in ((Skcipher, "cbc(aes)", KEY), (Aead, "gcm(aes)", KEY), (Hash, "hmac(sha256)", KEY)):
        with need(kind, name, key) as transform:
            set_limit(1)
            for _ in range(200):
                with raises_errno(errno.ENOMEM):
                    transform.tfm.accept()
            set_limit(20480)
            transform.tfm.accept().close()
    with need(Hash, "sha256") as h, Socket.create() as unbound:
        for _ in range(200):
            with raises_errno(errno.EINVAL):
                unbound.accept()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (h.tfm.fd + 1, hard))
        try:
            for _ in range(200):
                with raises_errno(errno.EMFILE):
                    h.tfm.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert h.digest(b"abc") == hashes.digest("sha256", b"abc"), "accepts that failed broke the transform"


@pytest.mark.fixed_by("25206111512d", "crypto: af_alg - get rid of alg_memory_allocated", cve="CVE-2022-48781")
def test_no_memory_can_be_reserved() -> None:
    """A protocol that counts memory without a limit for it met a division by NULL (SO_RESERVE_MEM, 5.16)."""
    with need(Hash, "sha256") as h, raises_errno(errno.EOPNOTSUPP, errno.ENOPROTOOPT):
        h.op.setsockopt(SO_RESERVE_MEM, struct.pack("i", 4096), level=SOL_SOCKET)


@pytest.mark.fixed_by("9060cb719e61", "net: crypto set sk to NULL when af_alg_release.", cve="CVE-2019-8912")
def test_the_inode_of_a_closed_socket_has_no_owner_to_change() -> None:
    """The inode outlives the socket where a path to it is open, and led to freed memory (sockfs_setattr)."""
    with need(Hash, "sha256") as h:
        op = h.tfm.accept()
        path = os.open(f"/proc/self/fd/{op.fd}", os.O_PATH | os.O_CLOEXEC)
        try:
            os.chown(f"/proc/self/fd/{path}", 0, 0)  # while there is a socket
            op.close()
            with raises_errno(errno.ENOENT, why="a new owner of a socket that is gone"):
                os.chown(f"/proc/self/fd/{path}", 0, 0)
        finally:
            os.close(path)
        assert h.digest(b"abc") == hashes.digest("sha256", b"abc")


def loadable_module() -> str:
    """Return a module that modprobe would load by its name, has not loaded, and that has nothing to do with crypto."""
    if not Path("/proc/modules").exists():
        lacking(absence.MODULES)
    for name in (
        "dummy",
        "minix",
        "isofs",
        "raid0",
        "sctp",
        "bridge",
        "dm_mod",
        "loop",
        "tun",
        "encrypted_keys",
        "crc64",
    ):
        known = subprocess.run(["modprobe", "--show-depends", name], timeout=60, capture_output=True, text=True)
        if name not in loaded_modules() and known.returncode == 0 and "insmod " in known.stdout:
            return name
    raise AssertionError("modprobe would load none of the modules that every distribution has")


def loaded_modules() -> set[str]:
    """Return the names in /proc/modules."""
    with open("/proc/modules") as file:
        return {line.split()[0] for line in file}
