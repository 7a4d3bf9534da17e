"""No driver leaves anything in the vector registers of the program that called: keys and data would be there.

Kernel document core-api/floating-point.rst: between kernel_fpu_begin and kernel_fpu_end, which put them aside.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator

import pytest

from tests.afalg import Aead, Hash, Skcipher, Socket, Transform, set_assoclen, set_iv, set_op
from tests.afalg import constants as c
from tests.afalg.memory import PAGE, Memory
from tests.afalg.proc import Implementation, implementations
from tests.afalg.registers import RECVFROM, SENDTO, SETSOCKOPT, Registers
from tests.algorithms import catalogue
from tests.algorithms.catalogue import AeadRow, HashRow, Row, SkcipherRow
from tests.algorithms.data import cut, data
from tests.algorithms.keys import aad_of, default_aad, iv_of, key_of
from tests.algorithms.test_drivers import LONGEST_BINDABLE
from tests.doctor import absence
from tests.errors.raises import outcome
from tests.need import lacking

pytestmark = pytest.mark.usefixtures("everything_loaded")

SIZE = 3 * PAGE
KINDS: dict[str, type[Transform]] = {"hash": Hash, "skcipher": Skcipher, "aead": Aead}


def drivers(type_: str) -> Iterator[tuple[Row, Implementation]]:
    """Yield every driver of a type that AF_ALG gives, with the row of what it implements."""
    rows = catalogue.by_type()[type_]
    for entry in implementations():
        known = entry.af_alg_type == type_ and entry.name in rows and len(entry.driver) <= LONGEST_BINDABLE
        if known and outcome(lambda driver=entry.driver: Socket.bound(type_, driver).close()) == 0:  # type: ignore[misc]
            yield rows[entry.name], entry


def key_for(row: Row) -> bytes | None:
    if isinstance(row, AeadRow):
        return key_of(row, row.keys[-1])
    return data("key", row.keys[-1]) if isinstance(row, HashRow | SkcipherRow) and row.keys else None


def request(row: Row, op: Socket) -> int:
    """Send a request that a recv will compute; return the length of its result."""
    size = min(SIZE, 2048) if "kw(" in row.name else SIZE
    if isinstance(row, AeadRow):
        key, iv = key_of(row, row.keys[-1]), iv_of(row.name, row.iv)
        aad = aad_of(row, key, row.aads[-1] if row.generates_iv_for and row.aads else default_aad(row))
        control = set_op(c.ALG_OP_ENCRYPT) + set_assoclen(len(aad)) + (set_iv(iv) if row.iv else b"")
        op.sendmsg([aad, cut(size)], control)
        return len(aad) + size + row.tags[-1]
    assert isinstance(row, SkcipherRow)
    op.sendmsg([cut(size)], set_op(c.ALG_OP_ENCRYPT) + (set_iv(data("iv", row.iv)) if row.iv else b""))
    return size


@pytest.mark.deadline(60)
@pytest.mark.parametrize("type_", KINDS)
def test_no_driver_changes_a_vector_register(type_: str) -> None:
    """Of the program: by setting a key, by sending, by receiving; of no driver, accelerated or not.

    Source: kernel_fpu_begin, arch/x86/kernel/fpu/core.c.
    """
    if platform.machine() != "x86_64":
        lacking(absence.VECTOR_REGISTERS)
    wrong, tried = [], 0
    with Registers() as registers, Memory(8) as memory:
        memory.write(0, cut(8 * PAGE))
        for row, entry in drivers(type_):
            tried += 1
            try:
                for call, changed in calls(type_, row, entry, registers, memory):
                    wrong += [f"{entry.driver}, {call}: {register}" for register in changed]
            except OSError as error:
                wrong.append(f"{entry.driver}: {error}")
    assert tried, f"no driver of type {type_}"
    assert not wrong, "; ".join(wrong)


def calls(
    type_: str, row: Row, entry: Implementation, registers: Registers, memory: Memory
) -> Iterator[tuple[str, list[str]]]:
    """Make the calls in which a driver works; yield what each changed."""
    key = key_for(row)
    with KINDS[type_](entry.driver) as transform:
        if isinstance(transform, Aead):
            assert isinstance(row, AeadRow)
            transform.tfm.set_authsize(row.tags[-1])
        if key is not None:
            memory.write(7 * PAGE, key)
            where = memory.pointer(7 * PAGE, len(key))
            yield "setsockopt", registers.call(SETSOCKOPT, transform.tfm.fd, c.SOL_ALG, c.ALG_SET_KEY, where)[1]
        op = transform.op
        if isinstance(row, HashRow):
            for flags in (c.MSG_MORE, c.MSG_MORE, 0):
                where = memory.pointer(0, SIZE - 5)
                yield "send", registers.call(SENDTO, op.fd, where, flags, 0, 0)[1]
            size = 64
        else:
            size = request(row, op)
        got, changed = registers.call(RECVFROM, op.fd, memory.pointer(SIZE, size), c.MSG_DONTWAIT, 0, 0)
        assert 0 < got <= size or row.name == "digest_null"
        yield "recv", changed
