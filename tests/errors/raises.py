"""One way to say which error a call must end with."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator

ENOTSUPP = 524
"""The kernel's own "operation is not supported" (include/linux/errno.h); no C library has a name for it."""


def name_of(number: int | None) -> str:
    """Return ``EINVAL`` for 22; ``success`` for 0."""
    # ENOTSUP and EOPNOTSUPP are the same number.
    names = {0: "success", ENOTSUPP: "ENOTSUPP", **errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}
    return names.get(number or 0, f"errno {number}")


@contextlib.contextmanager
def raises_errno(*expected: int, why: str = "") -> Iterator[None]:
    """Fail unless the block raises OSError with one of the errnos; names both in the message.

    Args:
        why: which of several cases this is, for the message.
    """
    got = 0
    try:
        yield
    except OSError as error:
        got = error.errno or -1
    if got not in expected:
        names = " or ".join(name_of(number) for number in expected)
        raise AssertionError(f"expected {names}, got {name_of(got)}{why and ': '}{why}")


def outcome(call: Callable[[], object]) -> int:
    """Return the errno of the call, 0 when it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0
