"""Copy Fail in every shape: which parts of a sealed message are spliced, how, and where they lie.

See test_page_cache.py. What is spliced is a file, or memory, that this process could not, or must not, see changed.
"""

from __future__ import annotations

import errno

import pytest

from tests.afalg import Socket
from tests.afalg.constants import MSG_MORE
from tests.algorithms import catalogue
from tests.errors.raises import raises_errno
from tests.splice.messages import OPEN, AeadMessage, message_of
from tests.splice.sources import Source, source_of
from tests.splice.targets import receive
from tests.splice.test_intact import COPY_FAIL
from tests.splice.ways import WAYS

ESN = next(row for row in catalogue.AEADS if row.name == "authencesn(hmac(sha256),cbc(aes))")
AUTHSIZE = 16

SENT, SPLICED = "send", "splice"
# Each a list of (how, up to where): AAD, ciphertext and tag follow each other, and "tag+n" is n bytes into the tag.
LAYOUTS = {
    "all": [(SPLICED, "end")],
    "tag": [(SENT, "tag"), (SPLICED, "end")],
    "tag-in-two-pieces": [(SENT, "tag"), (SPLICED, "tag+4"), (SPLICED, "end")],
    "tag-but-its-end": [(SENT, "tag"), (SPLICED, "tag+9"), (SENT, "end")],
    "tag-but-its-first-bytes": [(SENT, "tag+2"), (SPLICED, "end")],
    "tag-with-the-last-block": [(SENT, "tag-16"), (SPLICED, "end")],
    "all-but-the-tag": [(SPLICED, "tag"), (SENT, "end")],
    "aad": [(SPLICED, "text"), (SENT, "end")],
    "text": [(SENT, "text"), (SPLICED, "tag"), (SENT, "end")],
}
# The sequence number's high half was written over the first four bytes of the tag.
SHOWS = {"all", "tag", "tag-in-two-pieces", "tag-but-its-end", "tag-but-its-first-bytes", "tag-with-the-last-block"}
HOW = [
    ("splice", "memfd"),
    ("sendfile", "sealed"),
    ("vmsplice", "memfd"),
    ("vmsplice", "private"),
    ("io_uring", "tmpfs"),
    ("splice", "tee"),
]


def _cases() -> list[object]:
    """Each layout of a file, and each way for a whole message."""
    chosen = [(layout, *HOW[0]) for layout in LAYOUTS] + [("all", *how) for how in HOW[1:]]
    return [pytest.param(*case, id="-".join(case), marks=[COPY_FAIL] if case[0] in SHOWS else []) for case in chosen]


@pytest.mark.parametrize(("layout", "way", "kind"), _cases())
@pytest.mark.parametrize("size", [32, 3 * 4096], ids=["short", "3-pages"])
def test_opening_any_layout_leaves_the_source_as_it_was(layout: str, way: str, kind: str, size: int) -> None:
    """With a valid tag, and with one that is not (_aead_recvmsg, crypto/algif_aead.c)."""
    message = message_of(ESN, AUTHSIZE, size)
    for stream in (message.sealed, message.sealed[:-1] + b"?"):
        with message.open() as aead, source_of(kind, stream, 5) as source:
            op = aead.op
            op.sendmsg([], message.control(OPEN), MSG_MORE)
            put(message, layout, way, stream, source, op)
            if stream == message.sealed:
                assert message.is_result(OPEN, receive(op, len(stream) - AUTHSIZE))
            else:
                with raises_errno(errno.EBADMSG):
                    receive(op, len(stream) - AUTHSIZE)


def put(message: AeadMessage, layout: str, way: str, stream: bytes, source: Source, op: Socket) -> None:
    """Send and splice the parts of the message as the layout says."""
    start = 0
    for how, until in LAYOUTS[layout]:
        end = edge(message, stream, until)
        if how == SENT:
            op.send(stream[start:end], MSG_MORE if end < len(stream) else 0)
        else:
            assert WAYS[way](source, op, start, end - start, 0, end < len(stream)) == end - start
        start = end


def edge(message: AeadMessage, stream: bytes, where: str) -> int:
    """Return the offset of a place that a layout names."""
    if where in ("text", "end"):
        return len(message.aad) if where == "text" else len(stream)
    return len(stream) - AUTHSIZE + int(where.removeprefix("tag") or 0)
