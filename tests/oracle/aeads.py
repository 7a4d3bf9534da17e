"""Authenticated encryption, with the kernel's layout of key, IV and AAD."""

from __future__ import annotations

from tests.oracle import gcrypt, hashes, modes


def gcm(key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int = 16) -> bytes:
    """Return ciphertext and tag of ``gcm(aes)``; the kernel's IV is the 12-byte nonce."""
    library = {16: "AES", 24: "AES192", 32: "AES256"}[len(key)]
    ciphertext, tag = gcrypt.gcm(library, key, iv, aad, plaintext)
    return ciphertext + tag[:authsize]


def ccm(key: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int) -> bytes:
    """Return ciphertext and tag of ``ccm(aes)``.

    The kernel's IV is RFC 3610's counter block: a byte L-1, the nonce of 15-L bytes, L bytes of counter.
    """
    library = {16: "AES", 24: "AES192", 32: "AES256"}[len(key)]
    nonce = iv[1 : 15 - iv[0]]
    return b"".join(gcrypt.ccm(library, key, nonce, aad, plaintext, authsize))


def authenc_cbc(
    mac: str, authkey: bytes, name: str, enckey: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int
) -> bytes:
    """Return ciphertext and tag of ``authenc(mac,cbc(name))``: encrypt, then MAC over AAD and ciphertext."""
    ciphertext = modes.crypt("cbc", name, enckey, iv, plaintext)
    return ciphertext + hashes.digest(mac, aad + ciphertext, authkey)[:authsize]


def authencesn_cbc(
    mac: str, authkey: bytes, name: str, enckey: bytes, iv: bytes, aad: bytes, plaintext: bytes, authsize: int
) -> bytes:
    """Return ciphertext and tag of ``authencesn(mac,cbc(name))``.

    As authenc, but the high half of the extended sequence number, bytes 4 to 7 of the AAD, is
    authenticated after the ciphertext (RFC 4303 2.2.1: it is not sent).
    """
    ciphertext = modes.crypt("cbc", name, enckey, iv, plaintext)
    authenticated = aad[:4] + aad[8:] + ciphertext + aad[4:8]
    return ciphertext + hashes.digest(mac, authenticated, authkey)[:authsize]
