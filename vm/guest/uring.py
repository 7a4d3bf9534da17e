"""Operations of io_uring by their numbers: enum io_uring_op, include/uapi/linux/io_uring.h."""

from __future__ import annotations

READV, WRITEV, READ_FIXED, WRITE_FIXED, POLL_ADD, SENDMSG, RECVMSG = 1, 2, 4, 5, 6, 9, 10
ACCEPT, ASYNC_CANCEL, LINK_TIMEOUT, CLOSE, READ, WRITE, SEND, RECV = 13, 14, 15, 19, 22, 23, 26, 27
SPLICE, PROVIDE_BUFFERS, SOCKET, COMMAND, SEND_ZC, BIND = 30, 31, 45, 46, 47, 56

NAMES = {
    0: "NOP", READV: "READV", WRITEV: "WRITEV", READ_FIXED: "READ_FIXED", WRITE_FIXED: "WRITE_FIXED",
    POLL_ADD: "POLL_ADD", SENDMSG: "SENDMSG", RECVMSG: "RECVMSG", ACCEPT: "ACCEPT", ASYNC_CANCEL: "ASYNC_CANCEL",
    LINK_TIMEOUT: "LINK_TIMEOUT", CLOSE: "CLOSE", READ: "READ", WRITE: "WRITE", SEND: "SEND", RECV: "RECV",
    SPLICE: "SPLICE", PROVIDE_BUFFERS: "PROVIDE_BUFFERS", SOCKET: "SOCKET", COMMAND: "URING_CMD", SEND_ZC: "SEND_ZC",
    BIND: "BIND",
}  # fmt: skip

NEWER = (COMMAND, SEND_ZC, BIND)
"""What headers of Linux 5.19 do not have: a program says it by number."""

READS = (WRITE_FIXED, WRITE, SEND, SEND_ZC)
"""Operations that read the memory at their address."""

WRITES = (READ, RECV, READ_FIXED)
"""Operations that write into the memory at their address."""

MESSAGES = {SENDMSG: "m", RECVMSG: "M", WRITEV: "v", READV: "V"}
"""Operations whose address is of a msghdr or an iovec: how the record has that (vm/guest/syscalls.py)."""

WITHOUT_DESCRIPTOR = (PROVIDE_BUFFERS, SOCKET)
"""Operations whose ``fd`` is none."""

SELECT = 32
"""Flag of a request: the kernel takes a buffer of a group (IOSQE_BUFFER_SELECT)."""

GETSOCKOPT, SETSOCKOPT = 2, 3
"""Commands of a socket: enum io_uring_socket_op."""
