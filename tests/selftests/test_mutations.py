"""An oracle that is wrong is found out: by published answers, of which every one has some."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.oracle import aeads, blocks, hashes, skciphers
from tests.oracle.names import Name, parse
from tests.selftests.answers import Vector, collected, differences, published
from tests.selftests.mutants import ORACLE, Mutant, mutants, noticed
from tests.vectors import AeadVector, HashVector, RngVector, SkcipherVector

# The tables by which an oracle is found; what is in them is all there is, but for the generators.
TABLES: dict[str, tuple[dict[str, Any], type]] = {
    "hashes._PLAIN": (hashes._PLAIN, HashVector),
    "hashes._KEYED": (hashes._KEYED, HashVector),
    "hashes._TEMPLATES": (hashes._TEMPLATES, HashVector),
    "skciphers._CRYPT": (skciphers._CRYPT, SkcipherVector),
    "aeads._SEAL": (aeads._SEAL, AeadVector),
    "blocks._SPECIAL": (blocks._SPECIAL, SkcipherVector),
    "blocks._GCRYPT": (blocks._GCRYPT, SkcipherVector),
}
# Nothing to get wrong; and what no document has answers for, which is compared with other libraries' parts.
NOTHING = {"digest_null", "cipher_null"}
COMPOSED = {"authencesn"}
ENTRIES = [
    (table, name) for table, (entries, _) in TABLES.items() for name in entries if name not in NOTHING | COMPOSED
]

# With code of its own, all but the tables and the parts that only look things up.
OWN_CODE = sorted({path.stem for path in ORACLE.glob("*.py")} - {"__init__", "gcrypt", "libcrypto", "sources", "names"})
SAMPLE = 8
LEAST = 0.75
"""Part of a module's mutants that must be noticed: some are no mistake, as a mask that is one bit too wide."""


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_one_wrong_bit_of_an_oracle_is_noticed(table: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is: among the published answers there is one of an algorithm that is computed by it."""
    entries, kind = TABLES[table]
    concerned = [
        vector for vector in (*published(), *collected()) if isinstance(vector, kind) and uses(parse(vector.name), name)
    ]
    assert concerned, "no published answer"
    assert not any(map(differences, concerned))
    if table == "blocks._GCRYPT":
        monkeypatch.setitem(blocks._SPECIAL, name, lambda key: turned_block(blocks_by_library(name, key)))
    elif table == "blocks._SPECIAL":
        original = entries[name]
        monkeypatch.setitem(entries, name, lambda key: turned_block(original(key)))
    else:
        monkeypatch.setitem(entries, name, turned(entries[name]))
    assert any(is_noticed(vector) for vector in concerned)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("module", OWN_CODE)
def test_mistakes_in_own_code_are_noticed(module: str) -> None:
    """A number that is off by one, another operator: a sample, the same each time as long as the code is the same."""
    every = list(mutants(module))
    sample = random.Random(module).sample(every, min(SAMPLE, len(every)))
    missed = [str(mutant) for mutant in sample if not noticed(mutant)]
    assert len(missed) <= (1 - LEAST) * len(sample), "\n".join(missed)


def test_the_engine_notices_nothing_where_nothing_is_wrong() -> None:
    """Else it would prove nothing that mutants are noticed."""
    source = (ORACLE / "chacha.py").read_text()
    assert not noticed(Mutant("chacha", 1, "nothing", compile(source, str(ORACLE / "chacha.py"), "exec")))


def test_a_mutant_is_gone_afterwards() -> None:
    before = skciphers.crypt("xchacha12", bytes(32), bytes(32), bytes(64))
    assert noticed(next(mutant for mutant in mutants("chacha") if "BitXor" in mutant.change))
    from tests.oracle import skciphers as after

    assert after is skciphers
    assert after.crypt("xchacha12", bytes(32), bytes(32), bytes(64)) == before


def uses(name: Name, wanted: str) -> bool:
    """Tell whether an oracle's name is in an algorithm's name, as a whole or as a part."""
    return wanted in (name.text, name.head) or any(uses(part, wanted) for part in name.parts)


def is_noticed(vector: Vector) -> bool:
    try:
        return bool(differences(vector))
    except ValueError:
        return True


def turned(function: Callable[..., bytes]) -> Callable[..., bytes]:
    """Return a function whose result has one bit wrong."""

    def wrong(*arguments: object, **options: object) -> bytes:
        result = function(*arguments, **options)
        return result[:-1] + bytes([result[-1] ^ 1]) if result else result

    return wrong


def turned_block(block: blocks.Block) -> blocks.Block:
    return blocks.Block(block.size, turned(block.encrypt), block.decrypt, block.cbc and turned(block.cbc))


def blocks_by_library(name: str, key: bytes) -> blocks.Block:
    return blocks._from_gcrypt(blocks._GCRYPT[name][len(key)], blocks._SIZES.get(name, 16), key)


def test_generators_that_are_wrong_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.oracle import drbg, x931

    for owner, function in ((drbg.HmacDrbg, "generate"), (drbg.HashDrbg, "generate"), (drbg.CtrDrbg, "generate")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, turned(getattr(owner, function)))
            assert any(is_noticed(vector) for vector in generators())
    monkeypatch.setattr(x931, "generate", turned(x931.generate))
    assert any(is_noticed(vector) for vector in generators())


def generators() -> Iterator[RngVector]:
    return (vector for vector in published() if isinstance(vector, RngVector))
