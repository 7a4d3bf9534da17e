"""Every skcipher, against an independent implementation."""

from __future__ import annotations

import errno
import itertools

import pytest

from tests.afalg import Skcipher, Socket, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_MORE
from tests.algorithms import catalogue
from tests.algorithms.cases import each_way, every
from tests.algorithms.catalogue import SkcipherRow
from tests.algorithms.catalogue.fips import refuses_key
from tests.algorithms.data import cut, data, lengths, longest
from tests.algorithms.independent import need_independent_requests
from tests.doctor.absence import fips_mode
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import skciphers

pytestmark = pytest.mark.usefixtures("everything_loaded")

_BOTH_WAYS = [row for row in catalogue.SKCIPHERS if not row.one_way]
every_skcipher = every(catalogue.SKCIPHERS)


@every_skcipher
def test_every_key_length(row: SkcipherRow) -> None:
    """Both directions, each with every key length that is accepted (skcipher_setkey, crypto/algif_skcipher.c)."""
    iv, plaintext = iv_of(row), cut(16 * 15)
    need_independent_requests(row.name)
    for size in row.keys:
        if fips_mode() and refuses_key(row.name, size):
            continue
        key = data(f"{row.name} key", size)
        with need(Skcipher, row.name, key) as cipher:
            expected = skciphers.crypt(row.name, key, iv, plaintext)
            which = f"{row.name} with a key of {size} bytes"
            assert cipher.encrypt(plaintext, iv).hex() == expected.hex(), which
            back = skciphers.kw_header(row.name, key, plaintext) if row.one_way else iv
            assert cipher.decrypt(expected, back).hex() == plaintext.hex(), f"{which}, decrypting"


@every(_BOTH_WAYS)
def test_every_length_of_message(row: SkcipherRow, thorough: bool) -> None:
    """Around blocks, pages and chunks of a walk (crypto/skcipher.c), in both directions: the result is the oracle's."""
    key, iv, block = key_of(row), iv_of(row), max(row.iv, 16)
    need_independent_requests(row.name)
    with need(Skcipher, row.name, key) as cipher:
        for size in lengths(row.name, row.unit, row.minimum, block, longest(row.name), thorough=thorough):
            plaintext = cut(size)
            expected = skciphers.crypt(row.name, key, iv, plaintext)
            assert cipher.encrypt(plaintext, iv) == expected, f"{row.name}, encrypting {size} bytes"
            assert cipher.decrypt(expected, iv) == plaintext, f"{row.name}, decrypting {size} bytes"


@every_skcipher
def test_lengths_that_are_refused(row: SkcipherRow) -> None:
    """Of a key, of an IV, of a message that is a partial block or less than the least: all EINVAL.

    Source: crypto_skcipher_setkey, af_alg_sendmsg, the mode's encrypt.
    """
    with need(Skcipher, row.name) as cipher:
        for size in row.refused:
            with raises_errno(errno.EINVAL):
                cipher.tfm.set_key(bytes(size))
        cipher.tfm.set_key(key_of(row))
        for size in {row.iv + 1, max(row.iv - 1, 0)} - {row.iv}:
            with raises_errno(errno.EINVAL):
                cipher.op.sendmsg([b""], set_op(ALG_OP_ENCRYPT) + set_iv(bytes(size)), MSG_MORE)
        wrong = {1, row.minimum - 1, row.unit + 1, 2 * row.unit - 1, 5 * row.unit + 1}
        for size in sorted(wrong):
            if size > 0 and (size % row.unit or size < row.minimum):
                with raises_errno(errno.EINVAL):
                    cipher.encrypt(cut(size), iv_of(row))


@each_way([row for row in _BOTH_WAYS if row.iv])
def test_iv_never_set_is_zero_and_set_again_replaces(row: SkcipherRow) -> None:
    """skcipher_accept_parent_nokey clears ctx->iv; each ALG_SET_IV overwrites it (af_alg_sendmsg, crypto/af_alg.c)."""
    key, plaintext = key_of(row), cut(16 * 4)
    with need(Skcipher, row.name, key) as cipher:
        got = cipher.encrypt(plaintext)
        assert got.hex() == skciphers.crypt(row.name, key, bytes(row.iv), plaintext).hex(), "IV never set"
        for label in ("first", "second"):
            iv = data(label, row.iv)
            got = cipher.encrypt(plaintext, iv)
            assert got.hex() == skciphers.crypt(row.name, key, iv, plaintext).hex(), f"the {label} IV"


