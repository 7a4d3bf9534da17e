"""Every other system call a descriptor can be given to: none of them does anything to an AF_ALG socket."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import mmap
import os
import select
import socket
import stat
import subprocess
import termios
from collections.abc import Callable, Iterator

import pytest

from tests.afalg import Pipe, Socket, sendfile, tee
from tests.afalg.buffers import set_send_buffer
from tests.afalg.constants import AF_ALG, F_SETPIPE_SZ, SOCK_SEQPACKET
from tests.errors.raises import raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import (
    SKCIPHER,
    SOCKETS,
    Subject,
    each_keyed_type,
    each_queued_type,
    each_socket,
    each_type,
    socket_of,
)

SIOCATMARK, SIOCGSTAMP, UNKNOWN_IOCTL = 0x8905, 0x8906, 0xDEAD


@contextlib.contextmanager
def python_socket(sock: Socket) -> Iterator[socket.socket]:
    """Give the same socket as Python's own class, for the calls the binding has no method for."""
    duplicate = socket.socket(AF_ALG, SOCK_SEQPACKET, 0, fileno=os.dup(sock.fd))
    try:
        yield duplicate
    finally:
        duplicate.close()


def method(call: Callable[[socket.socket], object]) -> Callable[[Socket], None]:
    def run(sock: Socket) -> None:
        with python_socket(sock) as duplicate:
            call(duplicate)

    return run


def ioctl(request: int) -> Callable[[Socket], None]:
    return lambda sock: fcntl.ioctl(sock.fd, request, bytearray(64))


def into_a_pipe(call: Callable[[Socket, Pipe], object]) -> Callable[[Socket], None]:
    def run(sock: Socket) -> None:
        with Pipe() as pipe:
            call(sock, pipe)

    return run


def sendfile_from(sock: Socket) -> None:
    with Socket.create() as other:
        sendfile(other, sock, 16)


CALLS: dict[str, tuple[Callable[[Socket], object], int]] = {
    "listen": (method(lambda s: s.listen(1)), errno.EOPNOTSUPP),
    "connect": (method(lambda s: s.connect(("hash", "sha256"))), errno.EOPNOTSUPP),
    "getsockname": (method(lambda s: s.getsockname()), errno.EOPNOTSUPP),
    "getpeername": (method(lambda s: s.getpeername()), errno.EOPNOTSUPP),
    "shutdown-read": (method(lambda s: s.shutdown(socket.SHUT_RD)), errno.EOPNOTSUPP),
    "shutdown-write": (method(lambda s: s.shutdown(socket.SHUT_WR)), errno.EOPNOTSUPP),
    "shutdown-both": (method(lambda s: s.shutdown(socket.SHUT_RDWR)), errno.EOPNOTSUPP),
    "mmap": (lambda s: mmap.mmap(s.fd, 4096).close(), errno.ENODEV),
    "mmap-to-read": (lambda s: mmap.mmap(s.fd, 4096, prot=mmap.PROT_READ).close(), errno.ENODEV),
    "lseek": (lambda s: os.lseek(s.fd, 0, os.SEEK_SET), errno.ESPIPE),
    "pread": (lambda s: os.pread(s.fd, 16, 0), errno.ESPIPE),
    "pwrite": (lambda s: os.pwrite(s.fd, b"data", 0), errno.ESPIPE),
    "preadv": (lambda s: os.preadv(s.fd, [bytearray(16)], 0), errno.ESPIPE),
    "pwritev": (lambda s: os.pwritev(s.fd, [b"data"], 0), errno.ESPIPE),
    "ioctl-fionread": (ioctl(termios.FIONREAD), errno.EOPNOTSUPP),
    "ioctl-tiocoutq": (ioctl(termios.TIOCOUTQ), errno.EOPNOTSUPP),
    "ioctl-siocatmark": (ioctl(SIOCATMARK), errno.EOPNOTSUPP),
    "ioctl-unknown": (ioctl(UNKNOWN_IOCTL), errno.EOPNOTSUPP),
    "ioctl-tcgets": (ioctl(termios.TCGETS), errno.EOPNOTSUPP),
    "ioctl-siocgstamp": (ioctl(SIOCGSTAMP), errno.ENOTTY),
    "fcntl-pipe-size": (lambda s: fcntl.fcntl(s.fd, F_SETPIPE_SZ, 4096), errno.EBADF),
    "fcntl-seals": (lambda s: fcntl.fcntl(s.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE), errno.EINVAL),
    "fcntl-lease": (lambda s: fcntl.fcntl(s.fd, fcntl.F_SETLEASE, fcntl.F_RDLCK), errno.EINVAL),
    "fsync": (lambda s: os.fsync(s.fd), errno.EINVAL),
    "fdatasync": (lambda s: os.fdatasync(s.fd), errno.EINVAL),
    "ftruncate": (lambda s: os.ftruncate(s.fd, 0), errno.EINVAL),
    "fallocate": (lambda s: os.posix_fallocate(s.fd, 0, 4096), errno.ENODEV),
    "fchdir": (lambda s: os.fchdir(s.fd), errno.ENOTDIR),
    "open-by-proc": (lambda s: os.close(os.open(f"/proc/self/fd/{s.fd}", os.O_RDONLY)), errno.ENXIO),
    "tee": (into_a_pipe(lambda s, pipe: tee(s, pipe.write_end, 16)), errno.EINVAL),
    "tee-to": (into_a_pipe(lambda s, pipe: tee(pipe.read_end, s, 16)), errno.EINVAL),
    "sendfile-from": (sendfile_from, errno.EINVAL),
}


