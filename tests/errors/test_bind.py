"""bind(2): which algorithms and addresses it refuses, and what a refusal leaves as it was."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Hash, Pointer, Socket, sockaddr_alg
from tests.afalg.constants import CRYPTO_ALG_KERN_DRIVER_ONLY, NAME_OFFSET
from tests.afalg.memory import PROT_NONE, Memory
from tests.algorithms.modules import load_templates, no_autoload
from tests.errors import probes
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import KEYED, SKCIPHER, Subject, each_keyed_type, each_type, socket_of
from tests.need import need

without_modprobe = pytest.mark.usefixtures("_without_modprobe")

SHA256 = sockaddr_alg("hash", "sha256")
SHORTEST = NAME_OFFSET + 1
LONGEST = 128
"""sizeof(struct sockaddr_storage): the most any bind takes."""


@pytest.fixture
def _without_modprobe() -> Iterator[None]:
    """Keep the kernel from running modprobe, half a second a missing name, once the algorithms are there."""
    for subject in KEYED:
        subject.open().close()
    with no_autoload():
        yield


@pytest.fixture(scope="module")
def _templates() -> None:
    """Load what the names that are refused are made of; an algorithm may have implementations without template."""
    load_templates("hmac", "cbc", "ecb", "xts", "cmac", "gcm", "ctr", "ghash", "authenc")


def hashes_by_sha256(tfm: Socket) -> None:
    """Compare the digest of three bytes with that of FIPS 180-4's example."""
    with tfm.accept() as op:
        op.send(b"abc")
        assert op.recv(32).hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@without_modprobe
@returns("bind-address-short", "bind-algorithm-missing")
def test_address_of_every_length() -> None:
    """Below 25 bytes EINVAL; above, its last byte counts as the name's NUL, whatever it holds (alg_bind)."""
    address = SHA256.ljust(LONGEST, b"\0")
    whole = NAME_OFFSET + len("sha256") + 1
    with socket_of("unbound") as tfm:
        for length in range(LONGEST + 1):
            expected = errno.EINVAL if length < SHORTEST else errno.ENOENT if length < whole else 0
            got = outcome(lambda length=length: tfm.bind_raw(address, length))  # type: ignore[misc]
            assert got == expected, f"address of {length} bytes"


@returns("bind-address-generic")
@pytest.mark.parametrize("length", [129, 4096, 0x7FFFFFFF, -1, -128])
def test_address_of_impossible_length_is_einval(length: int) -> None:
    """move_addr_to_kernel (net/socket.c): beyond struct sockaddr_storage, or negative; bind(2)."""
    with socket_of("unbound") as tfm, raises_errno(errno.EINVAL):
        tfm.bind_raw(SHA256.ljust(4096, b"\0"), length & 0xFFFFFFFF)


@returns("bind-address-generic")
def test_unreadable_address_is_efault() -> None:
    """move_addr_to_kernel (net/socket.c) copies the whole address before alg_bind sees any of it."""
    with socket_of("unbound") as tfm, Memory(1, PROT_NONE) as memory:
        for pointer in (Pointer(0, len(SHA256)), memory.pointer(4096 - 40, len(SHA256)), memory.pointer(4096, 25)):
            with raises_errno(errno.EFAULT):
                tfm.bind_raw(pointer)


@returns("bind-flags")
@pytest.mark.parametrize("field", ["feat", "mask"])
def test_unknown_flags_are_einval(field: str) -> None:
    """Of both words only CRYPTO_ALG_KERN_DRIVER_ONLY is known."""
    with socket_of("unbound") as tfm:
        for bit in range(32):
            if 1 << bit != CRYPTO_ALG_KERN_DRIVER_ONLY:
                with raises_errno(errno.EINVAL, why=f"bit {bit}"):
                    tfm.bind("hash", "sha256", **{field: 1 << bit})


@returns("bind-algorithm-missing")
def test_flag_for_drivers_of_the_kernel_alone() -> None:
    """Set in both words it asks for hardware that only the kernel may use, and no guest has any.

    Source: alg_bind, CRYPTO_ALG_KERN_DRIVER_ONLY.
    """
    flag = CRYPTO_ALG_KERN_DRIVER_ONLY
    need(Hash, "sha256").close()
    with socket_of("unbound") as tfm:
        got = outcome(lambda: tfm.bind("hash", "sha256", flag, flag))
        assert got == (0 if probes.ignores_lookup_flags() else errno.ENOENT)
    for feat, mask in ((flag, 0), (0, flag)):
        with Socket.create() as tfm:
            tfm.bind("hash", "sha256", feat, mask)


@pytest.mark.parametrize("family", [0, 1, 2, 16, 39, 0xFFFF])
def test_family_in_the_address_is_not_looked_at(family: int) -> None:
    """alg_bind reads type, name and flags (crypto/af_alg.c)."""
    with Socket.create() as tfm:
        tfm.bind_raw(sockaddr_alg("hash", "sha256", family=family))
        hashes_by_sha256(tfm)


