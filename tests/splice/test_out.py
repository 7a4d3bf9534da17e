"""splice(2) of a result from an op socket into a pipe."""

from __future__ import annotations

import errno
import os

from tests.afalg import Aead, Hash, Pipe, Rng, Skcipher, set_assoclen, set_iv, set_op, splice
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, hashes, skciphers

KEY, DATA = bytes(range(16)), bytes(i * 7 % 256 for i in range(4096))


def test_digest_into_a_pipe() -> None:
    with need(Hash, "sha256") as h, Pipe() as pipe:
        h.op.send(DATA)
        assert splice(h.op, pipe.write_end, 32) == 32
        assert os.read(pipe.read_end, 64) == hashes.digest("sha256", DATA)


def test_ciphertext_into_a_pipe() -> None:
    with need(Skcipher, "cbc(aes)", KEY) as cipher, Pipe() as pipe:
        cipher.op.sendmsg([DATA], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)))
        assert splice(cipher.op, pipe.write_end, len(DATA)) == len(DATA)
        assert os.read(pipe.read_end, len(DATA)) == skciphers.crypt("cbc(aes)", KEY, bytes(16), DATA)


def test_wrong_tag_gives_ebadmsg_and_an_empty_pipe() -> None:
    forged = bytearray(aeads.seal("gcm(aes)", KEY, bytes(12), b"", DATA, 16))
    forged[-1] ^= 1
    with need(Aead, "gcm(aes)", KEY) as aead, Pipe() as pipe:
        aead.op.sendmsg([forged], set_op(ALG_OP_DECRYPT) + set_assoclen(0) + set_iv(bytes(12)))
        with raises_errno(errno.EBADMSG):
            splice(aead.op, pipe.write_end, len(DATA))
        pipe.close_write()
        assert os.read(pipe.read_end, len(DATA)) == b""


def test_random_bytes_into_a_pipe() -> None:
    with need(Rng, "jitterentropy_rng") as rng, Pipe() as pipe:
        assert splice(rng.op, pipe.write_end, 32) == 32
        assert os.read(pipe.read_end, 64) != bytes(32)
