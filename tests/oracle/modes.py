"""Modes of operation over any block cipher, with the kernel's layout of key and IV.

Each is a few lines over ECB of a library, written for whole messages at a time: long XORs and keystreams
are single operations on big integers, because the guest's Python is slow.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.oracle.blocks import Block, cipher

Mode = Callable[[str, bytes, bytes, bytes, bool], bytes]


def crypt(mode: str, name: str, key: bytes, iv: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    """Return ``data`` en- or decrypted by ``mode(name)``: ``crypt("cbc", "aes", key, iv, data)``.

    Raises:
        LookupError: no oracle for the mode, or for the cipher with such a key.
        ValueError: the data cannot be processed in this mode (the kernel's EINVAL).
    """
    if mode not in _MODES:
        raise LookupError(f"no oracle for the mode {mode}")
    return _MODES[mode](name, key, iv, data, decrypt)


def xor(left: bytes, right: bytes) -> bytes:
    """Return the XOR of two equally long strings."""
    value = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return value.to_bytes(len(left), "big")


def blocks_of(data: bytes, size: int) -> list[bytes]:
    """Return ``data`` cut into pieces of ``size`` bytes, the last as long as is left."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def cbc_encrypt(block: Block, iv: bytes, data: bytes) -> bytes:
    """CBC, NIST SP 800-38A 6.2: each block is XORed with the ciphertext before it."""
    _whole(block, data)
    if block.cbc is not None:
        return block.cbc(iv, data)
    out = []
    for piece in blocks_of(data, block.size):
        iv = block.encrypt(xor(piece, iv))
        out.append(iv)
    return b"".join(out)


def cbc_decrypt(block: Block, iv: bytes, data: bytes) -> bytes:
    """The inverse of CBC."""
    _whole(block, data)
    return xor(block.decrypt(data), (iv + data)[: len(data)])


def counter_stream(block: Block, counter: int, length: int) -> bytes:
    """Return ``length`` bytes of keystream from big-endian counter blocks (NIST SP 800-38A 6.5)."""
    count = -(-length // block.size)
    top = 1 << (8 * block.size)
    counters = b"".join(((counter + i) % top).to_bytes(block.size, "big") for i in range(count))
    return block.encrypt(counters)[:length]


def _ecb(name: str, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    block = cipher(name, key)
    _whole(block, data)
    return block.decrypt(data) if decrypt else block.encrypt(data)


def _cbc(name: str, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return (cbc_decrypt if decrypt else cbc_encrypt)(cipher(name, key), iv, data)


def _ctr(name: str, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return xor(data, counter_stream(cipher(name, key), int.from_bytes(iv, "big"), len(data)))


_MODES: dict[str, Mode] = {"ecb": _ecb, "cbc": _cbc, "ctr": _ctr}


def _whole(block: Block, data: bytes) -> None:
    if len(data) % block.size:
        raise ValueError(f"{len(data)} bytes are not whole blocks of {block.size}")
