"""Names of algorithms at the limits of what the kernel takes apart (cryptomgr_schedule_probe in crypto/algboss.c)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket, sockaddr_alg
from tests.afalg.constants import NAME_OFFSET
from tests.algorithms.modules import load_templates, no_autoload
from tests.doctor.absence import has_type
from tests.errors import probes
from tests.errors.raises import name_of, outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import KEYED, socket_of
from tests.need import need
from tests.oracle import hashes

ATTRIBUTES = 32
"""CRYPTO_MAX_ATTRS: with the last of them the array is full, and the name refused."""
LONGEST = 103
TYPES = ("hash", "skcipher", "aead")


@pytest.fixture(autouse=True)
def _without_modprobe() -> Iterator[None]:
    """Keep the kernel from running modprobe once all is loaded that these names are made of."""
    for subject in KEYED:
        subject.open().close()
    load_templates("hmac", "cbc", "ecb", "cts", "xts", "cmac", "gcm", "ctr", "authenc", "rsa", "ecdh", "deflate")
    with no_autoload():
        yield


def refused(type_: str, name: str) -> int:
    """Bind, which must fail, and return the errno."""
    with socket_of("unbound") as tfm:
        return outcome(lambda: tfm.bind(type_, name))


@returns("bind-algorithm-missing", "bind-template-refuses")
@pytest.mark.parametrize("count", [2, 3, 30, 31, 32, 33, 34, 40, 47])
@pytest.mark.parametrize("type_", TYPES)
def test_template_with_many_parameters(type_: str, count: int) -> None:
    """Of 32 and more ENOENT, of fewer whatever the template makes of the first ones: never success.

    Source: CRYPTO_MAX_ATTRS.
    """
    with socket_of("unbound") as tfm:
        for template in ("cbc", "hmac", "xts"):
            name = f"{template}({','.join('x' * count)})"
            assert len(name) <= LONGEST
            with raises_errno(errno.ENOENT, *(() if count >= ATTRIBUTES else (errno.EINVAL,)), why=name):
                tfm.bind(type_, name)


@returns("bind-template-refuses")
def test_parameters_that_a_template_has_no_use_for() -> None:
    """The instance is made of the first ones and has another name than was asked for: it is not found by it.

    Source: cryptomgr_schedule_probe.
    """
    need(Aead, "authenc(hmac(sha256),cbc(aes))").close()
    expected = errno.EEXIST if probes.passes_on_template_errors() else errno.ENOENT
    for more in (",x", ",x,y", ",cbc(aes)", ",x" * 22):
        name = f"authenc(hmac(sha256),cbc(aes){more})"
        got = refused("aead", name)
        assert got in (expected, errno.ENOENT), f"{name}: {name_of(got)}"


SPACED = [
    ("hash", "hmac( sha256)"),
    ("hash", "hmac(sha256 )"),
    ("hash", "hmac (sha256)"),
    ("hash", "hmac(sha256) "),
    ("hash", " hmac(sha256)"),
    ("hash", "hmac(\tsha256)"),
    ("hash", "hmac(sha256\n)"),
    ("skcipher", "cbc( aes)"),
    ("skcipher", "cts(cbc( aes))"),
    ("skcipher", "cts(cbc(aes ))"),
    ("aead", "authenc(hmac(sha256), cbc(aes))"),
    ("aead", "authenc(hmac(sha256) ,cbc(aes))"),
    ("aead", "rfc7539(chacha20, poly1305)"),
]


@returns("bind-template-refuses", "bind-algorithm-missing")
@pytest.mark.parametrize(("type_", "name"), SPACED, ids=[repr(name) for _, name in SPACED])
def test_white_space_is_no_part_of_a_name(type_: str, name: str) -> None:
    """Outside of inner parentheses it ends the name there; inside of them it is left to the template's own lookup.

    Source: cryptomgr_schedule_probe, crypto/algboss.c.
    """
    assert refused(type_, name) in (errno.ENOENT, errno.EINVAL, errno.EEXIST)


PUNCTUATION = ["cbc(aes", "cbc(aes))", "cbc()", "cbc(,aes)", "cbc(aes,)", "cbc(aes,,x)", "cbc[aes]", "cbc(aes)(aes)"]
PUNCTUATION += ["(aes)", "()", ",", "cbc,aes", "cbc(a.b)", "cbc(../aes)", "cbc(%s)", "cbc(cbc(aes)", "cts(cbc)(aes)"]


@returns("bind-template-refuses", "bind-algorithm-missing")
@pytest.mark.parametrize("name", PUNCTUATION)
def test_punctuation_that_does_not_match(name: str) -> None:
    """cryptomgr_schedule_probe (crypto/algboss.c) wants letters, matched parentheses and commas between parameters."""
    for type_ in TYPES:
        assert refused(type_, name) in (errno.ENOENT, errno.EINVAL, errno.EEXIST), type_


FOREIGN = [
    ("akcipher", "rsa"),
    ("akcipher", "pkcs1pad(rsa,sha256)"),
    ("sig", "ecdsa-nist-p256"),
    ("kpp", "ecdh-nist-p256"),
    ("kpp", "dh"),
    ("cipher", "aes"),
    ("comp", "deflate"),
    ("compress", "deflate"),
    ("scomp", "deflate"),
    ("acomp", "deflate"),
    ("ahash", "sha256"),
    ("shash", "sha256"),
    ("ablkcipher", "cbc(aes)"),
    ("blkcipher", "cbc(aes)"),
    ("lskcipher", "ecb(aes)"),
]


@returns("bind-type-missing")
@pytest.mark.parametrize(("type_", "name"), FOREIGN, ids=[f"{type_}-{name}" for type_, name in FOREIGN])
def test_type_that_af_alg_does_not_offer(type_: str, name: str) -> None:
    """Though the kernel's crypto has it, under this name: only hash, skcipher, aead and rng are registered.

    Source: alg_get_type, crypto/af_alg.c.
    """
    with socket_of("unbound") as tfm, raises_errno(errno.ENOENT):
        tfm.bind(type_, name)


ELSEWHERE = [
    "aes",
    "aes-generic",
    "rsa",
    "ecdh-nist-p256",
    "dh",
    "deflate",
    "lzo",
    "pkcs1pad(rsa,sha256)",
    "cipher_null",
]


@returns("bind-algorithm-missing")
@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("type_", [*TYPES, "rng"])
def test_algorithm_of_a_type_that_af_alg_does_not_offer(type_: str, name: str) -> None:
    """A name finds only what is of the type asked for (crypto_find_alg with the type's mask)."""
    if not has_type(type_):
        need({"hash": Hash, "skcipher": Skcipher, "aead": Aead}[type_], name)
    assert refused(type_, name) in (errno.ENOENT, errno.EINVAL)


@pytest.mark.parametrize("name", ["sha256", "hmac(sha256)"])
def test_name_of_64_bytes_that_is_padded_with_nul(name: str) -> None:
    """The field of struct sockaddr_alg as programs fill it: 64 bytes, all but the name zero, and no more."""
    for size in (len(name) + 1, 32, 63, 64):
        with Socket.create() as tfm:
            tfm.bind_raw(sockaddr_alg("hash", name)[: NAME_OFFSET + size])
            if "hmac" in name:
                tfm.set_key(b"key of 16 bytes.")
            with tfm.accept() as op:
                op.send(b"abc")
                key = b"key of 16 bytes." if "hmac" in name else None
                assert op.recv(32) == hashes.digest(name, b"abc", key)


@returns("bind-algorithm-missing")
@pytest.mark.parametrize("size", [62, 63, 64, 65])
def test_name_as_long_as_its_field(size: int) -> None:
    """64 bytes without a NUL lose the last one (alg_bind): cryptsetup copies names with strncpy into such a field."""
    with socket_of("unbound") as tfm:
        address = sockaddr_alg("hash", "sha256".ljust(size, "x"))[: NAME_OFFSET + size]
        with raises_errno(errno.ENOENT):
            tfm.bind_raw(address)
        # The same length with a name that ends in time is taken.
        tfm.bind_raw(address[: NAME_OFFSET + 6] + bytes(size - 6))


REFUSED = [
    ("skcipher", "essiv(ecb(aes),sha256)"),
    ("aead", "essiv(gcm(aes),sha256)"),
    ("aead", "gcm_base(cbc(aes),ghash)"),
    ("aead", "gcm_base(ctr(aes),sha256)"),
    ("aead", "ccm_base(ctr(aes),sha256)"),
    ("aead", "ccm_base(cbc(aes),cbcmac(aes))"),
    ("aead", "authenc(sha256,hmac(sha256))"),
    ("aead", "authencesn(hmac(sha256),gcm(aes))"),
    ("aead", "rfc4106(authenc(hmac(sha256),cbc(aes)))"),
    ("aead", "rfc4106(ccm(aes))"),
    ("aead", "rfc4543(ccm(aes))"),
    ("aead", "rfc4309(gcm(aes))"),
    ("skcipher", "cts(ctr(aes))"),
    ("skcipher", "cts(ecb(aes))"),
    ("skcipher", "xts(cbc(aes))"),
    ("skcipher", "xts(des)"),
    ("skcipher", "rfc3686(cbc(aes))"),
    ("hash", "cmac(sha256)"),
    ("hash", "hmac(cmac(aes))"),
    ("hash", "cbcmac(des3_ede,x)"),
]
"""What the creating function of a template finds out when it holds a part, or two, already."""


@returns("bind-template-refuses")
@pytest.mark.parametrize(("type_", "name"), REFUSED, ids=[name for _, name in REFUSED])
def test_refused_instance_holds_nothing(type_: str, name: str) -> None:
    """Whatever was taken before the refusal is given back: the check around every test counts references and modules.

    Source: the error paths of essiv_create, crypto_gcm_create_common, crypto_ccm_create_common and the others.
    """
    load_templates("essiv", "ccm", "lrw", "authencesn", "seqiv")
    for name_of_a_part in ("sha1", "sha256", "hmac(sha256)", "cmac(aes)", "cbcmac(aes)", "ghash"):
        outcome(lambda name_of_a_part=name_of_a_part: Socket.bound("hash", name_of_a_part).close())
    for name_of_a_part in ("ecb(aes)", "cbc(aes)", "ctr(aes)"):
        Socket.bound("skcipher", name_of_a_part).close()
    for _ in range(3):
        assert refused(type_, name) in (errno.ENOENT, errno.EINVAL, errno.ELOOP, errno.EEXIST)
