"""Modules that bind(2) brings in by itself, through modprobe."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.afalg import Hash, Socket
from tests.doctor import absence
from tests.errors.raises import outcome, raises_errno
from tests.errors.returns import returns
from tests.errors.subjects import socket_of
from tests.need import lacking, need

MODPROBE = Path("/proc/sys/kernel/modprobe")


@pytest.fixture
def modprobe() -> Iterator[Path]:
    """Give the file that names the program; what it holds now is there again afterwards."""
    if not MODPROBE.exists():
        lacking(absence.MODULES)
    before = MODPROBE.read_text()
    yield MODPROBE
    MODPROBE.write_text(before)


def test_bind_loads_the_module_of_an_algorithm() -> None:
    """By the alias ``crypto-…``, which the module gives itself (MODULE_ALIAS_CRYPTO, crypto_larval_lookup)."""
    need_module("wp512")
    subprocess.run(["modprobe", "-r", "wp512"], timeout=60, check=True, capture_output=True)
    assert not Path("/sys/module/wp512").exists()
    need(Hash, "wp512").close()
    assert Path("/sys/module/wp512").exists()


@returns("bind-algorithm-missing", "bind-type-missing")
@pytest.mark.parametrize("program", ["/nonexistent", "/dev/null", ""])
def test_modprobe_that_cannot_run_is_enoent(modprobe: Path, program: str) -> None:
    """alg_bind and crypto_larval_lookup (crypto/api.c) drop request_module's error: the lookup after it fails."""
    with socket_of("unbound") as tfm:
        modprobe.write_text(program + "\n")
        for type_, name in (("hash", "no-such-algorithm"), ("nope", "sha256")):
            with raises_errno(errno.ENOENT):
                tfm.bind(type_, name)


def need_module(name: str) -> None:
    """Skip the test when a hash is not a module that modprobe would load."""
    found = subprocess.run(["modprobe", "--show-depends", name], timeout=60, capture_output=True, text=True)
    if "insmod " in found.stdout:
        return
    if outcome(lambda: Socket.bound("hash", name).close()) == 0 and not Path(f"/sys/module/{name}").exists():
        pytest.skip(f"{name} is built into this kernel")
    pytest.skip(f"{name} is not a module of this kernel")
