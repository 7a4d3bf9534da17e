"""The interface as it was first proposed, statement by statement, in its order.

Herbert Xu, "RFC: Crypto API User-interface", linux-crypto and netdev, 7 September 2010; and Tomas Mraz' answer of the
same day. Each test says of one statement whether it became ABI, changed, or was dropped.
"""

from __future__ import annotations

import errno
import os
import socket

import pytest

from tests.afalg import Aead, Hash, Pipe, Skcipher, Socket, set_assoclen, set_iv, set_op, splice
from tests.afalg import constants as c
from tests.afalg.buffers import set_receive_buffer, set_send_buffer
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE, SPLICE_F_MORE, SPLICE_F_MOVE
from tests.afalg.netlink import CryptoNetlink
from tests.errors.raises import raises_errno
from tests.errors.subjects import HASH
from tests.need import need
from tests.oracle import aeads, hashes, skciphers
from tests.splice.files import tmpfs_file

KEY, NONCE, AD, PLAIN = bytes(range(16)), bytes([1]) + bytes(15), b"associated data", bytes(range(48))
ENCRYPT = set_op(ALG_OP_ENCRYPT) + set_iv(NONCE) + set_assoclen(len(AD))
DECRYPT = set_op(ALG_OP_DECRYPT) + set_iv(NONCE) + set_assoclen(len(AD))


def ccm() -> Aead:
    return need(Aead, "ccm(aes)", KEY)


def sealed() -> bytes:
    return aeads.seal("ccm(aes)", KEY, NONCE, AD, PLAIN, 16)


def test_configuration_is_another_interface(crypto: CryptoNetlink) -> None:
    """Proposed: "a separate interface (most likely netlink) for configuring crypto algorithms". Became ABI:
    NETLINK_CRYPTO."""
    ccm().close()
    assert crypto.get(name="ccm(aes)").kind == "aead"


# For AEAD ------------------------------------------------------------------------------------------------------------


def test_socket_is_seqpacket() -> None:
    """Proposed: socket(AF_ALG, SOCK_STREAM, 0). Changed: SOCK_SEQPACKET, and SOCK_STREAM is refused."""
    with raises_errno(errno.ESOCKTNOSUPPORT):
        Socket.create(socket.SOCK_STREAM)
    Socket.create(socket.SOCK_SEQPACKET).close()


def test_bind_names_type_and_algorithm() -> None:
    """Proposed: the address holds type "aead" and name "ccm(aes)". Became ABI."""
    need(Aead, "ccm(aes)").close()
    with Socket.create() as tfm:
        tfm.bind("aead", "ccm(aes)")
        tfm.set_key(KEY)
        with tfm.accept() as op:
            op.sendmsg([AD, PLAIN], ENCRYPT)
            assert op.recv(len(AD) + len(PLAIN) + 16) == AD + sealed()


def test_key_is_an_option_of_the_tfm_socket() -> None:
    """Proposed: an option for the key of each type, ALG_AEAD_SET_KEY. Changed: one, ALG_SET_KEY, for all types."""
    with need(Aead, "ccm(aes)") as aead:
        aead.tfm.setsockopt(c.ALG_SET_KEY, KEY)
        aead.op.sendmsg([AD, PLAIN], ENCRYPT)
        assert aead.op.recv(len(AD) + len(PLAIN) + 16) == AD + sealed()


def test_listen_is_not_needed() -> None:
    """Proposed: listen, then accept. Dropped: listen is EOPNOTSUPP, accept works without."""
    with ccm() as aead:
        python = socket.socket(c.AF_ALG, c.SOCK_SEQPACKET, 0, fileno=os.dup(aead.tfm.fd))
        with python, raises_errno(errno.EOPNOTSUPP):
            python.listen(0)
        aead.tfm.accept().close()


def test_two_accepts_are_two_operations() -> None:
    """Proposed: a second descriptor carries the associated data. Changed: it is an operation of its own."""
    with ccm() as aead, aead.tfm.accept() as first, aead.tfm.accept() as second:
        first.sendmsg([AD, PLAIN], ENCRYPT)
        with raises_errno(errno.EAGAIN):
            second.recv(16, MSG_DONTWAIT)
        second.sendmsg([AD, sealed()], DECRYPT)
        assert first.recv(len(AD) + len(PLAIN) + 16) == AD + sealed()
        assert second.recv(len(AD) + len(PLAIN)) == AD + PLAIN


def test_associated_data_goes_before_the_plaintext() -> None:
    """Proposed: written to its own descriptor. Changed: the same stream, its length a control message; and it is
    given back before the result."""
    with ccm() as aead:
        aead.op.sendmsg([AD], ENCRYPT, MSG_MORE)
        aead.op.send(PLAIN)
        assert aead.op.recv(len(AD) + len(PLAIN) + 16) == AD + sealed()


