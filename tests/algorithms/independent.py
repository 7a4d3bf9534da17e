"""Whether a cipher forgets one request before the next: all do, but for ARC4 in older kernels."""

from __future__ import annotations

import functools

from tests.afalg import Skcipher
from tests.need import need, older


def need_independent_requests(name: str) -> None:
    """Skip the test when requests of one tfm, on whatever op sockets, are pieces of one stream.

    Of ``ecb(arc4)`` they are until the position of the keystream moved from the tfm into the request (Linux 6.8,
    crypto/arc4.c). test_arc4.py says what comes of that.
    """
    if "arc4" in name and goes_on(name):
        older(f"kernel has the keystream's position of {name} in the tfm")


@functools.cache
def goes_on(name: str) -> bool:
    """Whether a request is not answered like the same one before."""
    with need(Skcipher, name, b"any key") as cipher:
        return cipher.encrypt(bytes(16)) != cipher.encrypt(bytes(16))
