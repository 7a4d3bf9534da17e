"""Knowing that another thread waits in the kernel."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.afalg import Socket


def wait_until_inside_a_call(thread: threading.Thread, sock: Socket) -> None:
    """Return once the thread sleeps in a system call whose first argument is the socket (proc(5), syscall)."""
    end = time.monotonic() + 20
    while True:
        fields = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
        if len(fields) > 1 and int(fields[1], 16) == sock.fd:
            return
        assert time.monotonic() < end, f"the thread does not wait in a call: {fields}"
