"""System calls by number and by what their arguments point to, for whoever looks on (vm/guest/recorder.py).

Source: the kernel's tables, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h; what the
arguments are, section 2 of the manual. A letter an argument:

==========  ==================================================================================
``i``       a number of 32 bits, signed; ``f`` the same, a descriptor; ``z`` one of the word's size
``p``       a pointer that is kept as the number it is
``s``       a string, read when the call begins
``<n``      memory that the call reads, as long as argument n says; ``>n`` that it writes, as far as its result says
``v n``     an iovec that is read, of as many parts as argument n says; ``V n`` one that is written
``m``, ``M``  a msghdr for sendmsg, and for recvmsg; ``w n``, ``W n`` n mmsghdr
``o``       a loff_t that is read; ``=n`` n bytes that are written; ``@n`` n bytes that are read
``g``       memory that is written, whose length is behind the pointer that follows
``P n``     n pollfd; ``I n`` n pointers to iocb; ``E`` io_event, as many as the result says, ``e`` epoll_event
==========  ==================================================================================
"""

from __future__ import annotations

import platform
import re
from typing import NamedTuple

from vm.base import arch


class Call(NamedTuple):
    """A system call.

    Attributes:
        name: its name in the manual.
        arguments: a letter each, with the number that belongs to it.
    """

    name: str
    arguments: tuple[tuple[str, int], ...]


_TABLE = """\
read 0 63 f >2 z
write 1 64 f <2 z
open 2 - s i i
close 3 57 f
poll 7 - P1 z i
lseek 8 62 f z i
mmap 9 222 p z i i f z
mprotect 10 226 p z i
munmap 11 215 p z
ioctl 16 29 f i =4
pread64 17 67 f >2 z z
pwrite64 18 68 f <2 z z
readv 19 65 f V2 i
writev 20 66 f v2 i
madvise 28 233 p z i
dup 32 23 f
dup2 33 - f f
sendfile 40 71 f f o z
socket 41 198 i i i
connect 42 203 f <2 i
accept 43 202 f p p
sendto 44 206 f <2 z i <5 i
recvfrom 45 207 f >2 z i p p
sendmsg 46 211 f m i
recvmsg 47 212 f M i
shutdown 48 210 f i
bind 49 200 f <2 i
listen 50 201 f i
getsockname 51 204 f g p
getpeername 52 205 f g p
socketpair 53 199 i i i =8
setsockopt 54 208 f i i <4 i
getsockopt 55 209 f i i g p
clone 56 220 p p p p p
fork 57 -
vfork 58 -
execve 59 221 s p p
exit 60 93 i
wait4 61 260 i p i p
fcntl 72 25 f i z
fsync 74 82 f
fdatasync 75 83 f
truncate 76 45 s z
ftruncate 77 46 f z
rename 82 - s s
unlink 87 - s
fchmod 91 52 f i
fchown 93 55 f i i
setuid 105 146 i
setgid 106 144 i
setgroups 116 159 z p
setresuid 117 147 i i i
setresgid 119 149 i i i
capset 126 91 @8 @24
prctl 157 167 i z z z z
io_setup 206 0 i =8
io_destroy 207 1 z
io_getevents 208 4 z z z E @16
io_submit 209 2 z z I1
io_cancel 210 3 z @64 =32
fadvise64 221 223 f z z i
tgkill 234 131 i i i
openat 257 56 i s i i
unlinkat 263 35 i s i
ppoll 271 73 P1 z @16 p z
unshare 272 97 i
splice 275 76 f o f o z i
tee 276 77 f f z i
vmsplice 278 75 f v2 z i
fallocate 285 47 f i z z
accept4 288 242 f p p i
eventfd2 290 19 i i
epoll_create1 291 20 i
epoll_ctl 233 21 f i f @12
epoll_pwait 281 22 f e i i p z
epoll_wait 232 - f e i i
dup3 292 24 f f i
pipe2 293 59 =8 i
preadv 295 69 f V2 z z z
pwritev 296 70 f v2 z z z
recvmmsg 299 243 f W2 z i @16
sendmmsg 307 269 f w2 z i
setns 308 268 f i
seccomp 317 277 i i p
memfd_create 319 279 s i
io_uring_setup 425 425 i =120
io_uring_enter 426 426 f i i i p z
io_uring_register 427 427 f i p i
clone3 435 435 p z
add_key 248 217 s s <3 z i
request_key 249 218 s s s i
keyctl 250 219 i z z z z
"""
_COLUMNS = ("", "first", "generic")


def known(column: str = "") -> dict[int, Call]:
    """Return calls by their numbers.

    Args:
        column: of an architecture (vm/base/arch.py, ``calls``); empty for this machine's.

    Returns:
        None of an architecture whose calls are not known here.
    """
    if not column:
        own = arch.named(platform.machine())
        column = own.calls if own is not None else ""
    place = _COLUMNS.index(column)
    found = {}
    for line in _TABLE.splitlines():
        words = line.split()
        if place and words[place] != "-":
            found[int(words[place])] = Call(words[0], tuple(map(_argument, words[3:])))
    return found


def epoll_event() -> int:
    """Return the length of ``struct epoll_event`` on this machine: it is packed on x86-64 alone (EPOLL_PACKED)."""
    own = arch.named(platform.machine())
    return 12 if own is not None and own.calls == _COLUMNS[1] else 16


def named() -> dict[str, Call]:
    """Return all calls by their names."""
    return {call.name: call for column in _COLUMNS[1:] for call in known(column).values()}


def _argument(word: str) -> tuple[str, int]:
    letter, number = re.fullmatch(r"(\D)(\d*)", word).groups()  # type: ignore[union-attr]
    return letter, int(number or 0)
