"""recvmsg(2): results that are refused, and whether the request survives."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time

import pytest

from tests.afalg import Aead, DeadlineExpired, Hash, Pointer, Rng, Skcipher, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE, MSG_TRUNC
from tests.afalg.memory import PROT_NONE, PROT_READ, Memory
from tests.errors import probes
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import (
    AEAD,
    HASH,
    RNG,
    SKCIPHER,
    SOCKETS,
    Subject,
    each_keyed_type,
    each_queued_type,
    each_type,
    socket_of,
)
from tests.errors.threads import wait_until_inside_a_call
from tests.need import need
from tests.oracle import aeads, skciphers

KEY, IV, AAD = bytes(range(16)), bytes(range(12)), b"header"


# Nothing to read -----------------------------------------------------------------------------------------------------


@returns("wait-for-data")
@each_queued_type
def test_nothing_to_read_is_eagain_when_not_waiting(subject: Subject) -> None:
    """By MSG_DONTWAIT as by O_NONBLOCK; before the first request, after it, and of a message without its end."""
    with subject.open() as transform:
        op = transform.op
        with raises_errno(errno.EAGAIN):
            op.recv(16, MSG_DONTWAIT)
        subject.works(op)
        with raises_errno(errno.EAGAIN):
            op.recv(16, MSG_DONTWAIT)
        op.sendmsg([subject.message[:15]], subject.control, MSG_MORE)
        os.set_blocking(op.fd, False)
        with raises_errno(errno.EAGAIN):
            op.recv(16)
        op.send(subject.message[15:])
        subject.finish(op)


@returns("wait-for-data-signal")
@each_queued_type
def test_wait_for_data_ends_with_a_signal(subject: Subject) -> None:
    """af_alg_wait_for_data returns -ERESTARTSYS when a signal is pending (signal(7)); nothing was written."""
    with subject.open() as transform:
        with pytest.raises(DeadlineExpired) as caught:
            transform.op.recv(16, seconds=0.2)
        assert caught.value.partial == 0
        subject.works(transform.op)


@returns("not-on-tfm")
@pytest.mark.parametrize("kind", [k for k in SOCKETS if k == "unbound" or k.endswith("-tfm")])
def test_reading_a_tfm_socket_is_eopnotsupp(kind: str) -> None:
    """alg_proto_ops (crypto/af_alg.c) has sock_no_recvmsg, also for a read of no bytes."""
    with socket_of(kind) as sock:
        for size in (0, 16):
            with raises_errno(errno.EOPNOTSUPP):
                sock.recv(size)


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@each_keyed_type
def test_reading_without_a_key_is_enokey(subject: Subject) -> None:
    """hash_recvmsg_nokey and its like check the key before anything else, so even a read of no bytes is ENOKEY."""
    with subject.open_without_key() as transform:
        for size in (0, 64):
            for flags in (0, MSG_DONTWAIT):
                with raises_errno(errno.ENOKEY):
                    transform.op.recv(size, flags)
        transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)


@returns("hash-refuses")
@pytest.mark.parametrize(
    ("name", "key", "size", "error"),
    [("poly1305", None, 31, errno.ENOKEY), ("vmac64(aes)", KEY, 15, errno.EINVAL)],
    ids=["poly1305", "vmac64"],
)
def test_hash_of_a_message_too_short_for_it(name: str, key: bytes | None, size: int, error: int) -> None:
    """Poly1305's one-time key and VMAC's nonce come before the message; without them there is no digest.

    Source: RFC 8439 2.5; crypto/vmac.c.
    """
    with need(Hash, name, key) as h:
        for data in (bytes(size), b"", bytes(1)):
            with h.tfm.accept() as op, raises_errno(error):
                op.send(data)
                op.recv(16)
        with h.tfm.accept() as op, raises_errno(error):
            op.recv(16)
        with h.tfm.accept() as op:
            op.send(bytes(size), MSG_MORE)
            with raises_errno(error, why="the end of a message in parts"):
                op.send(b"")
        assert len(h.digest(bytes(size + 1))) >= 8


@returns("rng-generate")
def test_generator_without_a_seed_is_einval() -> None:
    """A DRBG wants ALG_SET_KEY first, though its bytes may be none."""
    with need(Rng, "stdrng") as rng:
        with raises_errno(errno.EINVAL):
            rng.op.recv(16)
        rng.close()
    with need(Rng, "stdrng", b"") as rng:
        assert len(rng.read(16)) == 16


# Buffers -------------------------------------------------------------------------------------------------------------


@returns("recv-fault")
@each_queued_type
@pytest.mark.parametrize("where", ["null", "unmapped", "read-only", "second-buffer", "second-page"])
def test_result_into_bad_memory_is_efault_and_keeps_the_request(subject: Subject, where: str) -> None:
    """af_alg_get_rsgl pins the caller's pages before af_alg_pull_tsgl takes any input away."""
    size = len(subject.result or b"")
    with subject.open() as transform, Memory(1, PROT_NONE, PROT_READ) as memory:
        targets = {
            "null": [Pointer(0, size)],
            "unmapped": [memory.pointer(4096, size)],
            "read-only": [memory.pointer(8192, size)],
            "second-buffer": [memory.pointer(0, 16), memory.pointer(4096, size - 16)],
            "second-page": [memory.pointer(0, 16), memory.pointer(8192 + 100, size - 16)],
        }
        subject.begin(transform.op)
        for flags in (0, MSG_DONTWAIT):
            with raises_errno(errno.EFAULT):
                transform.op.recvmsg(targets[where], flags=flags)
        subject.finish(transform.op)
        subject.works(transform.op)


