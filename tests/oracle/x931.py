"""The generator of ANSI X9.31 appendix A.2.4 over AES-128, all of whose output follows from its seed."""

from __future__ import annotations

from tests.oracle.bits import xor
from tests.oracle.blocks import cipher


def generate(seed: bytes, length: int) -> bytes:
    """Return ``length`` bytes.

    Args:
        seed: 16 bytes of state, 16 of key, and 16 of date and time, which are zero when missing.
    """
    state, block, time = seed[:16], cipher("aes", seed[16:32]), seed[32:48].ljust(16, b"\0")
    out = b""
    for _ in range(-(-length // 16)):
        turned = block.encrypt(time)
        result = block.encrypt(xor(turned, state))
        state = block.encrypt(xor(result, turned))
        time = ((int.from_bytes(time, "big") + 1) % (1 << 128)).to_bytes(16, "big")
        out += result
    return out[:length]
