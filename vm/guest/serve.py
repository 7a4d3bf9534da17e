"""The Python inside the guest: an execnet worker on standard input and output.

Nothing is sent to bootstrap it: the same files are on the same paths, so it imports what execnet would send.
"""

from __future__ import annotations

import os


def say(line: str) -> None:
    """Write one line to the VM's status port, where vm/machine/relay.py reads it. Without a port: nothing."""
    descriptor = os.environ.get("VM_STATUS_FD")
    if descriptor is not None:
        data = line.encode() + b"\n"
        while data:
            data = data[os.write(int(descriptor), data) :]


def main() -> None:
    """Serve until the controller is done."""
    from vm.guest import internals, wake

    # pytest redirects descriptor 2 into a file; what is said when all is lost must reach the console.
    os.environ["VM_STDERR_FD"] = str(os.dup(2))
    passing = "VM_WAKE_FD" in os.environ
    if passing:
        internals.import_ahead()
    wake.pause(wake.IMPORTED, say)
    say("ready")
    internals.serve()
    if passing:
        # The kernel closes what tests left open, and may complain; the rest of an interpreter's end is its own.
        os._exit(0)


if __name__ == "__main__":
    main()
