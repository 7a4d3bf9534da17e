"""How functions of the C library end, as ctypes calls them."""

from __future__ import annotations

import ctypes
import os


def checked(result: int, call: str) -> int:
    """Return the result of ``call``.

    Raises:
        OSError: it is negative; errno says why.
    """
    if result < 0:
        raise _failure(call)
    return result


def mapped(address: int | None, what: str) -> int:
    """Return the address that mmap(2) gave for ``what``.

    Raises:
        OSError: it is MAP_FAILED; errno says why.
    """
    if address is None or address == ctypes.c_void_p(-1).value:
        raise _failure(f"mmap of {what}")
    return address


def _failure(call: str) -> OSError:
    error = ctypes.get_errno()
    return OSError(error, f"{call}: {os.strerror(error)}")
