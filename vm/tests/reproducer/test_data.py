"""Rules that bytes were made by are found, and make the same bytes."""

from __future__ import annotations

import random

import pytest

from vm.reproducer import data

CASES = {
    "nothing": b"",
    "one value": bytes([7]) * 100,
    "a step": bytes(i * 7 % 251 for i in range(4096)),
    "pages": bytes(i * 7 % 251 for i in range(4096)) * 5,
    "all values": bytes(range(256)) * 3,
    "text between": b"\xa5" * 4080 + b"what has no rule at all, but a length" + b"\x5a" * 4000,
    "a period without a rule": bytes.fromhex("0b9917e2a4c5f00d") * 40,
}


@pytest.mark.parametrize("case", CASES)
def test_parts_make_the_bytes_they_are_of(case: str) -> None:
    assert data.made(data.parts(CASES[case])) == CASES[case]


def test_rules_are_found() -> None:
    assert data.parts(CASES["a step"]) == [data.Part(0, 4096, data.Run(0, 7, 251))]
    first, rest = data.parts(CASES["pages"])
    assert first.run == data.Run(0, 7, 251)
    assert (rest.offset, rest.length, rest.period) == (4096, 4 * 4096, 4096)
    assert [part.literal for part in data.parts(CASES["text between"]) if part.literal] == [
        b"what has no rule at all, but a length"
    ]


def test_any_bytes_come_back() -> None:
    chance = random.Random(1)
    makers = (
        lambda: bytes([chance.randrange(256)]) * chance.randrange(60),
        lambda: bytes(i * chance.randrange(1, 9) % 251 for i in range(60)),
        lambda: chance.randbytes(chance.randrange(40)),
    )
    for _ in range(2000):
        whole = b"".join(chance.choice(makers)() for _ in range(chance.randrange(4))) * chance.randrange(1, 3)
        assert data.made(data.parts(whole)) == whole


def test_strings_are_what_c_reads_them_as() -> None:
    assert data.string(b'a"b\\c??=') == '"a\\"b\\\\c?\\?="'


def test_the_hash_is_fnv_1a() -> None:
    """Test vector of the authors (Fowler, Noll, Vo): "foobar"."""
    assert data.fnv(b"foobar") == 0x85944171F73967E8