@without_modprobe
@returns("bind-type-missing")
@pytest.mark.parametrize("type_", ["", "nope", "Hash", "hashes", "akcipher", "kpp", "scomp", "cipher", "../../etc/x"])
def test_unknown_type_is_enoent(type_: str) -> None:
    """alg_get_type (crypto/af_alg.c) compares with the names of hash, skcipher, aead and rng, case and all."""
    with socket_of("unbound") as tfm, raises_errno(errno.ENOENT):
        tfm.bind(type_, "sha256")


@without_modprobe
@returns("bind-type-missing")
def test_unterminated_type_is_enoent() -> None:
    """The field's 14th byte is taken for a NUL (alg_bind, crypto/af_alg.c)."""
    with socket_of("unbound") as tfm, raises_errno(errno.ENOENT):
        tfm.bind("skcipherXXXXXX", "cbc(aes)")


def test_bytes_after_the_name_are_not_looked_at() -> None:
    """The name ends with its first NUL (alg_bind, crypto/af_alg.c)."""
    with Socket.create() as tfm:
        tfm.bind_raw(sockaddr_alg("hash", b"sha256\0rubbish"))
        hashes_by_sha256(tfm)


def test_last_byte_of_the_name_is_lost() -> None:
    """A name that fills the address has no NUL, so its last byte becomes one (alg_bind, crypto/af_alg.c)."""
    with Socket.create() as tfm:
        tfm.bind_raw(sockaddr_alg("hash", "sha256X")[: NAME_OFFSET + 7])
        hashes_by_sha256(tfm)


@without_modprobe
@returns("bind-algorithm-missing")
@pytest.mark.parametrize("length", [1, 63, 64, 65, 102, 103])
def test_long_unknown_name_is_enoent(length: int) -> None:
    """103 bytes and the NUL fill the longest address (struct sockaddr_storage, move_addr_to_kernel)."""
    with socket_of("unbound") as tfm, raises_errno(errno.ENOENT):
        tfm.bind("hash", "x" * length)


@without_modprobe
@returns("bind-algorithm-missing")
@pytest.mark.parametrize(
    ("type_", "name"),
    [
        ("hash", "no-such-algorithm"),
        ("skcipher", "no-such-algorithm"),
        ("aead", "no-such-algorithm"),
        ("rng", "no-such-algorithm"),
        ("hash", ""),
        ("hash", " sha256"),
        ("hash", "SHA256"),
        ("hash", "aes"),
        ("hash", "hmac"),
        ("hash", "hmac("),
        ("hash", "hmac(sha256"),
        ("hash", "hmac)sha256("),
        ("hash", "sha256)"),
        ("hash", "%s%n"),
        ("hash", "\xff\xfe"),
        ("skcipher", "sha256"),
        ("skcipher", "aes"),
        ("skcipher", "__cbc(aes)"),
        ("skcipher", "cbc(no-such-cipher)"),
        ("skcipher", "no-such-mode(aes)"),
        ("aead", "gcm"),
        ("rng", "sha256"),
    ],
)
def test_name_that_is_no_algorithm_of_the_type_is_enoent(type_: str, name: str) -> None:
    """crypto_alg_mod_lookup (crypto/api.c): no such name, one of another type, or an internal one (``__``)."""
    with socket_of("unbound") as tfm, raises_errno(errno.ENOENT):
        tfm.bind(type_, name)


@pytest.mark.usefixtures("_templates", "_without_modprobe")
@returns("bind-template-refuses")
@pytest.mark.parametrize(
    ("type_", "name", "error"),
    [
        ("hash", "cbc(aes)", errno.EINVAL),
        ("skcipher", "hmac(sha256)", errno.EINVAL),
        ("aead", "cbc(aes)", errno.EINVAL),
        ("aead", "gcm(cbc(aes))", errno.EINVAL),
        ("hash", "hmac(cmac(aes))", errno.EINVAL),
        ("skcipher", "cbc(ecb(aes))", errno.ELOOP),
        ("skcipher", "cbc(aes)x", errno.EEXIST),
    ],
)
def test_template_refuses_its_parameters(type_: str, name: str, error: int) -> None:
    """Since Linux 6.4 or so with its own error, before as ENOENT; never with success."""
    with socket_of("unbound") as tfm, raises_errno(error if probes.passes_on_template_errors() else errno.ENOENT):
        tfm.bind(type_, name)


