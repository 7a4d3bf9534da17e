"""Keys for the rows of the catalogue."""

from __future__ import annotations

from tests.afalg import authenc_key
from tests.algorithms.catalogue import AeadRow
from tests.algorithms.data import data
from tests.oracle import aeads


def key_of(row: AeadRow, length: int) -> bytes:
    """Return a key for an aead: of ``length`` bytes, or authenc's blob with a cipher key that long."""
    if row.authkey is None:
        return data(f"{row.name} key", length)
    return authenc_key(data(f"{row.name} authkey", row.authkey), data(f"{row.name} key", length))


def iv_of(name: str, length: int, label: str = "iv") -> bytes:
    """Return an IV; CCM's is a counter block, whose first byte says how long the counter is."""
    iv = data(f"{name} {label}", length)
    return b"\2" + iv[1:-3] + bytes(3) if name.startswith("ccm(") else iv


def aad_of(row: AeadRow, key: bytes, length: int, iv: bytes | None = None) -> bytes:
    """Return AAD of ``length`` bytes, which ends with the IV where the algorithm wants it there.

    essiv writes the IV it makes over the end of the AAD, but into the result when it decrypts, where nothing
    authenticates it: only an AAD that has it there already is the same to both directions.
    """
    iv = iv_of(row.name, row.iv) if iv is None else iv
    if row.name.startswith("essiv("):
        iv = aeads.essiv_iv(row.name, key, iv)
    elif not row.iv_in_aad:
        return data("aad", length)
    return data("aad", length - row.iv) + iv


def default_aad(row: AeadRow) -> int:
    """Return the length of AAD to use where it does not matter."""
    return row.aads[-1] if row.aads else 20
