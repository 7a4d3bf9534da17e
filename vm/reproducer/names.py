"""Numbers by the names they have in C's headers: what a reader knows."""

from __future__ import annotations

import errno

SOL_ALG, SOL_SOCKET = 279, 1
AF_ALG, AF_NETLINK = 38, 16

ALG_OPTIONS = {
    1: "ALG_SET_KEY", 2: "ALG_SET_IV", 3: "ALG_SET_OP", 4: "ALG_SET_AEAD_ASSOCLEN", 5: "ALG_SET_AEAD_AUTHSIZE",
    6: "ALG_SET_DRBG_ENTROPY", 7: "ALG_SET_KEY_BY_KEY_SERIAL",
}  # fmt: skip
SOCKET_OPTIONS = {
    1: "SO_DEBUG", 2: "SO_REUSEADDR", 3: "SO_TYPE", 4: "SO_ERROR", 7: "SO_SNDBUF", 8: "SO_RCVBUF", 9: "SO_KEEPALIVE",
    12: "SO_PRIORITY", 13: "SO_LINGER", 16: "SO_PASSCRED", 17: "SO_PEERCRED", 18: "SO_RCVLOWAT", 19: "SO_SNDLOWAT",
    30: "SO_ACCEPTCONN", 32: "SO_SNDBUFFORCE", 33: "SO_RCVBUFFORCE", 38: "SO_PROTOCOL", 39: "SO_DOMAIN",
    46: "SO_BUSY_POLL", 60: "SO_ZEROCOPY",
}  # fmt: skip
MESSAGE_FLAGS = {
    0x1: "MSG_OOB", 0x2: "MSG_PEEK", 0x8: "MSG_CTRUNC", 0x10: "MSG_PROXY", 0x20: "MSG_TRUNC", 0x40: "MSG_DONTWAIT",
    0x80: "MSG_EOR", 0x100: "MSG_WAITALL", 0x2000: "MSG_ERRQUEUE", 0x4000: "MSG_NOSIGNAL", 0x8000: "MSG_MORE",
    0x10000: "MSG_WAITFORONE", 0x4000000: "MSG_ZEROCOPY",
}  # fmt: skip
SPLICE_FLAGS = {1: "SPLICE_F_MOVE", 2: "SPLICE_F_NONBLOCK", 4: "SPLICE_F_MORE", 8: "SPLICE_F_GIFT"}
OPEN_FLAGS = {
    0x40: "O_CREAT", 0x80: "O_EXCL", 0x200: "O_TRUNC", 0x400: "O_APPEND", 0x800: "O_NONBLOCK", 0x4000: "O_DIRECT",
    0x10000: "O_DIRECTORY", 0x20000: "O_NOFOLLOW",
}  # fmt: skip
PROTECTIONS = {1: "PROT_READ", 2: "PROT_WRITE", 4: "PROT_EXEC"}
MAPS = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 0x20: "MAP_ANONYMOUS"}
COMMANDS = {
    1: "F_GETFD", 2: "F_SETFD", 3: "F_GETFL", 4: "F_SETFL", 1031: "F_SETPIPE_SZ", 1032: "F_GETPIPE_SZ",
    1033: "F_ADD_SEALS", 1034: "F_GET_SEALS",
}  # fmt: skip
SEALS = {1: "F_SEAL_SEAL", 2: "F_SEAL_SHRINK", 4: "F_SEAL_GROW", 8: "F_SEAL_WRITE", 16: "F_SEAL_FUTURE_WRITE"}
POLLS = {
    1: "POLLIN", 2: "POLLPRI", 4: "POLLOUT", 8: "POLLERR", 16: "POLLHUP", 32: "POLLNVAL", 64: "POLLRDNORM",
    128: "POLLRDBAND", 256: "POLLWRNORM", 512: "POLLWRBAND", 0x2000: "POLLRDHUP",
}  # fmt: skip
WHENCE = {0: "SEEK_SET", 1: "SEEK_CUR", 2: "SEEK_END"}
TYPES = {1: "SOCK_STREAM", 2: "SOCK_DGRAM", 3: "SOCK_RAW", 4: "SOCK_RDM", 5: "SOCK_SEQPACKET", 6: "SOCK_DCCP"}
FAMILIES = {1: "AF_UNIX", 2: "AF_INET", 16: "AF_NETLINK", 38: "AF_ALG"}
SHUTDOWNS = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}
KEYRINGS = {
    -1: "KEY_SPEC_THREAD_KEYRING", -2: "KEY_SPEC_PROCESS_KEYRING", -3: "KEY_SPEC_SESSION_KEYRING",
    -4: "KEY_SPEC_USER_KEYRING", -5: "KEY_SPEC_USER_SESSION_KEYRING",
}  # fmt: skip
IOCTLS = {0x541B: "FIONREAD", 0x5421: "FIONBIO", 0x5411: "TIOCOUTQ"}
LEVELS = {SOL_ALG: "SOL_ALG", SOL_SOCKET: "SOL_SOCKET"}

_NO_C_NAME = {524: "ENOTSUPP"}
ERRNO_BY_NAME = {name: number for number, name in errno.errorcode.items()}
ERRNO_BY_NAME |= {"EOPNOTSUPP": errno.EOPNOTSUPP, "ENOTSUPP": 524, "success": 0}


def flags(value: int, known: dict[int, str]) -> str:
    """Return flags joined by ``|``; what has no name as a number; 0 for none."""
    words = []
    for bit, name in sorted(known.items()):
        if value & bit == bit:
            words.append(name)
            value &= ~bit
    if value or not words:
        words.append(hex(value) if value > 9 else str(value))
    return " | ".join(words)


def one(value: int, known: dict[int, str]) -> str:
    """Return the name of a number, or the number."""
    return known.get(value, str(value))


def error(number: int) -> str:
    """Return an errno in C: ``EINVAL``; a number of the kernel's own as it is."""
    return errno.errorcode.get(number, str(number))


def error_word(number: int) -> str:
    """Return an errno for people."""
    return errno.errorcode.get(number, _NO_C_NAME.get(number, f"errno {number}"))
