"""What a kernel may be booted with besides the usual: ``SPEC@NAME``, to run more of its code.

A name behind the last ``@`` of a spec is one of these; several are joined: ``6.12@no-avx2@fips``. What drivers a kernel
has, and which variant in lib/crypto it takes, depends on the processor; what it allows, on its command line. Kernels
without AIO, io_uring or keys, and with a debugging allocator, are built: ``source:6.12+bare``, ``source:6.12+debug``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vm.base.command import Parser, command
from vm.base.errors import UsageError

SIGN = "@"


@dataclass(frozen=True)
class Axis:
    """One variation.

    Attributes:
        adds: what runs with it that does not without it.
        cpu: features of the processor to leave out, as QEMU's ``-cpu`` names them.
        arguments: for the kernel's command line.
    """

    adds: str
    cpu: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()


_AVX2 = ("avx2", "vaes", "vpclmulqdq", "sha-ni")
_AVX = (*_AVX2, "avx", "fma", "f16c")
_AES = ("aes", "pclmulqdq", "vaes", "vpclmulqdq", "sha-ni")
_SSSE3 = (*_AVX, *_AES, "ssse3", "sse4.1", "sse4.2", "sse4a")

AXES = {
    "no-avx2": Axis("the AVX drivers of sha, serpent, camellia, twofish and cast", _AVX2),
    "no-avx": Axis("their SSSE3 and SSE2 drivers, and AES-NI without AVX", _AVX),
    "no-aes": Axis("AES, GHASH and POLYVAL in plain C or in lookup tables", _AES),
    "no-ssse3": Axis("everything in plain C, beside what needs SSE2", _SSSE3),
    "fips": Axis("the rules of FIPS mode, and self-tests of what is used", arguments=("fips=1",)),
    "lockdown": Axis("a kernel that trusts root less: no debugfs, no unsigned modules",
                     arguments=("lockdown=confidentiality",)),
    "poison": Axis("red zones, poison and owners of slab objects, memory that is not zeroed",
                   arguments=("slub_debug=FZPU", "init_on_alloc=0", "init_on_free=0", "page_poison=1")),
    "preempt": Axis("preemption at any place, where the kernel can choose at boot", arguments=("preempt=full",)),
}  # fmt: skip


def split(spec: str) -> tuple[str, tuple[str, ...]]:
    """Split ``6.12@no-avx2`` into ``6.12`` and its axes; a spec whose last words are no axes has none.

    Raises:
        UsageError: it ends like an axis of which there is none.
    """
    base, names = spec, []
    while (found := base.rpartition(SIGN))[1] and found[2] in AXES:
        base = found[0]
        names.append(found[2])
    head, sign, word = base.rpartition(SIGN)
    if sign and head and word.replace("-", "").isalnum() and "/" not in word and not word[0].isdigit():
        raise UsageError(f"no axis {SIGN}{word}; there are: {', '.join(SIGN + name for name in AXES)}")
    return base, tuple(sorted(set(names)))


def suffix(names: tuple[str, ...]) -> str:
    """Return what stands behind a kernel's spec and name for these axes; empty for none."""
    return "".join(SIGN + name for name in names)


def without(names: tuple[str, ...]) -> list[str]:
    """Return the features of the processor that these axes leave out, as QEMU's ``-cpu`` takes them: ``-avx2``."""
    return list(dict.fromkeys(f"-{feature}" for name in names for feature in AXES[name].cpu))


def arguments(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that these axes add to the kernel's command line."""
    return tuple(word for name in names for word in AXES[name].arguments)


def listing() -> str:
    """Return a line for each: its name, and what it adds."""
    width = max(map(len, AXES)) + 1
    return "\n".join(f"{SIGN + name:{width}}  {axis.adds}" for name, axis in AXES.items())


@command
def main(arguments: Sequence[str]) -> None:
    """Print the axes."""
    Parser(prog="python -m vm axes", description="What a kernel can be booted with: SPEC@NAME.").parse_args(arguments)
    print(listing())
