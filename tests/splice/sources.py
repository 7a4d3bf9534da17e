"""Where spliced data comes from: files of every kind, pipes, sockets, memory. Each can tell whether it is as it was."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.afalg import Pipe, Pointer, Skcipher, set_iv, set_op, splice, tee, vmsplice
from tests.afalg.constants import ALG_OP_ENCRYPT, SPLICE_F_GIFT
from tests.afalg.memory import PAGE, Mapping, Memory
from tests.doctor import absence
from tests.need import lacking, need
from tests.oracle import skciphers
from tests.splice.files import content_of

NR_HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")
HUGE = 2 << 20
ROOM = 32 * PAGE
"""Capacity of the pipes: 16 pages and a bit, wherever they begin."""

_Self = TypeVar("_Self", bound="Source")


class Source:
    """Content that can be spliced, ``offset`` bytes behind the beginning of a page.

    Each kind has one of into_pipe and memory at least; no case (cases.py) asks for another.

    Attributes:
        content: all that is to arrive.
        fd: of a file, for sendfile; the content begins at its ``offset``.
        may_refuse: whether there are kernels that splice nothing out of it.
    """

    fd = -1
    may_refuse = False

    def __init__(self, content: bytes, offset: int) -> None:
        self.content = content
        self.offset = offset
        self._witnesses: list[tuple[Pipe, bytes]] = []

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        """Put ``length`` bytes of the content, from ``start``, into an empty pipe with room for them."""
        raise NotImplementedError

    def memory(self, start: int, length: int) -> Pointer:
        """Return where in memory that part of the content is, mapping it first."""
        raise NotImplementedError

    def witness(self, start: int, length: int) -> Pipe:
        """Return an empty pipe, which is to hold that part of the content at the end."""
        pipe = Pipe(ROOM)
        self._witnesses.append((pipe, self.content[start : start + length]))
        return pipe

    def check(self) -> None:
        """Fail unless the source is as it was made."""
        while self._witnesses:
            pipe, expected = self._witnesses.pop()
            with pipe:
                check_pipe(pipe, expected)

    def close(self) -> None:
        """Give back what the source holds."""
        for pipe, _ in self._witnesses:
            pipe.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class File(Source):
    """A file of which the test has no descriptor to write. It ends where the content ends."""

    def __init__(self, content: bytes, offset: int, fd: int, *, shared: bool = True) -> None:
        super().__init__(content, offset)
        self.fd = fd
        self.whole = content_of(fd)
        assert self.whole[offset : offset + len(content)] == content
        self._shared = shared
        self._mapping: Mapping | None = None

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        for at, size in _steps(length):
            moved = splice(self.fd, pipe.write_end, size, flags, offset_in=self.offset + start + at)
            assert moved == size, f"splice of {size} bytes of a file into an empty pipe moved {moved}"

    def memory(self, start: int, length: int) -> Pointer:
        if self._mapping is None:
            self._mapping = Mapping(self.fd, max(len(self.whole), 1), shared=self._shared)
        return self._mapping.pointer(self.offset + start, length)

    def check(self) -> None:
        super().check()
        assert content_of(self.fd) == self.whole, "the file has changed"

    def close(self) -> None:
        super().close()
        if self._mapping is not None:
            self._mapping.close()
        os.close(self.fd)


class Zero(Source):
    """/dev/zero: a file without an end, of a device."""

    may_refuse = True

    def __init__(self, content: bytes, offset: int) -> None:
        super().__init__(bytes(len(content)), offset)
        self.fd = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
        self._mapping: Mapping | None = None

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        moved = 0
        while moved < length:
            moved += splice(self.fd, pipe.write_end, min(length - moved, 16 * PAGE), flags)

    def memory(self, start: int, length: int) -> Pointer:
        if self._mapping is None:
            self._mapping = Mapping(self.fd, self.offset + len(self.content) + 1, shared=False)
        return self._mapping.pointer(self.offset + start, length)

    def close(self) -> None:
        super().close()
        if self._mapping is not None:
            self._mapping.close()
        os.close(self.fd)


class Written(Source):
    """A pipe into which the content is written."""

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        padded = bytes(self.offset) + self.content[start : start + length]
        assert os.write(pipe.write_end, padded) == len(padded)
        os.read(pipe.read_end, self.offset)


class Teed(Written):
    """The same, duplicated: two pipes hold the same pages, and neither may take anything from the other."""

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        with Pipe(ROOM) as first:
            super().into_pipe(first, start, length)
            if length:
                assert tee(first.read_end, pipe.write_end, length) == length
                assert os.read(first.read_end, length + 1) == self.content[start : start + length]


class FromSocket(Source):
    """One end of a pair of stream sockets, whose pages go into the pipe as they came."""

    def __init__(self, content: bytes, offset: int, pair: tuple[socket.socket, socket.socket]) -> None:
        super().__init__(content, offset)
        self.ends = pair

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        writer, reader = self.ends
        writer.sendall(bytes(self.offset) + self.content[start : start + length])
        skipped = self.offset
        while skipped:
            skipped -= len(reader.recv(skipped))
        moved = 0
        while moved < length:
            moved += splice(reader, pipe.write_end, length - moved)

    def close(self) -> None:
        super().close()
        for end in self.ends:
            end.close()


class FromOp(Source):
    """Another op socket: the content is what ctr(aes) makes of something else."""

    def __init__(self, content: bytes, offset: int) -> None:
        super().__init__(content, offset)
        self.key, self.iv = b"another op socket", bytes(range(16))
        self.cipher = need(Skcipher, "ctr(aes)", self.key[:16])

    def into_pipe(self, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
        wanted = self.content[start : start + length]
        message = skciphers.crypt("ctr(aes)", self.key[:16], self.iv, wanted)
        self.cipher.op.sendmsg([message], set_op(ALG_OP_ENCRYPT) + set_iv(self.iv))
        for _, size in _steps(length):
            assert splice(self.cipher.op, pipe.write_end, size) == size
        if not length:
            self.cipher.op.recv(1)

    def close(self) -> None:
        super().close()
        self.cipher.close()


class Private(Source):
    """Anonymous memory of this process, which must neither change nor lose its pages."""

    def __init__(self, content: bytes, offset: int, flags: int) -> None:
        super().__init__(content, offset)
        self.flags = flags
        self._memory = Memory((offset + len(content)) // PAGE + 1)
        self.write(content)

    def write(self, content: bytes) -> None:
        """Store other content."""
        self._memory.write(self.offset, content)

    def memory(self, start: int, length: int) -> Pointer:
        return self._memory.pointer(self.offset + start, length)

    def check(self) -> None:
        super().check()
        assert self._memory.read(self.offset, len(self.content)) == self.content, "the memory has changed"

    def close(self) -> None:
        super().close()
        self._memory.close()


def memory_into_pipe(source: Source, pipe: Pipe, start: int, length: int, flags: int = 0) -> None:
    """vmsplice that part of a source's memory into an empty pipe with room for it."""
    flags |= source.flags if isinstance(source, Private) else 0
    moved = vmsplice(pipe.write_end, [source.memory(start, length)], flags) if length else 0
    assert moved == length, f"vmsplice of {length} bytes into an empty pipe moved {moved}"


