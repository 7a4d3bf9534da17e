"""NETLINK_CRYPTO: asking for algorithms, making and removing them, and who may."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Hash, Skcipher
from tests.afalg import netlink as n
from tests.afalg.netlink import CryptoNetlink, alg
from tests.afalg.privileges import Identity
from tests.afalg.proc import Implementation, implementations
from tests.algorithms.modules import no_autoload
from tests.errors.raises import ENOTSUPP, outcome, raises_errno
from tests.errors.subjects import AEAD, HASH, SKCIPHER, Subject
from tests.need import need, run_as
from tests.policy.identities import EVERYBODY

MAY_CHANGE = {"root", "cap-net-admin"}
NEEDS_GENERATOR = "seqiv(rfc4106(gcm(aes)))"
INSTANCE = "cbc(camellia-generic)"
"""What the template cbc makes of the plain cipher; nobody else uses it."""


def by_driver() -> dict[str, Implementation]:
    return {entry.driver: entry for entry in implementations()}


# Asking --------------------------------------------------------------------------------------------------------------


def test_dump_is_proc_crypto(crypto: CryptoNetlink) -> None:
    """Every entry, with the same numbers, and nothing of the kernel's memory after the texts (crypto_dump_report)."""
    for subject in (HASH, SKCIPHER, AEAD):
        subject.open().close()
    # A message has room for 63 bytes of a name, of which the kernel has up to 127.
    listed = {driver[:63]: entry for driver, entry in by_driver().items()}
    dumped = {entry.driver: entry for entry in crypto.dump()}
    assert dumped.keys() == listed.keys()
    for driver, entry in dumped.items():
        proc = listed[driver]
        assert (entry.name, entry.module) == (proc.name[:63], proc.fields["module"]), driver
        assert entry.priority == proc.priority, driver
        assert entry.refcnt == int(proc.fields["refcnt"]), driver
        assert not entry.padding.strip(b"\0"), f"{driver}: bytes after the end of a text"
        for label, value in entry.report.items():
            assert value == int(proc.fields[label]), f"{driver}, {label}"


@pytest.mark.parametrize("subject", [HASH, SKCIPHER, AEAD], ids=lambda subject: subject.type_)
def test_get_by_name_and_by_driver(crypto: CryptoNetlink, subject: Subject) -> None:
    """crypto_report (crypto/crypto_user.c) finds by cru_name or, exactly, by cru_driver_name (crypto_alg_match)."""
    with subject.open() as transform:
        found = crypto.get(name=transform.name)
        assert found.name == transform.name
        assert found.kind == transform.type_
        assert crypto.get(driver=found.driver).driver == found.driver


@pytest.mark.parametrize(("name", "type_"), [("sha256", "shash"), ("cryptd(sha256-generic)", "ahash")])
def test_report_of_a_hash(crypto: CryptoNetlink, name: str, type_: str) -> None:
    """crypto_shash_report and crypto_ahash_report: the sizes are those of SHA-256 (FIPS 180-4), whoever computes it."""
    with need(Hash, name):
        # By driver: of several named sha256 the best is got, and that is cryptd's where a test has made one.
        driver = next(e.driver for e in implementations() if (e.name, e.type_, e.internal) == ("sha256", type_, False))
        found = crypto.get(driver=driver)
    assert (found.kind, found.type_) == ("hash", type_)
    assert found.report == {"blocksize": 64, "digestsize": 32}
    assert not found.padding.strip(b"\0")


def test_references_count_transforms(crypto: CryptoNetlink) -> None:
    """One each; two where the cipher knows no scatterlists and has a wrapper that does (lskcipher, Linux 6.7)."""
    with need(Skcipher, "cbc(aes)"):
        entries = [e for e in implementations() if e.name == "cbc(aes)" and not e.internal]
        driver = max(entries, key=lambda e: e.priority)
        each = 2 if driver.type_ == "lskcipher" else 1
        before = crypto.get(driver=driver.driver).refcnt
        with need(Skcipher, "cbc(aes)"), need(Skcipher, "cbc(aes)"):
            assert crypto.get(driver=driver.driver).refcnt == before + 2 * each
        assert crypto.get(driver=driver.driver).refcnt == before


