"""Random sequences for the models. Import this in a test, not at the head of a module: it needs hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.algorithms.catalogue import AeadRow, HashRow, SkcipherRow
from tests.algorithms.data import PAGE, longest
from tests.algorithms.keys import default_aad
from tests.algorithms.models import Clone, Message, Recv, Request, Send


def sizes(block: int, limit: int) -> st.SearchStrategy[int]:
    """Sizes of a buffer: small ones, those around a block and around a page."""
    edges = [n for n in (0, 1, block - 1, block, block + 1, 2 * block, PAGE - 1, PAGE, PAGE + 1) if 0 <= n <= limit]
    return st.sampled_from(edges) | st.integers(0, min(300, limit))


def hash_steps(row: HashRow) -> st.SearchStrategy[list[Send | Recv | Clone]]:
    """Sends, recvs and clones in any order, over up to four op sockets."""
    ops = st.integers(0, 3)
    vector = st.lists(sizes(row.block, min(longest(row.name), PAGE + 1)), min_size=1, max_size=3).map(tuple)
    send = st.builds(Send, vector, st.booleans(), ops)
    recv = st.builds(Recv, st.just(row.digest) | st.integers(1, row.digest + 8), ops)
    # Weighted by repetition: a sequence is interesting when much is sent between two reads.
    return st.lists(send | send | recv | st.builds(Clone, ops), min_size=1, max_size=10)


@st.composite
def skcipher_messages(draw: st.DrawFn, row: SkcipherRow) -> list[Message]:
    """Up to three messages, one after the other, on one op socket."""
    seamless = row.chaining in ("continues", "none")
    limit = min(longest(row.name), PAGE + 1) // 3
    messages: list[Message] = []
    whole = False
    for _ in range(draw(st.integers(1, 3))):
        blocks = draw(st.integers(max(-(-row.minimum // row.chunk), 1), max(limit // row.chunk, 1)))
        odd = draw(st.integers(0, row.chunk - 1)) // row.unit * row.unit
        size = blocks * row.chunk + odd
        goes_on = bool(messages) and seamless and whole and draw(st.booleans())
        decrypt = messages[-1].decrypt if goes_on else draw(st.booleans())
        sends = tuple(_cut(draw, part) for part in _cut(draw, size))
        reads: tuple[tuple[int, ...], ...] = ()
        if seamless:
            part = st.integers(1, 3 * row.chunk) | st.just(size)
            reads = tuple(tuple(draw(st.lists(part, max_size=2))) for _ in sends)
        messages.append(Message(decrypt, None if goes_on else draw(st.integers(0, 9)), sends, reads))
        whole = odd == 0
    return messages


@st.composite
def aead_requests(draw: st.DrawFn, row: AeadRow) -> list[Request]:
    """Up to three requests, one after the other, on one op socket; some are forged."""
    requests = []
    for _ in range(draw(st.integers(1, 3))):
        aad = default_aad(row) if row.aads else draw(sizes(16, PAGE + 1))
        text = max(draw(sizes(16, PAGE + 1)) // row.unit * row.unit, row.minimum)
        decrypt = draw(st.booleans())
        requests.append(
            Request(
                decrypt,
                draw(st.integers(0, 9)),
                aad,
                text,
                tuple(sorted(draw(st.lists(st.integers(0, aad + text), max_size=3)))),
                draw(st.integers(1, 3)),
                tuple(draw(st.lists(st.integers(0, 40) | st.just(aad), max_size=3))),
                draw(st.sampled_from([0, 0, 1, 64])),
                draw(st.none() | st.integers(0, 8 * (row.tags[-1] + text) - 1)) if decrypt else None,
            )
        )
    return requests


def reads() -> st.SearchStrategy[list[tuple[int, int]]]:
    """Reads of a generator: through which of two op sockets, and how much."""
    return st.lists(st.tuples(st.integers(0, 1), st.integers(0, 40) | st.integers(41, 128)), min_size=1, max_size=8)


def _cut(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """Cut ``size`` into up to three parts, some of them perhaps empty."""
    edges = sorted(draw(st.lists(st.integers(0, size), max_size=2)))
    return tuple(b - a for a, b in zip([0, *edges], [*edges, size], strict=True))
