"""Whom the tests ask as, and asking the kernel as somebody."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.afalg import Socket
from tests.afalg.privileges import (
    NAMESPACE_ROOT,
    NET_ADMIN,
    PLAIN_USER,
    ROOT,
    ROOT_WITHOUT_CAPABILITIES,
    SYS_ADMIN,
    Identity,
)
from tests.errors.raises import outcome
from tests.need import run_as

EVERYBODY = [ROOT, ROOT_WITHOUT_CAPABILITIES, NET_ADMIN, SYS_ADMIN, PLAIN_USER, NAMESPACE_ROOT]
PRIVILEGED = [ROOT, NET_ADMIN, SYS_ADMIN]
"""Those with CAP_NET_ADMIN or CAP_SYS_ADMIN in the initial user namespace."""

each_identity = pytest.mark.parametrize("identity", EVERYBODY, ids=lambda identity: identity.name)


def binds_as(identity: Identity, names: Iterable[tuple[str, str]]) -> list[int]:
    """Return the errno of binding each (type, name), 0 for success, as somebody."""
    wanted = list(names)
    result: list[int] = run_as(
        identity, lambda: [outcome(lambda pair=pair: Socket.bound(*pair).close()) for pair in wanted]
    )
    return result
