"""The recorder: real programs traced, on sockets that this machine has; what it decodes, of made-up memory."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import signal
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from vm import uses
from vm.base import arch
from vm.base.files import ROOT

FILE = ROOT / "vm/uses.py"
_64, _LITTLE = 0x80000000, 0x40000000

# AF_ALG need not be there: what is traced are sockets of AF_UNIX, which are bound to the same bytes.
UNIX = """\
import runpy, sys
sys.argv = ["uses", *sys.argv[1:]]
source = open({file!r}).read().replace("AF_ALG, SOCK_SEQPACKET, SOL_ALG = 38", "AF_ALG, SOCK_SEQPACKET, SOL_ALG = 1")
exec(compile(source, {file!r}, "exec"))
"""
# A name in no file system; the first byte of the path is that of the type.
USER = """\
import os, socket, struct, sys, threading, ctypes
def address(type_, name):
    raw = struct.pack("=H14s8s", 1, type_, b"") + name
    return ctypes.create_string_buffer(raw, len(raw)), len(raw)
libc = ctypes.CDLL(None, use_errno=True)
def bound(type_, name):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    assert libc.bind(made.fileno(), *address(type_, name)) == 0
    return made
"""


def traced(
    tmp_path: Path, program: str, *, user: str = USER, words: tuple[str, ...] = ()
) -> tuple[int, list[dict[str, object]]]:
    """Run a Python program under the recorder that looks at AF_UNIX; return its status and the uses."""
    recorder, command = tmp_path / "recorder.py", tmp_path / "program.py"
    recorder.write_text(UNIX.format(file=str(FILE)))
    command.write_text(user + program)
    done = subprocess.run(
        [sys.executable, recorder, "--json", "--output", tmp_path / "uses.json", *words, "--", sys.executable, command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    print(done.stdout, done.stderr)
    found: list[dict[str, object]] = json.loads((tmp_path / "uses.json").read_text())["uses"]
    return done.returncode, found


def of(found: list[dict[str, object]], name: str) -> dict[str, object]:
    return next(use for use in found if use["name"] == name)


def test_a_bind_is_recorded_by_type_and_name(tmp_path: Path) -> None:
    status, found = traced(tmp_path, "bound(b'skcipher', b'cbc(aes)'); sys.exit(3)")
    assert status == 3
    use = of(found, "cbc(aes)")
    assert (use["type"], use["calls"], use["uid"]) == ("skcipher", {"bind: ok": 1}, 0)
    assert of(found, "")["calls"] == {"socket: ok": 1}


def test_refused_calls_have_their_error(tmp_path: Path) -> None:
    program = "bound(b'hash', b'md5')\nmade = socket.socket(socket.AF_UNIX)\n"
    program += "assert libc.bind(made.fileno(), *address(b'hash', b'md4')) < 0"
    _, found = traced(tmp_path, program)
    # AF_UNIX takes the name to the first zero byte.
    assert of(found, "md4")["calls"] == {"bind: EADDRINUSE": 1}


def test_op_sockets_belong_to_the_algorithm(tmp_path: Path) -> None:
    program = """
tfm = bound(b"skcipher", b"xts(aes)")
tfm.listen()
other = socket.socket(socket.AF_UNIX)
libc.connect(other.fileno(), *address(b"skcipher", b"xts(aes)"))
op, _ = tfm.accept()
try: tfm.setsockopt(279, 1, bytes(64))
except OSError: pass
op.sendmsg([b"x"], [(279, 3, struct.pack("I", 1))])
"""
    _, found = traced(tmp_path, program)
    use = of(found, "xts(aes)")
    assert use["calls"] == {"accept: ok": 1, "bind: ok": 1, "sendmsg: ok": 1, "setsockopt key: EOPNOTSUPP": 1}
    assert use["operations"] == ["encrypt"]
    assert use["options"] == []


def test_an_op_socket_of_a_hash_hashes(tmp_path: Path) -> None:
    program = """
