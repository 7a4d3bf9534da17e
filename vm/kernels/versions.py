"""Versions of kernel packages: which one is newer, and which ones a user's words name."""

from __future__ import annotations

import re

# Ubuntu's packages: the release that was branched from, the ABI, the upload: 6.8.0-45.45, 6.8.0-45.45~22.04.1.
UBUNTU = re.compile(r"(\d+\.\d+\.0-\d+)\.\d")
# How Debian names what is built from one source besides the general kernel: 6.1.0-50-cloud-amd64, 6.12.9-arm64-16k.
_OF_RELEASE = re.compile(r"-(cloud|rt)-|-(16k|64k)$")
_OF_WORD = re.compile(r"(.+)-(cloud|rt|16k|64k)")


def upstream(version: str) -> str:
    """Return the kernel's own version in a package version: ``6.1.192`` in ``6.1.192-2``.

    Ubuntu's tell none of a stable release; theirs is the release with its ABI: ``6.8.0-45`` in ``6.8.0-45.45``.
    """
    if ubuntu := UBUNTU.match(version):
        return ubuntu[1]
    return _before_revision(version)


def printable(version: str) -> str:
    """Return ``version`` in letters, digits and ``._+-`` alone: ``7.3-rc7-1-exp1``."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", version)


def flavour(release: str) -> str:
    """Return which kernel of its source one of that ``uname -r`` is: ``cloud``; empty for the general one."""
    found = _OF_RELEASE.search(release)
    return (found[1] or found[2]) if found else ""


def split_flavour(wanted: str) -> tuple[str, str]:
    """Split ``6.12-cloud`` into version and flavour; the latter is empty when none is named."""
    found = _OF_WORD.fullmatch(wanted)
    return (found[1], found[2]) if found else (wanted, "")


def with_flavour(version: str, release: str) -> str:
    """Return how the kernel of that version and ``uname -r`` is asked for: ``6.12.117-cloud``."""
    return f"{version}-{named}" if (named := flavour(release)) else version


def is_exact(version: str) -> bool:
    """Say whether ``version`` names one point release: three numbers, or a package revision."""
    version, _ = split_flavour(version)
    return bool(re.match(r"\d+\.\d+(\.\d+|.*-)", version)) and not re.fullmatch(r"\d+\.\d+\.0", version)


def matches(wanted: str, version: str, release: str) -> bool:
    """Say whether the kernel of package ``version`` and ``release`` is one of those that ``wanted`` names.

    Whole numbers count: ``6.1`` is every 6.1.x and no 6.12. ``7.3`` is its release candidates too, where
    they are all there is. An ABI may stand without what follows it: ``6.8.0-45``, ``6.1.0-50``. Other kernels than
    the general one are named by their flavour: ``6.12-cloud``.
    """
    if wanted == release:
        return True
    wanted, asked = split_flavour(wanted)
    if asked != flavour(release):
        return False
    wanted = re.sub(r"-(rc\d)", r"~\1", wanted)
    if not wanted or wanted in (version, release, upstream(version)):
        return True
    if "-" in wanted and release.startswith(f"{wanted}-"):
        return True
    return upstream(version).startswith((f"{wanted}.", f"{wanted}~", f"{wanted}-")) or version.startswith(
        (f"{wanted}~", f"{wanted}+")
    )


def key(version: str) -> tuple[int, list[tuple[list[int], int]], list[tuple[list[int], int]]]:
    """Return the sort key of a Debian version: deb-version(7), "Sorting algorithm"."""
    epoch, _, rest = version.rpartition(":")
    return int(epoch or 0), _parts(_before_revision(rest)), _parts(rest.rpartition("-")[2] if "-" in rest else "0")


def _before_revision(version: str) -> str:
    return version.rpartition("-")[0] or version


def _parts(text: str) -> list[tuple[list[int], int]]:
    # Alternating non-digits and digits. Among non-digits ~ sorts before the end, the end before letters, and
    # letters before all others.
    found = []
    for letters, digits in re.findall(r"(\D*)(\d*)", text):
        ranks = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in letters]
        found.append(([*ranks, 0], int(digits or 0)))
    return found
