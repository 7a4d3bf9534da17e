"""Programs as they are: their calls in their order, with their flags and lengths.

Each names the source it follows. What single calls do is tested elsewhere; here is what only a whole sequence shows.
"""

from __future__ import annotations

import errno
import hashlib
import os
import select
import struct

import pytest

from tests.afalg import Aead, Hash, Pipe, Skcipher, Socket, cmsg, sendfile, set_iv, set_op, sockaddr_alg, splice
from tests.afalg import constants as c
from tests.afalg.aio import IOCB_CMD_PREAD, Iocb
from tests.afalg.constants import SIZEOF_SOCKADDR_ALG
from tests.afalg.memory import PAGE, Memory
from tests.afalg.pipes import vmsplice
from tests.errors.raises import outcome, raises_errno
from tests.errors.subjects import AEAD, SKCIPHER
from tests.need import need, need_aio
from tests.oracle import hashes, skciphers
from tests.splice.files import tmpfs_file

KEY, IV = bytes(range(16)), bytes(range(0x30, 0x40))
SPLICE_F_GIFT = 8
DATA = bytes(i * 11 % 253 for i in range(5 * PAGE))


CHECKED = [
    ("skcipher", "xts(aes)", 64),
    ("skcipher", "cbc(aes)", 32),
    ("aead", "rfc7539(chacha20,poly1305)", 32),
    ("aead", "gcm(aes)", 32),
    ("aead", "ccm(aes)", 32),
]


@pytest.mark.parametrize(("type_", "name", "size"), CHECKED, ids=[name for _, name, _ in CHECKED])
def test_cryptsetup_asks_whether_a_cipher_is_there(type_: str, name: str, size: int) -> None:
    """crypt_cipher_check_kernel (lib/crypto_backend/crypto_cipher_kernel.c): bind, then a key of 0xab bytes.

    The first byte is another one, for the sake of weak keys and of xts, whose halves must differ.
    """
    need({"skcipher": Skcipher, "aead": Aead}[type_], name).close()
    key = b"\xef" + b"\xab" * (size - 1)
    with Socket.create() as tfm:
        tfm.bind_raw(sockaddr_alg(type_, name), SIZEOF_SOCKADDR_ALG)
        tfm.set_key(key)
        for wrong in (size - 1, size + 1):
            with raises_errno(errno.EINVAL, why=f"key of {wrong} bytes"):
                tfm.set_key(key[:wrong].ljust(wrong, b"\xab"))


def test_cryptsetup_fills_the_name_to_its_end() -> None:
    """64 bytes without a NUL, as strncpy leaves a name that is too long: the last byte is lost, and nothing found.

    Source: strncpy(3); alg_bind.
    """
    need(Hash, "sha256").close()
    with Socket.create() as tfm:
        with raises_errno(errno.ENOENT):
            tfm.bind_raw(sockaddr_alg("hash", "sha256" + "x" * 58)[:SIZEOF_SOCKADDR_ALG], SIZEOF_SOCKADDR_ALG)
        tfm.bind_raw(sockaddr_alg("hash", "sha256"), SIZEOF_SOCKADDR_ALG)
        with tfm.accept() as op:
            op.send(b"abc")
            assert op.recv(32) == hashes.digest("sha256", b"abc")


@pytest.mark.parametrize("operation", [c.ALG_OP_ENCRYPT, c.ALG_OP_DECRYPT], ids=["encrypt", "decrypt"])
def test_cryptsetup_crypts_a_sector(operation: int) -> None:
    """_crypt_cipher_crypt: cmsg_len of the IV is CMSG_SPACE, of the operation CMSG_LEN; read(2) gives the result."""
    key, sector = KEY + bytes(range(50, 66)), DATA[:512]
    need(Skcipher, "xts(aes)").close()
    expected = skciphers.crypt("xts(aes)", key, IV, sector, decrypt=operation == c.ALG_OP_DECRYPT)
    padded = struct.pack("@I", 16) + IV + bytes(4)
    control = set_op(operation) + cmsg(c.SOL_ALG, c.ALG_SET_IV, padded)
    with need(Skcipher, "xts(aes)", key) as cipher:
        for _ in range(3):
            assert cipher.op.sendmsg([sector], control) == 512
            assert os.read(cipher.op.fd, 512) == expected


def test_openssl_engine() -> None:
    """afalg_create_sk, afalg_set_key, afalg_start_cipher_sk, afalg_fin_cipher_aio (engines/e_afalg.c of OpenSSL 3).

    The op socket is there before the key; control data goes alone; pages are given away and spliced; the result comes
    by io_submit and an eventfd, again as long as that says EBUSY; the next IV is the last block.
    """
    need(Skcipher, "cbc(aes)").close()
    pipe = Pipe()
    with Socket.bound("skcipher", "cbc(aes)") as tfm, tfm.accept() as op, Memory(1) as memory, need_aio(1) as context:
        tfm.set_key(KEY)
        counter, iv = os.eventfd(0, os.EFD_CLOEXEC), IV
        for turn in range(3):
            plaintext = DATA[turn * 1024 : turn * 1024 + 1024]
            memory.write(0, plaintext)
            op.sendmsg([], set_op(c.ALG_OP_ENCRYPT) + set_iv(iv))
            assert vmsplice(pipe.write_end, [memory.pointer(0, 1024)], SPLICE_F_GIFT) == 1024
            assert splice(pipe.read_end, op, 1024) == 1024
            result = bytearray(1024)
            answer = -errno.EBUSY
            while answer == -errno.EBUSY:
                context.submit([Iocb(op.fd, IOCB_CMD_PREAD, result, eventfd=counter)])
                assert select.select([counter], [], [], 20)[0], "the eventfd is told of no completion"
                assert os.eventfd_read(counter) == 1
                ((_, answer),) = context.events(1, 1)
            assert answer == 1024
            assert result == skciphers.crypt("cbc(aes)", KEY, iv, plaintext)
            iv = bytes(result[-16:])
        os.close(counter)
    pipe.close()