def test_operation_and_iv_are_no_options_of_the_op_socket() -> None:
    """Proposed: setsockopt on the op socket. Dropped: an op socket has no options."""
    with ccm() as aead:
        for option in (c.ALG_SET_OP, c.ALG_SET_IV):
            with raises_errno(errno.EOPNOTSUPP):
                aead.op.setsockopt(option, bytes(4))


def test_operation_and_iv_are_control_messages() -> None:
    """Proposed: "may also be set through sendmsg(2) cmsgs". Became ABI, and the only way."""
    with ccm() as aead:
        aead.op.sendmsg([AD, sealed()], DECRYPT)
        assert aead.op.recv(len(AD) + len(PLAIN)) == AD + PLAIN


@pytest.mark.parametrize(("kind", "name"), [(Skcipher, "cbc(aes)"), (Aead, "ccm(aes)")], ids=["skcipher", "aead"])
def test_large_writes_block(kind: type[Skcipher] | type[Aead], name: str) -> None:
    """Proposed: "Like pipes, large writes will block". Became ABI: what does not fit is not taken."""
    with need(kind, name, KEY) as transform:
        taken = transform.op.send(bytes(1 << 20), MSG_DONTWAIT | MSG_MORE)
        assert 0 < taken < 1 << 20


def test_buffer_must_hold_the_message_of_an_aead() -> None:
    """Proposed: "For AEAD, ensure the socket buffer is large enough". Became ABI: SO_SNDBUF."""
    data = bytes(300_000)
    control = set_op(ALG_OP_ENCRYPT) + set_iv(NONCE[:12]) + set_assoclen(0)
    with need(Aead, "gcm(aes)", KEY) as aead, aead.tfm.accept() as large:
        assert aead.op.sendmsg([data], control, MSG_DONTWAIT | MSG_MORE) < len(data)
        set_send_buffer(large, 1 << 20, force=True)
        set_receive_buffer(large, 1 << 20, force=True)
        assert large.sendmsg([data], control, MSG_DONTWAIT) == len(data)
        assert large.recv(len(data) + 16) == aeads.seal("gcm(aes)", KEY, NONCE[:12], b"", data, 16)


def test_reading_makes_room_for_a_cipher() -> None:
    """Proposed: "For ciphers, whenever the write blocks start reading". Became ABI."""
    data = bytes(range(256)) * 4096
    expected = skciphers.crypt("ctr(aes)", KEY, bytes(16), data[:524288])
    with need(Skcipher, "ctr(aes)", KEY) as cipher:
        cipher.op.sendmsg([], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)), MSG_MORE)
        sent, got = 0, b""
        while len(got) < len(expected):
            sent += cipher.op.send(data[sent : min(sent + 65536, len(expected))], MSG_MORE)
            got += cipher.op.recv(sent - len(got))
        assert got == expected


def test_writes_to_a_hash_never_block() -> None:
    """Proposed: "For hashes, writes should never block". Became ABI: any size is taken at once."""
    data = bytes(1 << 20)
    with need(Hash, "sha256") as h:
        assert h.op.send(data, MSG_DONTWAIT) == len(data)
        assert h.op.recv(32) == hashes.digest("sha256", data)


