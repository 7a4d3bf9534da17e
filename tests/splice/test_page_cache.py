"""Copy Fail: decrypting spliced pages must not write to them.

An AEAD decryption used to run in place on a list whose tail was the sender's own tag pages. authencesn
moves the high half of the sequence number to the end of that list, and so wrote four bytes of the AAD into
the page cache of a file that the caller could only read (CVE-2026-31431).

Linux kernel commit a664bf3d603d ("crypto: algif_aead - Revert to operating out-of-place") (in v7.0).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pytest

from tests.afalg import Aead, Pipe, authenc_key, set_assoclen, set_iv, set_op, splice
from tests.afalg.constants import ALG_OP_DECRYPT, MSG_MORE
from tests.errors.raises import raises_errno
from tests.need import need
from tests.oracle import aeads
from tests.splice.files import content_of, tmpfs_file

AUTHKEY, ENCKEY = bytes(range(32)), bytes(range(100, 116))
AAD = b"AAAABBBB"
PLAINTEXT = bytes(range(32))


@dataclass(frozen=True)
class Sealed:
    """A message with a valid tag, as one AEAD wants it."""

    name: str
    key: bytes
    iv: bytes
    ciphertext_and_tag: bytes
    authsize: int


def sealed(name: str, authsize: int) -> Sealed:
    key = authenc_key(AUTHKEY, ENCKEY) if name.startswith("authenc") else ENCKEY
    iv = bytes(range(12 if name == "gcm(aes)" else 16))
    return Sealed(name, key, iv, aeads.seal(name, key, iv, AAD, PLAINTEXT, authsize), authsize)


# Of the two only authencesn writes past its output, which is what shows the bug.
COPY_FAIL = pytest.mark.fixed_by(
    "a664bf3d603d", "crypto: algif_aead - Revert to operating out-of-place", cve="CVE-2026-31431"
)
NAMES = [pytest.param("authencesn(hmac(sha256),cbc(aes))", marks=COPY_FAIL), "gcm(aes)"]


@pytest.mark.parametrize("offset", [0, 4096 - 16], ids=["page-start", "across-pages"])
@pytest.mark.parametrize("tag", ["valid", "forged"])
@pytest.mark.parametrize("authsize", [4, 16])
@pytest.mark.parametrize("name", NAMES)
def test_decrypting_a_spliced_file_leaves_it_as_it_was(name: str, authsize: int, tag: str, offset: int) -> None:
    """Every byte of the file is compared, with a valid tag as with a forged one (commit a664bf3d603d)."""
    message = sealed(name, authsize)
    body = bytearray(message.ciphertext_and_tag)
    body[-1] ^= tag == "forged"
    content = bytes(b"\xa5" * offset + body).ljust(8192, b"\x5a")
    with need(Aead, message.name, message.key, authsize) as aead, tmpfs_file(content) as file, Pipe() as pipe:
        control = set_op(ALG_OP_DECRYPT) + set_assoclen(len(AAD)) + set_iv(message.iv)
        aead.op.sendmsg([AAD], control, MSG_MORE)
        assert splice(file, pipe.write_end, len(body), offset_in=offset) == len(body)
        assert splice(pipe.read_end, aead.op, len(body)) == len(body)
        if tag == "forged":
            with raises_errno(errno.EBADMSG):
                aead.op.recv(len(AAD) + len(PLAINTEXT))
        else:
            assert aead.op.recv(len(AAD) + len(PLAINTEXT)) == AAD + PLAINTEXT
        assert content_of(file) == content, "the file has changed"
