"""How kernels differ, asked of the kernel itself: never its version, which distributions change under."""

from __future__ import annotations

import errno
import functools
from pathlib import Path

from tests.afalg import Socket
from tests.afalg.constants import ALG_SET_DRBG_ENTROPY, ALG_SET_KEY_BY_KEY_SERIAL, CRYPTO_ALG_KERN_DRIVER_ONLY
from tests.errors.raises import outcome

RESTRICT = Path("/proc/sys/crypto/af_alg_restrict")
OPTMEM = Path("/proc/sys/net/core/optmem_max")


@functools.cache
def passes_on_template_errors() -> bool:
    """Whether bind gives the error of a template that refused its parameters; before Linux 6.4 all are ENOENT."""
    return outcome(lambda: Socket.bound("hash", "cbc(aes)").close()) != errno.ENOENT


@functools.cache
def ignores_lookup_flags() -> bool:
    """Whether feat and mask of the address have no effect: since Linux 7.2."""
    flag = CRYPTO_ALG_KERN_DRIVER_ONLY
    return outcome(lambda: Socket.bound("hash", "sha256", flag, flag).close()) == 0


@functools.cache
def has_key_serials() -> bool:
    """Whether ALG_SET_KEY_BY_KEY_SERIAL exists: since Linux 6.2, where keys are configured."""
    with Socket.bound("hash", "sha256") as tfm:
        return outcome(lambda: tfm.setsockopt(ALG_SET_KEY_BY_KEY_SERIAL, b"")) != errno.ENOPROTOOPT


@functools.cache
def has_drbg_entropy() -> bool:
    """Whether ALG_SET_DRBG_ENTROPY exists: with CONFIG_CRYPTO_USER_API_RNG_CAVP."""
    with Socket.bound("rng", "jitterentropy_rng") as tfm:
        return outcome(lambda: tfm.setsockopt(ALG_SET_DRBG_ENTROPY, b"")) != errno.ENOPROTOOPT


@functools.cache
def optmem_max() -> int:
    """Bytes of memory one socket may take for options and requests."""
    return int(OPTMEM.read_text())
