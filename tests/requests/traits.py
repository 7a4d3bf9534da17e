"""In what kernels differ, asked of the kernel itself, each by a request that no model is needed to judge."""

from __future__ import annotations

import errno
import functools
import os

from tests.afalg import Aead, Pipe, Skcipher, authenc_key, set_assoclen, set_iv, set_op, splice
from tests.afalg.constants import ALG_OP_DECRYPT, ALG_OP_ENCRYPT, MSG_DONTWAIT
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
        aead_iv_goes_on=iv_of_an_aead_goes_on(),
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


def iv_of_an_aead_goes_on() -> bool:
    """Whether a cipher's next IV is the socket's next IV, too; false where there is no authenc to ask.

    Until the request got a copy of the IV (5aa58c3a572b): what CBC left in it was that of the next request.
    """
    try:
        aead = Aead("authenc(hmac(sha256),cbc(aes))", authenc_key(bytes(20), _KEY), 16)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    with aead:
        first = aead.encrypt(bytes(16), b"", bytes(16))
        aead.op.sendmsg([bytes(16)], set_op(ALG_OP_ENCRYPT) + set_assoclen(0))
        return aead.op.recv(32, MSG_DONTWAIT) != first
