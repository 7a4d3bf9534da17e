"""Machines that were saved where their tests begin, so that others go on from there instead of booting.

One is a directory ``machines/KEY`` in the cache, never changed once it is there: ``state``, what QEMU writes when it
migrates a machine; ``console.log`` up to there; for one that has collected, ``said`` and ``facts.json``, what its
worker and its status port had said by then; and ``about.json``, by which damage is found. The key has all that must be
alike: QEMU's whole command line but for names of this run, and of each file on it what tells it from
another (vm/base/files.py: identity), which makes images that were made again others; QEMU's binary, and its version
from its own mouth; and this machine's processor.

The state is a plain stream of migration, which every QEMU has and checks, by a pipe: QEMU 7.2 knows no file to migrate
to, and later ones want none as a descriptor. What shared memory would save is 0.1 s, and costs what is worth more: a
guest that breaks out could write to the memory of all that are resumed after it.

Under KVM this is the same, and untested: there was no machine for it. ``-cpu host`` is not saved there, since what that
is may change with the host's kernel and its options; a processor by name is (--cpu). The clock of such a guest is
QEMU's kvmclock, and its TSC is invariant only where that is asked for, with which QEMU refuses to migrate: a boot then
takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vm.base import cache
from vm.base.errors import UsageError
from vm.base.files import identity, json_of, text_of
from vm.machine.vm import INITRD

# Raise it when what is kept changes.
_RULES = 1
MOST = 12
"""How many are kept, those that were used last: each is some 150 MB, and an edited test makes all before it useless."""
# Descriptors have other numbers each time.
_DESCRIPTOR = re.compile(r"(?<=/dev/fd/)\d+|(?<=,fd=)\d+")
COULD_NOT = "not saved"
"""Begins what is noted of a machine that could not be saved."""
_ABOUT, _BAD, STATE, CONSOLE, SAID, FACTS = "about.json", "bad", "state", "console.log", "said", "facts.json"


class NotFit(Exception):
    """A saved machine cannot be used; why, in a line."""


@dataclass(frozen=True)
class State:
    """What QEMU wrote of a machine.

    Attributes:
        qemu: its version, as its monitor gives it.
        size: bytes.
        digest: SHA-256 of them.
    """

    qemu: str
    size: int
    digest: str


@dataclass(frozen=True)
class Saved:
    """A machine in the cache.

    Attributes:
        directory: the entry.
        stage: how far it is, of :data:`vm.guest.wake.STAGES`.
        state: what QEMU wrote.
        console: its console until then.
        said: what its worker had said; nothing before it has collected.
        facts: what it had told of itself, as JSON; empty before it has.
    """

    directory: Path
    stage: str
    state: State
    console: bytes
    said: bytes
    facts: bytes

    def open(self) -> int:
        """Return a descriptor of the state, for reading.

        Raises:
            NotFit: it is not what was saved, or not ours.
        """
        try:
            descriptor = os.open(self.directory / STATE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise NotFit(f"its state cannot be read: {error.strerror}") from error
        found = os.fstat(descriptor)
        if found.st_size != self.state.size:
            os.close(descriptor)
            raise NotFit(f"its state has {found.st_size} bytes for {self.state.size}")
        return descriptor


def key(command: Sequence[str], directory: Path) -> str:
    """Return what machines that go on from one another have alike.

    Args:
        command: QEMU's, for a boot.
        directory: of the machine: its RAM disk is there, and counts by what it holds; other files are this run's own.

    Raises:
        OSError: a file of the command is not there.
    """
    digest = hashlib.sha256(f"{_RULES}\n{_processor()}\n{identity(Path(command[0]))}\n".encode())
    for word in command:
        # A comma in a name is doubled there.
        for path in re.findall(r"(?:^|file=)(/(?:[^,]|,,)+)", word):
            file = Path(path.replace(",,", ","))
            if file.is_file() and file != directory / INITRD:
                digest.update(f"{identity(file)}\n".encode())
        plain = _DESCRIPTOR.sub("", word.replace(str(directory).replace(",", ",,"), "").replace(str(directory), ""))
        digest.update(f"{plain}\0".encode(errors="surrogateescape"))
    digest.update((directory / INITRD).read_bytes())
    return digest.hexdigest()[:32]


def collected(of: str, asked: bytes) -> str:
    """Return the key of a machine that has collected.

    Args:
        of: key of the machine before it knew of any test.
        asked: what its worker was sent: the options, the tests, and what else it was told.
    """
    return hashlib.sha256(of.encode() + asked).hexdigest()[:32]


def find(name: str) -> Saved | None:
    """Return the machine of a key, which is ours then until this process ends; None when there is none.

    Raises:
        NotFit: there is one that somebody else can write to, or half of one.
    """
    place = _place(name)
    if not place.is_dir() or (place / _BAD).exists() or not cache.hold(place).is_dir():
        return None
    for path in (place, *place.iterdir()):
        found = path.lstat()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise NotFit(f"{path.name} is not ours alone")
    about = json_of(place / _ABOUT)
    try:
        kept = {name: _as_kept(place / name, about["digests"]) for name in (CONSOLE, SAID, FACTS)}
        state = State(about["qemu"], about["size"], about["digest"])
        return Saved(place, about["stage"], state, kept[CONSOLE], kept[SAID], kept[FACTS])
    except KeyError as error:
        raise NotFit(f"{_ABOUT} says nothing of its {error.args[0]}") from error


def save(name: str, stage: str, copied: dict[str, bytes], write: Callable[[int], State]) -> str:
    """Keep a machine that is paused; the oldest of too many go.

    Args:
        name: its key.
        stage: how far it is.
        copied: what is kept besides its state, by the names of the files.
        write: writes its state into a descriptor.

    Returns:
        Why it could not be kept, in a line; empty when it was, or another run has kept one meanwhile.
    """

    def make(temporary: Path) -> None:
        for file, content in copied.items():
            (temporary / file).write_bytes(content)
        descriptor = os.open(temporary / STATE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            state = write(descriptor)
        finally:
            os.close(descriptor)
        digests = {file: _digest(content) for file, content in copied.items()}
        about = {"stage": stage, "digests": digests, **dataclasses.asdict(state)}
        (temporary / _ABOUT).write_text(json.dumps(about))

    try:
        # What is found cannot have been written by others meanwhile: find() looks.
        cache.entry(_place(name), make)
        _trim()
    except (UsageError, OSError) as error:
        return str(error)
    return ""


def to_be_made(name: str) -> IO[str] | None:
    """Take it upon us to make this machine; None when another run has, and others may wait for it.

    It is ours until the file that is returned is closed.
    """
    place = _place(name)
    return cache.taken(place.with_name(f"{place.name}.coming"))


def discard(name: str) -> None:
    """Have nobody take this machine any more, whoever uses it now."""
    place = _place(name)
    # One that we may only read stays, for others to find out about.
    with contextlib.suppress(OSError):
        (place / _BAD).touch()
        cache.let_go(place)
        cache.remove(place)


def _as_kept(path: Path, digests: Mapping[str, str]) -> bytes:
    """Return what a small file of an entry holds; nothing where none was kept.

    Raises:
        NotFit: it is another.
    """
    if path.name not in digests:
        return b""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFit(f"{path.name} cannot be read: {error.strerror}") from error
    if _digest(content) != digests[path.name]:
        raise NotFit(f"{path.name} was changed since")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _trim() -> None:
    """Remove those that were used longest ago, those that are to be used no more, and what killed runs left."""
    found = [path for path in _place("").iterdir() if path.is_dir()]
    kept = sorted((path for path in found if not path.name.startswith(".")), key=cache.last_used, reverse=True)
    for number, path in enumerate(kept):
        if number >= MOST or (path / _BAD).exists():
            cache.remove(path)
    for name in {path.name.split(".")[1] for path in found if path.name.startswith(".")}:
        if not _place(name).exists():
            cache.remove(_place(name))  # That takes what is left of making it; one that is being made it leaves.


def _place(name: str) -> Path:
    return cache.cache_dir() / "machines" / name


def _processor() -> str:
    """Return what tells this machine's processor from another: under KVM it is the guest's, in parts."""
    lines = text_of(Path("/proc/cpuinfo")).partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if not re.match(r"(?i)cpu MHz|bogomips|.*apicid|core id", line))
