"""A machine's state out of one QEMU and into another, by a pipe: see vm/machine/saved.py."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import time
from collections.abc import Iterator
from typing import IO

from vm.machine.monitor import Monitor, MonitorError
from vm.machine.saved import NotFit, Saved, State

INCOMING = ("-incoming", "defer")
"""Behind QEMU's command line: wait for the state of another machine, and do not start this one."""

_PIECE = 1 << 20
# Bytes a second; QEMU's default is that of a network.
_UNBOUND = 1 << 40
# QEMU's name of the descriptor.
_NAME = "saved"


# Of a migration that has begun (qapi/migration.json: MigrationStatus).
_ENDED = ("completed", "failed", "cancelled")
_SECONDS_TO_GO_ON = 10.0


class Stopped(Exception):
    """A machine was stopped to be saved, and does not go on."""


def out(monitor: Monitor, descriptor: int, due: float) -> State:
    """Write the state of a running machine into ``descriptor``; the machine goes on then.

    Args:
        monitor: of its QEMU, which has greeted.
        descriptor: of a file.
        due: monotonic time until which all must be written.

    Raises:
        MonitorError: QEMU cannot, or did not in time; the machine goes on.
        OSError: the file cannot be written; the machine goes on.
        Stopped: the machine does not go on.
    """
    digest, size = hashlib.sha256(), 0
    with _pipe() as (reading, writing):
        monitor.execute("migrate-set-parameters", due, max_bandwidth=_UNBOUND)
        monitor.execute("getfd", due, writing.fileno(), fdname=_NAME)
        writing.close()
        monitor.execute("migrate", due, uri=f"fd:{_NAME}")
        try:
            while data := _read(reading.fileno(), due):
                digest.update(data)
                size += len(data)
                while data:
                    data = data[os.write(descriptor, data) :]
        finally:
            # So that QEMU gives up what we have given up, and can go on.
            reading.close()
            status = _end(monitor)
    if status != "completed":
        raise MonitorError(f"QEMU did not write the machine's state: {status}")
    return State(monitor.version, size, digest.hexdigest())


def into(monitor: Monitor, saved: Saved, due: float) -> None:
    """Have a QEMU that was started with ``-incoming defer`` go on where a saved machine was.

    Args:
        monitor: of QEMU, which has not greeted.
        saved: that machine.
        due: monotonic time until which all must be read.

    Raises:
        NotFit: it is another QEMU, or this is not what was saved.
        MonitorError: QEMU cannot make anything of it, or did not in time.
    """
    version = monitor.greet(due)
    if version != saved.state.qemu:
        raise NotFit(f"it was saved by QEMU {saved.state.qemu}, this is {version}")
    digest = hashlib.sha256()
    source = saved.open()
    try:
        with _pipe() as (reading, writing):
            monitor.execute("getfd", due, reading.fileno(), fdname=_NAME)
            reading.close()
            monitor.execute("migrate-incoming", due, uri=f"fd:{_NAME}")
            os.set_blocking(writing.fileno(), False)
            while data := os.read(source, _PIECE):
                digest.update(data)
                _write(writing.fileno(), data, due)
    finally:
        os.close(source)
    if digest.hexdigest() != saved.state.digest:
        raise NotFit("its state was changed since")


def _end(monitor: Monitor) -> str:
    """Wait until QEMU is through with a migration, well or not, have its machine go on, and return how it ended.

    Raises:
        Stopped: the machine does not go on.
    """
    due = time.monotonic() + _SECONDS_TO_GO_ON
    try:
        while (status := str(monitor.execute("query-migrate", due).get("status"))) not in _ENDED:
            if time.monotonic() >= due:
                raise Stopped(f"its migration is {status}")
            time.sleep(0.005)
        monitor.execute("cont", due)
    except MonitorError as error:
        raise Stopped(str(error)) from error
    return status


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Give the ends of a large pipe, for reading and for writing; what the block does not close is closed after it."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as source, open(writing, "wb", buffering=0) as target:
        with contextlib.suppress(OSError):  # A user may have too many of that size.
            fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, _PIECE)
        yield source, target


def _read(source: int, due: float) -> bytes:
    if not select.select([source], [], [], max(due - time.monotonic(), 0))[0]:
        raise MonitorError("QEMU does not write the machine's state")
    return os.read(source, _PIECE)


def _write(target: int, data: bytes, due: float) -> None:
    view = memoryview(data)
    while view:
        if not select.select([], [target], [], max(due - time.monotonic(), 0))[1]:
            raise MonitorError("QEMU does not read the machine's state")
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            raise MonitorError("QEMU could make nothing of the machine's state") from None
