"""The sysctl crypto.af_alg_restrict: who may use which algorithm.

Documentation/admin-guide/sysctl/crypto.rst of Linux 7.3: at 0 everybody everything; at 1 the algorithms of a list,
some of which everybody, the others with CAP_NET_ADMIN or CAP_SYS_ADMIN; at 2 nobody anything.
"""

from __future__ import annotations

import errno
import functools
import stat
from collections.abc import Callable, Iterator

import pytest

from tests.afalg import Socket
from tests.afalg.privileges import PLAIN_USER, ROOT, Identity
from tests.algorithms.modules import no_autoload
from tests.doctor import absence
from tests.errors import probes
from tests.errors.raises import name_of, outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import KEYED, Subject, bound_works
from tests.need import lacking, run_as
from tests.policy.identities import PRIVILEGED, binds_as, each_identity

SetLevel = Callable[[object], object]

FOR_EVERYBODY = [
    ("hash", "sha1"),
    ("skcipher", "adiantum(xchacha12,aes)"),
    ("skcipher", "adiantum(xchacha20,aes)"),
    ("skcipher", "hctr2(aes)"),
    ("skcipher", "xts(aes)"),
    ("skcipher", "xts(camellia)"),
    ("skcipher", "xts(serpent)"),
    ("skcipher", "xts(twofish)"),
]

WITH_A_CAPABILITY = [
    ("hash", "cmac(aes)"),
    ("hash", "hmac(md5)"),
    ("hash", "hmac(sha1)"),
    ("hash", "hmac(sha224)"),
    ("hash", "hmac(sha256)"),
    ("hash", "hmac(sha384)"),
    ("hash", "hmac(sha512)"),
    ("hash", "md4"),
    ("hash", "md5"),
    ("hash", "sha224"),
    ("hash", "sha256"),
    ("hash", "sha384"),
    ("hash", "sha512"),
    ("skcipher", "cbc(aes)"),
    ("skcipher", "cbc(des)"),
    ("skcipher", "cbc(des3_ede)"),
    ("skcipher", "cbc(paes)"),  # of hardware alone
    ("skcipher", "ctr(aes)"),
    ("skcipher", "ecb(aes)"),
    ("skcipher", "ecb(des)"),
    ("aead", "ccm(aes)"),
]

FOR_NOBODY = [
    ("hash", "sha3-256"),
    ("hash", "sha512-lib"),
    ("hash", "sha256-lib"),
    ("hash", "crc32c"),
    ("hash", "xcbc(aes)"),
    ("skcipher", "cts(cbc(aes))"),
    ("skcipher", "lrw(aes)"),
    ("skcipher", "cbc(camellia)"),
    ("skcipher", "ecb(cipher_null)"),
    ("aead", "gcm(aes)"),
    ("aead", "rfc4106(gcm(aes))"),
    ("aead", "authenc(hmac(sha256),cbc(aes))"),
    ("rng", "jitterentropy_rng"),
]
"""A sample of what the list leaves out; names of drivers among them."""

NAMES = FOR_EVERYBODY + WITH_A_CAPABILITY + FOR_NOBODY


@pytest.fixture
def set_level() -> Iterator[SetLevel]:
    """Give a function that sets the level; what it was is there again afterwards."""
    if not probes.RESTRICT.exists():
        lacking(absence.RESTRICTION, errno.ENOENT)
    before = probes.RESTRICT.read_text()
    yield lambda level: probes.RESTRICT.write_text(f"{level}\n")
    probes.RESTRICT.write_text(before)


@functools.cache
def available() -> dict[tuple[str, str], bool]:
    """Return which of the names the kernel has at all, as root sees it without the restriction."""
    return dict(zip(NAMES, (error == 0 for error in binds_as(ROOT, NAMES)), strict=True))


@each_identity
def test_without_restriction_everybody_uses_everything(identity: Identity) -> None:
    """Also on kernels that have no such sysctl: no capability has ever been asked for."""
    for type_, name in (("hash", "sha1"), ("skcipher", "cbc(aes)"), ("aead", "gcm(aes)")):
        assert available()[type_, name] == absence.has_type(type_)
    present = [name for name in NAMES if available()[name]]
    assert binds_as(identity, present) == [0] * len(present)


@returns("bind-restricted")
@each_identity
def test_at_1_the_list_decides(identity: Identity, set_level: SetLevel) -> None:
    """Root in a user namespace of its own has no capability that counts (sysctl/crypto.rst, see above)."""
    here = available()
    set_level(1)
    with no_autoload():
        got = dict(zip(NAMES, binds_as(identity, NAMES), strict=True))
    allowed = set(FOR_EVERYBODY) | (set(WITH_A_CAPABILITY) if identity in PRIVILEGED else set())
    for name in NAMES:
        expected = 0 if name in allowed and here[name] else errno.ENOENT
        assert got[name] == expected, f"{name}: expected {name_of(expected)}, got {name_of(got[name])}"


@returns("socket-restricted")
@each_identity
def test_at_2_there_is_no_socket(identity: Identity, set_level: SetLevel) -> None:
    """Before type and protocol are looked at (sysctl/crypto.rst, see above)."""
    set_level(2)
    calls = [(5, 0), (1, 0), (5, 1)]
    got = run_as(identity, lambda: [outcome(lambda c=call: Socket.create(*c).close()) for call in calls])
    assert got == [errno.EAFNOSUPPORT] * len(calls)


@returns("bind-restricted")
def test_at_2_a_socket_from_before_cannot_be_bound(set_level: SetLevel) -> None:
    """bind is ENOENT at 2 (sysctl/crypto.rst, see above), also of a socket made at another level."""
    here = [name for name in NAMES if available()[name]]
    with Socket.create() as tfm:
        set_level(2)
        for name in here:
            with raises_errno(errno.ENOENT, why=str(name)):
                tfm.bind(*name)
        set_level(0)
        bound_works(tfm)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("subject", KEYED, ids=lambda subject: subject.type_)
def test_bound_sockets_are_not_concerned(subject: Subject, level: int, set_level: SetLevel) -> None:
    """What is bound takes keys, gives op sockets and works, whoever holds it (sysctl/crypto.rst, see above)."""
    with subject.open_without_key() as transform:
        set_level(level)
        assert subject.key

        def use() -> bool:
            transform.tfm.set_key(subject.key or b"")
            subject.works(transform.op)
            return True

        assert run_as(PLAIN_USER, use)
        transform.tfm.set_key(subject.key)
        with transform.tfm.accept() as op:
            subject.works(op)


@pytest.mark.parametrize("value", ["-1", "3", "4", "x", "2147483648"])
def test_value_out_of_range_is_einval(value: str, set_level: SetLevel) -> None:
    """Levels are 0, 1 and 2 (sysctl/crypto.rst, see above); a refused write changes nothing."""
    before = probes.RESTRICT.read_text()
    assert outcome(lambda: set_level(value)) == errno.EINVAL
    assert probes.RESTRICT.read_text() == before


def test_only_root_may_change_it(set_level: SetLevel) -> None:
    """proc_sys(5): the file's mode is 0644, so others read it and get EACCES when they write."""
    assert stat.S_IMODE(probes.RESTRICT.stat().st_mode) == 0o644
    set_level(1)
    for value in ("0", "1"):
        got = run_as(PLAIN_USER, lambda value=value: outcome(lambda: write(value)))
        assert got == errno.EACCES
    assert run_as(PLAIN_USER, read).strip() == "1"


def write(value: str) -> None:
    with open(probes.RESTRICT, "w") as file:
        file.write(value)


def read() -> str:
    with open(probes.RESTRICT) as file:
        return file.read()
