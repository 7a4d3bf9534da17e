"""setsockopt(2): keys, tag sizes and options that are refused."""

from __future__ import annotations

import errno
import hashlib
import hmac
import sys

import pytest

from tests.afalg import Hash, Pointer, Rng, Skcipher, set_iv, set_op
from tests.afalg import constants as c
from tests.afalg.memory import PROT_NONE, Memory
from tests.doctor.absence import fips_mode
from tests.errors import probes
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import (
    AEAD,
    EVERY,
    HASH,
    SKCIPHER,
    Subject,
    each_keyed_type,
    each_type,
    socket_of,
)
from tests.need import need
from tests.oracle import skciphers

UNKNOWN_OPTIONS = [0, c.ALG_SET_IV, c.ALG_SET_OP, c.ALG_SET_AEAD_ASSOCLEN, 8, 99, 0x7FFFFFFF, -1]
FOREIGN_LEVELS = {"ip": 0, "tcp": 6, "udp": 17, "netlink": 270, "tls": 282}


@returns("setsockopt-unknown")
@each_type
def test_unknown_option_is_enoprotoopt(subject: Subject) -> None:
    """IV, operation and AAD length among them: they are control messages (alg_setsockopt)."""
    with subject.open() as transform:
        for option in UNKNOWN_OPTIONS:
            with raises_errno(errno.ENOPROTOOPT, why=f"option {option}"):
                transform.tfm.setsockopt(option, bytes(16))
        subject.works(transform.op)


@returns("setsockopt-no-authsize")
@pytest.mark.parametrize("subject", [s for s in EVERY if s.type_ != "aead"], ids=lambda s: s.type_)
def test_tag_size_of_anything_but_an_aead_is_enoprotoopt(subject: Subject) -> None:
    """alg_setsockopt: only algif_type_aead has setauthsize (crypto/algif_aead.c)."""
    with subject.open() as transform:
        with raises_errno(errno.ENOPROTOOPT):
            transform.tfm.setsockopt(c.ALG_SET_AEAD_AUTHSIZE, None, length=16)
        subject.works(transform.op)


@returns("setsockopt-no-entropy")
@each_keyed_type
def test_entropy_of_anything_but_an_rng_is_enoprotoopt(subject: Subject) -> None:
    """alg_setsockopt: only algif_type_rng has setentropy, with CONFIG_CRYPTO_USER_API_RNG_CAVP (crypto/algif_rng.c)."""
    with subject.open() as transform:
        with raises_errno(errno.ENOPROTOOPT):
            transform.tfm.setsockopt(c.ALG_SET_DRBG_ENTROPY, bytes(16))
        subject.works(transform.op)


@returns("setsockopt-unbound")
@pytest.mark.parametrize("option", range(9))
def test_any_option_before_bind_is_enoprotoopt(option: int) -> None:
    """alg_setsockopt (crypto/af_alg.c) looks at no option of a socket without a type."""
    with socket_of("unbound") as tfm, raises_errno(errno.ENOPROTOOPT):
        tfm.setsockopt(option, bytes(16))


@returns("not-on-op")
@each_type
def test_any_option_on_an_op_socket_is_eopnotsupp(subject: Subject) -> None:
    """The op sockets' proto_ops have no setsockopt: do_sock_setsockopt (net/socket.c) says so itself."""
    with subject.open() as transform:
        for option in range(9):
            with raises_errno(errno.EOPNOTSUPP, why=f"option {option}"):
                transform.op.setsockopt(option, bytes(16))
        subject.works(transform.op)


@returns("setsockopt-level")
@pytest.mark.parametrize("level", FOREIGN_LEVELS.values(), ids=FOREIGN_LEVELS.keys())
def test_foreign_level_is_enoprotoopt(level: int) -> None:
    """alg_setsockopt takes SOL_ALG and nothing else; the key stays as it was."""
    with SKCIPHER.open() as cipher:
        with raises_errno(errno.ENOPROTOOPT):
            cipher.tfm.setsockopt(c.ALG_SET_KEY, bytes(16), level=level)
        SKCIPHER.works(cipher.op)


@returns("setsockopt-children")
@pytest.mark.parametrize("level", [c.SOL_ALG, *FOREIGN_LEVELS.values()], ids=["alg", *FOREIGN_LEVELS.keys()])
def test_any_option_with_a_used_op_socket_is_busy(level: int) -> None:
    """Before level and option are looked at (alg_setsockopt)."""
    with SKCIPHER.open() as cipher:
        SKCIPHER.works(cipher.op)
        for option in (c.ALG_SET_KEY, c.ALG_SET_AEAD_AUTHSIZE, c.ALG_SET_KEY_BY_KEY_SERIAL, 99):
            with raises_errno(errno.EBUSY, why=f"option {option}"):
                cipher.tfm.setsockopt(option, bytes(16), level=level)
        SKCIPHER.works(cipher.op)


