"""Keys by the serial number of a key of the kernel's key retention service (ALG_SET_KEY_BY_KEY_SERIAL, keyrings(7)).

Source: Documentation/crypto/userspace-if.rst of Linux 6.2; where it says EPERM, a missing permission is EACCES.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Hash, Skcipher, Transform
from tests.afalg import keys as k
from tests.afalg.constants import ALG_SET_KEY_BY_KEY_SERIAL
from tests.afalg.privileges import PLAIN_USER
from tests.doctor import absence
from tests.doctor.absence import Feature
from tests.errors import probes
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import HASH, SKCIPHER, Subject, each_keyed_type
from tests.need import lacking, need, need_key, run_as
from tests.oracle import aeads, hashes, skciphers

KEY = bytes(range(32))
KEY_TYPES = {
    "encrypted": Feature("keys of type encrypted", ("ENCRYPTED_KEYS",)),
    "trusted": Feature("keys of type trusted", ("TRUSTED_KEYS",), version="needs a TPM, a TEE or the like"),
}


@pytest.fixture(autouse=True)
def _key_serials() -> None:
    if not probes.has_key_serials():
        lacking(absence.KEY_SERIALS, errno.ENOPROTOOPT)


@pytest.fixture
def small_option_memory() -> Iterator[None]:
    before = probes.OPTMEM.read_text()
    probes.OPTMEM.write_text("8\n")
    yield
    probes.OPTMEM.write_text(before)


def set_by_serial(transform: Transform, value: bytes) -> None:
    transform.tfm.setsockopt(ALG_SET_KEY_BY_KEY_SERIAL, value)


def user_key(payload: bytes) -> k.Key:
    return need_key("user", "af-alg-test", payload)


@each_keyed_type
@pytest.mark.parametrize("type_", ["user", "logon"])
def test_key_is_the_payload(subject: Subject, type_: str) -> None:
    """The payload of a logon key cannot be read by user space, but used (keyrings(7); key_data_ptr_user)."""
    assert subject.key
    with subject.open_without_key() as transform, need_key(type_, "af-alg:test", subject.key) as key:
        before = key.users()
        set_by_serial(transform, key.option)
        subject.works(transform.op)
        assert key.users() == before, "a reference to the key is held"


@each_keyed_type
def test_key_is_copied(subject: Subject) -> None:
    """What happens to it afterwards is of no concern (alg_setkey_by_key_serial)."""
    assert subject.key
    with subject.open_without_key() as transform, user_key(subject.key) as key:
        set_by_serial(transform, key.option)
        key.revoke()
        subject.works(transform.op)


@returns("key-serial-lookup")
@each_keyed_type
def test_revoked_key_is_ekeyrevoked(subject: Subject) -> None:
    """key_validate (security/keys/permission.c), by way of lookup_user_key; the socket keeps its key."""
    with subject.open() as transform, user_key(bytes(16)) as key:
        key.revoke()
        with raises_errno(errno.EKEYREVOKED):
            set_by_serial(transform, key.option)
        subject.works(transform.op)


@returns("key-serial-lookup")
def test_expired_key_is_ekeyexpired() -> None:
    """key_validate (security/keys/permission.c) once the time of KEYCTL_SET_TIMEOUT (keyctl(2)) is over."""
    with SKCIPHER.open() as cipher, user_key(SKCIPHER.key or b"") as key:
        key.set_timeout(1)
        end = time.monotonic() + 20
        while (got := outcome(lambda: set_by_serial(cipher, key.option))) == 0:
            assert time.monotonic() < end, "the key does not expire"
        assert got == errno.EKEYEXPIRED
        with raises_errno(errno.EKEYEXPIRED):
            set_by_serial(cipher, key.option)
        SKCIPHER.works(cipher.op)


@returns("key-serial-lookup")
def test_invalidated_key_is_enokey() -> None:
    """key_validate (security/keys/permission.c) takes a key after KEYCTL_INVALIDATE (keyctl(2)) for none."""
    with SKCIPHER.open() as cipher, user_key(bytes(16)) as key:
        key.invalidate()
        with raises_errno(errno.ENOKEY):
            set_by_serial(cipher, key.option)
        SKCIPHER.works(cipher.op)


@returns("key-serial-lookup")
def test_key_without_search_permission_is_eacces() -> None:
    """lookup_key in crypto/af_alg.c asks for KEY_NEED_SEARCH: the owner's own permissions count (keyrings(7))."""
    with SKCIPHER.open() as cipher, user_key(bytes(16)) as key:
        key.permit(k.ALL & ~k.SEARCH)
        with raises_errno(errno.EACCES):
            set_by_serial(cipher, key.option)
        SKCIPHER.works(cipher.op)


@returns("key-serial-lookup")
def test_key_of_somebody_else_is_eacces() -> None:
    """lookup_user_key takes the caller's credentials, not those of the socket's maker (keyrings(7))."""
    with SKCIPHER.open() as cipher, user_key(bytes(16)) as key:
        assert run_as(PLAIN_USER, lambda: outcome(lambda: set_by_serial(cipher, key.option))) == errno.EACCES
        SKCIPHER.works(cipher.op)


@returns("key-serial-lookup")
def test_missing_thread_keyring_is_enokey() -> None:
    """lookup_user_key without KEY_LOOKUP_CREATE makes no thread keyring (security/keys/process_keys.c)."""
    with SKCIPHER.open() as cipher:
        with raises_errno(errno.ENOKEY):
            set_by_serial(cipher, k.serial_option(k.KEY_SPEC_THREAD_KEYRING))
        SKCIPHER.works(cipher.op)


