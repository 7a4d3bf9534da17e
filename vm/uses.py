#!/usr/bin/env python3
"""Say which programs use AF_ALG, with which algorithms and operations, and whether they could under each policy.

``python3 uses.py -- COMMAND`` runs a command and records what it and its children do with AF_ALG; ``--live SECONDS``
watches the whole machine. What a kernel allows is asked of that kernel: each algorithm that was used is bound once
more. This is one file that needs nothing but Python 3.10 and Linux 5.3, made to be copied; in the project it is
``python -m vm uses``.

Not seen: sockets made by io_uring, and what another process does for the command (a daemon, a container's runtime).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import platform
import re
import select
import shutil
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

AF_ALG, SOCK_SEQPACKET, SOL_ALG = 38, 5, 279
RESTRICT = Path("/proc/sys/crypto/af_alg_restrict")
LEVELS = (0, 1, 2)
"""Values of the sysctl crypto.af_alg_restrict (Documentation/admin-guide/sysctl/crypto.rst of Linux 7.3)."""

USAGE = 4
"""Exit status for what the user can put right."""

OPTIONS = {1: "key", 5: "authsize", 6: "entropy", 7: "key by serial"}
"""What setsockopt(SOL_ALG) sets (include/uapi/linux/if_alg.h)."""

# ---- the kernel's numbers

_64_BIT, _LITTLE = 0x80000000, 0x40000000
_CALLS = ("socket", "bind", "accept", "setsockopt", "sendmsg", "accept4", "sendmmsg", "seccomp", "prctl", "socketcall")
# What AUDIT_ARCH_* (include/uapi/linux/audit.h) means is an ELF machine and two bits. The numbers are those of the
# tables arch/*/**/syscall*.tbl, and of include/uapi/asm-generic/unistd.h; 0 is no such call.
_GENERIC = (198, 200, 202, 208, 211, 242, 269, 277, 167, 0)
_POWERPC = (326, 327, 330, 339, 341, 344, 349, 358, 171, 102)
_TABLE = {
    62 | _64_BIT | _LITTLE: (41, 49, 43, 54, 46, 288, 307, 317, 157, 0),  # x86, 64 bit
    3 | _LITTLE: (359, 361, 0, 366, 370, 364, 345, 354, 172, 102),  # x86, 32 bit
    40 | _LITTLE: (281, 282, 285, 294, 296, 366, 374, 383, 172, 102),  # arm, 32 bit
    183 | _64_BIT | _LITTLE: _GENERIC,  # arm, 64 bit
    243 | _64_BIT | _LITTLE: _GENERIC,  # RISC-V
    258 | _64_BIT | _LITTLE: _GENERIC,  # LoongArch
    22 | _64_BIT: (359, 361, 0, 366, 370, 364, 358, 348, 172, 102),  # IBM Z
    21 | _64_BIT | _LITTLE: _POWERPC,  # POWER
    21 | _64_BIT: _POWERPC,
}
# socketcall(2): the call's number to its name (include/uapi/linux/net.h).
_SOCKETCALLS = {1: "socket", 2: "bind", 5: "accept", 14: "setsockopt", 16: "sendmsg", 18: "accept4", 20: "sendmmsg"}

_SEIZE, _INTERRUPT, _LISTEN, _SYSCALL, _CONT, _INFO = 0x4206, 0x4207, 0x4208, 24, 7, 0x420E
# fork, vfork, clone and exec are followed; stops of system calls are marked; filters stop for us; all end with us.
_TRACE_OPTIONS = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x80 | 0x100000
_EVENT_SECCOMP, _EVENT_STOP = 7, 128
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_WALL = 0x40000000
_ENTRY, _EXIT, _AT_FILTER = 1, 2, 3
_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21
# The first user namespace has a number of its own (PROC_USER_INIT_INO, include/linux/proc_ns.h).
_FIRST_NAMESPACE = "user:[4026531837]"
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]

Read = Callable[[int, int], bytes]


class UsesError(Exception):
    """One line for the user: what is wrong, and what to do."""


# ---- what is recorded


@dataclass(frozen=True, order=True)
class Who:
    """What decides whether the kernel lets a process use an algorithm.

    Attributes:
        program: its name (``comm``).
        uid: effective user.
        capable: CAP_NET_ADMIN or CAP_SYS_ADMIN in the first user namespace.
        contained: in another user namespace.
    """

    program: str
    uid: int
    capable: bool
    contained: bool

    @property
    def words(self) -> str:
        """Who that is, in words."""
        user = "root" if self.uid == 0 else f"uid {self.uid}"
        if self.contained:
            return f"{user} of a user namespace"
        if self.uid == 0:
            return user if self.capable else "root without capabilities"
        return f"{user} with CAP_NET_ADMIN or CAP_SYS_ADMIN" if self.capable else user


@dataclass
class Use:
    """What one kind of process does with one algorithm.

    Attributes:
        who: the process.
        type: of the socket (``skcipher``); empty where a socket was made, or refused, and none was bound.
        name: of the algorithm.
        operations: ``encrypt``, ``decrypt``, ``hash``, ``generate``.
        options: what was set: ``key (32 bytes)``.
        calls: how often which call had which outcome: ``bind: ENOENT``.
    """

    who: Who
    type: str = ""
    name: str = ""
    operations: set[str] = field(default_factory=set)
    options: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def refused(self) -> list[str]:
        """The calls that failed, as ``bind: ENOENT``."""
        return sorted(call for call in self.calls if not call.endswith(": ok"))


class Ledger:
    """All uses of a recording; sockets are known by their inode, so that it does not matter who has which number."""

    def __init__(self) -> None:
        self.uses: dict[tuple[Who, str, str], Use] = {}
        self._of: dict[str, Use] = {}

    def use(self, who: Who, type_: str = "", name: str = "") -> Use:
        """Return the use of an algorithm by a kind of process."""
        return self.uses.setdefault((who, type_, name), Use(who, type_, name))

    def made(self, who: Who, inode: str, outcome: str) -> None:
        """A socket was made, or refused."""
        use = self.use(who)
        use.calls[f"socket: {outcome}"] += 1
        if inode:
            self._of[inode] = use

    def bound(self, who: Who, inode: str, address: bytes, outcome: str) -> None:
        """A socket was bound, or that was refused."""
        use = self.use(who, *decode_address(address))
        use.calls[f"bind: {outcome}"] += 1
        if outcome == "ok":
            self._of[inode] = use

    def accepted(self, inode: str, new: str, outcome: str) -> None:
        """An op socket was made."""
        use = self._of[inode]
        use.calls[f"accept: {outcome}"] += 1
        if new:
            self._of[new] = use
            if of_itself := {"hash": "hash", "rng": "generate"}.get(use.type):
                use.operations.add(of_itself)

    def set(self, inode: str, option: int, length: int, outcome: str) -> None:
        """An option was set. The key itself is not looked at."""
        use = self._of[inode]
        word = OPTIONS.get(option, f"option {option}")
        use.calls[f"setsockopt {word}: {outcome}"] += 1
        if outcome == "ok":
            # The size of a tag is given by the length, and by no value.
            use.options.add(word if option == 7 else f"{word} ({length} bytes)")

    def sent(self, inode: str, operations: Iterable[str], outcome: str) -> None:
        """A message with control data was sent."""
        use = self._of[inode]
        use.calls[f"sendmsg: {outcome}"] += 1
        use.operations.update(operations)

    def known(self, inode: str) -> bool:
        """Say whether a socket is one of AF_ALG that was seen before."""
        return inode in self._of


def decode_address(address: bytes) -> tuple[str, str]:
    """Return type and name of a ``struct sockaddr_alg`` (include/uapi/linux/if_alg.h), as far as they are there."""
    words = (address[2:16], address[24:])
    type_, name = (word.partition(b"\0")[0].decode(errors="replace") for word in words)
    return type_, name


def decode_operations(control: bytes, word: int, order: str = sys.byteorder) -> list[str]:
    """Return the operations that control data asks for.

    Args:
        control: of a message: ``struct cmsghdr`` and data, each aligned to ``word`` bytes.
        word: bytes of a pointer of the program.
        order: of its bytes.
    """
    found = []
    mark, size = "<" if order == "little" else ">", "Q" if word == 8 else "I"
    head = word + 8
    at = 0
    while at + head <= len(control):
        length, level, kind = struct.unpack_from(f"{mark}{size}ii", control, at)
        if length < head:
            break
        if (level, kind) == (SOL_ALG, 3) and length >= head + 4 <= len(control) - at:
            (value,) = struct.unpack_from(f"{mark}I", control, at + head)
            found.append({0: "decrypt", 1: "encrypt"}.get(value, f"operation {value}"))
        at += -(-length // word) * word
    return found


def decode_message(read: Read, address: int, word: int, order: str = sys.byteorder) -> bytes:
    """Return the control data of a ``struct msghdr`` in a program's memory.

    Args:
        read: gives bytes of its memory.
        address: of the structure.
        word: bytes of a pointer of the program.
        order: of its bytes.
    """
    # name, namelen (and padding), iov, iovlen, control, controllen: one word each.
    raw = read(address + 4 * word, 2 * word)
    if len(raw) < 2 * word:
        return b""
    control, length = struct.unpack(("<" if order == "little" else ">") + ("QQ" if word == 8 else "II"), raw)
    return read(control, min(length, 4096)) if control else b""


def arguments_of(audit: int, number: int, arguments: Sequence[int], read: Read) -> tuple[str, list[int]]:
    """Return the name of a system call that matters, and its arguments; an empty name for any other.

    Args:
        audit: AUDIT_ARCH_… of the call.
        number: of the call.
        arguments: the six of them.
        read: gives bytes of the program's memory, for socketcall(2).
    """
    table = _TABLE.get(audit)
    if table is None or number == 0 or number not in table:
        return "", []
    name = _CALLS[table.index(number)]
    if name != "socketcall":
        return name, list(arguments)
    name, size = _SOCKETCALLS.get(arguments[0] & 0xFFFFFFFF, ""), word_of(audit)
    raw = read(arguments[1], 6 * size).ljust(6 * size, b"\0") if name else b""
    mark = "<" if audit & _LITTLE else ">"
    return name, list(struct.unpack(mark + ("6Q" if size == 8 else "6I"), raw)) if raw else []


def word_of(audit: int) -> int:
    """Return the bytes of a pointer in programs that make calls of an architecture."""
    return 8 if audit & _64_BIT else 4


def who_is(process: int) -> Who:
    """Return what decides what a process may use; with no name when it is gone."""
    place = Path(f"/proc/{process}")
    try:
        status = dict(re.findall(r"^(\w+):\t(.*)$", (place / "status").read_text(), re.MULTILINE))
        contained = os.readlink(place / "ns/user") != _FIRST_NAMESPACE
    except OSError:
        return Who("?", -1, False, False)
    capabilities = int(status["CapEff"], 16)
    capable = bool(capabilities >> _CAP_NET_ADMIN & 1 or capabilities >> _CAP_SYS_ADMIN & 1)
    return Who(status["Name"], int(status["Uid"].split()[1]), capable and not contained, contained)


def outcome_of(result: int) -> str:
    """Return ``ok``, or the name of the error of a system call's result."""
    return "ok" if result >= 0 else _error(-result)


