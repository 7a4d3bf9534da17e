"""A system call with known values in the vector registers, and what they hold afterwards: the same, on every kernel.

Code that uses them in the kernel must have put the program's aside (kernel_fpu_begin, kernel document
core-api/floating-point.rst); forgotten, the program computes with what the cipher left.
"""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from tests.afalg.memory import PROT_EXEC, PROT_READ, Memory
from tests.afalg.sockets import Pointer

SENDTO, RECVFROM, SETSOCKOPT = 44, 45, 54
"""Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl)."""

_REGISTERS = 16


class Registers:
    """Makes system calls with a pattern in every vector register of x86-64: 32 bytes each, 16 without AVX.

    Args:
        spoil: machine code to run after the call, so that a test can see the check fail.
    """

    def __init__(self, spoil: bytes = b"") -> None:
        self.width = 32 if _has_avx() else 16
        self.pattern = bytes((7 * i + i // self.width) % 251 + 1 for i in range(_REGISTERS * self.width))
        self._memory = Memory(1)
        self._memory.write(0, _code(self.width, spoil))
        self._memory.protect(0, PROT_READ | PROT_EXEC)
        kind = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p)
        self._function = kind(self._memory.address)

    def call(self, number: int, *arguments: int | Pointer) -> tuple[int, list[str]]:
        """Make a call that does not block; return its value and the names of registers it changed.

        Args:
            arguments: numbers; a Pointer counts for two, address and length.

        Raises:
            OSError: the call failed.
        """
        flat = [n for argument in arguments for n in (argument if isinstance(argument, Pointer) else (argument,))]
        values = (ctypes.c_long * 6)(*flat)
        after = ctypes.create_string_buffer(len(self.pattern))
        got = self._function(self.pattern, ctypes.addressof(after), number, ctypes.addressof(values))
        if got < 0:
            raise OSError(-got, os.strerror(-got))
        width, name = self.width, "ymm" if self.width == 32 else "xmm"
        parts = [slice(i * width, (i + 1) * width) for i in range(_REGISTERS)]
        return got, [f"{name}{i}" for i, part in enumerate(parts) if after.raw[part] != self.pattern[part]]

    def close(self) -> None:
        self._memory.close()

    def __enter__(self) -> Registers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _code(width: int, spoil: bytes) -> bytes:
    """Return ``long f(const void *before, void *after, long number, const long *arguments)``."""
    code = b"\x41\x54\x49\x89\xf4"  # push r12; mov r12, rsi
    code += b"".join(_move(i, i * width, width, store=False) for i in range(_REGISTERS))
    code += b"\x48\x89\xd0\x49\x89\xcb"  # mov rax, rdx; mov r11, rcx
    code += b"\x49\x8b\x3b\x49\x8b\x73\x08\x49\x8b\x53\x10"  # rdi, rsi, rdx = r11[0..2]
    code += b"\x4d\x8b\x53\x18\x4d\x8b\x43\x20\x4d\x8b\x4b\x28"  # r10, r8, r9 = r11[3..5]
    code += b"\x0f\x05" + spoil  # syscall
    code += b"".join(_move(i, i * width, width, store=True) for i in range(_REGISTERS))
    return code + (b"\xc5\xf8\x77" if width == 32 else b"") + b"\x41\x5c\xc3"  # vzeroupper; pop r12; ret


def _move(register: int, offset: int, width: int, *, store: bool) -> bytes:
    """Return (v)movdqu between a vector register and rdi[offset], or r12[offset] to store it."""
    high, operand = register >> 3, 0x80 | (register & 7) << 3
    place = bytes([operand | 4, 0x24] if store else [operand | 7]) + offset.to_bytes(4, "little")
    opcode = 0x7F if store else 0x6F
    if width == 32:
        return bytes([0xC4, 0xE1 ^ high << 7 ^ store << 5, 0x7E, opcode]) + place
    return bytes([0xF3, 0x40 | high << 2 | store, 0x0F, opcode]) + place


@functools.cache
def _has_avx() -> bool:
    """Whether processor and kernel have AVX."""
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return "avx" in flags.split()
