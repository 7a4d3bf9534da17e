"""Every aead, against an independent implementation."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

import pytest

from tests.afalg import Aead, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT, MSG_MORE
from tests.algorithms import catalogue
from tests.algorithms.cases import each_way, every
from tests.algorithms.catalogue import AeadRow
from tests.algorithms.data import LONG, PAGE, cut, data, longest
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads

pytestmark = pytest.mark.usefixtures("everything_loaded")

_SEALING = [row for row in catalogue.AEADS if row.generates_iv_for is None]


def iv_is_authenticated(row: AeadRow) -> bool:
    """authenc leaves the IV to the caller, who puts it into the AAD when it matters."""
    return not row.name.startswith(("authenc", "essiv", "krb5enc"))


every_aead = every(_SEALING)
every_way = each_way(_SEALING)


@every_aead
def test_every_key_and_tag_size(row: AeadRow, thorough: bool) -> None:
    """Both directions; every key length with the longest tag, every tag size with the longest key.

    Source: crypto_aead_setkey, crypto_aead_setauthsize.
    """
    tags = row.every_tag if thorough else row.tags
    pairs = [(key, row.tags[-1]) for key in row.keys[:-1]] + [(row.keys[-1], tag) for tag in tags]
    for length, tag in pairs:
        key = key_of(row, length)
        with need(Aead, row.name, key, tag) as aead:
            check(row, aead, key, aad_of(row, key, default_aad(row)), cut(48))


@every_way
def test_every_length_of_aad_and_plaintext(row: AeadRow) -> None:
    """Each from none to 64 KiB; AAD with a payload and without (_aead_recvmsg, crypto/algif_aead.c)."""
    key, end = key_of(row, row.keys[-1]), min(LONG, longest(row.name))
    aads = row.aads or (0, 1, 15, 16, 17, PAGE - 1, PAGE, PAGE + 1, end)
    plaintexts = {
        max(size // row.unit * row.unit, row.minimum) for size in (0, 1, 15, 16, 17, 31, PAGE - 1, PAGE, PAGE + 1, end)
    }
    with opened(row) as aead:
        for length in aads:
            for payload in (row.minimum, 48):
                check(row, aead, key, aad_of(row, key, length), cut(payload))
        for length in sorted(plaintexts):
            check(row, aead, key, aad_of(row, key, default_aad(row)), cut(length))


@every_way
def test_refused_tag_sizes_are_einval(row: AeadRow) -> None:
    """crypto_aead_setauthsize and the algorithm's own setauthsize (crypto/aead.c; NIST SP 800-38C and -38D) refuse."""
    with need(Aead, row.name, None, row.tags[-1]) as aead:
        for size in row.refused_tags:
            with raises_errno(errno.EINVAL, why=f"tag of {size} bytes"):
                aead.tfm.set_authsize(size)


# Kernels that lack the check take too short an AAD; or go down.
CHECKED_SINCE = {
    "authencesn": pytest.mark.fixed_by(
        "2397e9264676",
        "crypto: authencesn - reject too-short AAD (assoclen<8) to match ESP/ESN spec",
        cve="CVE-2026-23060",
    ),
    "essiv": pytest.mark.fixed_by(
        "6bb73db6948c", "crypto: essiv - Check ssize for decryption and in-place encryption", cve="CVE-2025-40019"
    ),
}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(
            row, id=row.name, marks=[mark for head, mark in CHECKED_SINCE.items() if row.name.startswith(head)]
        )
        for row in _SEALING
        if row.refused_aads
    ],
)
def test_refused_lengths_of_aad_are_einval(row: AeadRow) -> None:
    """AAD that holds an IV or an ESN has a least length (crypto_ipsec_check_assoclen; authencesn.c, essiv.c)."""
    for length in row.refused_aads:
        with opened(row) as aead:
            with raises_errno(errno.EINVAL, why=f"AAD of {length} bytes"):
                aead.encrypt(cut(48), data("aad", length), iv_of(row.name, row.iv))
            with raises_errno(errno.EINVAL, why=f"AAD of {length} bytes, opening"):
                aead.decrypt(cut(48 + row.tags[-1]), data("aad", length), iv_of(row.name, row.iv))


@every_way
def test_one_flipped_bit_is_ebadmsg(row: AeadRow) -> None:
    """Whatever is authenticated, at both ends; and nothing is left to read afterwards.

    Source: aead_recvmsg, crypto/algif_aead.c.
    """
    key, iv, tag = key_of(row, row.keys[-1]), iv_of(row.name, row.iv), row.tags[-1]
    aad = aad_of(row, key, default_aad(row))
    sealed = aeads.seal(row.name, key, iv, aad, cut(48), tag)
    places = [(sealed, 0), (sealed, 47), (sealed, 48), (sealed, 47 + tag), (aad, 0), (aad, 7)]
    if iv_is_authenticated(row):
        places.append((iv, 5))
    with opened(row) as aead:
        assert aead.decrypt(sealed, aad, iv) == cut(48)
        for whole, at in places:
            flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            parts = [flipped if part is whole else part for part in (sealed, aad, iv)]
            with raises_errno(errno.EBADMSG):
                aead.decrypt(*parts)
            with raises_errno(errno.EAGAIN):
                aead.op.recv(48, MSG_DONTWAIT)


