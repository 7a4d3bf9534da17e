"""A QEMU without a machine: its command line, its monitor and its ports, and a guest of a few lines.

    python stub_qemu.py -m 64 … [-incoming defer]

The guest boots, pauses when it is up and when it was sent two messages, and answers each further one. What it is to do
wrong stands in ``$STUB``, words with blanks between; each QEMU appends how it began to ``$STUB_LOG``.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

FAULTS = os.environ.get("STUB", "").split()
VERSION = {"qemu": {"major": 7, "minor": 2, "micro": int("newer" in FAULTS)}, "package": "stub"}
HEADER = struct.Struct("!bii")
COLLECTED = HEADER.pack(7, 1, 3) + b"ids"
STATE = 300_000
REFUSED = {"no-getfd": "getfd", "no-migration": "migrate", "no-parameters": "migrate-set-parameters"}


def message(text: bytes) -> bytes:
    """Return what execnet makes of some bytes on a channel."""
    return HEADER.pack(8, 1, len(text)) + text


class Stub:
    """One QEMU and its guest."""

    def __init__(self, words: list[str]) -> None:
        line = " ".join(words)
        self.status = int(found(r"id=vm-status,path=/dev/fd/(\d+)", line))
        self.wake = socket.socket(fileno=int(found(r"id=wake,fd=(\d+)", line)))
        self.qmp = socket.socket(fileno=int(found(r"id=qmp,fd=(\d+)", line)))
        self.console = Path(found(r"id=console,path=([^,]+)", line))
        self.resumes = "-incoming" in words
        self.passed: int | None = None
        self.received = b""
        self.inbox = b""
        self.stage = ""
        self.told = ""
        self.migration = "none"
        if "deaf" not in FAULTS:
            self.answer({"QMP": {"version": VERSION, "capabilities": []}})
        log("resumes" if self.resumes else "boots")
        if not self.resumes:
            self.boot()

    def boot(self) -> None:
        """Come up."""
        with self.console.open("a") as console:
            console.write("stub: booted\n")
            if "warns" in FAULTS:
                console.write("[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010\n")
        time.sleep(0.5 * ("slow" in FAULTS))
        self.say("init")
        self.pause("imported")

    def pause(self, stage: str) -> None:
        """Stop to be saved."""
        self.stage = stage
        for _ in range(3000 if "floods" in FAULTS else 1):
            self.say(f"paused {stage} {512 * ('tainted' in FAULTS)}")

    def say(self, words: str) -> None:
        """Write to the status port."""
        os.write(self.status, words.encode() + b"\n")

    def answer(self, said: dict[str, Any]) -> None:
        """Write to the monitor."""
        self.qmp.sendall(json.dumps(said).encode() + b"\r\n")

    def run(self) -> NoReturn:
        """Be there until the host is not."""
        while True:
            acts = {0: self.take_messages, self.qmp.fileno(): self.take_commands, self.wake.fileno(): self.take_wake}
            for source in select.select([*acts], [], [])[0]:
                acts[source]()

    def take_wake(self) -> None:
        """Go on."""
        said = self.wake.recv(1 << 20)
        if not said:
            sys.exit(0)
        if not self.stage or ("mute" in FAULTS and self.resumes):
            return
        self.told = said.decode().splitlines()[-1]
        log(f"told {self.told}")
        self.say("ready")

    def take_messages(self) -> None:
        """Answer what the worker is sent."""
        data = os.read(0, 1 << 16)
        if not data:
            sys.exit(0)
        self.inbox += data
        while len(self.inbox) >= HEADER.size:
            length = HEADER.size + HEADER.unpack_from(self.inbox)[2]
            if len(self.inbox) < length:
                break
            said, self.inbox = self.inbox[HEADER.size : length], self.inbox[length:]
            if self.stage == "imported" and said.startswith(b"test"):
                self.say('facts {"release": "stub"}')
                os.write(1, COLLECTED)
                self.pause("collected")
            elif self.stage == "collected":
                os.write(1, message(b"ran " + said))

    def take_commands(self) -> None:
        """Answer the monitor's commands."""
        data, descriptors, _, _ = socket.recv_fds(self.qmp, 1 << 16, 1)
        if not data:
            sys.exit(0)
        self.passed = descriptors[0] if descriptors else self.passed
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            command = json.loads(line)["execute"]
            refused = command in [REFUSED[fault] for fault in FAULTS if fault in REFUSED]
            if refused:
                self.answer(
                    {"error": {"class": "CommandNotFound", "desc": f"The command {command} has not been found"}}
                )
            else:
                self.answer({"event": "SOMETHING", "data": {}})
                self.answer({"return": self.execute(command)})
                if command == "migrate-incoming":
                    self.read_state()

    def execute(self, command: str) -> dict[str, object]:
        """Do what a command says."""
        if command == "migrate":
            self.migration = self.write_state()
        elif command == "cont" and "stops" in FAULTS:
            signal.pause()
        return {"status": self.migration} if command == "query-migrate" else {}

    def write_state(self) -> str:
        """Write where the guest is."""
        assert self.passed is not None
        with open(self.passed, "wb") as file:
            if "fails-to-migrate" in FAULTS:
                return "failed"
            if f"hangs-{self.stage}" in FAULTS:
                log("hangs")
                signal.pause()
            try:
                file.write(self.stage.encode().ljust(STATE, b"."))
                file.flush()
            except BrokenPipeError:
                return "failed"
        return "completed"

    def read_state(self) -> None:
        """Be where another guest was."""
        assert self.passed is not None
        if "dies" in FAULTS:
            print("qemu: load of migration failed: Input/output error", file=sys.stderr, flush=True)
            os._exit(1)
        with open(self.passed, "rb") as file:
            self.stage = file.read().rstrip(b".").decode()


def found(pattern: str, text: str) -> str:
    """Return the only group of a pattern."""
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return match[1]


def log(words: str) -> None:
    """Note what happened, for the test."""
    with open(os.environ["STUB_LOG"], "a") as file:
        file.write(words + "\n")


if __name__ == "__main__":
    Stub(sys.argv[1:]).run()