def _error(number: int | None) -> str:
    # Python knows one of the two names of this number, and the kernel the other.
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number or 0, str(number))


# ---- by ptrace


@dataclass
class _Call:
    name: str
    arguments: list[int]
    audit: int


class Tracer:
    """Runs a command and tells a ledger what it does.

    Its system calls are not all stopped, which would cost most of the time: a filter (seccomp(2)) stops those that
    matter. A program that has a filter of its own would hide from it what that refuses: all of its calls are stopped.

    Args:
        ledger: to tell.
        begin: called in the process that becomes the command, at last.
    """

    def __init__(self, ledger: Ledger, begin: Callable[[], object] = lambda: None) -> None:
        self.ledger = ledger
        self.begin = begin
        self.pending: dict[int, _Call] = {}
        self.every: set[int] = set()
        self.tasks: dict[int, int] = {}
        self.unknown: set[int] = set()
        self.status = 0
        # Under a filter that is there already, one that refuses calls would hide them from ours.
        self.filtered = _filters(os.getpid()) == 0 and _has_filters()

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end, and that of all it started; return its exit status, 128 + N for signal N.

        Raises:
            UsesError: it cannot be run, or not be traced.
        """
        first = self._start(command)
        self.tasks[first] = first

        told: list[int] = []

        def pass_on(number: int, _frame: object) -> None:
            # Ctrl-C reaches the command by itself; what is sent to us alone does not. What stays gets SIGKILL.
            for process in [first] if first in self.tasks and not told else set(self.tasks.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL if told else number)
            told.append(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while True:
                try:
                    task, status = os.waitpid(-1, _WALL)
                except ChildProcessError:
                    return self.status
                self._heard(task, status, first)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, command: Sequence[str]) -> int:
        """Start the command, held until it is traced; return its process."""
        path = shutil.which(command[0])
        if path is None:
            raise UsesError(f"no program {command[0]!r} on this machine; check its name, or install it")
        gate, opened = os.pipe()
        trouble, told = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(opened)
            os.read(gate, 1)
            try:
                if self.filtered:
                    _install_filter()
                self.begin()
                os.execv(path, list(command))
            except OSError as error:
                os.write(told, str(error).encode())
            os._exit(127)
        os.close(told)
        os.close(gate)
        try:
            _ptrace(_SEIZE, child, 0, _TRACE_OPTIONS)
        except OSError as error:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise UsesError(
                f"cannot trace {command[0]} ({error.strerror}); allow ptrace (kernel.yama.ptrace_scope below 3, "
                "in a container --cap-add SYS_PTRACE), or use --live"
            ) from None
        if not self.filtered:
            self.every.add(child)
            _ptrace(_INTERRUPT, child)
        os.write(opened, b"x")
        os.close(opened)
        self.trouble = trouble
        return child

    def _heard(self, task: int, status: int, first: int) -> None:
        """Act on a stop or an end of a task."""
        if not os.WIFSTOPPED(status):
            if task == first:
                self.status = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self._complain()
            self._forget(task)
            return
        if task not in self.tasks:
            self._meet(task)
        number, event = os.WSTOPSIG(status), status >> 16
        step, send = _CONT, 0
        try:
            if event == _EVENT_STOP and number in _STOPS:
                step = _LISTEN
            elif number == _SYSCALL_STOP or event == _EVENT_SECCOMP:
                step = self._call(task)
            elif not event:
                send = number
            if step == _CONT and self.tasks[task] in self.every:
                step = _SYSCALL
            _ptrace(step, task, 0, send)
        except ProcessLookupError:
            pass  # killed meanwhile: its end is the next that is heard of it

    def _complain(self) -> None:
        """Say why the command was not begun, where that is so.

        Raises:
            UsesError: always then.
        """
        said = os.read(self.trouble, 4096).decode(errors="replace")
        os.close(self.trouble)
        if said:
            raise UsesError(f"cannot run the command: {said}")

    def _meet(self, task: int) -> None:
        """A new process or thread: it has the filters of its parent."""
        try:
            status = _status(task)
        except OSError:
            status = {}
        process = self.tasks[task] = int(status.get("Tgid", task))
        # What adopts the children of a parent that has ended is not traced: the count of filters tells (Linux 5.9).
        inherits = int(status.get("PPid", 0)) in self.every or int(status.get("Seccomp_filters", 0)) > 1
        if inherits or not self.filtered:
            self.every.add(process)

    def _forget(self, task: int) -> None:
        process = self.tasks.pop(task, task)
        self.pending.pop(task, None)
        if process not in self.tasks.values():
            self.every.discard(process)

    def _call(self, task: int) -> int:
        """Look at a stop of a system call; return how to go on: _SYSCALL stops at its end."""
        buffer = ctypes.create_string_buffer(96)
        _ptrace(_INFO, task, len(buffer), ctypes.addressof(buffer))
        op, audit = struct.unpack_from("=B3xI", buffer.raw)
        if op == _EXIT:
            if call := self.pending.pop(task, None):
                (result,) = struct.unpack_from("=q", buffer.raw, 24)
                self._ended(task, call, result)
            return _CONT
        if op not in (_ENTRY, _AT_FILTER) or task in self.pending:
            return _SYSCALL if task in self.pending else _CONT
        number, *arguments = struct.unpack_from("=Q6Q", buffer.raw, 24)
        if audit not in _TABLE:
            self.unknown.add(audit)
            return _CONT
        name, arguments = arguments_of(audit, number, arguments, lambda at, size: _memory(task, at, size))
        if name == "seccomp" or (name == "prctl" and arguments[0] == _PR_SET_SECCOMP):
            self._has_a_filter(task)
        elif name and name != "prctl" and self._matters(task, name, arguments):
            self.pending[task] = _Call(name, arguments, audit)
            return _SYSCALL
        return _CONT

    def _has_a_filter(self, task: int) -> None:
        process = self.tasks[task]
        if process not in self.every:
            self.every.add(process)
            for other in [each for each, whose in self.tasks.items() if whose == process and each != task]:
                with contextlib.suppress(OSError):
                    _ptrace(_INTERRUPT, other)

    def _matters(self, task: int, name: str, arguments: Sequence[int]) -> bool:
        """Say whether a call is about AF_ALG."""
        if name == "socket":
            return arguments[0] & 0xFFFFFFFF == AF_ALG
        if self.ledger.known(_inode(task, arguments[0])):
            return name != "setsockopt" or arguments[1] & 0xFFFFFFFF == SOL_ALG
        # A socket that was made before, or elsewhere.
        family = AF_ALG.to_bytes(2, sys.byteorder)
        return name == "bind" and _memory(task, arguments[1], 2) == family

    def _ended(self, task: int, call: _Call, result: int) -> None:
        """Tell the ledger how a call ended."""
        outcome, arguments = outcome_of(result), call.arguments
        if result == -512 or outcome == "EINTR":  # ERESTARTSYS: it is made once more
            return
        if call.name == "socket":
            self.ledger.made(who_is(task), _inode(task, result) if result >= 0 else "", outcome)
            return
        inode = _inode(task, arguments[0])
        if call.name == "bind":
            address = _memory(task, arguments[1], min(arguments[2] & 0xFFFFFFFF, 128))
            self.ledger.bound(who_is(task), inode, address, outcome)
        elif call.name in ("accept", "accept4"):
            self.ledger.accepted(inode, _inode(task, result) if result >= 0 else "", outcome)
        elif call.name == "setsockopt":
            self.ledger.set(inode, arguments[2] & 0xFFFFFFFF, arguments[4] & 0xFFFFFFFF, outcome)
        else:
            self.ledger.sent(inode, self._operations(task, call), outcome)

    def _operations(self, task: int, call: _Call) -> list[str]:
        word = word_of(call.audit)
        order = "little" if call.audit & _LITTLE else "big"
        # struct mmsghdr is a msghdr and a length, aligned.
        many, size = (call.arguments[2] & 0xFFFFFFFF, 8 * word) if call.name == "sendmmsg" else (1, 0)
        found = []
        for index in range(min(many, 1024)):
            control = decode_message(
                lambda at, count: _memory(task, at, count), call.arguments[1] + index * size, word, order
            )
            found += decode_operations(control, word, order)
        return found


def _ptrace(request: int, task: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    result: int = _libc.ptrace(request, task, address, data)
    if result < 0 and (number := ctypes.get_errno()):
        raise OSError(number, os.strerror(number))
    return result


def _memory(task: int, address: int, size: int) -> bytes:
    """Return bytes of a stopped task's memory; none where there are none."""
    try:
        with open(f"/proc/{task}/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), size, address)
    except (OSError, OverflowError):
        return b""


def _inode(task: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{task}/fd/{descriptor & 0xFFFFFFFF}")
    except OSError:
        return ""


def _status(task: int) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\t(.*)$", Path(f"/proc/{task}/status").read_text(), re.MULTILINE))


def _filters(task: int) -> int:
    """Return how many filters of system calls a task has; 1 for any before Linux 5.9."""
    found = _status(task)
    return int(found.get("Seccomp_filters", found.get("Seccomp") == "2"))


def _has_filters() -> bool:
    """Say whether this kernel has filters of system calls: one that has asks where the filter is (EFAULT)."""
    return bool(_libc.prctl(_PR_SET_SECCOMP, _FILTER, 0, 0, 0)) and ctypes.get_errno() == errno.EFAULT


def filter_program() -> bytes:
    """Return the filter: the calls that matter stop the process, of any other nobody hears."""
    load, equal, give = 0x20, 0x15, 0x06
    trace, allow = 0x7FF00000, 0x7FFF0000
    first_argument = 16 + (0 if sys.byteorder == "little" else 4)

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    whole = b""
    for audit, numbers in _TABLE.items():
        block = [step(load, 0)]
        for name, number in zip(_CALLS, numbers, strict=True):
            if number and name in ("socket", "prctl"):
                wanted = AF_ALG if name == "socket" else _PR_SET_SECCOMP
                block += [step(equal, number, 0, 4), step(load, first_argument), step(equal, wanted, 0, 1)]
                block += [step(give, trace), step(give, allow)]
            elif number:
                block += [step(equal, number, 0, 1), step(give, trace)]
        block += [step(give, allow)]
        whole += step(load, 4) + step(equal, audit, 0, len(block)) + b"".join(block)
    return whole + step(give, allow)


def _install_filter() -> None:
    """Have calls that matter stop this process and its children.

    Raises:
        OSError: the kernel does not take the filter.
    """
    program = filter_program()
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a u16, padding, a pointer.
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    if _libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(header), 0, 0):
        # Without CAP_SYS_ADMIN it takes a promise that a traced process cannot break anyway.
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(header), 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "seccomp")


