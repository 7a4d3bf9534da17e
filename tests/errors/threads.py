"""Knowing that another thread waits in the kernel."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from tests.afalg import Socket, calls

_ELSEWHERE = re.compile(r"lock_sock|mutex|rwsem|page|folio|alloc|fault")
"""In the name of the function that a thread sleeps in, when it is not one that waits for the other side."""


def wait_until_inside_a_call(thread: threading.Thread, sock: Socket) -> None:
    """Return once the thread sleeps in a system call whose first argument is the socket (proc(5), syscall).

    Sleeping for the socket's lock, for memory or for a page is not waiting for data or room (proc(5), wchan).
    """
    end = time.monotonic() + 20
    while True:
        task = Path(f"/proc/self/task/{thread.native_id}")
        if calls.descriptor(task) == sock.fd and not _ELSEWHERE.search((task / "wchan").read_text()):
            return
        assert time.monotonic() < end, f"the thread does not wait in a call: {(task / 'syscall').read_text()}"