@returns("hash-recv-fault")
@pytest.mark.parametrize("protection", [PROT_NONE, PROT_READ], ids=["unmapped", "read-only"])
def test_digest_into_bad_memory_is_efault_and_gone(protection: int) -> None:
    """hash_recvmsg finishes the digest, and frees it also when memcpy_to_msg fails (crypto/algif_hash.c)."""
    with HASH.open() as h, Memory(0, protection) as memory:
        nothing = h.op.recv(32)
        for send in (lambda: HASH.begin(h.op), lambda: HASH.begin(h.op, MSG_MORE)):
            send()
            with raises_errno(errno.EFAULT):
                h.op.recvmsg([memory.pointer(0, 32)])
            assert h.op.recv(32) == nothing
        HASH.works(h.op)


@returns("rng-recv-fault")
def test_random_bytes_into_bad_memory_is_efault() -> None:
    """memcpy_to_msg in _rng_recvmsg (crypto/algif_rng.c) fails; the generator goes on."""
    with RNG.open() as rng, Memory(0, PROT_NONE) as memory:
        for pointer in (Pointer(0, 16), memory.pointer(0, 16)):
            with raises_errno(errno.EFAULT):
                rng.op.recvmsg([pointer])
        RNG.works(rng.op)


@returns("recvmsg-generic")
@each_type
def test_impossible_vectors_of_buffers(subject: Subject) -> None:
    """recvmsg(2): more than UIO_MAXIOV is EMSGSIZE, a negative length EINVAL (net/socket.c, lib/iov_iter.c)."""
    with subject.open() as transform, Memory(1) as memory:
        with raises_errno(errno.EMSGSIZE):
            transform.op.recvmsg([memory.pointer(0, 1)] * 1025)
        with raises_errno(errno.EINVAL):
            transform.op.recvmsg([memory.pointer(0, 2**63)])
        if probes.refuses_compat_flag():
            with raises_errno(errno.EINVAL):
                transform.op.recvmsg([memory.pointer(0, 16)], flags=probes.MSG_CMSG_COMPAT)
        subject.works(transform.op)