tfm = bound(b"hash", b"sha1")
tfm.listen()
other = socket.socket(socket.AF_UNIX)
libc.connect(other.fileno(), *address(b"hash", b"sha1"))
op, _ = tfm.accept()
"""
    assert of(traced(tmp_path, program)[1], "sha1")["operations"] == ["hash"]


@pytest.mark.parametrize(
    "around",
    [
        "if os.fork() == 0: {}; os._exit(0)\nos.wait()",
        "thread = threading.Thread(target=lambda: {}); thread.start(); thread.join()",
        "if os.fork() == 0:\n  if os.fork() == 0: os.setsid(); {}; os._exit(0)\n  os._exit(0)\nos.wait()",
    ],
    ids=["child", "thread", "daemon"],
)
def test_whatever_the_command_starts_is_followed(tmp_path: Path, around: str) -> None:
    _, found = traced(tmp_path, around.format("bound(b'hash', b'sha256')"))
    assert of(found, "sha256")["calls"] == {"bind: ok": 1}


def test_a_program_that_it_becomes_is_followed(tmp_path: Path) -> None:
    inner = tmp_path / "inner.py"
    inner.write_text(USER + "bound(b'hash', b'sha512')")
    _, found = traced(tmp_path, f"os.execv(sys.executable, ['renamed', {str(inner)!r}])")
    assert of(found, "sha512")["calls"] == {"bind: ok": 1}


FILTER = """
def refuse():
    from tests.afalg import seccomp
    libc.prctl(38, 1, 0, 0, 0)
    step = lambda code, k, yes=0, no=0: struct.pack("@HBBI", code, yes, no, k)
    # socket() fails with EACCES, in the numbers of this machine.
    code = step(0x20, 0) + step(0x15, NUMBER, 0, 1) + step(0x06, 0x0005000D) + step(0x06, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(header)), 0, 0) == 0
def refused():
    try: socket.socket(socket.AF_UNIX)
    except OSError as error: assert error.errno == 13
    else: raise AssertionError
