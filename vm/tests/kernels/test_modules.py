"""Which modules a guest gets, and what is stripped from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.kernels import modules
from vm.tests.archive import module


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("crypto/af_alg", True),
        ("crypto/krb5/krb5", True),
        ("arch/x86/crypto/aesni-intel", True),
        ("net/9p/9pnet", True),
        ("net/9p/9pnet_rdma", False),
        ("lib/crypto/libaes", True),
        ("lib/test_bpf", False),
        ("drivers/crypto/ccp/ccp-crypto", False),
        ("drivers/gpu/drm/drm", False),
    ],
)
def test_rules_keep_what_the_suite_needs(name: str, *, expected: bool) -> None:
    assert modules.wanted(name) is expected


def test_debug_information_is_stripped_but_never_a_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stripped: list[str] = []
    monkeypatch.setattr(modules, "_strip", lambda file: stripped.append(file.name))
    contents = {
        "plain": module("plain"),
        "debug": module("debug") + b".debug_info\0",
        "signed": module("s") + b".debug_info\0" + modules.SIGNATURE_MARK,
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.ko").write_bytes(content)
    files = {f"crypto/{name}": tmp_path / f"{name}.ko" for name in contents}
    modules.view(files, tmp_path, "6.12.3-test+")
    assert stripped == ["debug.ko"]