@each_way([row for row in catalogue.SKCIPHERS if row.chaining == "continues"])
def test_second_request_without_iv_continues_the_first(row: SkcipherRow) -> None:
    """The cipher writes the next IV back, in both directions (ctx->iv in _skcipher_recvmsg)."""
    need(Skcipher, row.name).close()
    key, iv, message = key_of(row), iv_of(row), cut(16 * 8)
    whole = skciphers.crypt(row.name, key, iv, message)
    for operation, source, result in (
        (ALG_OP_ENCRYPT, message, whole),
        (ALG_OP_DECRYPT, whole, message),
    ):
        with need(Skcipher, row.name, key) as cipher:
            first = cipher.crypt(operation, source[:48], iv)
            second = cipher.crypt(operation, source[48:])
            assert (first + second).hex() == result.hex(), f"{row.name}, operation {operation}"


@each_way([row for row in catalogue.SKCIPHERS if row.chaining == "restarts"])
def test_second_request_without_iv_begins_with_the_same_iv(row: SkcipherRow) -> None:
    """_skcipher_recvmsg passes ctx->iv to each request; these modes do not write it back (crypto/algif_skcipher.c)."""
    with need(Skcipher, row.name, key_of(row)) as cipher:
        expected = skciphers.crypt(row.name, key_of(row), iv_of(row), cut(64))
        assert cipher.encrypt(cut(64), iv_of(row)) == expected
        assert cipher.encrypt(cut(64)) == expected


@each_way([row for row in catalogue.SKCIPHERS if row.chaining in ("continues", "none")])
def test_several_recvs_give_what_one_does(row: SkcipherRow) -> None:
    """Sends and recvs of other sizes, at boundaries of chunks: one stream.

    Source: crypto_skcipher_chunksize in _skcipher_recvmsg.
    """
    key, iv, message = key_of(row), iv_of(row), cut(16 * 40)
    with need(Skcipher, row.name, key) as cipher:
        expected = skciphers.crypt(row.name, key, iv, message)
        control = set_op(ALG_OP_ENCRYPT) + (set_iv(iv) if row.iv else b"")
        cipher.op.sendmsg([message[:7]], control, MSG_MORE)
        cipher.op.send(message[7:333], MSG_MORE)
        cipher.op.send(message[333:])
        got = [cipher.op.recv(size) for size in (16, 64, 240, 320)]
        assert b"".join(got).hex() == expected.hex()


@each_way(_BOTH_WAYS)
def test_op_sockets_of_one_tfm_do_not_disturb_each_other(row: SkcipherRow) -> None:
    """IV and tsgl are the op socket's (struct af_alg_ctx, include/crypto/if_alg.h), only the tfm's key is shared."""
    key, message = key_of(row), cut(16 * 12)
    need_independent_requests(row.name)
    ivs = [data(f"iv {i}", row.iv) for i in range(3)]
    with need(Skcipher, row.name, key) as cipher:
        ops = [cipher.tfm.accept() for _ in ivs]
        try:
            for op, iv in zip(ops, ivs, strict=True):
                send(op, message, iv)
            for op, iv in reversed(list(zip(ops, ivs, strict=True))):
                assert op.recv(len(message)) == skciphers.crypt(row.name, key, iv, message)
        finally:
            for op in ops:
                op.close()


@each_way(_BOTH_WAYS)
def test_scattered_buffers_give_what_contiguous_ones_do(row: SkcipherRow) -> None:
    """Sent from seven pieces, read into five, at odd addresses (af_alg_get_rsgl, crypto/af_alg.c)."""
    key, iv, message = key_of(row), iv_of(row), cut(16 * 64)
    need(Skcipher, row.name).close()
    expected = skciphers.crypt(row.name, key, iv, message)
    backing = bytearray(len(message) + 64)
    view = memoryview(backing)
    edges = [0, 1, 18, 19, 500, 509, 777, len(message)]
    pieces = [message[a:b] for a, b in itertools.pairwise(edges)]
    targets, into = [], [0, 3, 100, 101, 600, len(message)]
    for gap, (a, b) in enumerate(itertools.pairwise(into)):
        targets.append(view[a + 2 * gap + 1 : b + 2 * gap + 1])
    with need(Skcipher, row.name, key) as cipher:
        control = set_op(ALG_OP_ENCRYPT) + (set_iv(iv) if row.iv else b"")
        cipher.op.sendmsg(pieces, control)
        assert cipher.op.recvmsg(targets).size == len(message)
        assert b"".join(targets).hex() == expected.hex()


def send(op: Socket, message: bytes, iv: bytes) -> None:
    """Send one request to encrypt."""
    op.sendmsg([message], set_op(ALG_OP_ENCRYPT) + (set_iv(iv) if iv else b""))


def key_of(row: SkcipherRow) -> bytes:
    """Return a key of the longest length."""
    return data(f"{row.name} key", row.keys[-1])


def iv_of(row: SkcipherRow) -> bytes:
    return data(f"{row.name} iv", row.iv)
