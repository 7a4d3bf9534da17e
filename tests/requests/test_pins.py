"""The check that follows every test of this folder sees pages that stay pinned."""

from __future__ import annotations

import pytest

from tests.afalg.memory import PAGE, Memory
from tests.afalg.uring import OP_READ_FIXED, Request, Ring
from tests.errors.subjects import SKCIPHER
from tests.requests.pins import check_nothing_pinned, pinned
from tests.requests.rings import done

PAGES = 5


@pytest.mark.parametrize("end", ["unregistered", "ring-closed"])
def test_check_fails_while_pages_are_pinned(end: str, ring: Ring) -> None:
    """Buffers registered with io_uring are pinned (io_uring_register(2)) until they are given back."""
    with Memory(PAGES) as memory:
        memory.write(0, bytes(PAGES * PAGE))
        before = pinned()
        ring.register_buffers([memory.pointer(100, (PAGES - 1) * PAGE)])
        with pytest.raises(AssertionError, match=f"{PAGES} pages are still pinned"):
            check_nothing_pinned(before, seconds=0)
        if end == "unregistered":
            ring.unregister_buffers()
        else:
            ring.close()
        check_nothing_pinned(before)


def test_check_sees_a_pin_that_a_request_has_used(ring: Ring) -> None:
    """A result received into a registered buffer leaves it pinned as often as it was: once (io_uring_register(2))."""
    with Memory(PAGES) as memory, SKCIPHER.open() as cipher:
        before = pinned()
        ring.register_buffers([memory.pointer(0, PAGES * PAGE)])
        SKCIPHER.begin(cipher.op)
        request = Request(OP_READ_FIXED, cipher.op.fd, memory.pointer(PAGE - 7, len(SKCIPHER.answer)))
        assert done(ring, request) == len(SKCIPHER.answer)
        assert memory.read(PAGE - 7, len(SKCIPHER.answer)) == SKCIPHER.answer
        assert pinned() - before == PAGES
        ring.unregister_buffers()
        check_nothing_pinned(before)
