"""Bugs of algif_aead and of the AEAD templates behind it."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Socket, authenc_key, set_assoclen, set_iv, set_op
from tests.afalg.buffers import set_receive_buffer, set_send_buffer
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads

KEY, IV = bytes(range(16)), bytes(range(12))
AUTHENC = authenc_key(bytes(range(32)), bytes(range(100, 116)))
ESN, ESSIV = "authencesn(hmac(sha256),cbc(aes))", "essiv(authenc(hmac(sha256),cbc(aes)),sha256)"
PAGE = 4096
# Entries of one TX list on 64-bit (MAX_SGL_ENTS in include/crypto/if_alg.h).
FULL_LIST = 126

authencesn_short_aad = pytest.mark.fixed_by(
    "2397e9264676",
    "crypto: authencesn - reject too-short AAD (assoclen<8) to match ESP/ESN spec",
    cve="CVE-2026-23060",
)


@authencesn_short_aad
@pytest.mark.parametrize("assoclen", [1, 4, 7])
def test_authencesn_refuses_aad_without_a_whole_sequence_number(assoclen: int) -> None:
    """ESN needs SPI and two halves of the sequence number; with less the decryption walked off its list.

    Encryption shows the missing check and does no harm. Source: RFC 4303, 2.2.1; crypto/authencesn.c.
    """
    with need(Aead, ESN, AUTHENC) as aead:
        aead.op.sendmsg([bytes(assoclen + 16)], set_op(ALG_OP_ENCRYPT) + set_assoclen(assoclen) + set_iv(bytes(16)))
        with raises_errno(errno.EINVAL, why=f"AAD of {assoclen} bytes"):
            aead.op.recv(assoclen + 32)


@pytest.mark.fixed_by(
    "5db6ef984771",
    "crypto: authencesn - reject short ahash digests during instance creation",
    cve="CVE-2026-46033",
)
def test_authencesn_refuses_a_hash_shorter_than_its_sequence_number() -> None:
    """The tag of cbcmac(cipher_null) has one byte, and authencesn moves four about."""
    need(Aead, ESN).close()
    with raises_errno(errno.EINVAL, errno.ENOENT, why="a digest of one byte"):
        Socket.bound("aead", "authencesn(cbcmac(cipher_null),cbc(aes))").close()


@pytest.mark.fixed_by(
    "6bb73db6948c", "crypto: essiv - Check ssize for decryption and in-place encryption", cve="CVE-2025-40019"
)
@pytest.mark.parametrize("operation", [ALG_OP_ENCRYPT, ALG_OP_DECRYPT], ids=["encrypt", "decrypt"])
def test_essiv_refuses_aad_shorter_than_the_iv(operation: int) -> None:
    """The IV is the end of the AAD: with less of it an offset went below zero (essiv_aead_crypt in crypto/essiv.c)."""
    with need(Aead, ESSIV, AUTHENC) as aead:
        for assoclen in (8, 0, 15):
            size = assoclen + 16 + (16 if operation == ALG_OP_DECRYPT else 0)
            aead.op.sendmsg([bytes(size)], set_op(operation) + set_assoclen(assoclen) + set_iv(bytes(16)))
            with raises_errno(errno.EINVAL, why=f"AAD of {assoclen} bytes"):
                aead.op.recv(assoclen + 32)


@pytest.mark.fixed_by("e4c06479d705", "crypto: af_alg - Cap AEAD AD length to 0x80000000", cve="CVE-2026-52972")
@pytest.mark.parametrize("assoclen", [0x80000000, 0xFFFFFFFF])
def test_aad_of_2_gib_is_refused(assoclen: int) -> None:
    """Sums with it overflowed 32 bits, and too little data counted as enough. It is never received here.

    Source: aead_sufficient_data, af_alg_cmsg_send.
    """
    with need(Aead, "gcm(aes)", KEY) as aead, raises_errno(errno.EINVAL, why="AAD of 2 GiB and more"):
        aead.op.sendmsg([bytes(32)], set_op(ALG_OP_DECRYPT) + set_assoclen(assoclen) + set_iv(IV))


# Only a list that is full to the last entry shows it.
full_list = pytest.mark.fixed_by(
    "62397b493e14", "crypto: af-alg - fix NULL pointer dereference in scatterwalk", cve="CVE-2026-43043"
)


@pytest.mark.parametrize("pages", [FULL_LIST - 1, pytest.param(FULL_LIST, marks=full_list), FULL_LIST + 1])
def test_aead_message_beyond_a_full_tsgl(pages: int) -> None:
    """The list's last entry stayed marked as the end of all, and the cipher walked into nothing.

    Source: af_alg_sendmsg, sg_mark_end.
    """
    first, rest = bytes(i * 7 % 251 for i in range(PAGE)) * pages, bytes(range(256)) * 2
    with need(Aead, "gcm(aes)", KEY) as aead:
        for set_buffer in (set_send_buffer, set_receive_buffer):
            set_buffer(aead.op, 8 << 20, force=True)
        aead.op.sendmsg([first], set_op(ALG_OP_ENCRYPT) + set_assoclen(0) + set_iv(IV), MSG_MORE)
        aead.op.send(rest)
        assert aead.op.recv(len(first + rest) + 16) == aeads.seal("gcm(aes)", KEY, IV, b"", first + rest, 16)


@pytest.mark.fixed_by(
    "8eceab19eba9", "crypto: af_alg - limit RX SG extraction by receive buffer budget", cve="CVE-2026-31677"
)
def test_aead_output_is_split_at_rcvbuf() -> None:
    """With a receive buffer of one page no more than one page may be pinned: 8 KiB cannot come in one piece.

    What does not fit is left for a message of its own. Source: af_alg_get_rsgl, af_alg_rcvbuf.
    """
    with need(Aead, "gcm(aes)", KEY) as aead:
        set_receive_buffer(aead.op, PAGE, force=True)
        message = bytes(i * 7 % 251 for i in range(2 * PAGE))
        aead.op.sendmsg([message], set_op(ALG_OP_ENCRYPT) + set_assoclen(0) + set_iv(IV))
        whole = aeads.seal("gcm(aes)", KEY, IV, b"", message, 16)
        got = aead.op.recv(len(whole), MSG_DONTWAIT)
        assert got != whole, "8 KiB came in one piece"
        assert got[:PAGE] == aeads.seal("gcm(aes)", KEY, IV, b"", message[: PAGE - 16], 16)


@pytest.mark.fixed_by(
    "6a4b8aa0a916", "crypto: af_alg - Fix missing initialisation affecting gcm-aes-s390", cve="CVE-2023-53599"
)
@pytest.mark.parametrize("header", [b"", b"header"], ids=["without-aad", "with-aad"])
def test_a_tag_over_nothing_is_verified(header: bytes) -> None:
    """Without ciphertext and AAD there is no result, and its list was left as the memory was (af_alg_get_rsgl)."""
    sealed = aeads.seal("gcm(aes)", KEY, IV, header, b"", 16)
    with need(Aead, "gcm(aes)", KEY) as aead:
        assert aead.crypt(ALG_OP_DECRYPT, sealed, header, IV, 0) == header
        with raises_errno(errno.EBADMSG):
            aead.decrypt(sealed[:-1] + bytes([sealed[-1] ^ 1]), header, IV)


@pytest.mark.fixed_by("2a2a251f1102", "crypto: algif_aead - Require setkey before accept(2)")
def test_an_aead_without_a_key_is_usable_only_after_it_got_one() -> None:
    """ENOKEY until the tfm has a key (aead_check_key, crypto/algif_aead.c): it went to the algorithm without one."""
    control = set_op(ALG_OP_ENCRYPT) + set_assoclen(0) + set_iv(IV)
    with need(Aead, "gcm(aes)") as aead:
        with raises_errno(errno.ENOKEY, why="a send without a key"):
            aead.op.sendmsg([bytes(16)], control)
        aead.tfm.set_key(KEY)
        aead.op.sendmsg([bytes(16)], control)
        assert aead.op.recv(32) == aeads.seal("gcm(aes)", KEY, IV, b"", bytes(16), 16)


@pytest.mark.fixed_by("8f9c46934848", "crypto: authenc - fix parsing key with misaligned rta_len", cve="CVE-2020-10769")
@pytest.mark.parametrize("rta_len", [0, 3, 4, 5, 6, 7, 9, 10, 11])
def test_authenc_refuses_a_key_whose_header_has_another_length(rta_len: int) -> None:
    """The header was skipped by its length rounded up, which read past the key (crypto_authenc_extractkeys)."""
    key = authenc_key(bytes(max(rta_len - 8, 0)), b"", rta_len=rta_len)
    why = "a key with such a header"
    with need(Aead, "authenc(hmac(sha256),cbc(aes))") as aead, raises_errno(errno.EINVAL, why=why):
        aead.tfm.set_key(key)


@pytest.mark.fixed_by(
    "b32a7dc8aef1", "crypto: algif_aead - fix reference counting of null skcipher", cve="CVE-2018-14619"
)
def test_op_sockets_that_come_and_go_leave_the_others_working() -> None:
    """All shared one cipher for copying, and each that was closed gave it back once more than it had taken it.

    Source: crypto_put_default_null_skcipher.
    """
    with need(Aead, "gcm(aes)", KEY) as aead:
        for _ in range(100):
            aead.tfm.accept().close()
        for _ in range(20):
            need(Aead, "gcm(aes)", KEY).close()
        assert aead.encrypt(bytes(64), b"header", IV) == aeads.seal("gcm(aes)", KEY, IV, b"header", bytes(64), 16)


def test_authencesn_writes_nothing_behind_its_result() -> None:
    """Four bytes of the sequence number were moved to the end of the output, behind what recv asked for.

    Linux kernel commit e02494114ebf ("crypto: authencesn - Do not place hiseq at end of dst for out-of-place
    decryption"). No release shows it without Copy Fail, so that it is no known issue of its own.
    """
    aad, iv = b"AAAABBBB", bytes(16)
    sealed = aeads.seal(ESN, AUTHENC, iv, aad, bytes(range(64)), 16)
    with need(Aead, ESN, AUTHENC) as aead:
        memory = bytearray(b"\xa5" * 256)
        aead.op.sendmsg([aad, sealed], set_op(ALG_OP_DECRYPT) + set_assoclen(8) + set_iv(iv))
        view = memoryview(memory)
        assert aead.op.recvmsg([view[16:56], view[56:88]]).size == 72
        assert memory == b"\xa5" * 16 + aad + bytes(range(64)) + b"\xa5" * 168
