"""Authenticated encryption by the kernel's name, with the kernel's layout of key, IV and AAD."""

from __future__ import annotations

from collections.abc import Callable

from tests.oracle import aegis, blocks, chacha, gcrypt, hashes, poly, skciphers
from tests.oracle.bits import ghash, xor
from tests.oracle.names import Name, parse

Seal = Callable[[Name, bytes, bytes, bytes, bytes, int], bytes]


def seal(name: str, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """Return ciphertext and tag (``len(plaintext) + authsize`` bytes) of the kernel's aead ``name``.

    Args:
        key: as ALG_SET_KEY takes it: with the salt of rfc4106, as a blob for authenc.
        iv: as long as the kernel's.

    Raises:
        LookupError: there is no oracle for this name.
        ValueError: the kernel must answer EINVAL.
    """
    parsed = parse(name)
    if parsed.head not in _SEAL:
        raise LookupError(f"no oracle for the aead {name}")
    return _SEAL[parsed.head](parsed, key, iv, aad, plaintext, authsize)


def split_key(blob: bytes) -> tuple[bytes, bytes]:
    """Return authentication key and cipher key of the blob that authenc takes."""
    length = int.from_bytes(blob[4:8], "big")
    return blob[8 : len(blob) - length], blob[len(blob) - length :]


_LIBRARY = {
    ("aes", 16): "AES",
    ("aes", 24): "AES192",
    ("aes", 32): "AES256",
    ("camellia", 16): "CAMELLIA128",
    ("camellia", 24): "CAMELLIA192",
    ("camellia", 32): "CAMELLIA256",
    ("serpent", 32): "SERPENT256",
    ("twofish", 32): "TWOFISH",
    ("sm4", 16): "SM4",
}


def _gcm(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """NIST SP 800-38D, with a 12-byte IV."""
    cipher = name.parts[0].text
    library = _LIBRARY.get((cipher, len(key)))
    if library:
        ciphertext, tag = gcrypt.gcm(library, key, iv, aad, plaintext)
        return ciphertext + tag[:authsize]
    return gcm_over(blocks.cipher(cipher, key), iv, aad, plaintext, authsize)


def gcm_over(block: blocks.Block, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """Return ciphertext and tag of GCM over any 16-byte block cipher, for those no library has it for."""
    start = int.from_bytes(iv + b"\0\0\0\1", "big")
    ciphertext = xor(plaintext, skciphers.counter_stream(block, start + 1, len(plaintext)))
    hashed = _gcm_hash(block.encrypt(bytes(16)), aad, ciphertext)
    return ciphertext + xor(hashed, block.encrypt(start.to_bytes(16, "big")))[:authsize]


def _gcm_hash(key: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    return ghash(key, padded(aad) + padded(ciphertext) + lengths)


def _ccm(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """RFC 3610; the kernel's IV is its counter block: a byte L-1, a nonce of 15-L bytes, L bytes of zero."""
    cipher = name.parts[0].text
    library = _LIBRARY.get((cipher, len(key)))
    if library:
        return b"".join(gcrypt.ccm(library, key, iv[1 : 15 - iv[0]], aad, plaintext, authsize))
    return ccm_over(blocks.cipher(cipher, key), iv, aad, plaintext, authsize)


def ccm_over(block: blocks.Block, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """Return ciphertext and tag of CCM over any 16-byte block cipher, for those no library has it for."""
    width = iv[0] + 1
    flags = (64 if aad else 0) + 8 * ((authsize - 2) // 2) + iv[0]
    first = bytes([flags]) + iv[1 : 16 - width] + len(plaintext).to_bytes(width, "big")
    header = b""
    if aad:
        size = len(aad).to_bytes(2, "big") if len(aad) < 0xFF00 else b"\xff\xfe" + len(aad).to_bytes(4, "big")
        header = size + aad
        header += bytes(-len(header) % 16)
    body = first + header + plaintext + bytes(-len(plaintext) % 16)
    mac = skciphers.cbc_encrypt(block, bytes(16), body)[-16:]
    start = int.from_bytes(iv[: 16 - width] + bytes(width), "big")
    stream = skciphers.counter_stream(block, start, 16 + len(plaintext))
    return xor(plaintext, stream[16:]) + xor(mac, stream[:16])[:authsize]


def _rfc4106(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """GCM for ESP: the salt is the key's last 4 bytes; the AAD's last 8 are the IV, not authenticated."""
    _esp_aad(aad)
    return _gcm(name.parts[0], key[:-4], key[-4:] + iv, aad[:-8], plaintext, authsize)


def _rfc4543(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """GMAC for ESP: the payload stays plain and is authenticated after the AAD."""
    _esp_aad(aad)
    # Here the IV at the end of the AAD is authenticated too.
    return plaintext + _gcm(name.parts[0], key[:-4], key[-4:] + iv, aad + plaintext, b"", authsize)


def _rfc4309(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """CCM for ESP: a salt of 3 bytes, L = 4."""
    _esp_aad(aad)
    counter = b"\3" + key[-3:] + iv + bytes(4)
    return _ccm(name.parts[0], key[:-3], counter, aad[:-8], plaintext, authsize)


def _esp_aad(aad: bytes) -> None:
    if len(aad) not in (16, 20):
        raise ValueError(f"AAD of {len(aad)} bytes, not 16 or 20")


def _rfc7539(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """ChaCha20 and Poly1305, RFC 8439 section 2.8."""
    one_time = chacha.keystream(key, bytes(4) + iv, 32)
    ciphertext = skciphers.crypt("chacha20", key, b"\1\0\0\0" + iv, plaintext)

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 16)

    lengths = len(aad).to_bytes(8, "little") + len(ciphertext).to_bytes(8, "little")
    return ciphertext + poly.poly1305(one_time, padded(aad) + padded(ciphertext) + lengths)[:authsize]


def _rfc7539esp(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """RFC 7634: the salt is the key's last 4 bytes; the AAD's last 8 are the IV, not authenticated."""
    if len(aad) < 8:
        raise ValueError(f"AAD of {len(aad)} bytes, fewer than 8")
    return _rfc7539(name, key[:-4], key[-4:] + iv, aad[:-8], plaintext, authsize)


def _aegis128(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    return aegis.seal(key, iv, aad, plaintext, authsize)


def _mac(mac: Name, key: bytes, data: bytes) -> bytes:
    """The MAC inside authenc: a hash without a key is not authenticated by one."""
    return hashes.digest(mac.text, data, key)


def _authenc(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """Encrypt, then MAC over AAD and ciphertext (RFC 4303)."""
    authkey, enckey = split_key(key)
    ciphertext = skciphers.crypt(name.parts[1].text, enckey, iv, plaintext)
    return ciphertext + _mac(name.parts[0], authkey, aad + ciphertext)[:authsize]


def _authencesn(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """As authenc, with bytes 4 to 7 of the AAD, the high half of the sequence number, authenticated last.

    RFC 4303 2.2.1: that half is not sent.
    """
    if len(aad) < 8:
        raise ValueError(f"AAD of {len(aad)} bytes, fewer than 8")
    authkey, enckey = split_key(key)
    ciphertext = skciphers.crypt(name.parts[1].text, enckey, iv, plaintext)
    authenticated = aad[:4] + aad[8:] + ciphertext + aad[4:8]
    return ciphertext + _mac(name.parts[0], authkey, authenticated)[:authsize]


def _essiv(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """authenc whose cipher gets another IV, which also takes the place of the AAD's last bytes (dm-crypt)."""
    if len(aad) < len(iv):
        raise ValueError(f"AAD of {len(aad)} bytes has no room for an IV of {len(iv)}")
    secret = essiv_iv(name.text, key, iv)
    return seal(name.parts[0].text, key, secret, aad[: -len(iv)] + secret, plaintext, authsize)


def essiv_iv(name: str, key: bytes, iv: bytes) -> bytes:
    """Return the IV encrypted under the hash of both keys, the cipher's first, as ``essiv(authenc(…),…)`` does."""
    parsed = parse(name)
    authkey, enckey = split_key(key)
    salt = hashes.digest(parsed.parts[1].text, enckey + authkey)
    return blocks.cipher(parsed.parts[0].parts[1].parts[0].text, salt).encrypt(iv)


def _krb5enc(name: Name, key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """MAC over AAD and plaintext, then encrypt (RFC 3961)."""
    authkey, enckey = split_key(key)
    ciphertext = skciphers.crypt(name.parts[1].text, enckey, iv, plaintext)
    return ciphertext + _mac(name.parts[0], authkey, aad + plaintext)[:authsize]


_SEAL: dict[str, Seal] = {
    "gcm": _gcm,
    "ccm": _ccm,
    "rfc4106": _rfc4106,
    "rfc4309": _rfc4309,
    "rfc4543": _rfc4543,
    "rfc7539": _rfc7539,
    "rfc7539esp": _rfc7539esp,
    "aegis128": _aegis128,
    "authenc": _authenc,
    "authencesn": _authencesn,
    "essiv": _essiv,
    "krb5enc": _krb5enc,
}
