"""Symmetric ciphers by the kernel's name, with the kernel's layout of key and IV.

Modes are a few lines over whole blocks of a library's cipher, written for a message at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tests.oracle import bits, blocks, chacha, gcrypt, small, wide
from tests.oracle.bits import blocks_of, xor
from tests.oracle.blocks import Block
from tests.oracle.names import Name, parse

Crypt = Callable[[Name, bytes, bytes, bytes, bool], bytes]


def crypt(name: str, key: bytes, iv: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    """Return ``data`` en- or decrypted by the kernel's skcipher ``name``.

    Args:
        iv: as long as the kernel's; of no use to a cipher without one.

    Raises:
        LookupError: there is no oracle for this name, or none for a key of this length.
        ValueError: data of this length cannot be processed (the kernel's EINVAL).
    """
    parsed = parse(name)
    if parsed.head not in _CRYPT:
        raise LookupError(f"no oracle for the skcipher {name}")
    return _CRYPT[parsed.head](parsed, key, iv, data, decrypt)


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


def xctr_stream(block: Block, iv: bytes, length: int) -> bytes:
    """Return keystream of XCTR: the IV XORed with a little-endian counter from 1 (HCTR2, section 2)."""
    base = int.from_bytes(iv, "little")
    count = -(-length // 16)
    return block.encrypt(b"".join((base ^ i).to_bytes(16, "little") for i in range(1, count + 1)))[:length]


def _block(name: Name, key: bytes) -> Block:
    """Return the cipher inside ``mode(cipher)``."""
    return blocks.cipher(name.parts[0].text, key)


def _whole(block: Block, data: bytes) -> None:
    if len(data) % block.size:
        raise ValueError(f"{len(data)} bytes are not whole blocks of {block.size}")


def _at_least(size: int, data: bytes) -> None:
    if len(data) < size:
        raise ValueError(f"{len(data)} bytes are fewer than {size}")


def _ecb(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    if name.parts[0].text == "arc4":
        return small.arc4(key, data)
    block = _block(name, key)
    _whole(block, data)
    return block.decrypt(data) if decrypt else block.encrypt(data)


def _cbc(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return (cbc_decrypt if decrypt else cbc_encrypt)(_block(name, key), iv, data)


def _pcbc(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """Propagating CBC: the feedback is plaintext XOR ciphertext (Kerberos 4)."""
    block = _block(name, key)
    _whole(block, data)
    out = []
    turned = blocks_of(block.decrypt(data), block.size) if decrypt else []
    for i, piece in enumerate(blocks_of(data, block.size)):
        result = xor(turned[i], iv) if decrypt else block.encrypt(xor(piece, iv))
        iv = xor(piece, result)
        out.append(result)
    return b"".join(out)


def _cfb(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """CFB with segments of a whole block, NIST SP 800-38A 6.3."""
    block = _block(name, key)
    if decrypt:
        feedback = (iv + data)[: -(-len(data) // block.size) * block.size]
        return xor(data, block.encrypt(feedback[: len(feedback) // block.size * block.size])[: len(data)])
    out = []
    for piece in blocks_of(data, block.size):
        iv = xor(piece, block.encrypt(iv)[: len(piece)])
        out.append(iv)
    return b"".join(out)


def _ofb(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """OFB, NIST SP 800-38A 6.4."""
    block = _block(name, key)
    stream = []
    for _ in range(0, len(data), block.size):
        iv = block.encrypt(iv)
        stream.append(iv)
    return xor(data, b"".join(stream)[: len(data)])


def _ctr(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return xor(data, counter_stream(_block(name, key), int.from_bytes(iv, "big"), len(data)))


def _rfc3686(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """CTR with a 4-byte nonce at the end of the key and a counter from 1 (RFC 3686 section 4)."""
    counter = key[-4:] + iv + (1).to_bytes(4, "big")
    return _ctr(name.parts[0], key[:-4], counter, data, decrypt)


def _xctr(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return xor(data, xctr_stream(_block(name, key), iv, len(data)))


def _cts(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """CBC with ciphertext stealing, the last two blocks always swapped (CS3; RFC 3962 section 5)."""
    block = blocks.cipher(name.parts[0].parts[0].text, key)
    size = block.size
    _at_least(size, data)
    if len(data) == size:
        return (cbc_decrypt if decrypt else cbc_encrypt)(block, iv, data)
    tail = (len(data) - 1) % size + 1
    head, last_but_one, last = data[: -size - tail], data[-size - tail : -tail], data[-tail:]
    if not decrypt:
        full = cbc_encrypt(block, iv, data + bytes(size - tail))
        return full[: len(head)] + full[-size:] + full[len(head) : len(head) + tail]
    turned = block.decrypt(last_but_one)
    stolen = last + turned[tail:]
    chained = head[-size:] if head else iv
    final = xor(turned[:tail], last)
    return cbc_decrypt(block, iv, head) + xor(block.decrypt(stolen), chained) + final


def _xts(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """XTS with ciphertext stealing, IEEE 1619: the key is two keys, the IV the data unit's number."""
    half = len(key) // 2
    block, tweaker = _block(name, key[:half]), _block(name, key[half:])
    _at_least(16, data)
    count = -(-len(data) // 16)
    tweak = int.from_bytes(tweaker.encrypt(iv), "little")
    tweaks = []
    for _ in range(count):
        tweaks.append(tweak.to_bytes(16, "little"))
        tweak = (tweak << 1) ^ (((1 << 128) | 0x87) if tweak >> 127 else 0)
    call = block.decrypt if decrypt else block.encrypt
    tail = len(data) % 16
    whole = len(data) // 16 - (1 if tail else 0)
    mask = b"".join(tweaks[:whole])
    out = xor(call(xor(data[: 16 * whole], mask)), mask)
    if not tail:
        return out
    first, second = (tweaks[-1], tweaks[-2]) if decrypt else (tweaks[-2], tweaks[-1])
    piece, rest = data[16 * whole : 16 * whole + 16], data[-tail:]
    stolen = xor(call(xor(piece, first)), first)
    return out + xor(call(xor(rest + stolen[tail:], second)), second) + stolen[:tail]


def _lrw(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """LRW: the mask of block i is the second key times its index, in GF(2^128) (Liskov, Rivest, Wagner)."""
    block = _block(name, key[:-16])
    _whole(block, data)
    second, index = int.from_bytes(key[-16:], "big"), int.from_bytes(iv, "big")
    masks = b"".join(
        bits.multiply128(second, (index + i) % (1 << 128)).to_bytes(16, "big") for i in range(len(data) // 16)
    )
    return xor((block.decrypt if decrypt else block.encrypt)(xor(data, masks)), masks)


def _essiv(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """ESSIV: the IV is encrypted under the hash of the key (dm-crypt)."""
    cipher = name.parts[0].parts[0].text
    salt = hashlib.new(name.parts[1].text, key).digest()
    secret = blocks.cipher(cipher, salt).encrypt(iv)
    return crypt(name.parts[0].text, key, secret, data, decrypt=decrypt)


def _kw(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    """Key wrap, NIST SP 800-38F 6.2: the first 8 bytes of a wrapped key travel as IV.

    Encryption starts from the standard's A6 octets whatever the IV, and does not return those 8 bytes.
    """
    if len(data) < 16 or len(data) % 8:
        raise ValueError(f"{len(data)} bytes are no key to wrap")
    block = _block(name, key)
    result, check = (_kw_unwrap if decrypt else _kw_wrap)(block, iv, blocks_of(data, 8))
    if decrypt and check != _KW_START:
        raise ValueError("the wrapped key is not authentic")
    return result


def kw_header(name: str, key: bytes, data: bytes) -> bytes:
    """Return the 8 bytes that go before a wrapped key, which decryption needs as IV."""
    return _kw_wrap(_block(parse(name), key), b"", blocks_of(data, 8))[1]


_KW_START = b"\xa6" * 8


def _kw_wrap(block: Block, _iv: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
    check, pieces = _KW_START, list(pieces)
    for step in range(6 * len(pieces)):
        turned = block.encrypt(check + pieces[step % len(pieces)])
        check, pieces[step % len(pieces)] = xor(turned[:8], (step + 1).to_bytes(8, "big")), turned[8:]
    return b"".join(pieces), check


def _kw_unwrap(block: Block, iv: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
    check, pieces = iv, list(pieces)
    for step in reversed(range(6 * len(pieces))):
        turned = block.decrypt(xor(check, (step + 1).to_bytes(8, "big")) + pieces[step % len(pieces)])
        check, pieces[step % len(pieces)] = turned[:8], turned[8:]
    return b"".join(pieces), check


def _chacha20(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return gcrypt.stream("CHACHA20", key, iv, data)


def _xchacha20(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return gcrypt.stream("CHACHA20", chacha.hchacha(key, iv[:16]), iv[24:] + iv[16:24], data)


def _xchacha12(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return xor(data, chacha.xchacha_keystream(key, iv, len(data), 12))


def _salsa20(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return gcrypt.stream("SALSA20", key, iv, data)


def _adiantum(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    _at_least(16, data)
    rounds = {"xchacha12": 12, "xchacha20": 20}[name.parts[0].text]
    return wide.adiantum(rounds, name.parts[1].text, key, iv, data, decrypt)


def _hctr2(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    _at_least(16, data)
    return wide.hctr2(_block(name, key), iv, data, decrypt, xctr_stream)


def _arc4(name: Name, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    return small.arc4(key, data)


_CRYPT: dict[str, Crypt] = {
    "arc4": _arc4,
    "ecb": _ecb,
    "cbc": _cbc,
    "pcbc": _pcbc,
    "cfb": _cfb,
    "ofb": _ofb,
    "ctr": _ctr,
    "rfc3686": _rfc3686,
    "xctr": _xctr,
    "cts": _cts,
    "xts": _xts,
    "lrw": _lrw,
    "essiv": _essiv,
    "kw": _kw,
    "chacha20": _chacha20,
    "xchacha20": _xchacha20,
    "xchacha12": _xchacha12,
    "salsa20": _salsa20,
    "adiantum": _adiantum,
    "hctr2": _hctr2,
}