"""


@pytest.mark.parametrize(
    "what",
    [
        "refuse(); refused()",
        "refuse()\nif os.fork() == 0: refused(); os._exit(0)\nos.wait()",
        # Of two threads, the one that asks for the filter is not the one that is refused: SECCOMP_FILTER_FLAG_TSYNC
        # aside, a filter is of one thread, and those that it starts.
        "refuse(); thread = threading.Thread(target=refused); thread.start(); thread.join()",
    ],
    ids=["itself", "child", "thread"],
)
def test_what_a_filter_of_the_program_refuses_is_seen(tmp_path: Path, what: str) -> None:
    number = next(row for audit, row in uses._TABLE.items() if audit == this_audit())[0]
    _, found = traced(
        tmp_path, FILTER.replace("NUMBER", str(number)).replace("    from tests.afalg import seccomp\n", "") + what
    )
    assert of(found, "")["calls"] == {"socket: EACCES": 1}


def this_audit() -> int:
    (number,) = arch.default().elf[:1]
    bits = _64 if sys.maxsize > 2**32 else 0
    return number | bits | (_LITTLE if sys.byteorder == "little" else 0)


def test_under_a_filter_of_somebody_else_every_call_is_stopped(tmp_path: Path) -> None:
    """As in a container, whose runtime has one: what it refuses never comes to another filter."""
    number = uses._TABLE[this_audit()][0]
    body = FILTER.replace("NUMBER", str(number)).replace("    from tests.afalg import seccomp\n", "")
    outer, inner = tmp_path / "outer.py", tmp_path / "inner.py"
    recorder = tmp_path / "recorder.py"
    recorder.write_text(UNIX.format(file=str(FILE)))
    inner.write_text(USER + body + "refused()")
    words = [sys.executable, str(recorder), "--json", "--output", "uses.json", "--", sys.executable, str(inner)]
    outer.write_text(USER + body + f"refuse(); os.execv(sys.executable, {words!r})")
    done = subprocess.run([sys.executable, outer], cwd=tmp_path, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "uses.json").read_text())["uses"]
    assert found[0]["calls"] == {"socket: EACCES": 1}


def test_signals_reach_the_command(tmp_path: Path) -> None:
    program = "import signal\nsignal.signal(10, lambda *_: None)\nos.kill(os.getpid(), 10)\nos.kill(os.getpid(), 15)"
    assert traced(tmp_path, program)[0] == 128 + 15


def test_a_command_that_does_not_end_is_killed_by_the_second_signal_and_recorded_all_the_same(tmp_path: Path) -> None:
    recorder, program = tmp_path / "recorder.py", tmp_path / "program.py"
    recorder.write_text(UNIX.format(file=str(FILE)))
    program.write_text(
        USER + "import signal\nsignal.signal(15, lambda *_: os.write(1, b'no\\n'))\nbound(b'hash', b'md5')\n"
        "os.write(1, b'ready\\n')\nwhile True: signal.pause()"
    )
    words = list(map(str, [sys.executable, recorder, "--json", "--output", "uses.json", "--", sys.executable, program]))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        assert running.stdout is not None
        for word in ("ready", "no"):
            assert running.stdout.readline() == f"{word}\n"
            running.terminate()
        assert running.wait(30) == 128 + 9
    assert of(json.loads((tmp_path / "uses.json").read_text())["uses"], "md5")


def test_a_stopped_command_goes_on_when_it_is_told_to(tmp_path: Path) -> None:
    program = "import signal\nif (child := os.fork()) == 0: os.kill(os.getpid(), 19); os._exit(7)\n"
    program += "assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]); os.kill(child, 18)\n"
    program += "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    assert traced(tmp_path, program)[0] == 7


def test_a_family_that_is_not_there_is_recorded() -> None:
    program = "import socket\ntry: socket.socket(38, 5, 0)\nexcept OSError as error: print(error.errno)"
    done = recorder("--json", "--", sys.executable, "-c", program)
    printed, _, report = done.stdout.partition("{")
    (use,) = json.loads("{" + report)["uses"]
    number = int(printed) if printed.strip() else 0
    assert use["calls"] == {f"socket: {errno.errorcode[number] if number else 'ok'}": 1}


def test_a_command_without_af_alg_says_so() -> None:
    assert "nothing used AF_ALG\n" in recorder("--", "true").stdout


def recorder(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, FILE, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected one of"),
        (("--",), "expected one of"),
        (("--live", "1", "--", "true"), "expected one of"),
        (("--", "no-such-program"), "no program 'no-such-program' on this machine"),
        (("--live", "soon"), "expected a positive number of seconds, not 'soon'"),
        (("--output", "/no/such/file", "--", "true"), "no directory for /no/such/file"),
        (("--nonsense", "--", "true"), "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_words_are_one_line(words: tuple[str, ...], said: str) -> None:
    done = recorder(*words)
    assert (done.returncode, done.stdout) == (4, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_it_needs_nothing_but_python() -> None:
    tree = ast.parse(FILE.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


# ---- decoding


def test_every_architecture_of_ours_has_its_numbers() -> None:
    for row in arch.ARCHITECTURES:
        assert any(audit & 0xFFFF in row.elf for audit in uses._TABLE), row.name


def test_addresses() -> None:
    assert uses.decode_address(struct.pack("=H14s8s", 38, b"aead", b"") + b"gcm(aes)\0junk") == ("aead", "gcm(aes)")
    assert uses.decode_address(b"\x26\0hash") == ("hash", "")
    assert uses.decode_address(b"") == ("", "")


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("order", ["little", "big"])
def test_operations_are_found_among_other_control_data(word: int, order: str) -> None:
    mark = "<" if order == "little" else ">"

    def message(kind: int, data: bytes, level: int = 279) -> bytes:
        head = struct.pack(f"{mark}{'Q' if word == 8 else 'I'}ii", word + 8 + len(data), level, kind)
        whole = head + data
        return whole.ljust(-(-len(whole) // word) * word, b"\0")

    iv = message(2, struct.pack(f"{mark}I", 16) + bytes(16))
    control = iv + message(3, struct.pack(f"{mark}I", 1)) + message(3, b"\0\0\0\1", level=1) + message(3, bytes(4))
    assert uses.decode_operations(control, word, order) == ["encrypt", "decrypt"]
    assert uses.decode_operations(control[:-1], word, order)[:1] == ["encrypt"]
    assert uses.decode_operations(bytes(40), word, order) == []


@pytest.mark.parametrize("word", [4, 8])
def test_control_data_is_found_by_the_header_of_the_message(word: int) -> None:
    size = "Q" if word == 8 else "I"
    memory = struct.pack(f"<7{size}", 0, 0, 0x9000, 1, 0x100, 5, 0).ljust(0x100, b"\0") + b"found, and more"
    assert uses.decode_message(lambda at, count: memory[at : at + count], 0, word, "little") == b"found"


def test_socketcall_has_its_arguments_in_memory() -> None:
    memory = struct.pack("<6I", 38, 5, 0, 1, 2, 3)
    read = {0x40: memory}
    got = uses.arguments_of(3 | _LITTLE, 102, [1, 0x40, 0, 0, 0, 0], lambda at, size: read[at][:size])
    assert got == ("socket", [38, 5, 0, 1, 2, 3])


def test_the_kernels_tables_name_the_same_numbers() -> None:
    """Of this machine, as its C library's headers have them."""
    header = Path(f"/usr/include/{arch.default().name}-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no headers of the C library here (libc6-dev)")
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    row = uses._TABLE[this_audit()]
    assert {name: int(numbers[name]) for name, number in zip(uses._CALLS, row, strict=True) if number} == {
        name: number for name, number in zip(uses._CALLS, row, strict=True) if number
    }


