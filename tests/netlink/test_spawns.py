"""Algorithms that others are made of: what becomes of those when one is changed while they are used.

An instance holds its parts as spawns. CRYPTO_MSG_UPDATEALG of a part takes every instance over it out of the list
(crypto_remove_spawns in crypto/algapi.c), since another part may be the better one from now on. Whoever has a transform
keeps it; the next bind makes a new instance.
"""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Hash, Skcipher, Transform
from tests.afalg import netlink as n
from tests.afalg.netlink import CryptoNetlink, alg
from tests.afalg.proc import Implementation, implementations
from tests.errors.raises import outcome, raises_errno
from tests.need import need
from tests.oracle import aeads, hashes, skciphers

KEY, IV, DATA = bytes(range(16)), bytes(range(16, 32)), bytes(range(64)) * 5
AUTHENC = b"\x08\0\x01\0\0\0\0\x10" + bytes(range(20)) + KEY

# What is used, and the part of it that is changed; all but the first two in a thorough run.
STACKS = [
    ("cts(cbc(camellia))", "camellia"),
    ("authenc(hmac(md5),cbc(camellia))", "md5"),
    ("xcbc(camellia)", "camellia"),
    ("hmac(md5)", "md5"),
    ("authenc(hmac(md5),cbc(camellia))", "camellia"),
]
HASHES = ("hmac", "cmac", "xcbc")


def driver_of(plain: str) -> str:
    """Return the driver of a cipher or hash that templates are made of, once its module is there."""
    need(*{"camellia": (Skcipher, "ecb(camellia)"), "md5": (Hash, "md5")}[plain]).close()
    found = [e for e in implementations() if e.name == plain and e.type_ in ("cipher", "shash") and not e.internal]
    return min(found, key=lambda e: e.priority).driver


def opened(name: str) -> Transform:
    """Return a transform with its key, made of plain drivers: its name for the kernel is that of these."""
    head, made = name.partition("(")[0], name
    for plain in ("camellia", "md5"):
        if plain in name:
            made = made.replace(plain, driver_of(plain))
    if head == "authenc":
        return need(Aead, made, AUTHENC, 16)
    return need(Hash if head in HASHES else Skcipher, made, KEY)


def works(transform: Transform, name: str) -> None:
    """Make one request and compare it with the oracle's answer."""
    if isinstance(transform, Hash):
        assert transform.digest(DATA) == hashes.digest(name, DATA, KEY)
    elif isinstance(transform, Aead):
        sealed = aeads.seal(name, AUTHENC, IV, bytes(8), DATA, 16)
        assert transform.encrypt(DATA, bytes(8), IV) == sealed
        assert transform.decrypt(sealed, bytes(8), IV) == DATA
    elif isinstance(transform, Skcipher):
        assert transform.encrypt(DATA, IV) == skciphers.crypt(name, KEY, IV, DATA)


def entry(driver: str) -> Implementation | None:
    return next((found for found in implementations() if found.driver == driver), None)


def change(crypto: CryptoNetlink, driver: str) -> None:
    """Set the priority that it has: the instances over it are removed all the same."""
    found = entry(driver)
    assert found is not None
    crypto.request(n.CRYPTO_MSG_UPDATEALG, alg("", driver) + n.priority(found.priority))
    assert (changed := entry(driver)) is not None
    assert changed.priority == found.priority


@pytest.mark.parametrize(
    ("name", "part"),
    [
        pytest.param(name, part, id=f"{part}-of-{name}", marks=[] if place < 2 else pytest.mark.thorough)
        for place, (name, part) in enumerate(STACKS)
    ],
)
def test_updated_spawn_of_an_instance_in_use(crypto: CryptoNetlink, name: str, part: str) -> None:
    """Who has the transform goes on, with new op sockets too; a new bind makes a new instance, and both work.

    Source: crypto_update_alg, crypto_remove_spawns.
    """
    driver = driver_of(part)
    with opened(name) as transform, opened(name) as unused:
        works(transform, name)
        change(crypto, driver)
        works(transform, name)
        works(unused, name)
        with opened(name) as again:
            works(again, name)
            change(crypto, driver)
            works(again, name)
            works(transform, name)
    with opened(name) as last:
        works(last, name)


def test_updated_spawn_takes_its_instances_away(crypto: CryptoNetlink) -> None:
    """Out of /proc/crypto at once, used or not; and all that is made of them, too (crypto_remove_spawns)."""
    driver = driver_of("camellia")
    instances = {f"cmac({driver})", f"cbc({driver})", f"cts(cbc({driver}))"}
    with opened("cmac(camellia)") as used:
        for name in ("cbc(camellia)", "cts(cbc(camellia))"):
            opened(name).close()
        assert all(entry(instance) for instance in instances)
        change(crypto, driver)
        assert not [instance for instance in instances if entry(instance)]
        works(used, "cmac(camellia)")
        with opened("cmac(camellia)") as again:
            assert entry(f"cmac({driver})")
            works(again, "cmac(camellia)")
            works(used, "cmac(camellia)")


def test_what_another_instance_is_made_of_cannot_be_removed(crypto: CryptoNetlink) -> None:
    """EBUSY while that is used, and what is used goes on (crypto_del_alg)."""
    name, part = "cts(cbc(camellia))", f"cbc({driver_of('camellia')})"
    with opened(name) as transform:
        with raises_errno(errno.EBUSY):
            crypto.request(n.CRYPTO_MSG_DELALG, alg("", part))
        works(transform, name)
    assert outcome(lambda: crypto.request(n.CRYPTO_MSG_DELALG, alg("", part))) == 0
    assert not entry(part)
    assert not entry(f"cts({part})")
    with opened(name) as again:
        works(again, name)


def test_part_changed_again_and_again_while_it_is_used(crypto: CryptoNetlink) -> None:
    """Every generation of an instance stays usable for those who have it (crypto_remove_spawns)."""
    name, held = "cbc(camellia)", []
    try:
        for _ in range(2):
            held.append(opened(name))
            change(crypto, driver_of("camellia"))
            for transform in held:
                works(transform, name)
    finally:
        for transform in held:
            transform.close()
    with opened(name) as last:
        works(last, name)
