"""splice(2) of a file through a pipe into an op socket: the result is that of a send."""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Aead, Hash, Pipe, Rng, Skcipher, Socket, set_assoclen, set_iv, set_op, splice
from tests.afalg.constants import ALG_OP_ENCRYPT, MSG_MORE
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads, hashes, skciphers
from tests.splice.files import tmpfs_file

KEY, DATA = bytes(range(16)), bytes(i * 7 % 256 for i in range(8192))


@pytest.mark.parametrize(("name", "key"), [("sha256", None), ("hmac(sha256)", KEY)])
def test_hash_of_spliced_pages(name: str, key: bytes | None) -> None:
    with need(Hash, name, key) as h:
        splice_file_into(h.op, DATA)
        assert h.op.recv(64) == hashes.digest(name, DATA, key)


def test_skcipher_of_spliced_pages() -> None:
    with need(Skcipher, "cbc(aes)", KEY) as cipher:
        # A message before the splice: Linux before 6.5 starts no request by a splice alone.
        cipher.op.sendmsg([], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(16)), MSG_MORE)
        splice_file_into(cipher.op, DATA)
        assert cipher.op.recv(len(DATA)) == skciphers.crypt("cbc(aes)", KEY, bytes(16), DATA)


def test_aead_of_spliced_pages() -> None:
    aad, plaintext = DATA[:20], DATA[20:]
    with need(Aead, "gcm(aes)", KEY) as aead:
        control = set_op(ALG_OP_ENCRYPT) + set_assoclen(len(aad)) + set_iv(bytes(12))
        aead.op.sendmsg([], control, MSG_MORE)
        splice_file_into(aead.op, DATA)
        sealed = aeads.seal("gcm(aes)", KEY, bytes(12), aad, plaintext, 16)
        assert aead.op.recv(len(DATA) + 16) == aad + sealed


def test_splice_into_an_rng_is_eopnotsupp() -> None:
    with need(Rng, "jitterentropy_rng") as rng, raises_errno(errno.EOPNOTSUPP):
        splice_file_into(rng.op, DATA)


@pytest.mark.parametrize("name", ["hmac(sha256)"])
def test_splice_without_a_key_is_enokey(name: str) -> None:
    with need(Hash, name) as h, raises_errno(errno.ENOKEY):
        splice_file_into(h.op, DATA)


def splice_file_into(op: Socket, content: bytes) -> None:
    """Splice all of a fresh tmpfs file into ``op``, as the end of its message."""
    with tmpfs_file(content) as file, Pipe() as pipe:
        assert splice(file, pipe.write_end, len(content), offset_in=0) == len(content)
        assert splice(pipe.read_end, op, len(content)) == len(content)
