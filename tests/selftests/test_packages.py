"""The big collections of published answers: found, read, the same sample each time, and what the oracles give."""

from __future__ import annotations

import pytest

from tests.algorithms import catalogue
from tests.oracle import aeads, hashes, skciphers
from tests.vectors import AeadVector, HashVector, SkcipherVector, packages
from tests.vectors.readers import Answer, Paragraphs, Refusal, ccm_iv

ALL = [(kind, name) for kind in packages.SOURCES for name in packages.names(kind)]
every_algorithm = pytest.mark.parametrize(("kind", "name"), ALL, ids=[name for _, name in ALL])


@every_algorithm
def test_sample_agrees_with_the_oracle(kind: str, name: str) -> None:
    found = list(packages.answers(kind, name, everything=False))
    assert any(not isinstance(answer, Refusal) for answer in found)
    for answer in found:
        check(answer)


@every_algorithm
def test_sample_is_the_same_each_time_and_part_of_the_whole(kind: str, name: str) -> None:
    samples = [list(packages.answers(kind, name, everything=False)) for _ in range(2)]
    assert samples[0] == samples[1]
    everything = {contents(answer) for answer in packages.answers(kind, name, everything=True)}
    assert {contents(answer) for answer in samples[0]} <= everything


def test_every_algorithm_is_in_the_catalogue() -> None:
    assert [name for kind, name in ALL if name not in catalogue.by_type()[kind]] == []


@pytest.mark.parametrize("name", ["gcm(aes)", "ccm(aes)", "rfc7539(chacha20,poly1305)"])
def test_sample_has_some_that_must_be_refused(name: str) -> None:
    found = list(packages.answers("aead", name, everything=False))
    assert len(found) >= 30
    assert 2 <= sum(isinstance(answer, Refusal) for answer in found) <= len(found) / 2


def test_a_record_takes_what_it_lacks_from_above() -> None:
    text = "# K = 7\nTlen = 4\n\n[Alen = 0]\n\nKey = 01\n\nCount = 0\nCT = 02\n\nKey = 03\n\nCount = 1\nCT =\nFAIL\n"
    first, second = Paragraphs(text, ("TLEN", "KEY", "ALEN"), "CT")
    assert first == {"TLEN": "4", "ALEN": "0", "KEY": "01", "COUNT": "0", "CT": "02"}
    assert (second["KEY"], second["CT"], "FAIL" in second) == ("03", "", True)


@pytest.mark.parametrize(("length", "first"), [(7, 7), (13, 1)])
def test_nonce_of_ccm_becomes_a_counter_block(length: int, first: int) -> None:
    """RFC 3610: the nonce has 15 - L bytes, and the first byte is L - 1."""
    assert ccm_iv(b"n" * length) == bytes([first]) + b"n" * length + bytes(15 - length)


def check(answer: Answer) -> None:
    match answer:
        case HashVector():
            assert hashes.digest(answer.name, answer.message, answer.key) == answer.digest, answer.id
        case SkcipherVector():
            assert skciphers.crypt(answer.name, answer.key, answer.iv, answer.plaintext) == answer.ciphertext, answer.id
        case AeadVector():
            sealed = aeads.seal(answer.name, answer.key, answer.iv, answer.aad, answer.plaintext, len(answer.tag))
            assert sealed == answer.ciphertext + answer.tag, answer.id
        case Refusal(SkcipherVector() as vector):
            with pytest.raises(ValueError, match="not authentic"):
                skciphers.crypt(vector.name, vector.key, vector.iv, vector.ciphertext, decrypt=True)


def contents(answer: Answer) -> tuple[object, ...]:
    """Return an answer without its number, which depends on how much of its file was read."""
    vector = answer.vector if isinstance(answer, Refusal) else answer
    return (type(answer), *(value for field, value in vars(vector).items() if field != "id"))
