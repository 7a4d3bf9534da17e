"""ARC4, whose requests are independent of each other or pieces of one stream, depending on the kernel."""

from __future__ import annotations

import pytest

from tests.afalg import Skcipher, set_op
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT
from tests.algorithms.data import cut, data
from tests.algorithms.independent import goes_on
from tests.need import need
from tests.oracle import small

pytestmark = pytest.mark.usefixtures("everything_loaded")

SIZES = (1, 16, 31, 300)


@pytest.mark.parametrize("size", [1, 5, 16, 256])
@pytest.mark.parametrize("name", ["arc4", "ecb(arc4)"])
def test_requests_restart_the_keystream_or_go_on_with_it(name: str, size: int) -> None:
    """Over op sockets of one tfm, both directions: all of one kind. A new tfm begins at the beginning."""
    key, message = data(f"arc4 {size}", size), cut(sum(SIZES))
    whole = small.arc4(key, message)
    for _ in range(2):
        with need(Skcipher, name, key) as cipher, cipher.tfm.accept() as other:
            at = 0
            for turn, length in enumerate(SIZES):
                piece = message[at : at + length]
                op, operation = (cipher.op, ALG_OP_ENCRYPT) if turn % 2 else (other, ALG_OP_DECRYPT)
                op.sendmsg([piece], set_op(operation))
                expected = whole[at : at + length] if goes_on(name) else small.arc4(key, piece)
                assert op.recv(length) == expected, f"{length} bytes at {at}"
                at += length
