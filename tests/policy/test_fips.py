"""FIPS mode (``fips=1`` on the kernel's command line): what it takes away, and what it refuses, it does."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket
from tests.afalg.proc import AF_ALG_TYPES, implementations
from tests.algorithms.catalogue.fips import NOT_APPROVED, SHORTEST_HMAC_KEY
from tests.doctor.absence import fips_mode, has_type
from tests.errors.probes import ignores_lookup_flags
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import HASH, Subject, each_type
from tests.need import need
from tests.oracle import hashes, skciphers

LONGEST_BINDABLE = 103


@pytest.fixture(scope="module", autouse=True)
def _all_loaded_that_a_probe_brings_in() -> None:
    """Ask before references are counted: a lookup of sha256 loads its faster drivers, and what is made of it goes."""
    if fips_mode():
        ignores_lookup_flags()


@pytest.fixture(autouse=True)
def _fips() -> None:
    if not fips_mode():
        pytest.skip("kernel is not in FIPS mode")


@pytest.mark.parametrize(("type_", "name"), NOT_APPROVED, ids=lambda value: value)
def test_what_is_not_approved_cannot_be_bound(type_: str, name: str) -> None:
    """ENOENT as if it were not there; ELIBBAD of an implementation by whose own name it is refused (testmgr.c)."""
    assert outcome(lambda: Socket.bound(type_, name).close()) in (errno.ENOENT, errno.ELIBBAD)


@each_type
def test_what_is_approved_works(subject: Subject) -> None:
    """One algorithm of each type with fips_allowed in crypto/testmgr.c gives its published result."""
    with subject.open() as transform:
        subject.works(transform.op)


def test_bind_takes_what_proc_crypto_says_is_approved() -> None:
    """And nothing else; kernels before 5.18 do not say it (CRYPTO_ALG_FIPS_INTERNAL)."""
    HASH.open().close()
    types = {listed: type_ for listed, type_ in AF_ALG_TYPES.items() if has_type(type_)}
    wrong = []
    for entry in implementations():
        if "fips" not in entry.fields or entry.selftest != "passed" or entry.internal or entry.type_ not in types:
            continue
        if len(entry.driver) > LONGEST_BINDABLE:
            continue
        result = outcome(lambda entry=entry: Socket.bound(types[entry.type_], entry.driver).close())
        hidden = entry.asynchronous and result == errno.ENOENT and ignores_lookup_flags()
        if result != (0 if entry.approved else errno.ENOENT) and not hidden:
            wrong.append(f"{entry.driver}, fips {entry.fields['fips']}: {errno.errorcode.get(result, result)}")
    assert not wrong


@returns("setkey-refused", "hash-refuses")
@pytest.mark.parametrize("name", ["hmac(sha1)", "hmac(sha256)", "hmac(sha512)"])
def test_weak_hmac_key_is_einval(name: str) -> None:
    """Shorter than 112 bits (NIST SP 800-131A); after that the socket has none, until it is given another."""
    key = bytes(range(SHORTEST_HMAC_KEY))
    with need(Hash, name, key) as h:
        for size in (0, 1, SHORTEST_HMAC_KEY - 1):
            with raises_errno(errno.EINVAL, why=f"{size} bytes"):
                h.tfm.set_key(bytes(size))
            with raises_errno(errno.ENOKEY):
                h.op.send(b"abc")
        h.tfm.set_key(key)
        assert h.digest(b"abc").hex() == hashes.digest(name, b"abc", key).hex()


@returns("setkey-refused")
def test_xts_key_of_equal_halves_is_einval() -> None:
    """NIST SP 800-38E and FIPS 140 Implementation Guidance A.9; the socket has none then, until it is given one."""
    key, iv, text = bytes(range(64)), bytes(range(16)), bytes(range(48))
    with need(Skcipher, "xts(aes)", key) as cipher:
        for half in (16, 32):
            with raises_errno(errno.EINVAL, why=f"two times {half} bytes"):
                cipher.tfm.set_key(2 * key[:half])
        cipher.tfm.set_key(key)
        assert cipher.encrypt(text, iv).hex() == skciphers.crypt("xts(aes)", key, iv, text).hex()


def test_parts_of_what_is_approved_need_not_be() -> None:
    """GHASH, CBC-MAC and plain ciphers are parts of GCM and CCM, whether they can be bound or not.

    Source: CRYPTO_ALG_FIPS_INTERNAL, crypto/api.c.
    """
    for name in ("gcm(aes)", "ccm(aes)"):
        need(Aead, name).close()
