"""libgcrypt, the library every Debian has: block ciphers and hashes that no Python package covers so widely.

The one place outside tests/afalg that uses ctypes. The library is opened when first used.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_INITIALIZATION_FINISHED = 38
_ECB = 1
_CBC = 3
_STREAM = 4
_GCM = 9
_CCM = 8
_ALLOW_WEAK_KEY = 79
_WEAK_KEY = 43

_FIPS_ENABLED = Path("/proc/sys/crypto/fips_enabled")
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000


class GcryptError(Exception):
    """libgcrypt refused: the algorithm is not in it, or the key does not fit."""


def digest(name: str, data: bytes) -> bytes:
    """Return the digest of ``data`` by the library's name of the hash (``RIPEMD160``, ``STRIBOG512``)."""
    library = _library()
    algorithm = library.gcry_md_map_name(name.encode())
    if not algorithm:
        raise GcryptError(f"libgcrypt has no hash {name}")
    out = ctypes.create_string_buffer(library.gcry_md_get_algo_dlen(algorithm))
    library.gcry_md_hash_buffer(algorithm, out, data, len(data))
    return out.raw


def ecb(name: str, key: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    """Return whole blocks en- or decrypted one by one, by the library's name of the cipher (``AES192``)."""
    return _crypt(name, _ECB, key, b"", data, decrypt)


def cbc(name: str, key: bytes, iv: bytes, data: bytes, *, decrypt: bool = False) -> bytes:
    """Return whole blocks en- or decrypted in CBC mode."""
    return _crypt(name, _CBC, key, iv, data, decrypt)


def stream(name: str, key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return ``data`` XORed with the keystream of a stream cipher (``CHACHA20``, ``SALSA20``, ``ARCFOUR``)."""
    return _crypt(name, _STREAM, key, iv, data, False)


def gcm(name: str, key: bytes, iv: bytes, aad: bytes, plaintext: bytes) -> tuple[bytes, bytes]:
    """Return ciphertext and 16-byte tag (NIST SP 800-38D)."""
    with _Cipher(name, _GCM, key) as cipher:
        cipher.set_iv(iv)
        cipher.authenticate(aad)
        return cipher.crypt(plaintext, False), cipher.tag(16)


def ccm(name: str, key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, taglen: int) -> tuple[bytes, bytes]:
    """Return ciphertext and tag (NIST SP 800-38C); the nonce has 7 to 13 bytes."""
    with _Cipher(name, _CCM, key) as cipher:
        cipher.set_iv(nonce)
        cipher.ccm_lengths(len(plaintext), len(aad), taglen)
        cipher.authenticate(aad)
        return cipher.crypt(plaintext, False), cipher.tag(taglen)


class _Cipher:
    def __init__(self, name: str, mode: int, key: bytes) -> None:
        self._library = _library()
        self._handle = ctypes.c_void_p()
        algorithm = self._library.gcry_cipher_map_name(name.encode())
        if not algorithm:
            raise GcryptError(f"libgcrypt has no cipher {name}")
        self._checked(self._library.gcry_cipher_open(ctypes.byref(self._handle), algorithm, mode, 0))
        # Published answers use weak keys too, and the kernel takes them. The key is set, only the result complains.
        self._library.gcry_cipher_ctl(self._handle, _ALLOW_WEAK_KEY, None, 1)
        error = self._library.gcry_cipher_setkey(self._handle, key, len(key))
        self._checked(0 if error & 0xFFFF == _WEAK_KEY else error)

    def set_iv(self, iv: bytes) -> None:
        self._checked(self._library.gcry_cipher_setiv(self._handle, iv, len(iv)))

    def authenticate(self, aad: bytes) -> None:
        self._checked(self._library.gcry_cipher_authenticate(self._handle, aad, len(aad)))

    def ccm_lengths(self, plaintext: int, aad: int, tag: int) -> None:
        lengths = (ctypes.c_uint64 * 3)(plaintext, aad, tag)
        set_ccm_lengths = 69
        self._checked(self._library.gcry_cipher_ctl(self._handle, set_ccm_lengths, lengths, 24))

    def crypt(self, data: bytes, decrypt: bool) -> bytes:
        if not data:
            return b""
        out = ctypes.create_string_buffer(len(data))
        call = self._library.gcry_cipher_decrypt if decrypt else self._library.gcry_cipher_encrypt
        self._checked(call(self._handle, out, len(data), data, len(data)))
        return out.raw

    def tag(self, size: int) -> bytes:
        out = ctypes.create_string_buffer(size)
        self._checked(self._library.gcry_cipher_gettag(self._handle, out, size))
        return out.raw

    def _checked(self, error: int) -> None:
        if error:
            raise GcryptError(self._library.gcry_strerror(error).decode())

    def __enter__(self) -> _Cipher:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.gcry_cipher_close(self._handle)


def _crypt(name: str, mode: int, key: bytes, iv: bytes, data: bytes, decrypt: bool) -> bytes:
    with _Cipher(name, mode, key) as cipher:
        if iv:
            cipher.set_iv(iv)
        return cipher.crypt(data, decrypt)


@functools.cache
def _library() -> Any:
    try:
        library = _outside_of_fips_mode(_load)
    except OSError as error:
        raise GcryptError("libgcrypt.so.20 not found; install the package libgcrypt20") from error
    size, pointer, data = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p
    library.gcry_strerror.restype = ctypes.c_char_p
    library.gcry_md_hash_buffer.argtypes = [ctypes.c_int, pointer, data, size]
    library.gcry_md_hash_buffer.restype = None
    library.gcry_cipher_open.argtypes = [pointer, ctypes.c_int, ctypes.c_int, ctypes.c_uint]
    library.gcry_cipher_close.argtypes = [pointer]
    library.gcry_cipher_close.restype = None
    library.gcry_cipher_ctl.argtypes = [pointer, ctypes.c_int, pointer, size]
    for name in ("setkey", "setiv", "authenticate", "gettag"):
        getattr(library, f"gcry_cipher_{name}").argtypes = [pointer, data, size]
    for name in ("encrypt", "decrypt"):
        getattr(library, f"gcry_cipher_{name}").argtypes = [pointer, pointer, size, data, size]
    return library


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL("libgcrypt.so.20")
    library.gcry_check_version(None)
    library.gcry_control(_INITIALIZATION_FINISHED, 0)
    return library


def _outside_of_fips_mode(load: Callable[[], ctypes.CDLL]) -> ctypes.CDLL:
    """Load the library so that it does not follow the kernel into FIPS mode, where it would refuse what a kernel has.

    It reads a file when it is loaded or initialized, and whatever it is told (GCRYCTL_NO_FIPS_MODE), the file counts.
    So it is loaded by a thread with a mount namespace of its own, in which that file is empty.
    Whoever has no right to that gets the library as it is.
    """
    try:
        if not int(_FIPS_ENABLED.read_text()):
            return load()
    except (OSError, ValueError):
        return load()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_hide_fips_mode).result()
        return thread.submit(load).result()


def _hide_fips_mode() -> None:
    """Have this thread, and no other, see an empty file in place of the one that tells of FIPS mode."""
    libc = ctypes.CDLL(None)
    libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]
    if libc.unshare(_CLONE_NEWNS) == 0 and libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) == 0:
        libc.mount(b"/dev/null", bytes(_FIPS_ENABLED), None, _MS_BIND, None)
