"""A full queue of cryptd, at will: requests put off by the kernel while user space goes first."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from tests.afalg import Aead, Socket, aio, authenc_key, set_assoclen, set_iv, set_op
from tests.afalg.constants import ALG_OP_ENCRYPT
from tests.errors.threads import wait_until_inside_a_call
from tests.need import need, need_aio

# Of authenc(hmac(sha256),cbc(aes)).
KEY, IV, TAG = authenc_key(bytes(range(32)), bytes(range(100, 116))), bytes(range(16)), 16
ENCRYPT = set_op(ALG_OP_ENCRYPT) + set_assoclen(0) + set_iv(IV)

# The default of cryptd.cryptd_max_cpu_qlen, for each processor.
_LENGTH = 1000
# What the queue begins with takes long, so that it is full for a while.
_LONG, _LONG_ONES, _SHORT = 1 << 16, 4, 16
_RT_RUNTIME = Path("/proc/sys/kernel/sched_rt_runtime_us")

_T = TypeVar("_T")


class Call(threading.Thread, Generic[_T]):
    """A call on an op socket, made by a thread that goes before everybody else."""

    def __init__(self, op: Socket, call: Callable[[], _T]) -> None:
        super().__init__()
        self._call = call
        self._result: _T | OSError | None = None
        self.start()
        wait_until_inside_a_call(self, op)

    def run(self) -> None:
        if os.sched_getscheduler(0) == os.SCHED_FIFO:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        try:
            self._result = self._call()
        except OSError as error:
            self._result = error

    def result(self) -> _T:
        """Wait for the end of the call and return what it did.

        Raises:
            OSError: what it raised.
        """
        self.join()
        if isinstance(self._result, OSError):
            raise self._result
        assert self._result is not None
        return self._result


@contextlib.contextmanager
def before_the_kernel() -> Iterator[None]:
    """Have this thread run before all that the kernel put off for later, on one processor, until it sleeps."""
    limit = _RT_RUNTIME.read_text()
    processors = os.sched_getaffinity(0)
    _RT_RUNTIME.write_text("-1")
    os.sched_setaffinity(0, {min(processors)})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, processors)
        _RT_RUNTIME.write_text(limit)


class Filler:
    """As many requests as the queue takes, sent and not yet begun; skips where there is no cryptd or no AIO."""

    def __init__(self) -> None:
        # First what may skip the test, before anything is changed that nobody would change back.
        need_aio(1).close()
        self._stack = contextlib.ExitStack()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * _LENGTH), hard))
        self._stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        name = "cryptd(authenc(hmac(sha256-generic),cbc(aes-generic)))"
        self._aead = self._stack.enter_context(need(Aead, name, KEY))
        self._context = self._stack.enter_context(need_aio(2 * _LENGTH))
        self._requests = [self._request(_LONG if at < _LONG_ONES else _SHORT) for at in range(_LENGTH)]

    def fill(self) -> None:
        """Put them into the queue."""
        assert self._context.submit(self._requests) == len(self._requests)

    def __enter__(self) -> Filler:
        return self

    def __exit__(self, *_: object) -> None:
        # The buffers are the kernel's until all are done.
        left = len(self._requests)
        while left and (events := self._context.events(1, left)):
            left -= len(events)
        self._stack.close()

    def _request(self, size: int) -> aio.Iocb:
        op = self._stack.enter_context(self._aead.tfm.accept())
        op.sendmsg([bytes(size)], ENCRYPT)
        return aio.Iocb(op.fd, aio.IOCB_CMD_PREAD, bytearray(size + TAG))