def test_ell_binds_one_socket_to_one_name_after_the_other() -> None:
    """init_supported (ell/cipher.c, checksum.c): one socket, all names of skcipher and then aead, none unbound.

    A name that is not there leaves what was bound before.
    """
    SKCIPHER.open().close()
    AEAD.open().close()
    names = [("skcipher", n) for n in ("ecb(aes)", "cbc(aes)", "ctr(aes)", "ecb(arc4)", "cbc(des)", "cbc(des3_ede)")]
    names += [("aead", "ccm(aes)"), ("aead", "gcm(aes)")]
    with Socket.create() as tfm:
        for _ in range(2):
            for type_, name in names:
                assert outcome(lambda: tfm.bind(type_, name)) in (0, errno.ENOENT), name  # noqa: B023
            for subject in (AEAD, SKCIPHER):
                tfm.bind(subject.type_, subject.name)
                tfm.set_key(subject.key or b"")
                with raises_errno(errno.ENOENT):
                    tfm.bind(subject.type_, "no-such-algorithm")
                with tfm.accept() as op:
                    subject.works(op)


@pytest.mark.parametrize("size", [0, 1, 4096, 65536, 70001, 300001])
def test_iproute2_hashes_a_file_by_one_sendfile(size: int) -> None:
    """bpf_obj_hash (lib/bpf_legacy.c): sendfile(2) of the whole file into sha1, then 20 bytes are read."""
    content = (DATA * (size // len(DATA) + 1))[:size]
    with need(Hash, "sha1") as h, tmpfs_file(content) as file:
        assert sendfile(h.op, file, size) == size
        assert os.read(h.op.fd, 20) == hashlib.sha1(content, usedforsecurity=False).digest()


def test_strongswan_hashes_by_pieces_and_reads_when_it_likes() -> None:
    """hash and reset of af_alg_ops (src/libstrongswan/plugins/af_alg): MSG_MORE, the end by an empty send, a recv."""
    key = KEY + KEY
    with need(Hash, "hmac(sha256)", key) as h:
        for message in (DATA[:100], DATA, b""):
            for at in range(0, len(message), 777):
                h.op.send(message[at : at + 777], c.MSG_MORE)
            h.op.send(b"")
            assert h.op.recv(32) == hashes.digest("hmac(sha256)", message, key)
        # Reset: what was begun is ended by a read that nobody looks at.
        h.op.send(b"begun", c.MSG_MORE)
        h.op.recv(32)
        assert h.digest(b"anew") == hashes.digest("hmac(sha256)", b"anew", key)


def test_hostapd_authenticates_a_vector() -> None:
    """linux_af_alg_hash_vector, omac1_aes_vector and aes_encrypt (src/crypto/crypto_linux.c).

    Every element is a send, all but the last with MSG_MORE; ecb(aes) takes blocks one by one without an IV.
    """
    elements = [b"", DATA[:1], DATA[1:17], b"", DATA[17:100]]
    for name, key in (("cmac(aes)", KEY), ("hmac(sha1)", KEY), ("sha256", None)):
        with need(Hash, name, key) as h:
            for number, element in enumerate(elements):
                h.op.send(element, c.MSG_MORE if number + 1 < len(elements) else 0)
            expected = hashes.digest(name, b"".join(elements), key)
            assert h.op.recv(len(expected)) == expected
    with need(Skcipher, "ecb(aes)", KEY) as cipher:
        for at in range(0, 96, 16):
            block = DATA[at : at + 16]
            cipher.op.sendmsg([block], set_op(c.ALG_OP_ENCRYPT))
            assert os.read(cipher.op.fd, 16) == skciphers.crypt("ecb(aes)", KEY, b"", block)


def test_qemu_writes_vectors_and_keeps_the_iv_for_one_request() -> None:
    """qcrypto_afalg_hash_hmac_bytesv and qcrypto_afalg_cipher_op (crypto/hash-afalg.c, cipher-afalg.c).

    A hash by writev(2), a digest by read(2), again and again on one op socket; the IV goes with each request.
    """
    vector = [DATA[:3], DATA[3:4000], DATA[4000:9000]]
    with need(Hash, "sha256") as h:
        for _ in range(3):
            assert os.writev(h.op.fd, vector) == 9000
            assert os.read(h.op.fd, 32) == hashlib.sha256(DATA[:9000]).digest()
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        for iv in (IV, KEY, IV):
            cipher.op.sendmsg([DATA[:512]], set_op(c.ALG_OP_ENCRYPT) + set_iv(iv))
            assert os.read(cipher.op.fd, 512) == skciphers.crypt("cbc(aes)", KEY, iv, DATA[:512])