@returns("setsockopt-children")
@each_type
def test_any_option_of_any_type_with_a_used_op_socket_is_busy(subject: Subject) -> None:
    """Also those that the type does not have (alg_setsockopt)."""
    with subject.open() as transform:
        subject.works(transform.op)
        for option in range(9):
            for value in (None, bytes(16), Pointer(8, 16)):
                with raises_errno(errno.EBUSY, why=f"option {option}"):
                    transform.tfm.setsockopt(option, value)
        subject.works(transform.op)


@returns("setkey-refused")
def test_key_of_no_bytes() -> None:
    """Then the pointer may be NULL. HMAC takes it as any other key (RFC 2104), but for FIPS mode; AES has none."""
    if not fips_mode():
        with HASH.open() as h:
            h.tfm.setsockopt(c.ALG_SET_KEY, None)
            assert h.digest(b"data") == hmac.digest(b"", b"data", "sha256")
    for subject in (HASH, SKCIPHER, AEAD) if fips_mode() else (SKCIPHER, AEAD):
        with subject.open() as transform:
            with raises_errno(errno.EINVAL):
                transform.tfm.setsockopt(c.ALG_SET_KEY, None)
            transform.tfm.set_key(subject.key or b"")
            subject.works(transform.op)


@returns("setsockopt-generic")
@pytest.mark.parametrize("length", [-1, -(2**31), -16])
def test_negative_length_is_einval(length: int) -> None:
    """setsockopt(2): do_sock_setsockopt (net/socket.c) refuses before alg_setsockopt is called."""
    with SKCIPHER.open() as cipher:
        for option in (c.ALG_SET_KEY, c.ALG_SET_KEY_BY_KEY_SERIAL, 99):
            with raises_errno(errno.EINVAL):
                cipher.tfm.setsockopt(option, bytes(16), length=length & 0xFFFFFFFF)
        SKCIPHER.works(cipher.op)


@returns("setkey-fault")
@each_keyed_type
def test_unreadable_key_is_efault_and_keeps_the_old_one(subject: Subject) -> None:
    """alg_setkey (crypto/af_alg.c) copies the whole key before the tfm's setkey is called."""
    with subject.open() as transform, Memory(1, PROT_NONE) as memory:
        for pointer in (Pointer(0, 16), memory.pointer(4096 - 8, 16), memory.pointer(4096, 16)):
            with raises_errno(errno.EFAULT):
                transform.tfm.set_key(pointer)
        subject.works(transform.op)


@returns("setkey-no-memory")
def test_longest_key_is_the_limit_of_option_memory() -> None:
    """net.core.optmem_max; hmac takes any length, so that nothing else refuses."""
    limit = probes.optmem_max()
    with HASH.open() as h:
        for length in (limit, limit + 1, 4 * limit):
            with raises_errno(errno.ENOMEM, why=f"{length} bytes"):
                h.tfm.set_key(bytes(length))
        HASH.works(h.op)
    with HASH.open_without_key() as h:
        h.tfm.set_key(bytes(limit - 1))
        assert len(h.op.recv(64)) == 32


@returns("setkey-no-memory")
def test_key_of_2_gib_is_enomem() -> None:
    """sock_kmalloc in alg_setkey refuses what is beyond net.core.optmem_max, before the pointer is read."""
    with SKCIPHER.open() as cipher:
        with raises_errno(errno.ENOMEM):
            cipher.tfm.setsockopt(c.ALG_SET_KEY, Pointer(0, 0x7FFFFFFF))
        SKCIPHER.works(cipher.op)


@returns("setkey-keyless-hash")
@pytest.mark.parametrize("name", ["sha1", "sha256", "sha512", "md5"])
def test_key_for_an_unkeyed_hash_is_enosys(name: str) -> None:
    """ahash_nosetkey (crypto/ahash.c) or shash_no_setkey (crypto/shash.c), of any length; the digest stays right."""
    with need(Hash, name) as h:
        for length in (0, 1, 16):
            with raises_errno(errno.ENOSYS):
                h.tfm.set_key(bytes(length))
        assert h.digest(b"abc") == hashlib.new(name, b"abc").digest()


@returns("setkey-refused")
@pytest.mark.parametrize("name", ["cbc(aes)", "ctr(aes)", "xts(aes)"])
def test_key_of_a_wrong_length_is_einval(name: str) -> None:
    """Afterwards there is the old key or none, which depends on who checked; never half a new one.

    Source: alg_setkey; the type's setkey.
    """
    accepted = {32, 48, 64} if name.startswith("xts") else {16, 24, 32}
    with need(Skcipher, name) as cipher:
        for length in range(100):
            if length not in accepted:
                with raises_errno(errno.EINVAL, why=f"{length} bytes"):
                    cipher.tfm.set_key(bytes(length))
    key = bytes(range(64 if name == "xts(aes)" else 16))
    expected = skciphers.crypt(name, key, bytes(16), bytes(16))
    for length in (0, 15, 17, 33, 80):
        with need(Skcipher, name, key) as cipher:
            with raises_errno(errno.EINVAL):
                cipher.tfm.set_key(b"\xaa" * length)
            results: list[bytes] = []
            got = outcome(lambda: results.append(cipher.encrypt(bytes(16), bytes(16))))  # noqa: B023
            assert (got, results) in ((0, [expected]), (errno.ENOKEY, [])), f"after a key of {length} bytes"
            cipher.op.close()
            cipher.tfm.set_key(key)
            with cipher.tfm.accept() as op:
                op.sendmsg([bytes(16)], set_op(c.ALG_OP_ENCRYPT) + set_iv(bytes(16)))
                assert op.recv(16) == expected


