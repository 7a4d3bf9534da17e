"""Filters of system calls (seccomp(2)), and the second way into the kernel that a filter must not forget."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import signal
import struct

from tests.afalg.constants import AF_ALG
from tests.afalg.libc import checked
from tests.afalg.memory import PROT_EXEC, PROT_READ, Memory

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
SOCKET_X86_64 = 41
SOCKET_I386 = 359
GETPID_I386 = 20

_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2


def refuse_alg_sockets(errno_: int, calls: dict[int, int]) -> None:
    """Have socket(AF_ALG, …) fail in this process and its children from now on.

    Args:
        errno_: what it fails with.
        calls: number of the call by architecture (AUDIT_ARCH_…). What is not in it passes.

    Raises:
        OSError: EINVAL where the kernel has no seccomp filters.
    """
    program = b"".join(_one_architecture(arch, number, errno_) for arch, number in calls.items())
    program += _instruction(_RETURN, _RET_ALLOW)
    code = ctypes.create_string_buffer(program)
    # struct sock_fprog: a u16, padding, a pointer.
    header = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code)))
    calls_of_prctl = (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header)),
    )
    for option, first, second in calls_of_prctl:
        checked(_libc.prctl(option, first, second, 0, 0), "prctl")


@functools.cache
def has_32_bit_entry() -> bool:
    """Whether a 64-bit x86 process can make 32-bit system calls (CONFIG_IA32_EMULATION, ``ia32_emulation=``).

    Where it cannot, ``int 0x80`` is SIGSEGV: asked in a child, whose handler keeps the kernel from logging that.
    """
    if platform.machine() != "x86_64":
        return False
    child = os.fork()
    if child == 0:
        _libc.signal(signal.SIGSEGV, ctypes.cast(_libc._exit, ctypes.c_void_p))
        os._exit(0 if call_32_bit(GETPID_I386, 0, 0, 0) == os.getpid() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def call_32_bit(number: int, first: int, second: int, third: int) -> int:
    """Make a system call by the 32-bit entry, ``int 0x80``, and return its result or the negative errno."""
    machine_code = bytes.fromhex(
        "53"  # push rbx
        "89f8"  # mov eax, edi
        "89f3"  # mov ebx, esi
        "87d1"  # xchg ecx, edx
        "cd80"  # int 0x80
        "5b"  # pop rbx
        "c3"  # ret
    )
    with Memory(1) as memory:
        memory.write(0, machine_code)
        memory.protect(0, PROT_READ | PROT_EXEC)
        function = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int] * 4)(memory.address)
        result: int = function(number, first, second, third)
        return result


def _one_architecture(architecture: int, number: int, errno_: int) -> bytes:
    """Return the part of a filter that refuses one call of one architecture, and else goes on behind itself."""
    return b"".join(
        [
            _instruction(_LOAD, _ARCHITECTURE_AT),
            _instruction(_JUMP_IF_EQUAL, architecture, 0, 5),
            _instruction(_LOAD, _NUMBER_AT),
            _instruction(_JUMP_IF_EQUAL, number, 0, 3),
            _instruction(_LOAD, _FIRST_ARGUMENT_AT),
            _instruction(_JUMP_IF_EQUAL, AF_ALG, 0, 1),
            _instruction(_RETURN, _RET_ERRNO | errno_),
        ]
    )


def _instruction(code: int, k: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("@HBBI", code, if_true, if_false, k)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
_libc.signal.restype = ctypes.c_void_p
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