@returns("not-a-call")
@pytest.mark.parametrize("name", CALLS)
def test_call_is_refused_by_every_kind_of_socket(name: str) -> None:
    """By each with the same errno; the socket's own work goes on.

    Source: sock_no_… in net/core/sock.c, socket_file_ops in net/socket.c.
    """
    call, error = CALLS[name]
    for kind in SOCKETS:
        with socket_of(kind) as sock, raises_errno(error, why=kind):
            call(sock)


@each_keyed_type
def test_refused_calls_leave_a_request_as_it_was(subject: Subject) -> None:
    """All of them, in the middle of one (sock_no_… of all proto_ops, net/core/sock.c)."""
    with subject.open() as transform:
        transform.op.sendmsg([subject.message[:21]], subject.control, 0x8000)
        for call, error in CALLS.values():
            with raises_errno(error):
                call(transform.op)
        transform.op.send(subject.message[21:])
        subject.finish(transform.op)


@returns("not-a-call")
@each_socket
def test_copy_file_range_is_refused(kind: str) -> None:
    """copy_file_range(2): EINVAL unless both are regular files (generic_file_rw_checks, fs/read_write.c)."""
    with socket_of(kind) as sock, socket_of("skcipher-op") as other, raises_errno(errno.EINVAL):
        os.copy_file_range(sock.fd, other.fd, 16)


@each_type
def test_descriptor_is_a_socket(subject: Subject) -> None:
    """fstat(2) says S_IFSOCK, and /proc/self/fd has the inode's name from sockfs_dname (net/socket.c; proc(5))."""
    with subject.open() as transform:
        for sock in (transform.tfm, transform.op):
            status = os.fstat(sock.fd)
            assert stat.S_ISSOCK(status.st_mode)
            assert os.readlink(f"/proc/self/fd/{sock.fd}") == f"socket:[{status.st_ino}]"


# Descriptors ---------------------------------------------------------------------------------------------------------


@each_keyed_type
def test_duplicates_share_the_request(subject: Subject) -> None:
    """dup(2): what one begins the other finishes, and it outlives the first."""
    with subject.open() as transform, Socket(os.dup(transform.op.fd)) as duplicate:
        subject.begin(transform.op)
        transform.close()
        subject.finish(duplicate)
        subject.works(duplicate)


@each_keyed_type
def test_op_socket_outlives_its_tfm_socket(subject: Subject) -> None:
    """af_alg_accept takes a reference to the tfm socket, which af_alg_release_parent gives back."""
    with subject.open() as transform:
        op = transform.op
        transform.tfm.close()
        subject.works(op)