def test_who_may_what_is_read_of_the_process() -> None:
    assert uses.who_is(2**22 + 1).uid == -1
    child = subprocess.Popen(["sleep", "60"], user=65534, group=65534, extra_groups=[])
    try:
        who = uses.who_is(child.pid)
        assert (who.uid, who.capable, who.words) == (65534, False, "uid 65534")
    finally:
        child.kill()
        child.wait()


# ---- the whole machine


def test_lines_of_a_trace() -> None:
    ledger = uses.Ledger()
    lines = uses.Lines(ledger)
    for line in (
        "iwd-4194999 [000] .....    12.345678: make: (__sys_socket+0x0/0xe0) family=38",
        "iwd-4194999 [000] .....    12.345678: made: (__x64_sys_socket+0x13/0x20 <- __sys_socket) result=3",
        'iwd-4194999 [000] .....    12.345678: bind: (__sys_bind+0x0/0xe0) family=38 type="hash" name="cmac(aes)"',
        # Of another process, between the two.
        "sshd-4194998 [001] .....    12.345679: bound: (__x64_sys_bind+0x14/0x20 <- __sys_bind) result=0",
        "iwd-4194999 [000] .....    12.345679: bound: (__x64_sys_bind+0x14/0x20 <- __sys_bind) result=-2",
    ):
        lines.heard(f"            {line}")
    lines.heard("some other line")
    assert {(use.who.program, use.type, use.name): use.calls for use in ledger.uses.values()} == {
        ("iwd", "", ""): Counter({"socket: ok": 1}),
        ("iwd", "hash", "cmac(aes)"): Counter({"bind: ENOENT": 1}),
    }


def test_records_of_the_audit_system() -> None:
    ledger = uses.Ledger()
    records = uses.AuditRecords(ledger)
    address = (struct.pack("=H14s8s", 38, b"skcipher", b"") + b"cbc(aes)\0").hex().upper()
    records.heard(
        1300, 'audit(1.2:3): arch=c000003e syscall=49 success=yes exit=0 a0=3 pid=4194999 euid=7 comm="kcapi" key="k"'
    )
    records.heard(1306, f"audit(1.2:3): saddr={address}")
    (use,) = ledger.uses.values()
    assert (use.who.program, use.who.uid, use.type, use.name, use.calls) == (
        "kcapi", 7, "skcipher", "cbc(aes)", Counter({"bind: ok": 1})
    )  # fmt: skip


def test_rules_of_the_audit_system_are_for_the_family_alone() -> None:
    """struct audit_rule_data (include/uapi/linux/audit.h): what is compared with what, and on which calls."""
    rules = uses.audit_rules()
    found = set()
    for rule in rules:
        words = struct.unpack("=260I", rule)
        fields = dict(zip(words[67 : 67 + words[2]], words[131 : 131 + words[2]], strict=True))
        (number,) = (32 * index + bit for index, mask in enumerate(words[3:67]) for bit in range(32) if mask >> bit & 1)
        found.add((fields[11], number, fields.get(113), fields.get(200)))
    x86_64, i386 = 62 | _64 | _LITTLE, 3 | _LITTLE
    assert {each for each in found if each[0] == x86_64} == {(x86_64, 41, None, 38), (x86_64, 49, 38, None)}
    assert {each for each in found if each[0] == i386} == {
        (i386, 359, None, 38), (i386, 361, 38, None), (i386, 102, 38, 2)
    }  # fmt: skip
    assert {each[0] for each in found} == set(uses._TABLE)


def has_audit() -> bool:
    try:
        (enabled,) = struct.unpack_from("=I", uses._ask_audit(uses._AUDIT_GET), 4)
    except OSError:
        return False
    return os.geteuid() == 0 and enabled != uses._AUDIT_LOCKED