@returns("key-serial-type")
def test_keyring_is_no_key() -> None:
    """alg_setkey_by_key_serial takes user, logon, encrypted and trusted keys; any other type is ENOPROTOOPT."""
    with SKCIPHER.open() as cipher, need_key("keyring", "af-alg-test", b"") as ring:
        for value in (
            ring.option,
            k.serial_option(k.KEY_SPEC_PROCESS_KEYRING),
            k.serial_option(k.KEY_SPEC_USER_KEYRING),
        ):
            with raises_errno(errno.ENOPROTOOPT):
                set_by_serial(cipher, value)
        SKCIPHER.works(cipher.op)


@returns("key-serial-refused")
@pytest.mark.parametrize(
    ("kind", "name", "length"),
    [(Skcipher, "cbc(aes)", 5), (Skcipher, "cbc(aes)", 33), (Skcipher, "xts(aes)", 16), (Aead, "gcm(aes)", 17)],
    ids=["cbc(aes)-5", "cbc(aes)-33", "xts(aes)-16", "gcm(aes)-17"],
)
def test_payload_of_a_wrong_length_is_einval(kind: type[Transform], name: str, length: int) -> None:
    """The tfm's setkey refuses it as any key; alg_setkey_by_key_serial has put the kernel's key by then."""
    with need(kind, name) as transform, user_key(bytes(length)) as key:
        before = key.users()
        for _ in range(3):
            with raises_errno(errno.EINVAL):
                set_by_serial(transform, key.option)
        assert key.users() == before
        with user_key(KEY) as good:
            set_by_serial(transform, good.option)
        if isinstance(transform, Aead):
            assert transform.encrypt(b"text", b"", bytes(12)) == aeads.seal(name, KEY, bytes(12), b"", b"text", 16)
        elif isinstance(transform, Skcipher):
            assert transform.encrypt(bytes(16), bytes(16)) == skciphers.crypt(name, KEY, bytes(16), bytes(16))


@returns("key-serial-refused")
def test_key_for_an_unkeyed_hash_is_enosys() -> None:
    """alg_setkey_by_key_serial ends in shash_no_setkey or ahash_nosetkey, as ALG_SET_KEY does."""
    with need(Hash, "sha256") as h, user_key(bytes(16)) as key:
        with raises_errno(errno.ENOSYS):
            set_by_serial(h, key.option)
        assert h.digest(b"abc") == hashlib.sha256(b"abc").digest()


@returns("key-serial-no-memory")
def test_payload_beyond_option_memory_is_enomem(small_option_memory: None) -> None:
    """alg_setkey_by_key_serial copies by sock_kmalloc (net.core.optmem_max), and puts the key when that fails."""
    with need(Hash, "hmac(sha256)") as h, user_key(bytes(64)) as key:
        before = key.users()
        with raises_errno(errno.ENOMEM):
            set_by_serial(h, key.option)
        assert key.users() == before


@returns("setsockopt-children")
def test_key_with_a_used_op_socket_is_busy() -> None:
    """alg_setsockopt (crypto/af_alg.c) compares refcnt and nokey_refcnt before it looks at the option."""
    with SKCIPHER.open() as cipher, user_key(bytes(16)) as key:
        SKCIPHER.works(cipher.op)
        with raises_errno(errno.EBUSY):
            set_by_serial(cipher, key.option)
        SKCIPHER.works(cipher.op)


def test_longest_payload() -> None:
    """A user key has at most 32767 bytes; hmac takes them all (user_preparse in security/keys/user_defined.c)."""
    payload = bytes(i % 251 for i in range(32767))
    with need(Hash, "hmac(sha256)") as h, user_key(payload) as key:
        set_by_serial(h, key.option)
        assert h.digest(b"data") == hashes.digest("hmac(sha256)", b"data", payload)
    with HASH.open() as h:
        HASH.works(h.op)


@pytest.mark.parametrize(
    ("type_", "command"),
    [("encrypted", b"new user:af-alg-test 32"), ("trusted", b"new 32")],
    ids=["encrypted", "trusted"],
)
def test_key_that_nobody_sees_can_be_used(type_: str, command: bytes) -> None:
    """Its 32 random bytes never leave the kernel (key_data_ptr_encrypted, key_data_ptr_trusted)."""
    with user_key(bytes(32)) as master:
        assert master.serial > 0
        try:
            key = need_key(type_, "af-alg-unseen", command)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            lacking(KEY_TYPES[type_], error.errno)
        with key, need(Skcipher, "ctr(aes)") as cipher, need(Skcipher, "ctr(aes)", bytes(32)) as zero:
            set_by_serial(cipher, key.option)
            message, iv = bytes(range(100)), bytes(16)
            sealed = cipher.encrypt(message, iv)
            assert sealed not in (message, zero.encrypt(message, iv))
            assert cipher.decrypt(sealed, iv) == message


def test_use_of_a_key_takes_none_of_its_owners_quota() -> None:
    """A key that leaves no room for another (EDQUOT) can be used, as often as one likes: the copy is the socket's.

    Source: keyrings(7); alg_setkey_by_key_serial.
    """
    with HASH.open_without_key() as h:

        def fill_and_use() -> list[int]:
            full = 0
            keys = []
            while not full and len(keys) < 300:
                full = outcome(lambda: keys.append(need_key("user", f"af-alg-{len(keys)}", HASH.key or b"")))
            used = [outcome(lambda: set_by_serial(h, keys[-1].option)) for _ in range(50)]
            return [full, *set(used)]

        assert run_as(PLAIN_USER, fill_and_use) == [errno.EDQUOT, 0]
        HASH.works(h.op)
