"""When spliced data is read: at the splice, or as late as recv. Either may be, but everywhere the same.

A kernel that keeps pages by reference gives the result of what the source holds by then; one that copies gives that
of what it held. Which of the two a kernel does is not judged here (tests/regressions has the fix that ended it), but
recorded; a kernel that does both is broken.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.afalg import Socket
from tests.afalg.constants import MSG_MORE
from tests.errors import probes
from tests.splice.cases import PAGE
from tests.splice.sources import MAKERS, File, Private, Source
from tests.splice.targets import TARGETS, Outcome, Target, receive
from tests.splice.ways import WAYS

SIZE = 2 * PAGE

# What can be changed behind the socket's back: files with another descriptor, memory of one's own.
CHANGING = [
    ("memfd", "splice"),
    ("memfd", "sendfile"),
    ("memfd", "vmsplice"),
    ("memfd", "io_uring"),
    ("tmpfs", "splice"),
    ("overlay", "splice"),
    ("private", "vmsplice"),
    ("gift", "vmsplice"),
]
QUEUED = [name for name, target in TARGETS.items() if target.queued]


@pytest.mark.parametrize("name", QUEUED)
@pytest.mark.parametrize(("kind", "way"), CHANGING, ids=lambda value: value)
def test_source_that_changes_before_recv(
    kind: str, way: str, name: str, record_property: Callable[[str, object], None]
) -> None:
    """The result is of all the old content or of all the new, as everywhere else on this kernel.

    Source: af_alg_sendmsg, crypto/af_alg.c.
    """
    target = TARGETS[name]
    before, after = contents(target)
    with target.open() as transform, source_of_changing(kind, before) as source:
        op = transform.op
        op.sendmsg([], target.control, MSG_MORE)
        assert WAYS[way](source, op, 0, len(before), 0, False) == len(before)
        change(source, after)
        got = read(target, op, len(before))
    results = {"copied by splice": target.result(before), "by reference": target.result(after)}
    assert got in results.values(), f"neither of what {kind} held nor of what it holds: a mixture"
    answer = next(answer for answer, result in results.items() if result == got)
    record_property("answer", answer)
    expected = "by reference" if probes.splices_by_reference() else "copied by splice"
    assert answer == expected, f"{way} of {kind} into {name}; elsewhere on this kernel it is: {expected}"


@pytest.mark.parametrize("name", ["sha256", "hmac(sha256)"])
@pytest.mark.parametrize(("kind", "way"), CHANGING, ids=lambda value: value)
def test_hash_has_read_its_data_when_the_splice_returns(kind: str, way: str, name: str) -> None:
    """Also where other types keep pages: a hash takes the data in at once (hash_sendmsg)."""
    target = TARGETS[name]
    before, after = contents(target)
    with target.open() as transform, source_of_changing(kind, before) as source:
        op = transform.op
        assert WAYS[way](source, op, 0, len(before), 0, True) == len(before)
        change(source, after)
        assert read(target, op, len(before)) == target.result(before)


def test_memory_given_to_sendmsg_is_copied_whatever_the_flags_say() -> None:
    """MSG_SPLICE_PAGES from user space must not make pages of memory, which may change, a part of the message."""
    target = TARGETS["cbc(aes)"]
    before, after = contents(target)
    with target.open() as transform, source_of_changing("private", before) as source:
        op = transform.op
        op.sendmsg([], target.control, MSG_MORE)
        assert WAYS["sendmsg"](source, op, 0, len(before), 0, False) == len(before)
        change(source, after)
        assert read(target, op, len(before)) == target.result(before)


def contents(target: Target) -> tuple[bytes, bytes]:
    """Return two messages of one size; of what is opened, the second is forged."""
    before = target.stream(SIZE)
    return before, bytes(byte ^ 0xFF for byte in before)


def source_of_changing(kind: str, content: bytes) -> Source:
    """Return a source that is meant to change: nobody looks at it afterwards."""
    return MAKERS[kind](content, 0)


def change(source: Source, content: bytes) -> None:
    """Write other content where the source has its own."""
    if isinstance(source, File):
        writable = os.open(f"/proc/self/fd/{source.fd}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            assert os.pwrite(writable, content, source.offset) == len(content)
        finally:
            os.close(writable)
    else:
        assert isinstance(source, Private)
        source.write(content)


def read(target: Target, op: Socket, size: int) -> Outcome:
    """Return the result of a message of that size, or the errno it ends with."""
    try:
        return receive(op, target.size_of(bytes(size)))
    except OSError as error:
        return error.errno or -1