@pytest.mark.parametrize("identity", EVERYBODY, ids=lambda identity: identity.name)
def test_asking_needs_no_right(crypto: CryptoNetlink, identity: Identity) -> None:
    """crypto_report and crypto_dump_report ask for no capability, in any network namespace (crypto/crypto_user.c)."""
    need(Skcipher, "cbc(aes)").close()

    def ask() -> list[object]:
        # A network namespace has a netlink socket of its own.
        with CryptoNetlink() as own:
            return [own.get(name="cbc(aes)").name, len(own.dump()) > 1]

    assert run_as(identity, ask) == ["cbc(aes)", True]


# Refusals ------------------------------------------------------------------------------------------------------------


def test_unknown_algorithm_is_enoent(crypto: CryptoNetlink) -> None:
    """crypto_alg_match (crypto/crypto_user.c): a driver's name must match whatever the name beside it says."""
    for payload in (alg("no-such-algorithm"), alg("", "no-such-driver"), alg("cbc(aes)", "no-such-driver")):
        with raises_errno(errno.ENOENT):
            crypto.request(n.CRYPTO_MSG_GETALG, payload)


@pytest.mark.parametrize(
    "type_", [n.CRYPTO_MSG_NEWALG, n.CRYPTO_MSG_DELALG, n.CRYPTO_MSG_UPDATEALG, n.CRYPTO_MSG_GETALG]
)
def test_malformed_messages_are_einval(crypto: CryptoNetlink, type_: int) -> None:
    """Too short, or with a name that does not end (crypto_msg_min, null_terminated in crypto/crypto_user.c)."""
    for payload in (b"", bytes(4), bytes(n.ALG_SIZE - 1), alg("x" * 64), alg("x", "x" * 64)):
        with raises_errno(errno.EINVAL, why=f"{len(payload)} bytes"):
            crypto.request(type_, payload)


@pytest.mark.parametrize("type_", [0x16, 0x17, 0x20, 0xFFFF])
def test_unknown_message_is_einval(crypto: CryptoNetlink, type_: int) -> None:
    """crypto_user_rcv_msg (crypto/crypto_user.c): types end with CRYPTO_MSG_MAX, 0x15."""
    with raises_errno(errno.EINVAL):
        crypto.request(type_, alg("cbc(aes)"))


@pytest.mark.parametrize("identity", EVERYBODY, ids=lambda identity: identity.name)
def test_statistics_are_for_everybody_or_gone(crypto: CryptoNetlink, identity: Identity) -> None:
    """Removed from Linux 6.9, an option before. Without them not even the name is looked at: ENOTSUPP."""
    need(Skcipher, "cbc(aes)").close()

    def ask() -> list[int]:
        with CryptoNetlink() as own:
            names = ("cbc(aes)", "no-such-algorithm")
            return [outcome(lambda name=name: own.request(n.CRYPTO_MSG_GETSTAT, alg(name))) for name in names]

    assert run_as(identity, ask) in ([ENOTSUPP, ENOTSUPP], [0, errno.ENOENT])


@pytest.mark.usefixtures("_default_generator")
@pytest.mark.parametrize("identity", EVERYBODY, ids=lambda identity: identity.name)
def test_default_generator_can_be_dropped(crypto: CryptoNetlink, identity: Identity) -> None:
    """CRYPTO_MSG_DELRNG; who needs one afterwards gets a new one. A message without a body will do."""

    def drop() -> list[int]:
        with CryptoNetlink() as own:
            return [outcome(lambda body=body: own.request(n.CRYPTO_MSG_DELRNG, body)) for body in (b"", alg())]

    may = identity.name in MAY_CHANGE
    assert run_as(identity, drop) == [0 if may else errno.EPERM] * 2
    need(Aead, NEEDS_GENERATOR, bytes(20)).close()


@pytest.mark.parametrize("identity", EVERYBODY, ids=lambda identity: identity.name)
def test_changing_needs_cap_net_admin(crypto: CryptoNetlink, identity: Identity) -> None:
    """In the initial user namespace; before the message is looked at (netlink_capable in crypto/crypto_user.c)."""

    def change() -> list[int]:
        with CryptoNetlink() as own:
            return [
                outcome(lambda type_=type_: own.request(type_, alg("no-such-algorithm", "no-such-driver")))
                for type_ in (n.CRYPTO_MSG_NEWALG, n.CRYPTO_MSG_DELALG, n.CRYPTO_MSG_UPDATEALG)
            ]

    may = identity.name in MAY_CHANGE
    with no_autoload():
        assert run_as(identity, change) == [errno.ENOENT if may else errno.EPERM] * 3


# Changing ------------------------------------------------------------------------------------------------------------