# ---- the whole machine


def watch(seconds: float, ledger: Ledger, by: str = "") -> str:
    """Record what all processes do with AF_ALG for some time; return by what means.

    Args:
        seconds: how long.
        ledger: is told of it.
        by: one of :data:`MEANS`; the first that may be used when empty.

    Raises:
        UsesError: there is no means that may be used.
    """
    refusals: list[str] = []
    for name in [by] if by else MEANS:
        try:
            return "; ".join([MEANS[name](seconds, ledger), *refusals])
        except UsesError as error:
            refusals.append(str(error))
    raise UsesError("cannot watch the whole machine: " + "; ".join(refusals) + "; or give -- COMMAND")


# The functions of net/socket.c behind the calls: af_alg need not be loaded. The address is in the program's memory,
# where it may be paged out: then the trace says (fault).
_PROBES = {
    "bind": "p:{group}/bind __sys_bind family=+u0($arg2):u16 type=+u2($arg2):ustring name=+u24($arg2):ustring",
    "bound": "r16:{group}/bound __sys_bind result=$retval:s32",
    "make": "p:{group}/make __sys_socket family=$arg1:s32",
    "made": "r16:{group}/made __sys_socket result=$retval:s32",
}
_LINE = re.compile(r"^\s*(?P<comm>.+)-(?P<pid>\d+)\s+\[\d+\].*?: (?P<event>bind|bound|make|made): \(.*?\)(?P<rest>.*)$")


