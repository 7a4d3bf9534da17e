"""The check around every test of this folder, seen to fail: each thing that can be left behind, left on purpose."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg import Socket
from tests.afalg.constants import MSG_MORE
from tests.afalg.keys import Key
from tests.doctor import absence
from tests.errors.held import difference, held
from tests.errors.leaks import LostMemory, left_behind
from tests.errors.subjects import HASH, SKCIPHER, Subject, each_type
from tests.need import lacking, need_key


@pytest.fixture
def key() -> Iterator[Key]:
    with need_key("user", "af-alg-left", b"payload") as made:
        yield made


def references(found: list[str]) -> set[str]:
    """Return what of the findings are references, without their numbers."""
    return {text.partition(":")[0] for text in found if text.startswith("references")}


@each_type
def test_open_op_socket_is_found(subject: Subject) -> None:
    """With input in its queue, where it has one; by its descriptor and as a socket.

    Source: /proc/self/fd, /proc/net/sockstat.
    """
    with subject.open() as transform:
        before = held()
        op = transform.tfm.accept()
        if subject.result is not None:
            op.sendmsg([subject.message[:3]], subject.control, MSG_MORE)
        found = difference(before, held())
        assert any(text.startswith("file descriptors") and f"{op.fd} is socket:[" in text for text in found)
        assert any(text.startswith("sockets: used") for text in found)
        op.close()
        assert left_behind(before) == []


def test_socket_without_a_descriptor_is_found() -> None:
    """One that another process keeps open: socket, algorithm, and the module of its type.

    Source: /proc/net/sockstat, /proc/crypto, /proc/modules.
    """
    SKCIPHER.open().close()
    before = held()
    with SKCIPHER.open() as cipher:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        cipher.close()
    try:
        found = difference(before, held())
        assert any(text.startswith("sockets: used") for text in found)
        assert any(name.startswith("references to algorithm ") for name in references(found))
        if Path("/sys/module/algif_skcipher/refcnt").exists():
            assert "references to module algif_skcipher" in references(found)
    finally:
        os.close(writer)
        os.waitpid(child, 0)
    assert left_behind(before) == []


def test_socket_let_go_too_often_is_found() -> None:
    """Fewer than before is as wrong as more (tests/errors/held.py)."""
    with HASH.open() as h:
        before = held()
        h.close()
        found = difference(before, held())
        assert any(text.startswith("file descriptors") for text in found)
        assert any(name.startswith("references to algorithm ") for name in references(found))


def test_held_key_is_found(key: Key) -> None:
    """A reference too many to one that was there before (/proc/keys, keyrings(7))."""
    before = held()
    with need_key("keyring", "af-alg-left-ring", b"") as ring:
        key.link(ring.serial)
        assert references(difference(before, held())) == {f"references to key {key.serial:08x}"}
    assert left_behind(before) == []


def test_key_left_in_a_keyring_is_found(key: Key) -> None:
    """tests/errors/held.py compares /proc/keys (keyrings(7)) before and after."""
    before = held()
    with need_key("user", "af-alg-left-too", b"payload"):
        assert difference(before, held()) == ["a key of type user"]
    assert left_behind(before) == []


def test_socket_in_a_cycle_of_garbage_is_no_leak() -> None:
    """What Python would close some time later is closed before the kernel is blamed (tests/errors/held.py)."""
    before = held()
    cycle: list[object] = [Socket.create()]
    cycle.append(cycle)
    del cycle
    assert left_behind(before) == []


def test_kernel_tells_of_lost_memory(lost_memory: LostMemory) -> None:
    """It does when its message is switched on; here with the message as somebody else wrote it.

    Source: __sk_destruct in net/core/sock.c.
    """
    control = Path("/proc/dynamic_debug/control")
    if not control.exists():
        lacking(absence.DYNAMIC_DEBUG)
    (line,) = (text for text in control.read_text().splitlines() if "optmem leakage" in text)
    assert line.partition("__sk_destruct ")[2].startswith("=p")
    lost_memory.forget()
    assert lost_memory.told() == []
    Path("/dev/kmsg").write_text("<7>__sk_destruct: optmem leakage (48 bytes) detected\n")
    assert lost_memory.told() == ["__sk_destruct: optmem leakage (48 bytes) detected"]
    assert lost_memory.told() == []
