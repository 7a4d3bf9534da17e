"""A message of every aead of the catalogue, plain and sealed by the oracle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from tests.afalg import Aead, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.algorithms.catalogue import AeadRow
from tests.algorithms.data import cut
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.need import need
from tests.oracle import aeads

PLAINTEXT = 64


@dataclass(frozen=True)
class AeadMessage:
    """One message of one aead.

    Attributes:
        row: of the catalogue.
        authsize: bytes of its tag.
        key, iv, aad: as the kernel wants them.
        plaintext: without AAD; what is sent begins with room for the IV where the aead makes it.
    """

    row: AeadRow
    authsize: int
    key: bytes
    iv: bytes
    aad: bytes
    plaintext: bytes

    def open(self) -> Aead:
        """Return the transform, or skip the test where the kernel lacks it."""
        return need(Aead, self.row.name, self.key, self.authsize)

    @property
    def room(self) -> bytes:
        """The IV inside the message, of aeads that make it."""
        return self.iv if self.row.generates_iv_for else b""

    @property
    def plain(self) -> bytes:
        """All that is sent to be sealed: AAD first."""
        return self.aad + self.room + self.plaintext

    @property
    def sealed(self) -> bytes:
        """All that is sent to be opened: AAD first, tag last."""
        inner = str(self.row.generates_iv_for or self.row.name)
        body = aeads.seal(inner, self.key, self.iv, self.aad + self.room, self.plaintext, self.authsize)
        return self.aad + self.room + body

    def control(self, operation: int) -> bytes:
        return set_op(operation) + set_assoclen(len(self.aad)) + (set_iv(self.iv) if self.iv else b"")

    def with_plain(self, plain: bytes) -> AeadMessage:
        """Return another message, of these bytes."""
        start = len(self.aad) + len(self.room)
        return dataclasses.replace(self, aad=plain[: len(self.aad)], plaintext=plain[start:])

    def is_result(self, operation: int, got: bytes) -> bool:
        """Tell whether that is what sealing or opening must give."""
        if operation == ALG_OP_ENCRYPT:
            return self.is_sealed(got)
        # What stands where an IV made by the aead was is nobody's business.
        start = len(self.aad) + len(self.room)
        return got[: len(self.aad)] == self.aad and got[start:] == self.plaintext

    def is_sealed(self, got: bytes) -> bool:
        if not self.row.generates_iv_for:
            return got == self.sealed
        iv = got[len(self.aad) :][: len(self.iv)]
        body = aeads.seal(self.row.generates_iv_for, self.key, iv, self.aad + iv, self.plaintext, self.authsize)
        return got == self.aad + iv + body


def message_of(row: AeadRow, authsize: int | None = None, size: int = PLAINTEXT) -> AeadMessage:
    """Return a message of that aead, with the longest key and tag.

    Args:
        authsize: another tag size.
        size: bytes of plaintext, at least; a whole number of what the aead takes.
    """
    key = key_of(row, row.keys[-1])
    aad = aad_of(row, key, default_aad(row))
    return AeadMessage(row, authsize or row.tags[-1], key, iv_of(row.name, row.iv), aad, cut(size))


SEAL, OPEN = ALG_OP_ENCRYPT, ALG_OP_DECRYPT