def _watch_tracefs(seconds: float, ledger: Ledger) -> str:
    places = [Path(place) for place in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")]
    root = next((place for place in places if os.access(place / "kprobe_events", os.W_OK)), None)
    if root is None:
        raise UsesError("no tracefs with kprobes that may be written (root, CONFIG_KPROBE_EVENTS, no lockdown)")
    group = f"uses_{os.getpid()}"
    instance = root / "instances" / group
    try:
        for line in _PROBES.values():
            _append(root / "kprobe_events", line.format(group=group))
        instance.mkdir()
        for name in ("bind", "make"):
            (instance / "events" / group / name / "filter").write_text(f"family == {AF_ALG}")
        (instance / "events" / group / "enable").write_text("1")
        _follow(instance / "trace_pipe", seconds, Lines(ledger).heard)
        return "kprobe events of tracefs"
    except OSError as error:
        raise UsesError(f"tracefs does not do it: {error.strerror} ({error.filename})") from None
    finally:
        with contextlib.suppress(OSError):
            (instance / "events" / group / "enable").write_text("0")
            instance.rmdir()
        for name in _PROBES:
            with contextlib.suppress(OSError):
                _append(root / "kprobe_events", f"-:{group}/{name}")


def _append(file: Path, line: str) -> None:
    """Write a line without a seek to the end, which files of tracefs refuse, and Python's mode "a" makes."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


class Lines:
    """Takes lines of a trace as they come."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.begun: dict[str, tuple[Who, bytes]] = {}

    def heard(self, line: str) -> None:
        """Look at one line of trace_pipe."""
        found = _LINE.match(line)
        if not found:
            return
        task, rest = found["pid"], found["rest"]
        if found["event"] == "bind":
            fields = re.search(r' type="(.*?)" name="(.*)"', rest)
            type_, name = fields.groups() if fields else ("?", "could not be read")
            self.begun[task] = (self._who(found), _address(type_, name))
        elif found["event"] == "make":
            self.begun[task] = (self._who(found), b"")
        elif task in self.begun:
            who, address = self.begun.pop(task)
            outcome = outcome_of(int(rest.partition("result=")[2] or 0))
            if address:
                self.ledger.bound(who, "", address, outcome)
            else:
                self.ledger.made(who, "", outcome)

    def _who(self, found: re.Match[str]) -> Who:
        who = who_is(int(found["pid"]))
        # Gone before it could be looked at: its name is all that is known.
        return who if who.uid >= 0 else Who(found["comm"].strip(), -1, False, False)


def _address(type_: str, name: str) -> bytes:
    return struct.pack("=H14s8s", AF_ALG, type_.encode(), b"") + name.encode()


_SECONDS_TO_LOOK = 0.1


def _moments(descriptor: int, seconds: float) -> Iterator[None]:
    """Give a moment whenever there may be something to read, until some seconds are over or Ctrl-C, and then one more.

    A trace need not say that there is something before its buffer is half full: it is looked at often.
    """
    stopped: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _frame: stopped.append(number))
    print(f"watching for {seconds:g} s; Ctrl-C ends it sooner", file=sys.stderr, flush=True)
    end = time.monotonic() + seconds
    try:
        while not stopped and (left := end - time.monotonic()) > 0:
            select.select([descriptor], [], [], min(left, _SECONDS_TO_LOOK))
            yield
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(pipe: Path, seconds: float, heard: Callable[[str], None]) -> None:
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _read_lines(descriptor, seconds, heard)
    finally:
        os.close(descriptor)


