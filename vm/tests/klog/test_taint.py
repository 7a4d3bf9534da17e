"""The kernel's taint flags."""

from __future__ import annotations

import pytest

from vm.klog import taint

# Numbers and letters of the kernel document admin-guide/tainted-kernels.
TAINTS = {
    "P": 1, "F": 2, "S": 4, "R": 8, "M": 16, "B": 32, "U": 64, "D": 128, "A": 256, "W": 512, "C": 1024, "I": 2048,
    "O": 4096, "E": 8192, "L": 16384, "K": 32768, "X": 65536, "T": 131072, "N": 262144,
}  # fmt: skip


@pytest.mark.parametrize("letter", TAINTS)
def test_taint_letter(letter: str) -> None:
    ((found, meaning),) = taint.letters(TAINTS[letter])
    assert found == letter
    assert meaning


def test_taint_letters_of_several_flags() -> None:
    assert taint.letters(0) == []
    assert [letter for letter, _ in taint.letters(4609)] == ["P", "W", "O"]
    assert [letter for letter, _ in taint.letters(sum(TAINTS.values()))] == list(TAINTS)
    assert taint.letters(1 << 40) == [("?", "unknown flag, bit 40")]