@each_queued_type
def test_empty_buffers_between_others_are_passed_over(subject: Subject) -> None:
    """readv(2): an iov_len of 0 is passed over by iov_iter, a NULL pointer in it too (af_alg_get_rsgl)."""
    result = subject.result or b""
    with subject.open() as transform, Memory(1) as memory:
        subject.begin(transform.op)
        halves = [memory.pointer(0, 0), memory.pointer(0, 17), Pointer(0, 0), memory.pointer(17, len(result) - 17)]
        assert transform.op.recvmsg(halves).size == len(result)
        assert memory.read(0, len(result)) == result


@each_queued_type
def test_overlapping_buffers_give_no_error(subject: Subject) -> None:
    """What is in them is the caller's fault; the next request is right (af_alg_get_rsgl)."""
    with subject.open() as transform, Memory(1) as memory:
        subject.begin(transform.op)
        size = len(subject.result or b"") // 2
        assert transform.op.recvmsg([memory.pointer(0, size), memory.pointer(0, size)]).size == 2 * size
        subject.works(transform.op)


IGNORED = {
    "oob": socket.MSG_OOB,
    "peek": socket.MSG_PEEK,
    "trunc": socket.MSG_TRUNC,
    "waitall": socket.MSG_WAITALL,
    "errqueue": socket.MSG_ERRQUEUE,
    "dontwait": MSG_DONTWAIT,
    "cmsg-cloexec": socket.MSG_CMSG_CLOEXEC,
}


@each_keyed_type
@pytest.mark.parametrize("flag", IGNORED.values(), ids=IGNORED.keys())
def test_flag_has_no_effect(subject: Subject, flag: int) -> None:
    """With MSG_PEEK the result is gone afterwards as without."""
    result = subject.result or b""
    with subject.open() as transform:
        for _ in range(2):
            subject.begin(transform.op)
            assert transform.op.recv(len(result), flag) == result


@each_type
def test_no_control_data_and_no_flags_come_back(subject: Subject) -> None:
    """No recvmsg of algif_*.c calls put_cmsg; MSG_TRUNC is for short digests alone (hash_recvmsg)."""
    with subject.open() as transform:
        if subject.result is not None:
            subject.begin(transform.op)
        buffer = bytearray(len(subject.result or bytes(16)))
        got = transform.op.recvmsg([buffer], control=256)
        assert (got.size, got.flags, got.control) == (len(buffer), 0, b"")
        assert buffer == subject.result if subject.result else any(buffer)


@pytest.mark.parametrize("size", [0, 1, 31])
def test_short_read_of_a_digest_is_marked_and_takes_all(size: int) -> None:
    """MSG_TRUNC in the message's flags (recvmsg(2)); the rest of the digest is lost."""
    with HASH.open() as h:
        nothing = h.op.recv(32)
        HASH.begin(h.op)
        buffer = bytearray(size)
        got = h.op.recvmsg([buffer])
        assert (got.size, bool(got.flags & MSG_TRUNC)) == (size, True)
        assert buffer == (HASH.result or b"")[:size]
        assert h.op.recv(32) == nothing


@each_queued_type
def test_read_of_nothing_does_nothing(subject: Subject) -> None:
    """skcipher_recvmsg and aead_recvmsg loop while msg_data_left: of no room they neither wait nor take the request."""
    with subject.open() as transform:
        assert transform.op.recv(0) == b""
        subject.begin(transform.op)
        assert transform.op.recv(0) == b""
        assert os.read(transform.op.fd, 0) == b""
        subject.finish(transform.op)


# Sizes ---------------------------------------------------------------------------------------------------------------


@returns("skcipher-below-block")
@pytest.mark.parametrize("size", [1, 10, 15])
def test_room_for_less_than_a_block_does_nothing(size: int) -> None:
    """EINVAL; 0 bytes on Linux 5.10. The request stays whole."""
    with SKCIPHER.open() as cipher:
        SKCIPHER.begin(cipher.op)
        got: list[bytes] = []
        error = outcome(lambda: got.append(cipher.op.recv(size)))
        assert (error, got) in ((errno.EINVAL, []), (0, [b""]))
        SKCIPHER.finish(cipher.op)