def _read_lines(descriptor: int, seconds: float, heard: Callable[[str], None]) -> None:
    """Give each line that comes within some seconds to a function; Ctrl-C ends it sooner."""
    rest = b""
    for _ in _moments(descriptor, seconds):
        with contextlib.suppress(BlockingIOError):
            while part := os.read(descriptor, 65536):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    heard(line.decode(errors="replace"))
            return


# include/uapi/linux/audit.h
_AUDIT_GET, _AUDIT_SET, _AUDIT_ADD, _AUDIT_REMOVE = 1000, 1001, 1011, 1012
_AUDIT_ENABLED, _AUDIT_LOCKED = 1, 2
_AUDIT_AT_EXIT, _AUDIT_ALWAYS, _AUDIT_EQUAL = 4, 2, 0x40000000
_AUDIT_ARCH, _AUDIT_FAMILY, _AUDIT_FIRST = 11, 113, 200
_REQUEST, _ACKNOWLEDGE, _ERROR = 1, 4, 2


def audit_rules() -> list[bytes]:
    """Return ``struct audit_rule_data`` for each call that makes or binds a socket of AF_ALG, on each architecture."""
    found = []
    for audit, numbers in _TABLE.items():
        of = dict(zip(_CALLS, numbers, strict=True))
        wanted = [("socket", {_AUDIT_FIRST: AF_ALG}), ("bind", {_AUDIT_FAMILY: AF_ALG})]
        # Its arguments are in memory, where no rule looks: only binds are seen of it.
        wanted += [("socketcall", {_AUDIT_FIRST: 2, _AUDIT_FAMILY: AF_ALG})]
        for name, fields in wanted:
            if not of[name]:
                continue
            mask, all_fields = [0] * 64, {_AUDIT_ARCH: audit, **fields}
            mask[of[name] // 32] |= 1 << of[name] % 32
            keys, values = (list(each) + [0] * (64 - len(each)) for each in (all_fields.keys(), all_fields.values()))
            operators = [_AUDIT_EQUAL] * len(all_fields) + [0] * (64 - len(all_fields))
            head = (_AUDIT_AT_EXIT, _AUDIT_ALWAYS, len(all_fields))
            found.append(struct.pack("=260I", *head, *mask, *keys, *values, *operators, 0))
    return found


def _ask_audit(kind: int, content: bytes = b"") -> bytes:
    """Send a request to the audit system; return its answer.

    Raises:
        OSError: it refuses.
    """
    import socket

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:
        audit.settimeout(30)
        # Whoever asks for something gets it without an acknowledgement.
        flags = _REQUEST | (0 if kind == _AUDIT_GET else _ACKNOWLEDGE)
        audit.sendto(struct.pack("=IHHII", 16 + len(content), kind, flags, 1, 0) + content, (0, 0))
        answer = audit.recv(65536)
    if struct.unpack_from("=H", answer, 4)[0] == _ERROR and (number := struct.unpack_from("=i", answer, 16)[0]):
        raise OSError(-number, os.strerror(-number))
    return answer[16:]


def _enable_audit(enabled: int) -> None:
    # struct audit_status begins with what of it counts, and this.
    _ask_audit(_AUDIT_SET, struct.pack("=11I", 1, enabled, *[0] * 9))


def _watch_audit(seconds: float, ledger: Ledger) -> str:
    """Watch by the audit system: rules for socket and bind, and the records that it gives to whoever listens.

    It is switched on meanwhile: rules take no effect before. auditd need not run.
    """
    import socket

    try:
        (before,) = struct.unpack_from("=I", _ask_audit(_AUDIT_GET), 4)
    except OSError as error:
        raise UsesError(f"no audit system ({error.strerror})") from None
    if before == _AUDIT_LOCKED:
        raise UsesError("the rules of the audit system are locked until the next boot (auditctl -e 2)")
    added: list[bytes] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as audit:
            # Group 1 of the audit system is what auditd writes down (AUDIT_NLGRP_READLOG).
            audit.bind((0, 1))
            audit.setblocking(False)
            for rule in audit_rules():
                _ask_audit(_AUDIT_ADD, rule)
                added.append(rule)
            _enable_audit(_AUDIT_ENABLED)
            _read_records(audit.fileno(), seconds, AuditRecords(ledger))
    except OSError as error:
        raise UsesError(
            f"the audit system does not do it: {error.strerror} (root of the first user namespace?)"
        ) from None
    finally:
        for rule in added:
            with contextlib.suppress(OSError):
                _ask_audit(_AUDIT_REMOVE, rule)
        if before != _AUDIT_ENABLED:
            with contextlib.suppress(OSError):
                _enable_audit(before)
    # A process gets what the audit system knows it by when it begins, and only where that was ever on.
    return "audit, which sees " + ("all processes" if before else "only processes that began meanwhile")


def _read_records(audit: int, seconds: float, records: AuditRecords) -> None:
    for _ in _moments(audit, seconds):
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    message = os.read(audit, 65536)
                except OSError as error:
                    if error.errno == errno.ENOBUFS:
                        continue  # some were lost
                    raise
                _, kind = struct.unpack_from("=IH", message)
                records.heard(kind, message[16:].decode(errors="replace"))


MEANS: dict[str, Callable[[float, Ledger], str]] = {"tracefs": _watch_tracefs, "audit": _watch_audit}
"""By what a whole machine is watched, the better one first."""


class AuditRecords:
    """Puts records of the audit system together: a call, and the address that it was given."""

    _SYSCALL, _SOCKADDR, _END = 1300, 1306, 1320

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.calls: dict[str, dict[str, str]] = {}

    def heard(self, kind: int, text: str) -> None:
        """Look at one record: ``audit(1690000000.123:45): key=value …``."""
        event = text.partition("(")[2].partition(")")[0]
        fields = dict(re.findall(r'(\w+)=("[^"]*"|\S+)', text))
        if kind == self._SYSCALL:
            self.calls[event] = fields
            numbers = _TABLE.get(int(fields["arch"], 16), ())
            # Rules of others give other calls.
            if numbers and int(fields["syscall"]) == numbers[0] and int(fields["a0"], 16) & 0xFFFFFFFF == AF_ALG:
                self.ledger.made(self._who(fields), "", outcome_of(int(fields["exit"])))
        elif kind == self._SOCKADDR and event in self.calls:
            address = bytes.fromhex(fields.get("saddr", ""))
            if address[:2] == AF_ALG.to_bytes(2, sys.byteorder):
                call = self.calls[event]
                self.ledger.bound(self._who(call), "", address, outcome_of(int(call["exit"])))
        elif kind == self._END:
            self.calls.pop(event, None)

    def _who(self, call: dict[str, str]) -> Who:
        who = who_is(int(call["pid"]))
        return who if who.uid >= 0 else Who(call["comm"].strip('"'), int(call["euid"]), False, False)


# ---- what the kernel would say


@dataclass(frozen=True)
class Answers:
    """What the kernel said when it was asked.

    Attributes:
        level: the present one of crypto.af_alg_restrict; None where the kernel has none.
        asked: by level (None: the kernel has none), by who (``capable`` or ``plain``), by type and name: ``works``, or
            the call and its error.
        limits: what could not be asked, and why; one line each.
    """

    level: int | None
    asked: dict[tuple[int | None, str, str, str], str]
    limits: list[str]


def ask(uses: Iterable[Use], levels: bool) -> Answers:
    """Bind each algorithm that was used once more, as a user without capabilities and, if we are, as one with them.

    Args:
        uses: whose algorithms to ask for.
        levels: ask at every level of crypto.af_alg_restrict: it is set for a moment, and set back whatever happens.
    """
    pairs = sorted({(use.type, use.name) for use in uses if use.type})
    capable = who_is(os.getpid()).capable
    if pairs:
        probe("", "")  # loads af_alg, which brings the sysctl
    level = int(RESTRICT.read_text()) if RESTRICT.exists() else None
    limits = []
    wanted: list[int | None] = [level]
    if level is None and not pairs:
        limits.append("no algorithm was used, so none was asked for")
    elif level is None:
        limits.append("this kernel has no crypto.af_alg_restrict: what a newer one refuses, only a newer one can say")
    elif levels and os.access(RESTRICT, os.W_OK):
        wanted = list(LEVELS)
    elif levels:
        limits.append("only root may set crypto.af_alg_restrict: other levels than the present one were not asked")
    else:
        limits.append("other levels than the present one were not asked: --levels sets the sysctl for a moment")
    if not capable:
        limits.append("not asked for processes with capabilities: that takes root, or CAP_NET_ADMIN")
    return Answers(level, _ask_apart(pairs, wanted, level, capable), limits)


def _ask_apart(
    pairs: Sequence[tuple[str, str]], levels: Sequence[int | None], present: int | None, capable: bool
) -> dict[tuple[int | None, str, str, str], str]:
    """Ask in a process of its own, which sets the level back even when we are killed meanwhile."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
        found = []
        try:
            for level in levels:
                if len(levels) > 1:
                    RESTRICT.write_text(str(level))
                for who in ("capable", "plain") if capable else ("plain",):
                    found += [[level, who, *pair, said] for pair, said in _answers_as(who, pairs).items()]
        finally:
            if len(levels) > 1:
                RESTRICT.write_text(str(present))
            with contextlib.suppress(OSError):
                os.write(writer, json.dumps(found).encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read()
    os.waitpid(child, 0)
    return {(level, who, type_, name): said for level, who, type_, name, said in json.loads(text or "[]")}


def _answers_as(who: str, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Bind as we are, or as a user without capabilities."""
    if who == "capable" or os.geteuid():
        return {pair: probe(*pair) for pair in pairs}
    os.seteuid(_NOBODY)
    try:
        return {pair: probe(*pair) for pair in pairs}
    finally:
        os.seteuid(0)


def probe(type_: str, name: str) -> str:
    """Return ``works``, or the call that was refused and its error; without a type only a socket is made."""
    import socket

    try:
        made = socket.socket(AF_ALG, SOCK_SEQPACKET, 0)
    except OSError as error:
        return f"socket: {_error(error.errno)}"
    with made:
        try:
            if type_:
                made.bind((type_, name))
        except OSError as error:
            return f"bind: {_error(error.errno)}"
        except ValueError:
            return "not asked: Python takes no name of that length"
    return "works"


# ---- what is shown


def as_json(uses: Sequence[Use], answers: Answers, means: str, unknown: Iterable[int]) -> dict[str, Any]:
    """Return all of it for programs."""
    shown = []
    for use in uses:
        entry: dict[str, Any] = {
            "program": use.who.program,
            "uid": use.who.uid,
            "capable": use.who.capable,
            "user_namespace": "another" if use.who.contained else "first",
            "type": use.type,
            "name": use.name,
            "operations": sorted(use.operations),
            "options": sorted(use.options),
            "calls": dict(sorted(use.calls.items())),
        }
        if use.type:
            entry["policies"] = dict(_policies(use, answers))
        shown.append(entry)
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "means": means,
        "af_alg_restrict": answers.level,
        "uses": shown,
        "limits": [*answers.limits, *_unknown(unknown)],
    }


