"""OpenSSL's libcrypto, for the block ciphers libgcrypt lacks."""

from __future__ import annotations

import ctypes
import functools
from typing import Any


class LibcryptoError(Exception):
    """libcrypto is missing, or has no such cipher."""


def ecb(name: str, key: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    """Return whole blocks en- or decrypted one by one, by the library's name of the cipher (``ARIA-128-ECB``)."""
    library = _library()
    cipher = library.EVP_CIPHER_fetch(None, name.encode(), None)
    if not cipher:
        raise LibcryptoError(f"libcrypto has no cipher {name}")
    context = library.EVP_CIPHER_CTX_new()
    try:
        out, length = ctypes.create_string_buffer(len(data) + 32), ctypes.c_int()
        ready = library.EVP_CipherInit_ex2(context, cipher, key, None, 0 if decrypt else 1, None)
        library.EVP_CIPHER_CTX_set_padding(context, 0)
        if not ready or not library.EVP_CipherUpdate(context, out, ctypes.byref(length), data, len(data)):
            raise LibcryptoError(f"libcrypto refuses {name} with a key of {len(key)} bytes")
        return out.raw[: length.value]
    finally:
        library.EVP_CIPHER_CTX_free(context)
        library.EVP_CIPHER_free(cipher)


@functools.cache
def _library() -> Any:
    try:
        library = ctypes.CDLL("libcrypto.so.3")
    except OSError as error:
        raise LibcryptoError("libcrypto.so.3 not found; install the package libssl3") from error
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    library.EVP_CIPHER_fetch.argtypes = [pointer, text, text]
    library.EVP_CIPHER_fetch.restype = pointer
    library.EVP_CIPHER_CTX_new.restype = pointer
    library.EVP_CipherInit_ex2.argtypes = [pointer, pointer, text, text, number, pointer]
    library.EVP_CIPHER_CTX_set_padding.argtypes = [pointer, number]
    library.EVP_CipherUpdate.argtypes = [pointer, pointer, pointer, text, number]
    library.EVP_CIPHER_CTX_free.argtypes = [pointer]
    library.EVP_CIPHER_free.argtypes = [pointer]
    return library
