"""Where a guest stops for a moment, so that it can be saved, and how what goes on there becomes a machine of its own.

A machine that was saved goes on many times. What must differ between those is told by the host, a line on the port
``vm.wake``, before the first test: random bytes, the time and the machine's name.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from vm.klog import taint

IMPORTED = "imported"
"""Python is up and has imported what all tests need; it knows no test yet."""
COLLECTED = "collected"
"""pytest has collected: the next thing that it does is a test."""
STAGES = (IMPORTED, COLLECTED)

ENTROPY = 256
"""Random bytes that a machine is told: what the kernel's input pool had room for when it was largest (512), halved."""

# RNDADDENTROPY and RNDRESEEDCRNG (include/uapi/linux/random.h, random(4)), whose direction has other bits on some
# architectures (asm-generic/ioctl.h; arch/powerpc/include/uapi/asm/ioctl.h).
_COMMANDS = (((1 << 30) | 0x00085203, 0x00005207), ((4 << 29) | 0x00085203, (1 << 29) | 0x00005207))


def pause(stage: str, say: Callable[[str], None]) -> None:
    """Stop until the host has us go on, as the machine that we were or as one that was resumed, and say so.

    Nothing where there is no port for it: the machine is not one that may be saved.

    Args:
        stage: of :data:`STAGES`, how far this machine is.
        say: tells the host a line.
    """
    descriptor = os.environ.get("VM_WAKE_FD")
    if descriptor is None:
        return
    say(f"paused {stage} {taint.read()}")
    said = b""
    while not said.endswith(b"\n"):
        data = os.read(int(descriptor), 1 << 16)
        if not data:
            raise SystemExit("the host went away while the machine was paused")
        said += data
    become(json.loads(said))
    say("ready")


def line(name: str, entropy: bytes, now: float) -> bytes:
    """Return what the host tells a machine that goes on.

    Args:
        name: of the machine.
        entropy: ENTROPY random bytes that no other machine is told.
        now: the time of the epoch, in seconds.
    """
    return json.dumps({"name": name, "entropy": entropy.hex(), "time": now}).encode() + b"\n"


def become(told: dict[str, Any]) -> None:
    """Be the machine of which the host told.

    Raises:
        OSError: the kernel does not take it: nothing would tell this machine from others, and no test may run.
    """
    socket.sethostname(told["name"])
    time.clock_settime(time.CLOCK_REALTIME, told["time"])
    entropy = bytes.fromhex(told["entropy"])
    stir_kernel(entropy)
    random.seed(entropy + os.urandom(32))


def stir_kernel(entropy: bytes) -> None:
    """Have the kernel's random numbers follow from these bytes as well, from the next one on.

    The bytes go into the input pool and count as random; then all that draws by them is seeded anew from there
    (drivers/char/random.c: random_ioctl).

    Raises:
        OSError: the kernel does not take them.
    """
    counted = struct.pack("ii", 8 * len(entropy), len(entropy)) + entropy
    with open("/dev/urandom", "wb", buffering=0) as device:
        for add, reseed in _COMMANDS:
            try:
                fcntl.ioctl(device, add, counted)
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTTY) and add != _COMMANDS[-1][0]:
                    continue
                raise
            fcntl.ioctl(device, reseed)
            return
