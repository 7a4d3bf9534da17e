"""One way to say which error a call must end with."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator


@contextlib.contextmanager
def raises_errno(*expected: int) -> Iterator[None]:
    """Fail unless the block raises OSError with one of the errnos; names both in the message."""
    names = " or ".join(errno.errorcode[number] for number in expected)
    got = "success"
    try:
        yield
    except OSError as error:
        if error.errno in expected:
            return
        got = errno.errorcode.get(error.errno or 0, str(error))
    raise AssertionError(f"expected {names}, got {got}")