@returns("skcipher-refuses", "wait-for-data")
@pytest.mark.parametrize("size", [1, 15, 17, 31, 4095])
def test_partial_block_of_cbc_is_einval(size: int) -> None:
    """The request is used up by it (crypto_cbc_encrypt in crypto/cbc.c; after af_alg_pull_tsgl)."""
    with SKCIPHER.open() as cipher:
        for operation in (ALG_OP_ENCRYPT, ALG_OP_DECRYPT):
            with raises_errno(errno.EINVAL):
                cipher.crypt(operation, bytes(size), bytes(16))
            with raises_errno(errno.EAGAIN):
                cipher.op.recv(16, MSG_DONTWAIT)
        SKCIPHER.works(cipher.op)


@returns("skcipher-refuses")
@pytest.mark.parametrize("size", [1, 8, 15])
@pytest.mark.parametrize(("name", "key"), [("xts(aes)", 64), ("cts(cbc(aes))", 16)])
def test_less_than_a_block_of_a_stealing_mode_is_einval(name: str, key: int, size: int) -> None:
    """xts_init_crypt (crypto/xts.c; IEEE 1619) and crypto_cts_encrypt (crypto/cts.c) need a block to steal from."""
    with need(Skcipher, name, bytes(range(key))) as cipher:
        with raises_errno(errno.EINVAL):
            cipher.encrypt(bytes(size), bytes(16))
        expected = skciphers.crypt(name, bytes(range(key)), bytes(16), bytes(17))
        assert cipher.encrypt(bytes(17), bytes(16)) == expected


@returns("aead-bad-tag", "aead-refuses", "wait-for-data")
@pytest.mark.parametrize("part", ["ciphertext", "tag", "aad", "iv"])
def test_one_flipped_bit_is_ebadmsg(part: str) -> None:
    """The request is used up by it, and the next is right (af_alg_pull_tsgl comes first, _aead_recvmsg)."""
    with need(Aead, "gcm(aes)", KEY) as aead:
        good = aead.encrypt(b"secret", AAD, IV)
        sealed, aad, iv = bytearray(good), bytearray(AAD), bytearray(IV)
        changed = {"ciphertext": (sealed, 0), "tag": (sealed, -1), "aad": (aad, 0), "iv": (iv, 0)}
        field, at = changed[part]
        field[at] ^= 1
        for _ in range(2):
            with raises_errno(errno.EBADMSG):
                aead.decrypt(bytes(sealed), bytes(aad), bytes(iv))
            with raises_errno(errno.EAGAIN):
                aead.op.recv(16, MSG_DONTWAIT)
        assert aead.decrypt(good, AAD, IV) == b"secret"


@returns("aead-bad-tag")
def test_bad_tag_after_a_good_message_in_one_read() -> None:
    """EBADMSG, and not the number of bytes of the first (aead_recvmsg): one read, two messages, the second forged."""
    with need(Aead, "gcm(aes)", KEY) as aead, aead.tfm.accept() as op:
        control = set_op(ALG_OP_DECRYPT) + set_assoclen(0) + set_iv(IV)
        good, results = aead.encrypt(b"sixteen bytes ..", b"", IV), []
        reader = threading.Thread(target=lambda: results.append(outcome(lambda: op.recv(64, seconds=60))))
        reader.start()
        wait_until_inside_a_call(reader, op)
        op.sendmsg([good], control)
        end = time.monotonic() + 60
        # Refused as long as the reader has not taken the first.
        while (refused := outcome(lambda: op.sendmsg([bytes(32)], control))) and time.monotonic() < end:
            assert refused in (errno.EINVAL, errno.EBUSY)
        reader.join(60)
        assert results == [errno.EBADMSG]
        op.sendmsg([good], control)
        assert op.recv(16) == b"sixteen bytes .."


