"""What is held at one moment: descriptors, sockets, references to modules, algorithms and keys."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Counts = dict[str, int]

KEYRINGS_OF_A_USER = 2
"""_uid.N and _uid_ses.N stay for good once a user's process has asked for them (user-keyring(7))."""


@dataclass(frozen=True)
class Held:
    """What is held, in the kernel's words: they are read only where they differ.

    Attributes:
        descriptors: open file descriptors of this process.
        sockets: number of sockets of this network namespace, all families (/proc/net/sockstat).
        modules: loaded modules with the number of their users (/proc/modules).
        algorithms: implementations with their references (/proc/crypto).
        keys: keys that this process may see, with their references (/proc/keys).
        key_users: number of keys of every user (/proc/key-users).
    """

    descriptors: frozenset[str]
    sockets: str
    modules: str
    algorithms: str
    keys: str
    key_users: str


def held() -> Held:
    """Return what is held now."""
    return Held(
        descriptors=_open_descriptors(),
        sockets=sockets_in_use(),
        modules=_content("/proc/modules"),
        algorithms=_content("/proc/crypto"),
        keys=_content("/proc/keys"),
        key_users=_content("/proc/key-users"),
    )


def sockets_in_use() -> str:
    """Return how many sockets of all families this network namespace has, in the kernel's words."""
    return _content("/proc/net/sockstat").partition("\n")[0]


def difference(before: Held, after: Held) -> list[str]:
    """Return what is held in ``after`` and was not in ``before``, or the other way round, in words.

    A module, an implementation (an instance of a template) or a keyring that appears is no leak.
    """
    if before == after:
        return []
    found = list(_descriptors(before.descriptors, after.descriptors))
    if before.sockets != after.sockets:
        found.append(f"{before.sockets} before, {after.sockets.rpartition(' ')[2]} after")
    for what, of, old, new in (
        ("module", _users_of_modules, before.modules, after.modules),
        ("algorithm", _users_of_algorithms, before.algorithms, after.algorithms),
        ("key", _users_of_keys, before.keys, after.keys),
    ):
        if old != new:
            found += _references(what, of(old), of(new))
    if before.key_users != after.key_users:
        found += _keys_of_users(before.key_users, after.key_users)
    if before.keys != after.keys:
        found += [f"a key of type {kind}" for kind in _new_keys(before.keys, after.keys)]
    return found


def _open_descriptors() -> frozenset[str]:
    listed = os.listdir("/proc/self/fd")  # noqa: PTH208 - half the time, around every test
    # That of the directory itself was the lowest that was free, and is so again.
    free = os.open("/", os.O_PATH | os.O_CLOEXEC)
    os.close(free)
    return frozenset(listed) - {str(free)}


def _content(path: str) -> str:
    """Return a file's content, nothing where there is no such file. (Path.read_text takes several times as long.)"""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 16), b"")).decode()
    finally:
        os.close(file)


def _descriptors(before: frozenset[str], after: frozenset[str]) -> Iterator[str]:
    if len(before) != len(after):
        new = [f"{fd} is {_target(fd)}" for fd in sorted(after - before, key=int)]
        yield f"file descriptors: {len(before)} before, {len(after)} after" + (f": {', '.join(new)}" if new else "")


def _target(fd: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return "closed by now"


def _references(what: str, before: Counts, after: Counts) -> Iterator[str]:
    # A module that is loaded holds references to those it uses.
    if what == "module" and before.keys() != after.keys():
        return
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield f"references to {what} {name}: {before[name]} before, {after[name]} after"


def _counts(pattern: str) -> Callable[[str], Counts]:
    """Return a function that reads names and numbers, which the pattern's two groups are."""
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda text: {name: int(number) for name, number in compiled.findall(text)}


_users_of_modules = _counts(r"^(\S+) \d+ (\d+)")
_users_of_algorithms = _counts(r"^driver +: (\S+)\n(?:(?!name)\S.*\n)*?refcnt +: (\d+)")
_users_of_keys = _counts(r"^([0-9a-f]{8}) \S+ +(\d+)")
_keys_of_each_user = _counts(r"^ *(\d+): +\d+ (\d+)/")


def _new_keys(before: str, after: str) -> Iterator[str]:
    """Give the types of keys that were not there before, keyrings apart, and those that wait to be collected."""
    for line in after.splitlines():
        serial, _, users, _, _, _, _, kind, *_ = line.split()
        if kind != "keyring" and users != "0" and not re.search(f"^{serial} ", before, re.MULTILINE):
            yield kind


def _keys_of_users(before: str, after: str) -> Iterator[str]:
    """Give the users that have more keys than before, this one apart, whose keys are seen themselves."""
    old = _keys_of_each_user(before)
    for user, number in _keys_of_each_user(after).items():
        if int(user) != os.geteuid() and number > max(old.get(user, 0), KEYRINGS_OF_A_USER):
            yield f"keys of user {user}: {old.get(user, 0)} before, {number} after"