def as_text(uses: Sequence[Use], answers: Answers, means: str, unknown: Iterable[int]) -> str:
    """Return all of it for people."""
    level = "no crypto.af_alg_restrict" if answers.level is None else f"crypto.af_alg_restrict={answers.level}"
    lines = [f"AF_ALG on {platform.release()} ({platform.machine()}, {level}), seen by {means}"]
    if not uses:
        lines.append("nothing used AF_ALG")
    for who in dict.fromkeys(use.who for use in uses):
        lines.append(f"\n{who.program}, {who.words if who.uid >= 0 else 'gone before it could be looked at'}")
        for use in (each for each in uses if each.who == who):
            what = " ".join([use.type, use.name]) if use.type else "sockets"
            done = [*sorted(use.operations), *sorted(use.options)]
            calls = ", ".join(f"{call} {count}x" for call, count in sorted(use.calls.items()))
            lines.append(f"  {what}: {', '.join(done)}".rstrip(": "))
            lines.append(f"      {calls}")
            if use.type:
                lines.append(
                    "      would: " + ", ".join(f"{policy}: {said}" for policy, said in _policies(use, answers))
                )
    lines += [f"note: {limit}" for limit in [*answers.limits, *_unknown(unknown)]]
    return "\n".join(lines) + "\n"


