"""Calls of files, pipes and other descriptors, and of keys, in C."""

from __future__ import annotations

import re
import struct as binary

from vm.guest.tracee import unpack
from vm.reproducer import names
from vm.reproducer.check import Ready, Unsupported
from vm.reproducer.context import Context, Said, signed, text
from vm.reproducer.follow import Thing, Use

_CLOEXEC = 0o2000000
_EXCLUSIVE = 0o200
_WRITING = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate")
_KEYCTL = {
    0: ("KEYCTL_GET_KEYRING_ID", 2), 3: ("KEYCTL_REVOKE", 1), 5: ("KEYCTL_SETPERM", 2), 8: ("KEYCTL_LINK", 2),
    9: ("KEYCTL_UNLINK", 2), 15: ("KEYCTL_SET_TIMEOUT", 2), 21: ("KEYCTL_INVALIDATE", 1),
}  # fmt: skip
# Events of epoll are those of poll, but for those of its own.
_EPOLL = {
    **{bit: f"E{name}" for bit, name in names.POLLS.items()},
    1 << 28: "EPOLLEXCLUSIVE",
    1 << 30: "EPOLLONESHOT",
    1 << 31: "EPOLLET",
}


class Descriptors(Context):
    """Writes them."""

    # ---- reading and writing

    def _read(self, use: Use) -> Said:
        fd, buffer, length = use.event.arguments[:3]
        where = self.target(buffer, 0, self.written(1))
        if use.event.call == "pread64":
            return Said(f"pread({self.fd(fd)}, {where}, {length}, {use.event.arguments[3]})", output=where)
        return Said(f"read({self.fd(fd)}, {where}, {length})", output=where)

    _pread64 = _read

    def _write(self, use: Use) -> Said:
        fd, buffer, length = use.event.arguments[:3]
        said: list[str] = []
        where = self.source(buffer, "data", said)
        if use.event.call == "pwrite64":
            return Said(f"pwrite({self.fd(fd)}, {where}, {length}, {use.event.arguments[3]})", before=said)
        return Said(f"write({self.fd(fd)}, {where}, {length})", before=said)

    _pwrite64 = _write

    def _writev(self, use: Use) -> Said:
        return self._vectored(use, "v")

    def _readv(self, use: Use) -> Said:
        return self._vectored(use, "V")

    _pwritev, _preadv = _writev, _readv

    def _vectored(self, use: Use, letter: str) -> Said:
        fd, vector, count = use.event.arguments[:3]
        if len(vector.get("parts", ())) != count:
            raise Unsupported("an iovec that cannot be read")
        said: list[str] = []
        parts = self.parts(vector, letter, said)
        further = f", {use.event.arguments[3]}" if use.event.call.startswith("p") else ""
        output = self.first_target(vector["parts"]) if letter == "V" else ""
        return Said(f"{use.event.call}({self.fd(fd)}, {parts}, {count}{further})", before=said, output=output)

    # ---- pipes

    def _pipe2(self, use: Use) -> Said:
        self.headers |= {"fcntl.h"}
        if not use.made:
            raise Unsupported("a pipe that could not be made")
        name = self.declare(use.made[0]).removesuffix("[0]")
        self.declare(use.made[1])
        flags = use.event.arguments[1] & ~_CLOEXEC
        if flags:
            return Said(f"pipe2({name}, {names.flags(flags, names.OPEN_FLAGS)})")
        return Said(f"pipe({name})")

    def _splice(self, use: Use) -> Said:
        fd, at, to, to_at, length, flags = use.event.arguments
        self.headers.add("fcntl.h")
        words = [self.fd(fd), _offset(at), self.fd(to), _offset(to_at), str(length)]
        return Said(f"splice({', '.join(words)}, {names.flags(flags, names.SPLICE_FLAGS)})")

    def _tee(self, use: Use) -> Said:
        fd, to, length, flags = use.event.arguments
        self.headers.add("fcntl.h")
        return Said(f"tee({self.fd(fd)}, {self.fd(to)}, {length}, {names.flags(flags, names.SPLICE_FLAGS)})")

    def _vmsplice(self, use: Use) -> Said:
        fd, vector, count, flags = use.event.arguments
        self.headers.add("fcntl.h")
        said: list[str] = []
        parts = self.parts(vector, "v", said)
        return Said(f"vmsplice({self.fd(fd)}, {parts}, {count}, {names.flags(flags, names.SPLICE_FLAGS)})", before=said)

    def _sendfile(self, use: Use) -> Said:
        to, fd, at, count = use.event.arguments
        self.headers.add("sys/sendfile.h")
        return Said(f"sendfile({self.fd(to)}, {self.fd(fd)}, {_offset(at).replace('loff_t', 'off_t')}, {count})")

    # ---- files

    def _memfd_create(self, use: Use) -> Said:
        self.headers.add("sys/mman.h")
        flags = use.event.arguments[1] & ~1
        word = {0: "0", 2: "MFD_ALLOW_SEALING"}.get(flags, hex(flags))
        return self.makes(use, f"memfd_create({text(use.event.arguments[0])}, {word})")

    def _openat(self, use: Use) -> Said:
        _, packed, flags, mode = use.event.arguments if use.event.call == "openat" else (0, *use.event.arguments)
        self.headers.add("fcntl.h")
        path = unpack(packed).decode(errors="replace")
        words = ["O_RDONLY", "O_WRONLY", "O_RDWR", "3"][flags & 3]
        if rest := flags & ~(3 | _CLOEXEC | 0o100000):
            words += f" | {names.flags(rest, names.OPEN_FLAGS)}"
        if use.fds:
            self.locals.add("path")
            again = self.name(next(iter(use.fds.values())))
            said = self.makes(use, f"open(path, {words})")
            said.before = [f'\tsprintf(path, "/proc/self/fd/%d", {again});']
            return said
        if re.match(r"/proc/\d+|/proc/self/task/\d+", path):
            path = re.sub(r"^/proc/(self/task/)?\d+", "/proc/thread-self", path)
        elif not path.startswith(("/proc", "/sys", "/dev")):
            path = self.paths.setdefault(path, f"/tmp/reproducer-{len(self.paths)}")
            self.headers.add("sys/stat.h")
            if not flags & 0o100:
                words += " | O_CREAT" if flags & 3 else ""
        before = [f'\tunlink("{path}");'] if flags & _EXCLUSIVE and path.startswith("/tmp/") else []
        if use.made and not flags & 3 and path.startswith("/tmp/"):
            before += self._filled(use.made[0], path)
        mode_text = f", 0{mode or 0o600:o}" if "O_CREAT" in words else ""
        said = self.makes(use, f'open("{path}", {words}{mode_text})')
        said.before = before
        return said

    _open = _openat

    def _filled(self, thing: Thing, path: str) -> list[str]:
        """Return statements that make a file that was there before the test, as far as it is read."""
        if any(use.event.call in _WRITING and each.path == thing.path for use in self.plan.uses for each in use.things):
            return []
        lines = []
        for use in self.plan.uses:
            source = use.event.more.get("source")
            if source is not None and thing in use.fds.values() and (data := unpack(source["data"])):
                self.helpers.add("file_with")
                lines.append(
                    f'\tfile_with("{path}", {self.constant(data, "content")}, {len(data)}, {source["offset"]});'
                )
        return lines

    def _close(self, use: Use) -> Said:
        return Said(f"close({self.fd(use.event.arguments[0])})")

    def _dup(self, use: Use) -> Said:
        return self.makes(use, f"dup({self.fd(use.event.arguments[0])})")

    _dup2 = _dup3 = _dup

    def _lseek(self, use: Use) -> Said:
        fd, offset, whence = use.event.arguments
        return Said(f"lseek({self.fd(fd)}, {signed(offset)}, {names.one(whence, names.WHENCE)})")

    def _ftruncate(self, use: Use) -> Said:
        fd, size = use.event.arguments
        return Said(f"ftruncate({self.fd(fd)}, {size})")

    def _fsync(self, use: Use) -> Said:
        return Said(f"{use.event.call}({self.fd(use.event.arguments[0])})")

    _fdatasync = _fsync

    def _fallocate(self, use: Use) -> Said:
        fd, mode, offset, length = use.event.arguments
        self.headers.add("fcntl.h")
        return Said(f"fallocate({self.fd(fd)}, {mode}, {offset}, {length})")

    def _fadvise64(self, use: Use) -> Said:
        fd, offset, length, advice = use.event.arguments
        self.headers.add("fcntl.h")
        return Said(f"posix_fadvise({self.fd(fd)}, {offset}, {length}, {advice})")

    def _fchmod(self, use: Use) -> Said:
        self.headers.add("sys/stat.h")
        return Said(f"fchmod({self.fd(use.event.arguments[0])}, 0{use.event.arguments[1]:o})")

    def _fchown(self, use: Use) -> Said:
        fd, user, group = use.event.arguments
        return Said(f"fchown({self.fd(fd)}, {user}, {group})")

    def _fcntl(self, use: Use) -> Said:
        fd, command, value = use.event.arguments
        self.headers.add("fcntl.h")
        if command in (0, 1030):
            return self.makes(use, f"dup({self.fd(fd)})")
        known = names.SEALS if command == 1033 else names.OPEN_FLAGS if command == 4 else {}
        word = names.flags(value, known) if known else str(value)
        return Said(f"fcntl({self.fd(fd)}, {names.one(command, names.COMMANDS)}, {word})")

    def _ioctl(self, use: Use) -> Said:
        fd, request, _ = use.event.arguments
        self.headers |= {"sys/ioctl.h"}
        value = use.event.more.get("value", 0)
        word = names.IOCTLS.get(request & 0xFFFFFFFF, hex(request & 0xFFFFFFFF))
        return Said(f"ioctl({self.fd(fd)}, {word}, &(long){{ {value} }})")

    # ---- waiting

    def _eventfd2(self, use: Use) -> Said:
        self.headers.add("sys/eventfd.h")
        first, flags = use.event.arguments
        word = "EFD_NONBLOCK" if flags & 0o4000 else "0"
        return self.makes(use, f"eventfd({first}, {word})")

    def _poll(self, use: Use) -> Said:
        asked, count, timeout = use.event.arguments[:3]
        self.headers.add("poll.h")
        rows = [f"{{ {self.fd(fd)}, {names.flags(events & 0xFFFF, names.POLLS)}, 0 }}" for fd, events, _ in asked]
        if use.event.call == "ppoll":
            raw = unpack(timeout.get("data", "x")) if timeout["at"] else b""
            seconds, part = binary.unpack("@qq", raw) if len(raw) == 16 else (-1, 999_000_000)
            timeout = seconds * 1000 + part // 1_000_000 if raw else -1
        before, after, where = [], [], "NULL"
        if rows and self.judges(use, Ready):
            where = self.fresh("asked")
            self.define(where, f"static struct pollfd {where}[{len(rows)}];")
            before = [f"\t{where}[{place}] = (struct pollfd){row};" for place, row in enumerate(rows)]
            after = self._events(use, "poll", where, "revents", names.POLLS)
        elif rows:
            where = f"&(struct pollfd){rows[0]}" if len(rows) == 1 else f"(struct pollfd[]){{ {', '.join(rows)} }}"
        return Said(f"poll({where}, {count}, {_at_most_a_second(timeout)})", before=before, after=after)

    _ppoll = _poll

    def _epoll_create1(self, use: Use) -> Said:
        self.headers.add("sys/epoll.h")
        return self.makes(use, "epoll_create1(0)")

    def _epoll_ctl(self, use: Use) -> Said:
        epoll, operation, fd, event = use.event.arguments
        self.headers.add("sys/epoll.h")
        raw = unpack(event.get("data", "x")) if event["at"] else b""
        where = "NULL"
        if len(raw) >= 4:
            (events,) = binary.unpack_from("@I", raw)
            where = f"&(struct epoll_event){{ .events = {names.flags(events, _EPOLL)} }}"
        word = {1: "EPOLL_CTL_ADD", 2: "EPOLL_CTL_DEL", 3: "EPOLL_CTL_MOD"}.get(operation, str(operation))
        return Said(f"epoll_ctl({self.fd(epoll)}, {word}, {self.fd(fd)}, {where})")

    def _epoll_wait(self, use: Use) -> Said:
        fd, _, most, timeout = use.event.arguments[:4]
        self.headers.add("sys/epoll.h")
        count = max(min(signed(most, 32), 64), 1)
        where, after = f"(struct epoll_event[{count}]){{ 0 }}", []
        if self.judges(use, Ready):
            where = self.fresh("told")
            self.define(where, f"static struct epoll_event {where}[{count}];")
            after = self._events(use, "epoll_wait", where, "events", _EPOLL)
        return Said(f"epoll_wait({self.fd(fd)}, {where}, {count}, {_at_most_a_second(timeout)})", after=after)

    _epoll_pwait = _epoll_wait

    def _events(self, use: Use, call: str, array: str, member: str, known: dict[int, str]) -> list[str]:
        """Return statements that look at which events were told of."""
        self.headers.add("stdlib.h")
        lines = []
        for check in self.plan.checks.get(use.event.number, ()):
            for place, wanted in enumerate(check.wanted if isinstance(check, Ready) else ()):
                words = names.flags(wanted, known)
                value = f"({words})" if " | " in words else words
                lines += [
                    f"\tif ({array}[{place}].{member} != {value}) {{",
                    f'\t\tprintf("{call}: got the events 0x%x, expected {words}\\n", {array}[{place}].{member});',
                    "\t\texit(1);",
                    "\t}",
                ]
        return lines

    # ---- keys

    def _add_key(self, use: Use) -> Said:
        type_, description, payload, length, keyring = use.event.arguments
        self.headers |= {"sys/syscall.h", "linux/keyctl.h"}
        said: list[str] = []
        where = self.source(payload, "payload", said)
        words = f"{text(type_)}, {text(description)}, {where}, {length}, {names.one(keyring, names.KEYRINGS)}"
        target = ""
        if use.event.result is not None and use.event.result >= 0:
            target = self.keys[use.event.result] = self.fresh("key_serial")
            self.variables.append(("int", target))
        return Said(f"syscall(SYS_add_key, {words})", target, before=said)

    def _keyctl(self, use: Use) -> Said:
        operation, *arguments = use.event.arguments
        self.headers |= {"sys/syscall.h", "linux/keyctl.h"}
        if operation not in _KEYCTL:
            raise Unsupported(f"no C for keyctl operation {operation}")
        name, count = _KEYCTL[operation]
        words = []
        for value in arguments[:count]:
            number = signed(value & 0xFFFFFFFF, 32)
            words.append(self.keys.get(number) or names.one(number, names.KEYRINGS))
        return Said(f"syscall(SYS_keyctl, {', '.join([name, *words])})")


def _offset(value: int | None) -> str:
    return "NULL" if value is None else f"&(loff_t){{ {value} }}"


def _at_most_a_second(milliseconds: int) -> int:
    return min(milliseconds, 1000) if milliseconds > 0 else milliseconds