@returns("setkey-refused", "aead-nokey")
def test_aead_key_that_is_refused_leaves_none() -> None:
    """crypto_aead_setkey: CRYPTO_TFM_NEED_KEY is set again."""
    with AEAD.open() as aead:
        for length in (0, 15, 17, 23, 31, 33):
            with raises_errno(errno.EINVAL, why=f"{length} bytes"):
                aead.tfm.set_key(bytes(length))
        with raises_errno(errno.ENOKEY):
            AEAD.begin(aead.op)
        aead.tfm.set_key(AEAD.key or b"")
        AEAD.works(aead.op)


@returns("setkey-seed-refused")
def test_seed_that_is_too_short_is_einval() -> None:
    """ANSI X9.31: a block of V and an AES key."""
    with need(Rng, "ansi_cprng") as rng:
        for length in (0, 1, 31):
            with raises_errno(errno.EINVAL):
                rng.tfm.set_key(bytes(length))
        rng.tfm.set_key(bytes(range(32)))
        assert len(rng.read(16)) == 16


@returns("authsize-refused")
def test_tag_size_that_is_refused_keeps_the_last() -> None:
    """GCM has tags of 4, 8 and 12 to 16 bytes (RFC 4106, NIST SP 800-38D); only the option's length counts."""
    accepted = {4, 8, 12, 13, 14, 15, 16}
    with AEAD.open() as aead:
        for size in range(40):
            got = outcome(lambda size=size: aead.tfm.set_authsize(size))  # type: ignore[misc]
            assert got == (0 if size in accepted else errno.EINVAL), f"tag of {size} bytes"
        aead.tfm.set_authsize(16)
        for size in (17, 0x7FFFFFFF, 0x7FFFFFF0):
            with raises_errno(errno.EINVAL):
                aead.tfm.set_authsize(size)
        AEAD.works(aead.op)


def test_value_of_the_tag_size_is_not_read() -> None:
    """alg_setsockopt passes the option's length to setauthsize and never touches the pointer."""
    with AEAD.open() as aead:
        aead.tfm.setsockopt(c.ALG_SET_AEAD_AUTHSIZE, Pointer(8, 16))
        AEAD.works(aead.op)


@returns("key-serial-length", "key-serial-fault", "key-serial-lookup", "setsockopt-unknown")
@each_keyed_type
def test_key_serial_that_is_none(subject: Subject) -> None:
    """Where the option is unknown, ENOPROTOOPT; else four readable bytes that name a key (keyrings(7))."""
    wrong = [
        (b"", errno.EINVAL),
        (bytes(3), errno.EINVAL),
        (bytes(5), errno.EINVAL),
        (bytes(8), errno.EINVAL),
        (Pointer(0, 4), errno.EFAULT),
        (bytes(4), errno.EINVAL),
        ((-100).to_bytes(4, sys.byteorder, signed=True), errno.EINVAL),
        ((0x7FFFFFF0).to_bytes(4, sys.byteorder), errno.ENOKEY),
    ]
    with subject.open() as transform:
        for value, error in wrong:
            expected = error if probes.has_key_serials() else errno.ENOPROTOOPT
            with raises_errno(expected, why=repr(value)):
                transform.tfm.setsockopt(c.ALG_SET_KEY_BY_KEY_SERIAL, value)
        subject.works(transform.op)


@returns("setsockopt-generic")
@pytest.mark.parametrize("kind", ["unbound", "skcipher-tfm", "skcipher-op", "hash-op"])
def test_options_of_sol_socket_go_to_the_socket_layer(kind: str) -> None:
    """An unknown one is ENOPROTOOPT, a short value EINVAL, an unreadable one EFAULT, on every kind of socket.

    Source: sk_setsockopt.
    """
    so_sndbuf = 7
    with socket_of(kind) as sock:
        for option, value, error in (
            (9999, bytes(4), errno.ENOPROTOOPT),
            (so_sndbuf, bytes(3), errno.EINVAL),
            (so_sndbuf, Pointer(8, 4), errno.EFAULT),
        ):
            with raises_errno(error):
                sock.setsockopt(option, value, level=c.SOL_SOCKET)