@each_keyed_type
def test_descriptor_passed_over_a_unix_socket_shares_the_request(subject: Subject) -> None:
    """SCM_RIGHTS, unix(7)."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with subject.open() as transform, left, right:
        subject.begin(transform.op)
        socket.send_fds(left, [b"x"], [transform.op.fd])
        _, descriptors, _, _ = socket.recv_fds(right, 1, 1)
        with Socket(descriptors[0]) as passed:
            subject.finish(passed)
        subject.works(transform.op)


@each_keyed_type
def test_child_process_shares_the_request(subject: Subject) -> None:
    """fork(2): the child finishes what the parent began."""
    with subject.open() as transform:
        subject.begin(transform.op)
        child = os.fork()
        if child == 0:
            try:
                subject.finish(transform.op)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        subject.works(transform.op)


@each_type
@pytest.mark.parametrize("kept", [False, True], ids=["close-on-exec", "kept"])
def test_descriptor_over_exec(subject: Subject, kept: bool) -> None:
    """execve(2) closes what is close-on-exec and nothing else."""
    with subject.open() as transform:
        fd = transform.op.fd
        os.set_inheritable(fd, kept)
        shell = subprocess.run(["sh", "-c", f"test -S /proc/self/fd/{fd}"], close_fds=False, timeout=60)
        assert (shell.returncode == 0) == kept
        subject.works(transform.op)


# fcntl and readiness -------------------------------------------------------------------------------------------------


@each_type
def test_epoll_takes_every_socket(subject: Subject) -> None:
    """Those without a poll method are never ready (epoll(7); sock_poll in net/socket.c)."""
    with subject.open() as transform, contextlib.closing(select.epoll()) as epoll:
        epoll.register(transform.tfm.fd, select.EPOLLIN | select.EPOLLOUT)
        assert epoll.poll(0) == []


@each_type
def test_select_tells_what_poll_does(subject: Subject) -> None:
    """select(2) asks the same method of the socket."""
    with subject.open() as transform:
        for sock in (transform.tfm, transform.op):
            polled = sock.poll()
            readable, writable, urgent = select.select([sock], [sock], [sock], 0)
            assert bool(readable) == bool(polled & select.POLLIN)
            assert bool(writable) == bool(polled & select.POLLOUT)
            assert not urgent


@pytest.mark.parametrize("kind", [k for k in SOCKETS if k.split("-")[0] in ("unbound", "hash", "rng") or "tfm" in k])
def test_socket_without_poll_method_is_never_ready(kind: str) -> None:
    """sock_poll (net/socket.c) gives 0 without proto_ops.poll, which only skcipher and aead op sockets have."""
    with socket_of(kind) as sock:
        assert sock.poll() == 0


def test_poll_of_a_queue_tells_room_and_data() -> None:
    """IN unless a message is unfinished and nothing is queued; OUT while a page fits (af_alg_poll)."""
    with SKCIPHER.open() as cipher:
        readable, writable = select.POLLIN | select.POLLRDNORM, select.POLLOUT | select.POLLWRNORM
        op = cipher.op
        assert op.poll() & (readable | writable) == readable | writable
        op.sendmsg([], SKCIPHER.control, 0x8000)
        assert op.poll() & (readable | writable) == writable
        set_send_buffer(op, 4096)
        op.send(bytes(4096), 0x8000)
        assert op.poll() & (readable | writable) == readable


@each_keyed_type
def test_fcntl_of_status_flags(subject: Subject) -> None:
    """fcntl(2) F_SETFL and ioctl FIONBIO set flags of the open file description; requests do not notice."""
    with subject.open() as transform:
        fd = transform.op.fd
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) == os.O_NONBLOCK | os.O_APPEND
        ready = array.array("i", [0])
        fcntl.ioctl(fd, 0x5421, ready)  # FIONBIO
        assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
        subject.works(transform.op)


@each_keyed_type
def test_read_and_write_are_recv_and_send(subject: Subject) -> None:
    """With the operation and IV of the control data before; in one piece or several (readv, writev).

    Source: sock_read_iter and sock_write_iter in net/socket.c.
    """
    result = subject.result or b""
    with subject.open() as transform:
        fd = transform.op.fd
        transform.op.sendmsg([], subject.control, 0x8000)
        assert os.write(fd, subject.message) == len(subject.message)
        assert os.read(fd, len(result)) == result
        transform.op.sendmsg([], subject.control, 0x8000)
        assert os.writev(fd, [subject.message[:5], b"", subject.message[5:]]) == len(subject.message)
        first, second = bytearray(7), bytearray(len(result) - 7)
        assert os.readv(fd, [first, second]) == len(result)
        assert first + second == result


@returns("wait-for-data", "not-a-call")
@each_queued_type
def test_read_that_shall_not_wait(subject: Subject) -> None:
    """RWF_NOWAIT of preadv2(2) is MSG_DONTWAIT, where sockets take it; an unknown flag they never do."""
    with subject.open() as transform:
        fd = transform.op.fd
        with raises_errno(errno.EAGAIN, errno.EOPNOTSUPP):
            os.preadv(fd, [bytearray(16)], -1, os.RWF_NOWAIT)
        with raises_errno(errno.EOPNOTSUPP):
            os.preadv(fd, [bytearray(16)], -1, 1 << 30)
        subject.begin(transform.op)
        result = bytearray(len(subject.result or b""))
        assert os.preadv(fd, [result], -1) == len(result)
        assert result == subject.result


@returns("not-on-tfm")
@pytest.mark.parametrize("kind", [k for k in SOCKETS if k == "unbound" or k.endswith("-tfm")])
def test_read_and_write_of_a_tfm_socket_are_eopnotsupp(kind: str) -> None:
    """alg_proto_ops has sock_no_sendmsg and sock_no_recvmsg, which read(2) and write(2) end in too."""
    with socket_of(kind) as sock:
        with raises_errno(errno.EOPNOTSUPP):
            os.read(sock.fd, 16)
        with raises_errno(errno.EOPNOTSUPP):
            os.write(sock.fd, b"data")


@returns("hash-nokey", "skcipher-nokey", "aead-nokey")
@each_keyed_type
def test_read_and_write_without_a_key_are_enokey(subject: Subject) -> None:
    """hash_check_key, skcipher_check_key and aead_check_key come first, for a write of no bytes as well."""
    with subject.open_without_key() as transform:
        for call in (lambda fd: os.read(fd, 16), lambda fd: os.write(fd, b"data"), lambda fd: os.write(fd, b"")):
            with raises_errno(errno.ENOKEY):
                call(transform.op.fd)
        transform.tfm.set_key(subject.key or b"")
        subject.works(transform.op)