def remove(crypto: CryptoNetlink) -> int:
    return outcome(lambda: crypto.request(n.CRYPTO_MSG_DELALG, alg("", INSTANCE)))


@pytest.fixture
def instance(crypto: CryptoNetlink) -> Iterator[str]:
    """Make the instance, where there is none, and remove it at the end."""
    need(Skcipher, "ecb(camellia)").close()
    need(Skcipher, "cbc(aes)").close()
    # Both parts are there now: a module of the instance's own name there is not.
    with no_autoload():
        made = outcome(lambda: crypto.request(n.CRYPTO_MSG_NEWALG, alg("cbc(camellia)", INSTANCE)))
    if made == errno.ENOENT:
        pytest.skip(f"kernel cannot make {INSTANCE}")
    assert made in (0, errno.EEXIST)
    yield INSTANCE
    assert remove(crypto) in (0, errno.ENOENT)


def test_added_algorithm_can_be_used_and_removed(crypto: CryptoNetlink, instance: str) -> None:
    """crypto_add_alg makes the instance, crypto_del_alg removes it, and a second removal is ENOENT."""
    assert instance in by_driver()
    with need(Skcipher, instance, bytes(16)) as cipher:
        assert cipher.decrypt(cipher.encrypt(bytes(range(32)), bytes(16)), bytes(16)) == bytes(range(32))
    assert remove(crypto) == 0
    assert instance not in by_driver()
    assert remove(crypto) == errno.ENOENT


def test_adding_twice_is_eexist(crypto: CryptoNetlink, instance: str) -> None:
    """crypto_add_alg (crypto/crypto_user.c): crypto_alg_match has found it already."""
    with raises_errno(errno.EEXIST):
        crypto.request(n.CRYPTO_MSG_NEWALG, alg("cbc(camellia)", instance))


def test_algorithm_in_use_is_busy(crypto: CryptoNetlink, instance: str) -> None:
    """crypto_del_alg (crypto/crypto_user.c): a tfm holds a reference; once it is closed the removal works."""
    with need(Skcipher, instance, bytes(16)) as cipher:
        with raises_errno(errno.EBUSY):
            crypto.request(n.CRYPTO_MSG_DELALG, alg("", instance))
        assert len(cipher.encrypt(bytes(16), bytes(16))) == 16
    assert remove(crypto) == 0


def test_only_instances_can_be_removed(crypto: CryptoNetlink) -> None:
    """And only by their driver's name (crypto_del_alg, CRYPTO_ALG_INSTANCE)."""
    plain = next(
        e for e in implementations() if "(" not in e.driver and e.type_ in ("shash", "cipher") and not e.internal
    )
    with raises_errno(errno.EINVAL):
        crypto.request(n.CRYPTO_MSG_DELALG, alg("", plain.driver))
    with raises_errno(errno.ENOENT):
        crypto.request(n.CRYPTO_MSG_DELALG, alg(plain.name))


def test_priority_decides_what_the_next_bind_takes(crypto: CryptoNetlink, instance: str) -> None:
    """crypto_update_alg sets cra_priority; __crypto_alg_lookup (crypto/api.c) takes the highest."""
    crypto.request(n.CRYPTO_MSG_UPDATEALG, alg("cbc(camellia)", instance) + n.priority(20000))
    assert crypto.get(driver=instance).priority == 20000
    with need(Skcipher, "cbc(camellia)"):
        assert crypto.get(name="cbc(camellia)").driver in by_driver()
        assert crypto.get(driver=instance).refcnt > 1


def test_priority_without_a_driver_is_einval(crypto: CryptoNetlink) -> None:
    """crypto_add_alg and crypto_update_alg (crypto/crypto_user.c) want cru_driver_name with CRYPTOCFGA_PRIORITY_VAL."""
    need(Skcipher, "cbc(aes)").close()
    for type_ in (n.CRYPTO_MSG_NEWALG, n.CRYPTO_MSG_UPDATEALG):
        with raises_errno(errno.EINVAL):
            crypto.request(type_, alg("cbc(aes)") + n.priority(1))


def test_short_priority_is_erange(crypto: CryptoNetlink) -> None:
    """crypto_policy (crypto/crypto_user.c) says NLA_U32; validate_nla (lib/nlattr.c) refuses one byte."""
    with raises_errno(errno.ERANGE, errno.EINVAL):
        crypto.request(n.CRYPTO_MSG_NEWALG, alg("x", "x") + n.attribute(n.CRYPTOCFGA_PRIORITY_VAL, b"\1"))
