"""The call that compares vector registers: it sees one that changes, and no other."""

from __future__ import annotations

import errno
import os
import platform

import pytest

from tests.afalg.memory import Memory
from tests.afalg.registers import Registers

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86-64")

GETPPID, READ = 110, 0


def test_call_that_changes_nothing() -> None:
    with Registers() as registers:
        assert registers.call(GETPPID) == (os.getppid(), [])


def test_arguments_and_errors_are_those_of_the_call() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"some data")
    with Registers() as registers, Memory(1) as memory:
        assert registers.call(READ, reader, memory.pointer(0, 4)) == (4, [])
        assert memory.read(0, 4) == b"some"
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            registers.call(READ, -1, memory.pointer(0, 4))
    for fd in (reader, writer):
        os.close(fd)


@pytest.mark.parametrize(
    ("code", "number"),
    [
        pytest.param(b"\x66\x0f\xef\xc0", 0, id="pxor-0"),
        pytest.param(b"\x66\x0f\xef\xdb", 3, id="pxor-3"),
        pytest.param(b"\x66\x45\x0f\xef\xff", 15, id="pxor-15"),
    ],
)
def test_register_that_changes_is_named(code: bytes, number: int) -> None:
    with Registers(spoil=code) as registers:
        got, changed = registers.call(GETPPID)
        assert got == os.getppid()
        assert changed == [("ymm" if registers.width == 32 else "xmm") + str(number)]
