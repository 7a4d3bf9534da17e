"""Keys for the rows of the catalogue."""

from __future__ import annotations

from tests.afalg import authenc_key
from tests.algorithms.catalogue import AeadRow
from tests.algorithms.data import data


def key_of(row: AeadRow, length: int) -> bytes:
    """Return a key for an aead: of ``length`` bytes, or authenc's blob with a cipher key that long."""
    if row.authkey is None:
        return data(f"{row.name} key", length)
    return authenc_key(data(f"{row.name} authkey", row.authkey), data(f"{row.name} key", length))


def iv_of(name: str, length: int) -> bytes:
    """Return an IV; CCM's is a counter block, whose first byte says how long the counter is."""
    iv = data(f"{name} iv", length)
    return b"\2" + iv[1:-3] + bytes(3) if name.startswith("ccm(") else iv