def check_pipe(pipe: Pipe, expected: bytes) -> None:
    """Fail unless this, and no more, is what the pipe holds; it is empty afterwards."""
    os.set_blocking(pipe.read_end, False)
    try:
        held = os.read(pipe.read_end, len(expected) + 1)
    except BlockingIOError:
        held = b""
    assert held == expected, f"a pipe holds {len(held)} bytes, which are not the {len(expected)} it should hold"


def _steps(length: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of parts that fit into 16 pages, the most that a call moves."""
    at = 0
    while at < length:
        size = min(length - at, 15 * PAGE)
        yield at, size
        at += size


def memfd(content: bytes, offset: int) -> File:
    return File(content, offset, _read_only(os.memfd_create("af-alg-test", os.MFD_CLOEXEC), content, offset))


def sealed(content: bytes, offset: int) -> File:
    """Return a memfd that nobody can change any more, not even its maker."""
    fd = os.memfd_create("af-alg-test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.pwrite(fd, bytes(offset) + content, 0)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return File(content, offset, fd, shared=False)


def huge(content: bytes, offset: int) -> File:
    """Return a memfd of one huge page, for which ``huge_pages`` must have made room."""
    fd = os.memfd_create("af-alg-test", os.MFD_CLOEXEC | os.MFD_HUGETLB)
    try:
        os.ftruncate(fd, HUGE)
        # There is no write(2) to such a file.
        with mmap.mmap(fd, HUGE) as memory:
            memory[offset : offset + len(content)] = content
    except BaseException:
        os.close(fd)
        raise
    file = File(content, offset, fd)
    file.may_refuse = True
    return file


def on_disk(kind: str) -> Callable[[bytes, int], File]:
    """Return a maker of nameless files on a file system of that kind."""

    def make(content: bytes, offset: int) -> File:
        fd, path = tempfile.mkstemp(dir=writable_on(kind))
        try:
            return File(content, offset, _read_only(fd, content, offset))
        finally:
            Path(path).unlink()

    return make


def writable_on(kind: str) -> str:
    """Return a directory on a file system of that kind (tmpfs, overlay), or skip the test where none is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        if found == kind and os.access(place, os.W_OK):
            return place
    pytest.skip(f"no {kind} to write to is mounted")


def _read_only(fd: int, content: bytes, offset: int) -> int:
    """Write the content through a descriptor, close that, and return one that cannot write."""
    try:
        os.pwrite(fd, bytes(offset) + content, 0)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


MAKERS: dict[str, Callable[[bytes, int], Source]] = {
    "tmpfs": on_disk("tmpfs"),
    "overlay": on_disk("overlay"),
    "memfd": memfd,
    "sealed": sealed,
    "huge": huge,
    "zero": Zero,
    "pipe": Written,
    "tee": Teed,
    "unix": lambda content, offset: FromSocket(content, offset, socket.socketpair()),
    "tcp": lambda content, offset: FromSocket(content, offset, _tcp_pair()),
    "alg": FromOp,
    "private": lambda content, offset: Private(content, offset, 0),
    "gift": lambda content, offset: Private(content, offset, SPLICE_F_GIFT),
}


@contextlib.contextmanager
def source_of(name: str, content: bytes, offset: int) -> Iterator[Source]:
    """Give a source of that kind, and fail when its content has changed at the end."""
    with MAKERS[name](content, offset) as source:
        yield source
        source.check()


@contextlib.contextmanager
def huge_pages(count: int = 2) -> Iterator[None]:
    """Have the kernel keep huge pages, or skip where it has none."""
    before = NR_HUGEPAGES.read_text() if NR_HUGEPAGES.exists() else ""
    try:
        with contextlib.suppress(OSError):
            NR_HUGEPAGES.write_text(str(count))
        if not before or int(NR_HUGEPAGES.read_text()) < count:
            lacking(absence.HUGE_PAGES)
        yield
    finally:
        if before:
            NR_HUGEPAGES.write_text(before)
