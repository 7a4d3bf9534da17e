"""In what kernels differ, asked of the kernel itself, each by a request that no model is needed to judge."""

from __future__ import annotations

import errno
import functools
import os

from tests.afalg import Aead, Pipe, Skcipher, set_assoclen, set_iv, set_op, splice
from tests.afalg.constants import ALG_OP_DECRYPT, MSG_DONTWAIT
from tests.errors.raises import outcome
from tests.need import need
from tests.oracle import aeads
from tests.requests.steps import Traits

_KEY = bytes(16)


@functools.cache
def traits() -> Traits:
    """Return what this kernel does."""
    return Traits(
        splice_begins=splice_begins_a_request(),
        short_recv_is_refused=room_for_less_than_a_block_is_refused(),
        short_open_keeps=decryption_without_room_for_the_aad_keeps_the_message(),
    )


def splice_begins_a_request() -> bool:
    """Whether data that is spliced into a fresh op socket can be received.

    Until Linux 6.5 sendpage did not mark that a request had begun; branches that took the end of zero-copy have it
    otherwise.
    """
    with need(Skcipher, "cbc(aes)", _KEY) as cipher, Pipe() as pipe:
        os.write(pipe.write_end, bytes(16))
        splice(pipe.read_end, cipher.op, 16)
        return outcome(lambda: cipher.op.recv(16, MSG_DONTWAIT)) != errno.EAGAIN


def room_for_less_than_a_block_is_refused() -> bool:
    """Whether that is EINVAL, or 0 bytes, which look like the end (Linux kernel commit 8eceab19eba9)."""
    with need(Skcipher, "cbc(aes)", _KEY) as cipher:
        cipher.op.send(bytes(32))
        return outcome(lambda: cipher.op.recv(8, MSG_DONTWAIT)) == errno.EINVAL


def decryption_without_room_for_the_aad_keeps_the_message() -> bool:
    """Whether a message can still be opened after a recv with room for less than its AAD.

    The fix of Copy Fail (a664bf3d603d) made the check of the room count the tag; before, what there was room for
    was tried, failed, and was gone.
    """
    iv, aad, text = bytes(12), bytes(8), bytes(20)
    with need(Aead, "gcm(aes)", _KEY) as aead:
        sealed = aeads.seal("gcm(aes)", _KEY, iv, aad, text, 16)
        aead.op.sendmsg([aad, sealed], set_op(ALG_OP_DECRYPT) + set_iv(iv) + set_assoclen(len(aad)))
        outcome(lambda: aead.op.recv(4, MSG_DONTWAIT))
        return outcome(lambda: aead.op.recv(28, MSG_DONTWAIT)) == 0
