"""Where the answer of an oracle comes from, in words."""

from __future__ import annotations

from tests.oracle.names import Name, parse

_HASHLIB = ("md5", "sha1", "sha2", "sha3", "sha5", "blake2")
_GCRYPT: tuple[str, ...] = (
    "md4",
    "sm3",
    "rmd160",
    "tgr",
    "wp",
    "streebog",
    "aes",
    "camellia",
    "des",
    "serpent",
    "tnepres",
    "twofish",
)
_GCRYPT += ("sm4", "seed", "blowfish", "cast5", "chacha20", "xchacha20", "salsa20")
_LIBRARY_MODES = ("ecb", "cbc", "gcm", "ccm")


def source(name: str) -> str:
    """Return what computes the expected result of an algorithm: ``hashlib``, ``libgcrypt``, ``own code over …``.

    ``own code`` is that of tests/oracle, which tests/selftests compare with published answers.
    """
    parsed = parse(name)
    libraries = sorted(set(_libraries(parsed)))
    own = _own(parsed)
    if not own:
        return " and ".join(libraries)
    return f"own code over {' and '.join(libraries)}" if libraries else "own code"


def _libraries(name: Name) -> list[str]:
    found = [library for part in name.parts for library in _libraries(part)]
    if name.head.startswith(_HASHLIB):
        found.append("hashlib")
    elif name.head == "aria":
        found.append("libcrypto")
    elif name.head == "crc32":
        found.append("zlib")
    elif name.head.startswith(_GCRYPT) or name.head == "rfc7539":
        found.append("libgcrypt")
    return found


def _own(name: Name) -> bool:
    """Tell whether any part is computed by code of this project."""
    libraries = _libraries(name)
    if not name.parts:
        return not libraries
    # libcrypto is asked for single blocks only.
    by_library = name.head in _LIBRARY_MODES and "libcrypto" not in libraries
    return not by_library or any(_own(part) for part in name.parts)
