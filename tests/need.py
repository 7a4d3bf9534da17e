"""What a kernel lacks is skipped, with the reason; by behaviour, never by version."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import pytest

from tests.afalg import Socket, Transform, privileges
from tests.afalg.aio import Context
from tests.afalg.keys import Key
from tests.afalg.privileges import CLONE_NEWUSER, NAMESPACE_ROOT, Identity
from tests.afalg.seccomp import has_32_bit_entry
from tests.afalg.uring import Ring
from tests.doctor import absence
from tests.doctor.absence import Feature
from vm.results.absence import Absence, Lack

_T = TypeVar("_T", bound=Transform)
_Made = TypeVar("_Made")
_missing: dict[tuple[str, str], str] = {}


def need(kind: type[_T], name: str, *arguments: object, **options: object) -> _T:
    """Return ``kind(name, ...)`` (Hash, Skcipher, Aead, Rng), or skip the test when the kernel lacks it.

    Only ENOENT of bind means that: no such algorithm, or no such type. (A kernel without AF_ALG is not tested at all
    by the runner, and here for those who do without it.) In FIPS mode, of an algorithm that is not
    approved, the errors of a self-test that was not made mean it as well; any other error is the test's. What was
    missing once is not asked for again: every bind of an unknown name runs modprobe several times.
    """
    if reason := _missing.get((kind.type_, name)):
        pytest.skip(reason)
    try:
        return kind(name, *arguments, **options)  # type: ignore[arg-type]
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and (reason := absence.no_sockets()):
            pytest.skip(reason)
        if error.errno == errno.ENOENT or (absence.fips_mode() and _refuses_to_bind(kind.type_, name)):
            reason = _missing[kind.type_, name] = str(absence.of_algorithm(kind.type_, name))
            pytest.skip(reason)
        raise


def _refuses_to_bind(type_: str, name: str) -> bool:
    try:
        Socket.bound(type_, name).close()
    except OSError as error:
        # Of the instance that failed its self-test, and of a template made of such.
        return error.errno in (errno.ENOENT, errno.ELIBBAD, errno.EINVAL)
    return False


def need_ring(entries: int, flags: int = 0) -> Ring:
    """Return an io_uring, or skip the test where there is none."""
    return _made(absence.URING, (errno.ENOSYS, errno.EPERM, errno.EACCES), lambda: Ring(entries, flags))


def need_aio(size: int = 8) -> Context:
    """Return an AIO context, or skip the test where the kernel has no AIO."""
    return _made(absence.AIO, (errno.ENOSYS,), lambda: Context(size))


def need_key(type_: str, description: str, payload: bytes) -> Key:
    """Return a key of the kernel's key retention service, or skip the test where the kernel has none."""
    return _made(absence.KEYRINGS, (errno.ENOSYS,), lambda: Key(type_, description, payload))


def need_32_bit() -> None:
    """Skip the test where a 64-bit process cannot make 32-bit system calls."""
    if not has_32_bit_entry():
        lacking(absence.COMPAT, errno.ENOSYS)


def run_as(identity: Identity, function: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """As that of tests.afalg.privileges; skips the test where nobody can be that, for want of user namespaces."""
    if identity.namespaces & CLONE_NEWUSER and (error := _no_user_namespace()):
        lacking(absence.USER_NAMESPACES, error)
    return privileges.run_as(identity, function, seconds=seconds)


@functools.cache
def _no_user_namespace() -> int:
    """Return the errno of being root of a user namespace, 0 where that works."""
    try:
        privileges.run_as(NAMESPACE_ROOT, lambda: None)
    except OSError as error:
        return error.errno or 0
    return 0


def lacking(feature: Feature, error: int = errno.ENOENT) -> NoReturn:
    """Skip the test, since the kernel refused the feature with this errno, and say why it lacks it."""
    pytest.skip(str(absence.of_feature(feature, error)))


def older(what: str) -> NoReturn:
    """Skip the test, since kernels of some versions are like that: ``kernel's io_uring has no BIND``."""
    pytest.skip(str(Lack(Absence.VERSION, what)))


def _made(feature: Feature, errors: tuple[int, ...], make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except OSError as error:
        if error.errno in errors:
            lacking(feature, error.errno)
        raise
