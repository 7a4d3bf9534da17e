"""Bytes as the kernel reads them: addresses, control messages, key blobs."""

from __future__ import annotations

import struct

from tests.afalg.constants import (
    AF_ALG,
    ALG_SET_AEAD_ASSOCLEN,
    ALG_SET_IV,
    ALG_SET_OP,
    SIZEOF_SOCKADDR_ALG,
    SOL_ALG,
)

_CMSGHDR = struct.Struct("@Nii")
_CMSG_ALIGN = struct.calcsize("@N")


def sockaddr_alg(type_: str, name: str | bytes, feat: int = 0, mask: int = 0, family: int = AF_ALG) -> bytes:
    """Return a ``struct sockaddr_alg`` (include/uapi/linux/if_alg.h).

    Args:
        type_: ``hash``, ``skcipher``, ``aead`` or ``rng``; cut to the field's 14 bytes.
        name: algorithm or driver. Up to 63 bytes give the classic 88-byte address; a longer name gives one
            that ends with the name's NUL (the kernel takes at most 128 bytes in all, 103 of them name).
        feat, mask: 32-bit.
    """
    text = name.encode() if isinstance(name, str) else name
    field = text + b"\0"
    head = struct.pack("@H14sII", family, type_.encode(), feat, mask)
    return (head + field).ljust(SIZEOF_SOCKADDR_ALG, b"\0")


def cmsg(level: int, type_: int, data: bytes, length: int | None = None) -> bytes:
    """Return one control message, padded for the next one to follow (cmsg(3)).

    Args:
        length: what cmsg_len says; None for the true length. Anything else makes it malformed on purpose.
    """
    true_length = _CMSGHDR.size + len(data)
    message = _CMSGHDR.pack(true_length if length is None else length, level, type_) + data
    return message + bytes(-len(message) % _CMSG_ALIGN)


def set_op(operation: int) -> bytes:
    """Return the control message ALG_SET_OP: ALG_OP_ENCRYPT or ALG_OP_DECRYPT, as a u32."""
    return cmsg(SOL_ALG, ALG_SET_OP, struct.pack("@I", operation))


def set_iv(iv: bytes, ivlen: int | None = None) -> bytes:
    """Return the control message ALG_SET_IV: ``struct af_alg_iv``, a u32 length and the bytes.

    Args:
        ivlen: what the length field says; None for the true length.
    """
    return cmsg(SOL_ALG, ALG_SET_IV, struct.pack("@I", len(iv) if ivlen is None else ivlen) + iv)


def set_assoclen(length: int) -> bytes:
    """Return the control message ALG_SET_AEAD_ASSOCLEN: bytes of associated data, as a u32."""
    return cmsg(SOL_ALG, ALG_SET_AEAD_ASSOCLEN, struct.pack("@I", length))


def authenc_key(authkey: bytes, enckey: bytes, *, rta_len: int = 8, rta_type: int = 1) -> bytes:
    """Return the key blob of authenc, authencesn and krb5enc.

    It is a ``struct rtattr`` of type CRYPTO_AUTHENC_KEYA_PARAM (1) holding the big-endian length of the
    cipher's key, then the authentication key, then the cipher's key (include/crypto/authenc.h).

    Args:
        rta_len, rta_type: header fields; other than 8 and 1 they make it malformed on purpose.
    """
    return struct.pack("@HH", rta_len, rta_type) + struct.pack(">I", len(enckey)) + authkey + enckey