@returns("aead-too-short")
@pytest.mark.parametrize(
    ("operation", "assoclen", "size"),
    [
        (ALG_OP_ENCRYPT, 17, 16),
        (ALG_OP_ENCRYPT, 1, 0),
        (ALG_OP_ENCRYPT, 0x7FFFFFFF, 16),
        (ALG_OP_DECRYPT, 0, 15),
        (ALG_OP_DECRYPT, 16, 31),
        (ALG_OP_DECRYPT, 20, 16),
    ],
)
def test_message_shorter_than_its_aad_and_tag_is_einval(operation: int, assoclen: int, size: int) -> None:
    """It can neither be read nor added to; other op sockets are not concerned (aead_sufficient_data)."""
    with AEAD.open() as aead, aead.tfm.accept() as other:
        control = set_op(operation) + set_assoclen(assoclen) + set_iv(IV)
        aead.op.sendmsg([bytes(size)], control)
        for _ in range(2):
            with raises_errno(errno.EINVAL):
                aead.op.recv(64)
        if size:
            with raises_errno(errno.EINVAL):
                AEAD.begin(aead.op)
        AEAD.works(other)


@returns("aead-no-room")
@pytest.mark.parametrize("size", [1, 4, 15])
def test_room_for_less_than_tag_and_aad_is_einval_and_keeps_the_request(size: int) -> None:
    """Payload can be cut to the room, but tag and AAD cannot (_aead_recvmsg)."""
    plaintext, aad = b"sixteen bytes ..", bytes(8)
    with AEAD.open() as aead:
        expected = aad + aeads.seal(AEAD.name, AEAD.key or b"", IV, aad, plaintext, 16)
        aead.op.sendmsg([aad, plaintext], set_op(ALG_OP_ENCRYPT) + set_assoclen(8) + set_iv(IV))
        with raises_errno(errno.EINVAL):
            aead.op.recv(size)
        assert aead.op.recv(40) == expected


@returns("aead-refuses")
@pytest.mark.parametrize("first", [0, 8, 255])
def test_ccm_refuses_impossible_lengths_of_its_length(first: int) -> None:
    """RFC 3610: the IV begins with L - 1, which is 1 to 7."""
    with need(Aead, "ccm(aes)", KEY) as aead:
        with raises_errno(errno.EINVAL):
            aead.encrypt(bytes(16), b"", bytes([first]) + bytes(15))
        iv = bytes([3]) + bytes(15)
        assert aead.encrypt(b"text", b"", iv) == aeads.seal("ccm(aes)", KEY, iv, b"", b"text", 16)


@returns("aead-refuses")
def test_ccm_refuses_a_message_longer_than_its_length_can_say() -> None:
    """RFC 3610: with L = 2, 65535 bytes are the most; the kernel, which lets one more pass, says EOVERFLOW."""
    with need(Aead, "ccm(aes)", KEY) as aead:
        iv = bytes([1]) + bytes(15)
        longest = bytes(65535)
        assert aead.encrypt(longest, b"", iv) == aeads.seal("ccm(aes)", KEY, iv, b"", longest, 16)
        with raises_errno(errno.EOVERFLOW):
            aead.encrypt(bytes(65537), b"", iv)
        assert aead.encrypt(b"text", b"", iv) == aeads.seal("ccm(aes)", KEY, iv, b"", b"text", 16)


def test_rng_gives_at_most_128_bytes() -> None:
    """MAXSIZE in crypto/algif_rng.c: the rest of a longer buffer, or of several, is left as it was."""
    with RNG.open() as rng, Memory(1) as memory:
        assert len(rng.op.recv(129)) == 128
        assert rng.op.recvmsg([memory.pointer(0, 100), memory.pointer(100, 100)]).size == 128
        assert rng.op.recv(0) == b""
