"""Numbers of the AF_ALG ABI, by the names they have in the kernel's headers.

Sources: include/uapi/linux/if_alg.h, include/linux/socket.h, include/uapi/asm-generic/socket.h,
include/linux/splice.h and include/uapi/linux/fcntl.h of the kernel.
"""

from __future__ import annotations

AF_ALG = 38
SOCK_SEQPACKET = 5
SOCK_NONBLOCK = 0o4000
SOCK_CLOEXEC = 0o2000000
SOL_SOCKET = 1
SOL_ALG = 279

SO_SNDBUF = 7
SO_RCVBUF = 8
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

# Options of the tfm socket (setsockopt) and control messages of the op socket share one number space.
ALG_SET_KEY = 1
ALG_SET_IV = 2
ALG_SET_OP = 3
ALG_SET_AEAD_ASSOCLEN = 4
ALG_SET_AEAD_AUTHSIZE = 5
ALG_SET_DRBG_ENTROPY = 6
ALG_SET_KEY_BY_KEY_SERIAL = 7

ALG_OP_DECRYPT = 0
ALG_OP_ENCRYPT = 1

CRYPTO_ALG_KERN_DRIVER_ONLY = 0x1000

MSG_PEEK = 0x2
MSG_TRUNC = 0x20
MSG_DONTWAIT = 0x40
MSG_MORE = 0x8000
MSG_SPLICE_PAGES = 0x8000000
"""The kernel's own, for sendmsg by reference (since Linux 6.5): user space may not ask for that."""

SPLICE_F_MOVE = 1
SPLICE_F_NONBLOCK = 2
SPLICE_F_MORE = 4
SPLICE_F_GIFT = 8

F_SETPIPE_SZ = 1031

SIZEOF_SOCKADDR_ALG = 88
"""Bytes of the classic ``struct sockaddr_alg``, whose name field has 64 bytes."""

NAME_OFFSET = 24
"""Where ``salg_name`` begins."""

RNG_MAX_READ = 128
"""The most bytes one recv of an rng gives (MAXSIZE in crypto/algif_rng.c)."""