@each_way([row for row in _SEALING if len(row.tags) > 1 and (row.tags[-1] - row.tags[-2]) % row.unit == 0])
def test_tag_of_another_size_is_ebadmsg(row: AeadRow) -> None:
    """A tag cut to a size that is accepted, but is not the one set, is taken for the end of something else.

    Source: crypto_aead_setauthsize.
    """
    key, iv = key_of(row, row.keys[-1]), iv_of(row.name, row.iv)
    aad = aad_of(row, key, default_aad(row))
    short, long_ = row.tags[-2:]
    sealed = aeads.seal(row.name, key, iv, aad, cut(64), short)
    assert (len(sealed) - long_) % row.unit == 0
    with opened(row) as aead, raises_errno(errno.EBADMSG):
        aead.decrypt(sealed, aad, iv)


@every_way
def test_memory_of_a_forgery(row: AeadRow) -> None:
    """Beyond the result nothing is written; and no plaintext, by templates that look at the tag first (RFC 5116, 2.2).

    The others decipher into the caller's buffer and fail afterwards: that is why EBADMSG gives no length.
    """
    key, iv, tag = key_of(row, row.keys[-1]), iv_of(row.name, row.iv), row.tags[-1]
    aad, plaintext = aad_of(row, key, default_aad(row)), cut(160)
    sealed = aeads.seal(row.name, key, iv, aad, plaintext, tag)
    buffer = bytearray(b"\xc5" * (64 + len(aad) + len(plaintext) + 64))
    room = memoryview(buffer)[64:-64]
    with opened(row) as aead:
        control = set_op(ALG_OP_DECRYPT) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
        aead.op.sendmsg([aad, sealed[:-1], bytes([sealed[-1] ^ 0x80])], control)
        with raises_errno(errno.EBADMSG):
            aead.op.recvmsg([room])
        assert buffer[:64] + buffer[-64:] == b"\xc5" * 128
        # What cipher_null makes of it is no secret: the kernel may put the message there before it looks.
        if row.checks_first and not sealed.startswith(plaintext):
            assert all(plaintext[at : at + 8] not in buffer for at in range(0, len(plaintext), 8))
        assert aead.decrypt(sealed, aad, iv) == plaintext


@each_way([row for row in _SEALING if row.iv and not row.name.startswith("ccm(")])
def test_iv_never_set_is_zero_and_set_again_replaces(row: AeadRow) -> None:
    """Zeros are no IV of CCM, whose first byte says how long its counter is.

    Source: RFC 3610, 2.3; aead_accept_parent_nokey.
    """
    key, tag, plaintext = key_of(row, row.keys[-1]), row.tags[-1], cut(48)
    with opened(row) as aead:
        for iv, sent in ((bytes(row.iv), b""), *((data(label, row.iv),) * 2 for label in ("first", "second"))):
            aad = aad_of(row, key, default_aad(row), iv)
            expected = aeads.seal(row.name, key, iv, aad, plaintext, tag)
            assert aead.encrypt(plaintext, aad, sent).hex() == expected.hex(), f"IV {sent.hex() or 'never set'}"


@every_way
def test_op_sockets_of_one_tfm_do_not_disturb_each_other(row: AeadRow) -> None:
    """Each has its own IV, AAD, direction and data (struct af_alg_ctx, include/crypto/if_alg.h)."""
    key, tag = key_of(row, row.keys[-1]), row.tags[-1]
    with opened(row) as aead, aead.tfm.accept() as second, aead.tfm.accept() as third:
        results = []
        for number, op in enumerate((aead.op, second, third)):
            iv, plaintext = iv_of(row.name, row.iv, f"iv {number}"), data(f"text {number}", 96)
            aad = aad_of(row, key, default_aad(row), iv)
            sealed = aeads.seal(row.name, key, iv, aad, plaintext, tag)
            operation, source, result = (
                (ALG_OP_DECRYPT, sealed, plaintext) if number == 1 else (ALG_OP_ENCRYPT, plaintext, sealed)
            )
            control = set_op(operation) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
            op.sendmsg([aad, source], control)
            results.append((op, aad + result))
        for op, expected in reversed(results):
            assert op.recv(len(expected)).hex() == expected.hex()


@each_way([row for row in _SEALING if len(row.tags) > 1])
def test_tag_size_switched_between_requests_of_one_tfm(row: AeadRow) -> None:
    """There and back, once no op socket is open any more (alg_setsockopt, crypto_aead_setauthsize)."""
    key, iv = key_of(row, row.keys[-1]), iv_of(row.name, row.iv)
    aad = aad_of(row, key, default_aad(row))
    with opened(row) as aead:
        for tag in (row.tags[-1], row.tags[0], row.tags[-1]):
            aead.tfm.set_authsize(tag)
            sealed = aeads.seal(row.name, key, iv, aad, cut(48), tag)
            with aead.tfm.accept() as op:
                control = set_op(ALG_OP_ENCRYPT) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
                op.sendmsg([aad, cut(48)], control)
                assert op.recv(len(aad + sealed)).hex() == (aad + sealed).hex(), f"tag of {tag} bytes"


