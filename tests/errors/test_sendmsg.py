"""sendmsg(2): what an op socket refuses to take."""

from __future__ import annotations

import errno

from tests.afalg import Aead, Hash, Rng, Skcipher, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT
from tests.errors.raises import raises_errno
from tests.need import need


def test_keyed_hash_without_a_key_is_enokey() -> None:
    """CVE-2015-8970.

    Linux kernel commit 6de62f15b581 ("crypto: algif_hash - Require setkey before accept(2)") (in v4.5).
    """
    with need(Hash, "hmac(sha256)") as h, raises_errno(errno.ENOKEY):
        h.op.send(b"data")


def test_skcipher_without_a_key_is_enokey() -> None:
    with need(Skcipher, "cbc(aes)") as cipher, raises_errno(errno.ENOKEY):
        cipher.op.send(bytes(16))


def test_iv_of_a_wrong_length_is_einval() -> None:
    with need(Skcipher, "cbc(aes)", bytes(16)) as cipher, raises_errno(errno.EINVAL):
        cipher.op.sendmsg([bytes(16)], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(15)))


def test_operation_other_than_encrypt_or_decrypt_is_einval() -> None:
    with need(Aead, "gcm(aes)", bytes(16)) as aead, raises_errno(errno.EINVAL):
        aead.op.sendmsg([bytes(16)], set_op(2) + set_iv(bytes(12)) + set_assoclen(0))


def test_second_message_before_the_first_is_read_is_einval() -> None:
    with need(Skcipher, "cbc(aes)", bytes(16)) as cipher:
        cipher.op.sendmsg([bytes(16)], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        with raises_errno(errno.EINVAL):
            cipher.op.send(bytes(16))


def test_sending_to_an_rng_is_eopnotsupp() -> None:
    with need(Rng, "jitterentropy_rng") as rng, raises_errno(errno.EOPNOTSUPP):
        rng.op.send(b"data")