@pytest.mark.usefixtures("_templates", "_without_modprobe")
@returns("bind-template-refuses")
@pytest.mark.parametrize("name", ["ecb(" * 24 + "aes" + ")" * 4, "hmac(hmac(sha256))", "xts(xts(aes))", "authenc()"])
def test_nonsense_of_templates_is_refused(name: str) -> None:
    """cryptomgr_schedule_probe (crypto/algboss.c) or the template's create refuses; which errno differs by kernel."""
    with socket_of("unbound") as tfm:
        for type_ in ("hash", "skcipher", "aead"):
            assert outcome(lambda type_=type_: tfm.bind(type_, name)), type_  # type: ignore[misc]


@pytest.mark.usefixtures("_default_generator")
@returns("bind-name-too-long")
def test_name_that_templates_make_too_long() -> None:
    """An address holds 103 bytes of name. The names of what it stands for are longer: here 60 bytes become 130.

    The driver of ccm(camellia) is ccm_base(ctr-camellia-…,cbcmac(camellia-generic)); each seqiv adds seven.
    """
    expected = errno.ENAMETOOLONG if probes.passes_on_template_errors() else errno.ENOENT
    inner = "rfc4309(ccm(camellia))"
    need(Aead, inner).close()
    need(Aead, f"seqiv({inner})").close()
    with socket_of("unbound") as tfm, no_autoload(), raises_errno(expected):
        tfm.bind("aead", "seqiv(" * 11 + inner + ")" * 11)


@returns("bind-children")
def test_bind_with_an_op_socket_open_is_busy() -> None:
    """Linux kernel commit c840ac6af3f8 ("crypto: af_alg - Disallow bind/setkey/... after accept(2)")."""
    with SKCIPHER.open() as cipher:
        SKCIPHER.works(cipher.op)
        with raises_errno(errno.EBUSY):
            cipher.tfm.bind("skcipher", "ecb(aes)")
        SKCIPHER.works(cipher.op)


@returns("bind-children")
def test_bind_with_an_op_socket_without_a_key_is_busy() -> None:
    """Though a key could still be set (alg_bind looks at refcnt alone)."""
    with SKCIPHER.open_without_key() as cipher:
        cipher.op  # noqa: B018 - accepts the op socket
        with raises_errno(errno.EBUSY):
            cipher.tfm.bind("skcipher", "cbc(aes)")
        assert SKCIPHER.key
        cipher.tfm.set_key(SKCIPHER.key)
        SKCIPHER.works(cipher.op)


@without_modprobe
@returns("bind-algorithm-missing", "bind-type-missing")
def test_unknown_name_with_an_op_socket_open_is_enoent() -> None:
    """The algorithm is looked up before the op sockets are counted (alg_bind, crypto/af_alg.c)."""
    with SKCIPHER.open() as cipher:
        SKCIPHER.works(cipher.op)
        for type_, name in (("skcipher", "no-such-algorithm"), ("nope", "cbc(aes)")):
            with raises_errno(errno.ENOENT):
                cipher.tfm.bind(type_, name)
        SKCIPHER.works(cipher.op)


@returns("skcipher-nokey")
def test_bind_again_replaces_the_algorithm_and_loses_the_key() -> None:
    """alg_bind swaps in the new tfm, which is NEED_KEY, and releases the old one with its key; another type will do."""
    with SKCIPHER.open() as cipher:
        cipher.tfm.bind("skcipher", "cbc(aes)")
        with raises_errno(errno.ENOKEY):
            cipher.op.send(bytes(16))
    with Socket.bound("hash", "sha256") as tfm:
        tfm.bind("skcipher", "cbc(aes)")
        tfm.set_key(SKCIPHER.key or b"")
        with tfm.accept() as op:
            SKCIPHER.works(op)


@without_modprobe
@returns("bind-address-short", "bind-flags", "bind-type-missing", "bind-algorithm-missing")
@each_keyed_type
def test_refused_bind_keeps_algorithm_and_key(subject: Subject) -> None:
    """alg_bind swaps type and tfm only after everything before has succeeded."""
    with subject.open() as transform:
        for length, type_, name, feat, error in (
            (24, "hash", "sha256", 0, errno.EINVAL),
            (88, "hash", "sha256", 1, errno.EINVAL),
            (88, "nope", "sha256", 0, errno.ENOENT),
            (88, "hash", "no-such-algorithm", 0, errno.ENOENT),
        ):
            with raises_errno(error):
                transform.tfm.bind_raw(sockaddr_alg(type_, name, feat), length)
        subject.works(transform.op)


@returns("not-on-op")
@each_type
def test_bind_on_an_op_socket_is_eopnotsupp(subject: Subject) -> None:
    """The op sockets' proto_ops have sock_no_bind (algif_hash.c, algif_skcipher.c, algif_aead.c, algif_rng.c)."""
    with subject.open() as transform:
        for address in (SHA256, sockaddr_alg(subject.type_, subject.name), SHA256[:24]):
            with raises_errno(errno.EOPNOTSUPP):
                transform.op.bind_raw(address)
        subject.works(transform.op)