def _policies(use: Use, answers: Answers) -> Iterator[tuple[str, str]]:
    """Give what the kernel answers to a use by its own process, at each level that was asked."""
    if use.who.uid < 0:
        # Nobody knows who it was: both answers.
        for who in ("capable", "plain"):
            for level in (None, *LEVELS):
                if said := answers.asked.get((level, who, use.type, use.name)):
                    yield f"{_level(level)}, {'with' if who == 'capable' else 'without'} capabilities", said
        return
    who = "capable" if use.who.capable else "plain"
    for level in (None, *LEVELS):
        if said := answers.asked.get((level, who, use.type, use.name)):
            yield _level(level), said


def _level(level: int | None) -> str:
    return "now" if level is None else f"level {level}"


def _unknown(audits: Iterable[int]) -> list[str]:
    return [f"calls of an architecture that is not known here were not looked at (audit {each:#x})" for each in audits]


# ---- the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsesError(f"{message} ({self.prog} --help)")


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the command's exit status, 0 of --live, or USAGE."""
    try:
        return _main(arguments)
    except UsesError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except SystemExit as stop:
        return int(stop.code or 0)


def _main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    if not sys.platform.startswith("linux"):
        raise UsesError("AF_ALG is Linux's, and this is none")
    output = open(options.output, "w", encoding="utf-8") if options.output else sys.stdout  # noqa: SIM115
    ledger = Ledger()
    status, means, unknown = 0, "ptrace", set[int]()
    if options.live is not None:
        means = watch(options.live, ledger, options.by)
    else:
        tracer = Tracer(ledger)
        status = tracer.run(options.command)
        unknown = tracer.unknown
    uses = sorted(ledger.uses.values(), key=lambda use: (use.who, use.type, use.name))
    answers = ask(uses, options.levels)
    if options.json:
        output.write(json.dumps(as_json(uses, answers, means, unknown), indent=1) + "\n")
    else:
        output.write(as_text(uses, answers, means, unknown))
    output.flush()
    return status


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    words = list(arguments)
    command: list[str] | None = None
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    parser = _Parser(
        prog="uses",
        usage="uses [--levels] [--json] [--output FILE] (-- COMMAND… | --live SECONDS)",
        description="Say which programs use AF_ALG, with what, and whether they could under each policy.",
        epilog="The exit status is the command's.",
    )
    parser.add_argument("--live", type=_seconds, metavar="SECONDS", help="watch the whole machine for so long (root)")
    parser.add_argument("--by", choices=MEANS, default="", help="how to watch (default: the first that works)")
    parser.add_argument(
        "--levels", action="store_true", help="ask at all levels of crypto.af_alg_restrict, which sets it for a moment"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--output", metavar="FILE", help="write there, not among what the command prints")
    options = parser.parse_args(words)
    if (command is None) == (options.live is None) or command == []:
        raise UsesError("expected one of -- COMMAND and --live SECONDS (--help)")
    if options.output and not Path(options.output).absolute().parent.is_dir():
        raise UsesError(f"no directory for {options.output}")
    options.command = command
    return options


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, not {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
