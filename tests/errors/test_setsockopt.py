"""setsockopt(2): keys and tag sizes that are refused."""

from __future__ import annotations

import errno

from tests.afalg import Aead, Hash, Rng, Skcipher
from tests.afalg.constants import ALG_SET_AEAD_AUTHSIZE
from tests.errors.raises import raises_errno
from tests.need import need


def test_key_for_an_unkeyed_hash_is_enosys() -> None:
    with need(Hash, "sha256") as h, raises_errno(errno.ENOSYS):
        h.tfm.set_key(bytes(16))


def test_key_of_a_wrong_length_is_einval() -> None:
    with need(Skcipher, "cbc(aes)") as cipher, raises_errno(errno.EINVAL):
        cipher.tfm.set_key(bytes(17))


def test_tag_size_beyond_the_longest_is_einval() -> None:
    with need(Aead, "gcm(aes)") as aead, raises_errno(errno.EINVAL):
        aead.tfm.set_authsize(17)


def test_tag_size_of_an_rng_is_enoprotoopt() -> None:
    with need(Rng, "jitterentropy_rng") as rng, raises_errno(errno.ENOPROTOOPT):
        rng.tfm.setsockopt(ALG_SET_AEAD_AUTHSIZE, None, length=16)


def test_key_with_a_keyed_op_socket_open_is_busy() -> None:
    with need(Skcipher, "cbc(aes)", bytes(16)) as cipher:
        cipher.op  # noqa: B018 - accepts the op socket
        with raises_errno(errno.EBUSY):
            cipher.tfm.set_key(bytes(16))
