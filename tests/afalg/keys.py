"""Keys of the kernel's key retention service, as far as ALG_SET_KEY_BY_KEY_SERIAL needs them (keyrings(7))."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from pathlib import Path

from tests.afalg.calls import number
from tests.afalg.libc import checked

KEY_SPEC_THREAD_KEYRING = -1
KEY_SPEC_PROCESS_KEYRING = -2
KEY_SPEC_USER_KEYRING = -4

SEARCH = 0x08
ALL = 0x3F
"""Permission bits of one of the four classes; possessor, user, group and others take a byte each."""

_KEYCTL_REVOKE = 3
_KEYCTL_SETPERM = 5
_KEYCTL_LINK = 8
_KEYCTL_UNLINK = 9
_KEYCTL_SET_TIMEOUT = 15
_KEYCTL_INVALIDATE = 21


class Key:
    """A key in a keyring of this process, unlinked from it at the end of the ``with`` block.

    Args:
        type_: ``user``, ``logon``, ``encrypted``…
        description: its name; of a ``logon`` key with a prefix and a colon.
        payload: its content.
        keyring: where to put it.

    Raises:
        OSError: ENODEV where the kernel lacks the type, ENOSYS where it has no keys.
    """

    def __init__(self, type_: str, description: str, payload: bytes, keyring: int = KEY_SPEC_PROCESS_KEYRING) -> None:
        self.keyring = keyring
        self.serial = _syscall(number("add_key"), type_.encode(), description.encode(), payload, len(payload), keyring)

    @property
    def option(self) -> bytes:
        """The serial number as the socket option takes it: four bytes."""
        return serial_option(self.serial)

    def revoke(self) -> None:
        _keyctl(_KEYCTL_REVOKE, self.serial)

    def invalidate(self) -> None:
        _keyctl(_KEYCTL_INVALIDATE, self.serial)

    def set_timeout(self, seconds: int) -> None:
        """Let the key expire in so many seconds; 0 for never."""
        _keyctl(_KEYCTL_SET_TIMEOUT, self.serial, seconds)

    def link(self, keyring: int) -> None:
        """Put it into a further keyring, which holds a reference to it."""
        _keyctl(_KEYCTL_LINK, self.serial, keyring)

    def permit(self, bits: int) -> None:
        """Give the same permission bits to possessor, user, group and others."""
        _keyctl(_KEYCTL_SETPERM, self.serial, bits * 0x01010101)

    def users(self) -> int:
        """Return the references to the key (/proc/keys), -1 when it is not listed."""
        found = re.search(rf"^{self.serial:08x} \S+ +(\d+)", Path("/proc/keys").read_text(), re.MULTILINE)
        return int(found[1]) if found else -1

    def __enter__(self) -> Key:
        return self

    def __exit__(self, *_: object) -> None:
        # Revoked, invalidated or collected keys are not there to unlink.
        with contextlib.suppress(OSError):
            _keyctl(_KEYCTL_UNLINK, self.serial, self.keyring)


def serial_option(serial: int) -> bytes:
    """Return a serial number, or one of KEY_SPEC_…, as ALG_SET_KEY_BY_KEY_SERIAL takes it."""
    return serial.to_bytes(4, sys.byteorder, signed=True)


def _keyctl(operation: int, *arguments: int) -> int:
    return _syscall(number("keyctl"), operation, *arguments)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _syscall(call: int, *arguments: int | bytes) -> int:
    wide = (argument if isinstance(argument, bytes) else ctypes.c_long(argument) for argument in arguments)
    return checked(_libc.syscall(ctypes.c_long(call), *wide), f"system call {call}")
