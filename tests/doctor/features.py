"""What the tests use beside AF_ALG, and why a kernel lacks it: the same questions that their skips come from."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from tests.afalg import privileges
from tests.afalg.aio import Context
from tests.afalg.keys import Key
from tests.afalg.netlink import CryptoNetlink
from tests.afalg.seccomp import has_32_bit_entry
from tests.afalg.uring import Ring
from tests.doctor import absence
from tests.doctor.absence import Feature, why_no_feature
from tests.doctor.findings import WORKS, Finding
from tests.doctor.system import System


def _key() -> None:
    with Key("user", "af-alg-doctor", b"payload"):
        pass


def _compat() -> None:
    if not has_32_bit_entry():
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


FEATURES: Sequence[tuple[Feature, Callable[[], object]]] = (
    (absence.AIO, lambda: Context(1).close()),
    (absence.URING, lambda: Ring(2).close()),
    (absence.KEYRINGS, _key),
    (absence.NETLINK_CRYPTO, lambda: CryptoNetlink().close()),
    (absence.USER_NAMESPACES, lambda: privileges.run_as(privileges.NAMESPACE_ROOT, lambda: None)),
    (absence.COMPAT, _compat),
)
"""Each with a call that uses it once, and raises OSError where that cannot be."""


def examine_features(
    system: System, features: Sequence[tuple[Feature, Callable[[], object]]] = FEATURES
) -> list[Finding]:
    """Return what is known of each."""
    return [_feature(system, feature, use) for feature, use in features]


def _feature(system: System, feature: Feature, use: Callable[[], object]) -> Finding:
    try:
        use()
    except OSError as error:
        why = why_no_feature(system, feature, error.errno or 0)
        return Finding(feature.name, why.absence.value, why.detail, why.advice)
    return Finding(feature.name, WORKS, "")
