"""recvmsg(2): results that are refused."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Pointer, Skcipher, Socket, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_DONTWAIT
from tests.errors.raises import raises_errno
from tests.need import need

KEY, IV, AAD = bytes(range(16)), bytes(range(12)), b"header"


@pytest.mark.parametrize("part", ["ciphertext", "tag", "aad", "iv"])
def test_one_flipped_bit_is_ebadmsg(part: str) -> None:
    with need(Aead, "gcm(aes)", KEY) as aead:
        sealed, aad, iv = bytearray(aead.encrypt(b"secret", AAD, IV)), bytearray(AAD), bytearray(IV)
        changed = {"ciphertext": (sealed, 0), "tag": (sealed, -1), "aad": (aad, 0), "iv": (iv, 0)}
        field, at = changed[part]
        field[at] ^= 1
        with raises_errno(errno.EBADMSG):
            aead.decrypt(bytes(sealed), bytes(aad), bytes(iv))


def test_partial_block_of_cbc_is_einval() -> None:
    with need(Skcipher, "cbc(aes)", KEY) as cipher, raises_errno(errno.EINVAL):
        cipher.encrypt(bytes(15), bytes(16))


def test_nothing_to_read_is_eagain_when_not_waiting() -> None:
    with need(Skcipher, "cbc(aes)", KEY) as cipher, raises_errno(errno.EAGAIN):
        cipher.op.recv(16, MSG_DONTWAIT)


def test_result_into_unmapped_memory_is_efault_and_keeps_the_request() -> None:
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        expected = cipher.encrypt(b"sixteen bytes ..", bytes(16))
        cipher.op.sendmsg([b"sixteen bytes .."], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        with raises_errno(errno.EFAULT):
            cipher.op.recvmsg([Pointer(0, 16)])
        assert cipher.op.recv(16) == expected


def test_reading_a_tfm_socket_is_eopnotsupp() -> None:
    need(Skcipher, "cbc(aes)").close()
    with Socket.bound("skcipher", "cbc(aes)") as tfm, raises_errno(errno.EOPNOTSUPP):
        tfm.recv(16)
