"""Source lines in splats, with a small program for a kernel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm.klog.source_lines import located

MAIN = """\
void bind_it(void);
void start_kernel(void)
{
	bind_it();
}
"""
CRYPTO = """\
void other(void);
static void twice(void) { other(); other(); other(); }
void (*kept)(void) = twice;
void bind_it(void)
{
	other();
	__builtin_trap();
}
"""
OTHER = """\
static void twice(void) { __builtin_trap(); __builtin_trap(); }
void (*also_kept)(void) = twice;
void other(void) { }
"""


@pytest.fixture
def vmlinux(tmp_path: Path) -> Path:
    """A library of three files with debugging information, as the linker leaves a kernel."""
    files = {"init/main.c": MAIN, "crypto/af_alg.c": CRYPTO, "lib/other.c": OTHER}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    compiler = ["gcc", "-g", "-O0", "-fcf-protection=none", "-shared", "-nostdlib", "-fPIC", "-o", "vmlinux"]
    subprocess.run([*compiler, *(str(tmp_path / name) for name in files)], cwd=tmp_path, check=True, timeout=60)
    return tmp_path / "vmlinux"


def size_and_call(vmlinux: Path, name: str) -> tuple[int, int]:
    """Return a function's size and the offset of what follows its first call, as objdump shows them."""
    text = subprocess.run(["objdump", "-d", str(vmlinux)], capture_output=True, text=True, check=True).stdout
    body = text.split(f"<{name}>:\n")[1].split("\n\n")[0].splitlines()
    addresses = [int(line.split(":")[0], 16) for line in body]
    call = next(n for n, line in enumerate(body) if "call" in line)
    following = text.split(f"<{name}>:\n")[1].split("\n\n")[1].split()[0]
    return int(following, 16) - addresses[0], addresses[call + 1] - addresses[0]


def test_a_return_address_is_the_line_of_its_call(vmlinux: Path) -> None:
    size, after_call = size_and_call(vmlinux, "bind_it")
    text = f"Call Trace:\n ? bind_it+{after_call:#x}/{size:#x}\n"
    assert located([text], vmlinux) == [f"Call Trace:\n ? bind_it+{after_call:#x}/{size:#x} (crypto/af_alg.c:6)\n"]


def test_the_instruction_pointer_is_its_own_line(vmlinux: Path) -> None:
    size, after_call = size_and_call(vmlinux, "bind_it")
    text = f"RIP: 0010:bind_it+{after_call:#x}/{size:#x}"
    assert located([text], vmlinux) == [f"{text} (crypto/af_alg.c:7)"]


def test_a_name_of_two_functions_is_told_by_its_size(vmlinux: Path) -> None:
    size, after_call = size_and_call(vmlinux, "twice")
    place = f"twice+{after_call:#x}/{size:#x}"
    assert located([place], vmlinux) == [f"{place} (crypto/af_alg.c:2)"]


@pytest.mark.parametrize(
    "text",
    ["", "BUG: nothing here", "bind_it+0x1/0xfff", "nobody+0x1/0x2", "bind_it+0xfff/0x10", "bind_it+0x1/0x10 [af_alg]"],
)
def test_what_is_not_certain_stays_as_it_is(vmlinux: Path, text: str) -> None:
    assert located([text], vmlinux) == [text]


def test_without_symbols_nothing_changes(vmlinux: Path, tmp_path: Path) -> None:
    size, after_call = size_and_call(vmlinux, "bind_it")
    text = f"bind_it+{after_call:#x}/{size:#x}"
    stripped, garbage = tmp_path / "stripped", tmp_path / "garbage"
    subprocess.run(["strip", "-o", stripped, vmlinux], check=True, timeout=60)
    garbage.write_bytes(b"no ELF file")
    undebugged = tmp_path / "undebugged"
    subprocess.run(["strip", "-g", "-o", undebugged, vmlinux], check=True, timeout=60)
    for file in (None, stripped, garbage, undebugged, tmp_path / "gone"):
        assert located([text], file) == [text]
