"""Calls by which a process gives up what it may do, in C. They are the kernel's, which are of one thread alone."""

from __future__ import annotations

import struct as binary

from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.check import Unsupported
from vm.reproducer.context import Context, Said, signed, struct
from vm.reproducer.follow import Use

_NAMESPACES = {
    0x20000: "CLONE_NEWNS", 0x4000000: "CLONE_NEWUTS", 0x8000000: "CLONE_NEWIPC", 0x10000000: "CLONE_NEWUSER",
    0x20000000: "CLONE_NEWPID", 0x40000000: "CLONE_NEWNET",
}  # fmt: skip
_PRCTL = {
    4: "PR_SET_DUMPABLE", 8: "PR_SET_KEEPCAPS", 22: "PR_SET_SECCOMP", 24: "PR_CAPBSET_DROP", 28: "PR_SET_SECUREBITS",
    38: "PR_SET_NO_NEW_PRIVS", 47: "PR_CAP_AMBIENT",
}  # fmt: skip
_SECCOMP_FILTER = 2


class Privileges(Context):
    """Writes them."""

    def _setresuid(self, use: Use) -> Said:
        self.headers.add("sys/syscall.h")
        words = ", ".join(str(signed(each & 0xFFFFFFFF, 32)) for each in use.event.arguments)
        return Said(f"syscall(SYS_{use.event.call}, {words})")

    _setresgid = _setuid = _setgid = _setresuid

    def _setgroups(self, use: Use) -> Said:
        if use.event.arguments[0]:
            raise Unsupported("groups of a process")
        self.headers.add("sys/syscall.h")
        return Said("syscall(SYS_setgroups, 0, NULL)")

    def _capset(self, use: Use) -> Said:
        self.headers |= {"sys/syscall.h", "linux/capability.h"}
        header, sets = (unpack(each.get("data", "x")) for each in use.event.arguments)
        if len(header) != 8 or len(sets) != 24:
            raise Unsupported("capabilities that cannot be read")
        version, thread = binary.unpack("@Ii", header)
        rows = [f"{{ {', '.join(map(hex, binary.unpack_from('@3I', sets, at)))} }}" for at in (0, 12)]
        said = f"&(struct __user_cap_header_struct){{ 0x{version:x}, {thread} }}"
        return Said(f"syscall(SYS_capset, {said}, (struct __user_cap_data_struct[]){{ {', '.join(rows)} }})")

    def _unshare(self, use: Use) -> Said:
        self.headers.add("sched.h")
        return Said(f"unshare({names.flags(use.event.arguments[0], _NAMESPACES)})")

    def _prctl(self, use: Use) -> Said | None:
        operation, *arguments = use.event.arguments
        if operation not in _PRCTL:
            return None  # as of the names of threads
        self.headers.add("sys/prctl.h")
        words = [str(each) for each in arguments]
        if operation == 22:
            if arguments[0] != _SECCOMP_FILTER:
                raise Unsupported("seccomp without a filter")
            words = ["SECCOMP_MODE_FILTER", self._filter(use), "0", "0"]
        return Said(f"prctl({_PRCTL[operation]}, {', '.join(words)})")

    def _seccomp(self, use: Use) -> Said:
        operation, flags, _ = use.event.arguments
        if operation != 1:
            raise Unsupported("seccomp without a filter")
        self.headers.add("sys/syscall.h")
        return Said(f"syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, {flags}, {self._filter(use)})")

    def _filter(self, use: Use) -> str:
        """Return the address of a sock_fprog."""
        self.headers |= {"linux/filter.h", "linux/seccomp.h"}
        raw = unpack(use.event.more.get("filter", {}).get("data", "x"))
        if not raw or len(raw) % 8:
            raise Unsupported("a filter that cannot be read")
        name = self.fresh("filter")
        rows = [
            f"{{ 0x{code:x}, {yes}, {no}, 0x{value:x} }}" for code, yes, no, value in binary.iter_unpack("@HBBI", raw)
        ]
        self.define(name, *struct(f"static struct sock_filter {name}[] = ", rows, ";", indent=""))
        return f"&(struct sock_fprog){{ {len(rows)}, {name} }}"