@every_way
def test_scattered_buffers_give_what_contiguous_ones_do(row: AeadRow) -> None:
    """AAD and payload from several sends and pieces, the result into several buffers at odd addresses.

    Source: af_alg_get_rsgl, crypto/af_alg.c.
    """
    key, iv, tag = key_of(row, row.keys[-1]), iv_of(row.name, row.iv), row.tags[-1]
    aad, plaintext = aad_of(row, key, default_aad(row)), cut(960)
    sealed = aeads.seal(row.name, key, iv, aad, plaintext, tag)
    for operation, source, result in ((ALG_OP_ENCRYPT, plaintext, sealed), (ALG_OP_DECRYPT, sealed, plaintext)):
        stream, total = aad + source, len(aad) + len(result)
        view = memoryview(bytearray(total + 32))
        into = [0, 1, len(aad), len(aad) + 3, 500, total - 1, total]
        targets = [view[a + 3 * i + 1 : b + 3 * i + 1] for i, (a, b) in enumerate(itertools.pairwise(into))]
        with need(Aead, row.name, key, tag) as aead:
            control = set_op(operation) + set_assoclen(len(aad)) + (set_iv(iv) if iv else b"")
            aead.op.sendmsg([stream[:1], stream[1:9]], control, MSG_MORE)
            aead.op.send(stream[9:400], MSG_MORE)
            aead.op.sendmsg([stream[400:401], stream[401:]])
            assert aead.op.recvmsg(targets).size == total
            assert b"".join(targets).hex() == (aad + result).hex(), f"{row.name}, operation {operation}"


def test_essiv_opens_what_it_sealed_or_says_it_cannot() -> None:
    """With an AAD whose end is not the IV it makes, the two directions authenticate different bytes.

    Unless source and result are one, decryption writes that IV only into the result (crypto/essiv.c): EBADMSG since
    AF_ALG works out of place. Whatever the kernel does, it must not give a wrong plaintext.
    """
    row = next(row for row in _SEALING if row.name.startswith("essiv("))
    key, iv, aad = key_of(row, row.keys[-1]), iv_of(row.name, row.iv), data("aad", 32)
    with need(Aead, row.name, key, row.tags[-1]) as aead:
        sealed = aead.encrypt(cut(48), aad, iv)
        assert sealed == aeads.seal(row.name, key, iv, aad, cut(48), row.tags[-1])
        assert outcome_of(lambda: aead.decrypt(sealed, aad, iv)) in (cut(48), errno.EBADMSG)


@every([row for row in catalogue.AEADS if row.generates_iv_for])
def test_generated_iv_goes_before_the_ciphertext(row: AeadRow) -> None:
    """seqiv and echainiv: the rest is what the aead inside gives for that IV, which is part of its AAD.

    Source: crypto/seqiv.c, crypto/echainiv.c.
    """
    key, tag, plaintext = key_of(row, row.keys[-1]), row.tags[-1], cut(64)
    for length in row.aads or (0,):
        aad = data("aad", length)
        with need(Aead, row.name, key, tag) as aead:
            out = aead.encrypt(bytes(row.iv) + plaintext, aad, data("start", row.iv))
            iv = out[: row.iv]
            inner = aeads.seal(str(row.generates_iv_for), key, iv, aad + iv, plaintext, tag)
            assert out[row.iv :].hex() == inner.hex(), f"{row.name} with AAD of {length} bytes"
            opened_again = aead.crypt(ALG_OP_DECRYPT, out, aad, data("start", row.iv), row.iv + len(plaintext))
            assert plaintext in opened_again


def check(row: AeadRow, aead: Aead, key: bytes, aad: bytes, plaintext: bytes) -> None:
    """Seal and open once; the AAD must come out as it went in."""
    iv = iv_of(row.name, row.iv)
    expected = aeads.seal(row.name, key, iv, aad, plaintext, aead.authsize)
    which = f"{row.name}, key {len(key)}, tag {aead.authsize}, AAD {len(aad)}, plaintext {len(plaintext)}"
    got = aead.crypt(ALG_OP_ENCRYPT, plaintext, aad, iv, len(expected))
    assert got == aad + expected, which
    got = aead.crypt(ALG_OP_DECRYPT, expected, aad, iv, len(plaintext))
    assert got == aad + plaintext, f"{which}, decrypting"


def outcome_of(call: Callable[[], bytes]) -> bytes | int | None:
    """Return what a call returns, or the errno it fails with."""
    try:
        return call()
    except OSError as error:
        return error.errno


def opened(row: AeadRow) -> Aead:
    return need(Aead, row.name, key_of(row, row.keys[-1]), row.tags[-1])