def test_first_read_triggers_the_operation() -> None:
    """Became ABI, as far as can be seen: after the read the room is free, and not before."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        set_send_buffer(cipher.op, 4096)
        cipher.op.sendmsg([bytes(4096)], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)), MSG_MORE)
        with raises_errno(errno.EAGAIN):
            cipher.op.send(bytes(16), MSG_DONTWAIT | MSG_MORE)
        assert cipher.op.recv(4096) == skciphers.crypt("cbc(aes)", KEY, bytes(16), bytes(4096))
        assert cipher.op.send(bytes(16), MSG_DONTWAIT | MSG_MORE) == 16


def test_failed_authentication_is_ebadmsg() -> None:
    """Proposed: read "returns -1 with errno EBADMSG if auth fails". Became ABI."""
    forged = sealed()[:-1] + bytes([sealed()[-1] ^ 1])
    with ccm() as aead, raises_errno(errno.EBADMSG):
        aead.decrypt(forged, AD, NONCE)


# Zero-copy -----------------------------------------------------------------------------------------------------------


def test_splice_in_several_calls() -> None:
    """Proposed: splice with SPLICE_F_MOVE, split by SPLICE_F_MORE. Became ABI; since 2026 the pages are copied."""
    data = bytes(i % 251 for i in range(3 * 4096))
    with need(Skcipher, "cbc(aes)", KEY) as cipher, tmpfs_file(data) as file, Pipe() as pipe:
        # Linux 5.10 begins no request by a splice alone.
        cipher.op.sendmsg([], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)), MSG_MORE)
        for at, flags in (
            (0, SPLICE_F_MOVE | SPLICE_F_MORE),
            (4096, SPLICE_F_MOVE | SPLICE_F_MORE),
            (8192, SPLICE_F_MOVE),
        ):
            assert splice(file, pipe.write_end, 4096, offset_in=at) == 4096
            assert splice(pipe.read_end, cipher.op, 4096, flags) == 4096
        assert cipher.op.recv(len(data)) == skciphers.crypt("cbc(aes)", KEY, bytes(16), data)


def test_associated_data_by_splice() -> None:
    """Proposed: spliced into its own descriptor. Changed: the same stream, before the plaintext."""
    with ccm() as aead, tmpfs_file(AD + PLAIN) as file, Pipe() as pipe:
        aead.op.sendmsg([], ENCRYPT, MSG_MORE)
        for at, size, flags in ((0, len(AD), SPLICE_F_MOVE | SPLICE_F_MORE), (len(AD), len(PLAIN), SPLICE_F_MOVE)):
            assert splice(file, pipe.write_end, size, offset_in=at) == size
            assert splice(pipe.read_end, aead.op, size, flags) == size
        assert aead.op.recv(len(AD) + len(PLAIN) + 16) == AD + sealed()


def test_reading_is_copy_only() -> None:
    """Proposed: "For now reading is copy-only". Became ABI: a splice out gives the pipe pages of its own."""
    with need(Skcipher, "cbc(aes)", KEY) as cipher, Pipe() as pipe:
        cipher.op.sendmsg([bytes(4096)], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        assert splice(cipher.op, pipe.write_end, 4096) == 4096
        cipher.op.sendmsg([b"\xff" * 4096], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        cipher.op.recv(4096)
        assert os.read(pipe.read_end, 4096) == skciphers.crypt("cbc(aes)", KEY, bytes(16), bytes(4096))


# The rest ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["comp", "compress", "scomp", "acomp"])
def test_there_is_no_compression(type_: str) -> None:
    """Proposed: "Ciphers/compression are pretty much the same". Dropped: no such type was ever made."""
    with Socket.create() as tfm, raises_errno(errno.ENOENT):
        tfm.bind(type_, "deflate")


def test_keyed_hash() -> None:
    """Proposed: type "hash", name "xcbc(aes)", with a key. Became ABI."""
    with need(Hash, "xcbc(aes)", KEY) as h:
        assert h.digest(PLAIN) == hashes.digest("xcbc(aes)", PLAIN, KEY)


def test_more_prevents_finalisation() -> None:
    """Proposed: send with MSG_MORE. Became ABI."""
    with need(Hash, "xcbc(aes)", KEY) as h:
        h.op.send(PLAIN[:10], MSG_MORE)
        h.op.send(PLAIN[10:])
        assert h.op.recv(16) == hashes.digest("xcbc(aes)", PLAIN, KEY)


def test_reading_early_gives_the_digest_and_no_state() -> None:
    """Proposed: read "reads partial hash state". Dropped: the read ends the message."""
    with need(Hash, "sha256") as h:
        h.op.send(PLAIN, MSG_MORE)
        assert h.op.recv(512) == hashes.digest("sha256", PLAIN)
        h.op.send(PLAIN)
        assert h.op.recv(512) == hashes.digest("sha256", PLAIN)


def test_out_of_band_data_is_data() -> None:
    """Proposed: send with MSG_OOB restores a state. Dropped: the flag is ignored."""
    with need(Hash, "sha256") as h:
        h.op.send(PLAIN, socket.MSG_OOB)
        assert h.op.recv(32) == hashes.digest("sha256", PLAIN)


def test_empty_send_finalises() -> None:
    """Proposed: send of no data, no flags. Became ABI."""
    with need(Hash, "sha256") as h:
        h.op.send(PLAIN, MSG_MORE)
        assert h.op.send(b"") == 0
        assert h.op.recv(32) == hashes.digest("sha256", PLAIN)


# The answer ----------------------------------------------------------------------------------------------------------


def test_hash_state_is_duplicated_by_accept() -> None:
    """Asked: "one of frequent hash operations is duplicating the internal hash state". Became ABI: accept on the op
    socket gives a copy, and both go on by themselves."""
    with HASH.open() as h:
        h.op.send(HASH.message[:9], MSG_MORE)
        with h.op.accept() as copy:
            copy.send(b"something else")
            both = HASH.message[:9] + b"something else"
            assert copy.recv(32) == hashes.digest(HASH.name, both, HASH.key)
            h.op.send(HASH.message[9:])
            HASH.finish(h.op)


def test_descriptors_and_calls_of_an_operation() -> None:
    """Objected: many system calls and three descriptors a context. Changed: two descriptors, and once they are
    there two calls an operation, whatever its type."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with ccm() as aead:
        op = aead.op
        assert len(os.listdir("/proc/self/fd")) == before + 2  # noqa: PTH208
        for _ in range(3):
            assert op.sendmsg([AD, PLAIN], ENCRYPT) == len(AD) + len(PLAIN)
            assert op.recv(len(AD) + len(PLAIN) + 16) == AD + sealed()