@pytest.mark.skipif(not has_audit(), reason="no audit system that may be asked")
def test_the_audit_system_tells_of_sockets_and_binds(tmp_path: Path) -> None:
    before = uses._ask_audit(uses._AUDIT_GET)[4:8]
    recorder, command = tmp_path / "recorder.py", tmp_path / "program.py"
    recorder.write_text(UNIX.format(file=str(FILE)))
    command.write_text(USER + "bound(b'hash', b'audited')\nbound(b'hash', b'audited')\n")
    with subprocess.Popen(
        [sys.executable, recorder, "--json", "--output", tmp_path / "uses.json", "--live", "60", "--by", "audit"],
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stderr is not None
        assert watcher.stderr.readline().startswith("watching for 60 s")
        done = subprocess.run([sys.executable, command], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(60) == 0
    assert done.returncode, "the second bind should have been refused"
    found = json.loads((tmp_path / "uses.json").read_text())
    assert "audit" in found["means"]
    (use,) = (use for use in found["uses"] if (use["type"], use["name"]) == ("hash", "audited"))
    assert use["calls"] == {"bind: EADDRINUSE": 1, "bind: ok": 1}
    assert use["uid"] == 0
    assert uses._ask_audit(uses._AUDIT_GET)[4:8] == before


# ---- what the kernel would say


ROOT_USER = uses.Who("program", 0, True, False)


def test_answers_are_those_for_the_process_that_asked() -> None:
    answers = uses.Answers(
        1,
        {
            (level, who, "hash", "md5"): said
            for level, who, said in [
                (0, "capable", "works"), (1, "capable", "works"), (2, "capable", "socket: EAFNOSUPPORT"),
                (0, "plain", "works"), (1, "plain", "bind: ENOENT"), (2, "plain", "socket: EAFNOSUPPORT"),
            ]
        },
        [],
    )  # fmt: skip
    capable, plain = uses.Use(ROOT_USER, "hash", "md5"), uses.Use(uses.Who("program", 7, False, False), "hash", "md5")
    text = uses.as_text([capable, plain], answers, "ptrace", [])
    assert "would: level 0: works, level 1: works, level 2: socket: EAFNOSUPPORT" in text
    assert "would: level 0: works, level 1: bind: ENOENT, level 2: socket: EAFNOSUPPORT" in text


def test_the_level_is_asked_and_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysctl = tmp_path / "af_alg_restrict"
    sysctl.write_text("1")
    seen = tmp_path / "seen"
    monkeypatch.setattr(uses, "RESTRICT", sysctl)

    def probe(type_: str, name: str) -> str:
        with open(seen, "a") as file:
            file.write(sysctl.read_text())
        return "works" if sysctl.read_text() == "0" else "bind: ENOENT"

    monkeypatch.setattr(uses, "probe", probe)
    monkeypatch.setattr(uses, "_NOBODY", os.geteuid())  # who else may not read files of this test
    used = [uses.Use(ROOT_USER, "hash", "md5")]
    answers = uses.ask(used, levels=True)
    assert answers.asked[0, "plain", "hash", "md5"] == "works"
    assert answers.asked[2, "plain", "hash", "md5"] == "bind: ENOENT"
    assert (sysctl.read_text(), "2" in seen.read_text()) == ("1", True)
    seen.unlink()
    answers = uses.ask(used, levels=False)
    assert {level for level, *_ in answers.asked} == {1}
    assert set(seen.read_text()) == {"1"}
    assert any("--levels" in limit for limit in answers.limits)


def test_without_the_sysctl_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uses, "RESTRICT", tmp_path / "none")
    monkeypatch.setattr(uses, "probe", lambda *_: "works")
    answers = uses.ask([uses.Use(ROOT_USER, "hash", "md5")], levels=True)
    assert {level for level, *_ in answers.asked} == {None}
    assert any("only a newer one can say" in limit for limit in answers.limits)


def test_what_came_before_the_end_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while a line is looked at: that one and what is behind it are in the kernel still."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    heard: list[str] = []

    def hear(line: str) -> None:
        heard.append(line)
        if line == "first":
            os.kill(os.getpid(), signal.SIGINT)
            os.write(writer, b"second\nthird\n")

    before = signal.getsignal(signal.SIGINT)
    try:
        os.write(writer, b"first\n")
        uses._read_lines(reader, 60, hear)
    finally:
        os.close(reader)
        os.close(writer)
    assert heard == ["first", "second", "third"]
    assert signal.getsignal(signal.SIGINT) == before
    assert capsys.readouterr().err == "watching for 60 s; Ctrl-C ends it sooner\n"
