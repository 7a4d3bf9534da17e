"""Every driver of every name, against the oracle: accelerated code is where the wrong answers are."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.afalg import Aead, Hash, Skcipher, Transform, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_MORE
from tests.afalg.proc import Implementation, implementations
from tests.algorithms import catalogue
from tests.algorithms.cases import every
from tests.algorithms.catalogue import AeadRow, HashRow, SkcipherRow
from tests.algorithms.catalogue.fips import APPROVED
from tests.algorithms.data import PAGE, cut, data, longest
from tests.algorithms.independent import need_independent_requests
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.doctor.absence import fips_mode
from tests.errors.probes import ignores_lookup_flags
from tests.need import need, older
from tests.oracle import aeads, hashes, skciphers

pytestmark = pytest.mark.usefixtures("everything_loaded")

Tell = Callable[[str, object], None]
Check = Callable[[str], None]
"""Raises AssertionError or OSError unless the driver of this name works."""

LONGEST_BINDABLE = 103
"""Bytes of name that fit into the longest address bind takes."""


@every(catalogue.HASHES)
def test_every_driver_of_a_hash(row: HashRow, record_property: Tell) -> None:
    """In one piece and in three, of lengths that leave accelerated loops a remainder.

    Source: crypto_alg_mod_lookup takes a cra_driver_name.
    """
    need(Hash, row.name).close()
    check_drivers("hash", row.name, hash_check(row), record_property)


@every([row for row in catalogue.SKCIPHERS if not row.one_way])
def test_every_driver_of_a_skcipher(row: SkcipherRow, record_property: Tell) -> None:
    """Both ways, contiguous and scattered, over enough blocks for the widest parallel code.

    Source: crypto_alg_mod_lookup takes a cra_driver_name.
    """
    need(Skcipher, row.name).close()
    need_independent_requests(row.name)
    check_drivers("skcipher", row.name, skcipher_check(row), record_property)


@every([row for row in catalogue.AEADS if row.generates_iv_for is None])
def test_every_driver_of_an_aead(row: AeadRow, record_property: Tell) -> None:
    """Both ways, contiguous and scattered (crypto_alg_mod_lookup takes a cra_driver_name)."""
    need(Aead, row.name).close()
    check_drivers("aead", row.name, aead_check(row), record_property)


@every([row for row in catalogue.HASHES if row.name in ("sha256", "hmac(sha256)")])
def test_hash_by_a_thread(row: HashRow) -> None:
    """cryptd hands every request to a thread of the kernel: the same, later (crypto/cryptd.c). So do the next two."""
    with need(Hash, wrapped("cryptd", "hash", row.name)) as h:
        hash_check(row)(h.name)


@every([row for row in catalogue.SKCIPHERS if row.name in ("ecb(aes)", "cbc(aes)", "ctr(aes)")])
def test_skcipher_by_a_thread(row: SkcipherRow) -> None:
    """cryptd_skcipher_encrypt_enqueue (crypto/cryptd.c) hands the request to a work queue; the result is the same."""
    with need(Skcipher, wrapped("cryptd", "skcipher", row.name)) as cipher:
        skcipher_check(row)(cipher.name)


@pytest.mark.parametrize("wrapper", ["cryptd", "pcrypt"])
@every([row for row in catalogue.AEADS if row.name == "authenc(hmac(sha1),cbc(aes))"])
def test_aead_by_a_thread_or_other_processors(row: AeadRow, wrapper: str) -> None:
    """pcrypt has other processors do it, and gives the results back in order.

    Source: crypto/pcrypt.c, Documentation/core-api/padata.rst.
    """
    with need(Aead, wrapped(wrapper, "aead", row.name)) as aead:
        aead_check(row)(aead.name)


def test_every_self_test_has_passed() -> None:
    """``selftest : unknown`` is a test that failed, or never ran: in FIPS mode that of a generator it refuses."""
    unused = {name for name in catalogue.by_type()["rng"] if name not in APPROVED} if fips_mode() else set()
    bad = [entry for entry in implementations() if entry.selftest != "passed" and entry.driver not in unused]
    assert not [f"{entry.driver}: {entry.selftest}" for entry in bad]


def hash_check(row: HashRow) -> Check:
    """Return what every driver of a hash must pass."""
    key = data(f"{row.name} key", row.keys[-1]) if row.keys else None
    messages = [cut(row.prefix + size) for size in (0, 3 * row.block + 1, min(2 * PAGE + 9, longest(row.name)))]
    expected = [hashes.digest(row.name, message, key) for message in messages]

    def check(driver: str) -> None:
        with Hash(driver, key) as h:
            for message, digest in zip(messages, expected, strict=True):
                assert h.digest(message) == digest, f"{len(message)} bytes at once"
                third, odd = len(message) // 3, memoryview(bytearray(b"." + message))[1:]
                h.op.send(odd[:third], MSG_MORE)
                h.op.sendmsg([odd[third : third + 1], odd[third + 1 : 2 * third + 1]], flags=MSG_MORE)
                h.op.send(odd[2 * third + 1 :])
                assert h.op.recv(64) == digest, f"{len(message)} bytes in three sends"

    return check


def skcipher_check(row: SkcipherRow) -> Check:
    """Return what every driver of a skcipher must pass."""
    key, iv = data(f"{row.name} key", row.keys[-1]), data(f"{row.name} iv", row.iv)
    wanted = {16, 16 * 8, 16 * 33, min(PAGE + 173, longest(row.name))}
    messages = [cut(max(size // row.unit * row.unit, row.minimum)) for size in sorted(wanted)]
    results = [skciphers.crypt(row.name, key, iv, message) for message in messages]

    def check(driver: str) -> None:
        with Skcipher(driver, key) as cipher:
            for message, result in zip(messages, results, strict=True):
                assert cipher.encrypt(message, iv) == result, f"encrypting {len(message)} bytes"
                assert cipher.decrypt(result, iv) == message, f"decrypting {len(message)} bytes"
                for operation, source, expected in (
                    (ALG_OP_ENCRYPT, message, result),
                    (ALG_OP_DECRYPT, result, message),
                ):
                    cipher.op.sendmsg([source[:1], source[1:]], set_op(operation) + (set_iv(iv) if iv else b""))
                    got = scattered(cipher.op.recvmsg, len(message))
                    assert got == expected, f"operation {operation}, {len(message)} scattered bytes"

    return check


def aead_check(row: AeadRow) -> Check:
    """Return what every driver of an aead must pass."""
    key, iv, tag = key_of(row, row.keys[-1]), iv_of(row.name, row.iv), row.tags[-1]
    aad = aad_of(row, key, default_aad(row))
    messages = [cut(size) for size in (16, 16 * 33, PAGE + 160)]
    expected = [aeads.seal(row.name, key, iv, aad, message, tag) for message in messages]

    def check(driver: str) -> None:
        with Aead(driver, key, tag) as aead:
            for message, sealed in zip(messages, expected, strict=True):
                assert aead.encrypt(message, aad, iv) == sealed, f"encrypting {len(message)} bytes"
                assert aead.decrypt(sealed, aad, iv) == message, f"decrypting {len(message)} bytes"
                for operation, source, result in ((ALG_OP_ENCRYPT, message, sealed), (ALG_OP_DECRYPT, sealed, message)):
                    control = set_op(operation) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
                    aead.op.sendmsg([aad[:3], aad[3:], source], control)
                    got = scattered(aead.op.recvmsg, len(aad) + len(result))
                    assert got == aad + result, f"operation {operation}, {len(message)} scattered bytes"

    return check


def wrapped(wrapper: str, type_: str, name: str) -> str:
    """Return a wrapper's name around an algorithm made of plain drivers, which complete at once.

    Skips where AF_ALG takes nothing that completes later and so does not find the instance it has had made (EEXIST):
    Linux kernel commit 7524070f26d8 ("crypto: af_alg - Drop support for off-CPU cryptography").
    """
    if ignores_lookup_flags():
        older(f"kernel has no {type_} {wrapper}({name})")
    kinds: dict[str, type[Transform]] = {"hash": Hash, "skcipher": Skcipher, "aead": Aead}
    need(kinds[type_], name).close()
    for leaf in ("aes", "sha1", "sha256"):
        drivers = [entry for entry in implementations() if entry.name == leaf and not entry.asynchronous]
        if leaf in name and drivers:
            name = name.replace(leaf, min(drivers, key=lambda entry: entry.priority).driver)
    return f"{wrapper}({name})"


def check_drivers(type_: str, name: str, check: Check, tell: Tell = lambda *_: None) -> None:
    """Run ``check(driver)`` for every driver of a name, and fail with all that went wrong.

    Args:
        tell: takes what was not checked, for the results: drivers whose names no address has room for.
    """
    drivers = [entry for entry in implementations() if (entry.af_alg_type, entry.name) == (type_, name)]
    assert drivers, f"{name} can be bound, but /proc/crypto does not list it"
    named = [entry for entry in drivers if len(entry.driver) <= LONGEST_BINDABLE]
    if len(named) < len(drivers):
        tell("names too long to bind", ", ".join(entry.driver for entry in drivers if entry not in named))
    assert named, f"no driver of {name} has a name that can be bound"
    wrong = [trouble for entry in named if (trouble := trouble_with(entry, check))]
    assert not wrong, f"{len(wrong)} of {len(named)} drivers: {'; '.join(wrong)}"


def trouble_with(entry: Implementation, check: Check) -> str | None:
    """Return what is wrong with one driver, None for nothing.

    Kernels that offer AF_ALG no asynchronous implementations (since Linux 7.2, which tests/answers.toml holds them to)
    do not find one.
    """
    try:
        check(entry.driver)
    except AssertionError as error:
        return f"{entry.driver}: wrong, {error}"
    except OSError as error:
        hidden = entry.asynchronous and error.errno == errno.ENOENT and ignores_lookup_flags()
        return None if hidden else f"{entry.driver}: {error}"
    return None


def scattered(recvmsg: Callable[[list[memoryview]], object], size: int) -> bytes:
    """Read ``size`` bytes into three buffers that begin at odd addresses."""
    view = memoryview(bytearray(size + 16))
    first, second = size // 3, size // 2
    targets = [view[1 : first + 1], view[first + 4 : second + 4], view[second + 9 : size + 9]]
    recvmsg(targets)
    return b"".join(targets)
