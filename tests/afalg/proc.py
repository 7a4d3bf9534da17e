"""/proc/crypto: what the kernel has registered, and which implementation it prefers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AF_ALG_TYPES = {
    "shash": "hash",
    "ahash": "hash",
    "skcipher": "skcipher",
    "lskcipher": "skcipher",
    "aead": "aead",
    "rng": "rng",
}
"""Types of /proc/crypto that AF_ALG can bind, and what it calls them."""


@dataclass(frozen=True)
class Implementation:
    """One entry.

    Attributes:
        name: of the algorithm: ``cbc(aes)``.
        driver: of this implementation: ``cbc-aes-aesni``.
        type_: the kernel's: ``shash``, ``skcipher``, ``cipher``, ``larval``…
        priority: the highest of a name is the one bind takes.
        selftest: ``passed``, or ``unknown`` when it failed or has not been run.
        internal: hidden from everyone but other algorithms.
        asynchronous: may complete later; Linux 7.2 hides such from AF_ALG.
        fields: everything the entry says, by its labels (``ivsize``, ``digestsize``…).
    """

    name: str
    driver: str
    type_: str
    priority: int
    selftest: str
    internal: bool
    asynchronous: bool
    fields: Mapping[str, str]

    @property
    def af_alg_type(self) -> str | None:
        """``hash``, ``skcipher``, ``aead`` or ``rng``; None for what AF_ALG cannot bind."""
        return None if self.internal or not self.approved else AF_ALG_TYPES.get(self.type_)

    @property
    def approved(self) -> bool:
        """Whether FIPS mode leaves it to others than algorithms that are made of it; true without that mode."""
        return self.fields.get("fips") != "no"


def implementations(text: str | None = None) -> list[Implementation]:
    """Return every entry, in the file's order.

    Args:
        text: the file's content; None reads the running kernel's.
    """
    content = Path("/proc/crypto").read_text() if text is None else text
    return [_entry(block) for block in content.split("\n\n") if block.strip()]


def _entry(block: str) -> Implementation:
    fields = dict(_field(line) for line in block.splitlines() if ":" in line)
    return Implementation(
        name=fields["name"],
        driver=fields["driver"],
        type_=fields.get("type", ""),
        priority=int(fields.get("priority", 0)),
        selftest=fields.get("selftest", ""),
        internal=fields.get("internal") == "yes",
        asynchronous=fields.get("async") == "yes",
        fields=fields,
    )


def _field(line: str) -> tuple[str, str]:
    label, _, value = line.partition(":")
    return label.strip(), value.strip()
