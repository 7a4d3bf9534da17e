"""The key of authenc and its kin: one blob of two keys, which must say of itself what it is.

The form is that of crypto_authenc_extractkeys (crypto/authenc.c): a struct rtattr with the length of the cipher's key.
"""

from __future__ import annotations

import errno
import struct

import pytest

from tests.afalg import Aead, Socket, authenc_key, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT
from tests.algorithms import catalogue
from tests.algorithms.catalogue import AeadRow
from tests.algorithms.data import cut, data
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads

pytestmark = pytest.mark.usefixtures("everything_loaded")

NAMES = (
    "authenc(hmac(sha256),cbc(aes))",
    "authencesn(hmac(sha256),cbc(aes))",
    "echainiv(authenc(hmac(sha256),cbc(aes)))",
    "essiv(authenc(hmac(sha256),cbc(aes)),sha256)",
    "krb5enc(hmac(sha256),cts(cbc(aes)))",
)
ROWS = [row for row in catalogue.AEADS if row.name in NAMES]
each_template = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)

HEADER = 8
AUTHKEY, ENCKEY = data("authkey", 32), data("enckey", 16)
KEYS = AUTHKEY + ENCKEY


def blob(*, rta_len: int = HEADER, rta_type: int = 1, enckeylen: int = len(ENCKEY), keys: bytes = KEYS) -> bytes:
    """Return a blob whose fields need not agree."""
    return struct.pack("@HH", rta_len, rta_type) + struct.pack(">I", enckeylen) + keys


WHOLE = len(blob())

BAD = {
    **{f"header-of-{size}": blob(rta_len=size) for size in (*range(HEADER), *range(9, 17), WHOLE, WHOLE + 1, 0xFFFF)},
    **{
        f"header-of-{size}-and-no-more": blob(rta_len=size, enckeylen=0, keys=bytes(size))[:size]
        for size in range(9, 17)
    },
    **{f"header-of-{size}-and-no-keys": blob(rta_len=size, enckeylen=0, keys=b"") for size in (0, 4, 7, 9, 12)},
    **{f"type-{kind:#x}": blob(rta_type=kind) for kind in (0, 2, 3, 0x100, 0x101, 0x8001, 0xFFFF)},
    **{f"cipher-key-of-{size}": blob(enckeylen=size) for size in (49, 52, 64, 0x1000, 2**31, 2**32 - 8, 2**32 - 1)},
    **{f"little-endian-{size}": blob(enckeylen=size << 24) for size in (16, 32)},
    **{f"cut-to-{size}": blob()[:size] for size in (1, 2, 3, 4, 7, 8, 9, HEADER + 1, HEADER + 8, HEADER + 15)},
    "no-bytes": b"",
}


@each_template
def test_key_that_contradicts_itself_is_einval(row: AeadRow) -> None:
    """Header, type and length of the cipher's key; and none is set then, whatever was before.

    Linux kernel commit 8f9c46934848 ("crypto: authenc - fix parsing key with misaligned rta_len"), CVE-2020-10769: with
    a header of 9 bytes in a key of 9 bytes what was left of it was less than nothing.
    """
    with need(Aead, row.name, None, row.tags[-1]) as aead:
        for which, key in BAD.items():
            with raises_errno(errno.EINVAL, why=which):
                aead.tfm.set_key(key)
        good = key_of(row, row.keys[-1])
        aead.tfm.set_key(good)
        with raises_errno(errno.EINVAL):
            aead.tfm.set_key(BAD["cipher-key-of-49"])
        with aead.tfm.accept() as op, raises_errno(errno.ENOKEY):
            request(op, row, good)
    with need(Aead, row.name, good, row.tags[-1]) as aead:
        seals_as_the_oracle(row, aead, good)


@each_template
def test_length_of_the_ciphers_key_says_where_it_begins(row: AeadRow) -> None:
    """The same bytes, divided elsewhere: the first part is the key of the MAC, of any length, none too.

    Source: crypto_authenc_extractkeys.
    """
    whole = data("both keys", 64)
    for size in (16, 24, 32):
        for mac in (0, 1, 31, 32):
            key = authenc_key(whole[:mac], whole[mac : mac + size])
            assert aeads.split_key(key) == (whole[:mac], whole[mac : mac + size])
            with need(Aead, row.name, key, row.tags[-1]) as aead:
                seals_as_the_oracle(row, aead, key)


def request(op: Socket, row: AeadRow, key: bytes) -> tuple[bytes, bytes]:
    """Send a request to encrypt; return what was sent as AAD and IV."""
    aad, iv = aad_of(row, key, default_aad(row)), iv_of(row.name, row.iv)
    op.sendmsg([aad, bytes(row.iv if row.generates_iv_for else 0), cut(64)], control(row, len(aad), iv))
    return aad, iv


def control(row: AeadRow, aad: int, iv: bytes) -> bytes:
    return set_op(ALG_OP_ENCRYPT) + set_assoclen(aad) + (set_iv(iv) if row.iv else b"")


def seals_as_the_oracle(row: AeadRow, aead: Aead, key: bytes) -> None:
    """Encrypt once; a template that makes the IV itself is followed with the IV it made."""
    aad, iv = request(aead.op, row, key)
    made = row.iv if row.generates_iv_for else 0
    got = aead.op.recv(len(aad) + made + 64 + aead.authsize)[len(aad) :]
    if made:
        iv, got = got[:made], got[made:]
        aad += iv
    expected = aeads.seal(row.generates_iv_for or row.name, key, iv, aad, cut(64), aead.authsize)
    assert got.hex() == expected.hex(), f"{row.name}, key of {len(key)} bytes"
