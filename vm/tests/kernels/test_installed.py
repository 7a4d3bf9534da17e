"""Of several installed modules with one name, the guest gets the one that modprobe would load, as depmod says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from vm.base import process
from vm.kernels import installed, modules
from vm.tests.archive import module

RELEASE = "6.12.3-test+"

# Modules by path; what depmod.d says; of which file crypto/af_alg is.
CASES = [
    pytest.param(["kernel/crypto/af_alg.ko"], "", "kernel/crypto/af_alg.ko", id="one"),
    pytest.param(["kernel/crypto/af_alg.ko", "updates/crypto/af_alg.ko"], "", "updates/crypto/af_alg.ko", id="updates"),
    pytest.param(["kernel/crypto/af_alg.ko", "updates/dkms/af-alg.ko"], "", "updates/dkms/af-alg.ko", id="dkms"),
    pytest.param(
        ["kernel/crypto/af_alg.ko", "extra/af_alg.ko"], "search extra built-in", "extra/af_alg.ko", id="extra"
    ),
    pytest.param(
        ["kernel/crypto/af_alg.ko", "extra/af_alg.ko"], "search built-in extra", "kernel/crypto/af_alg.ko", id="last"
    ),
    pytest.param(
        ["kernel/crypto/af_alg.ko", "updates/af_alg.ko"], "search extra built-in", "", id="updates-not-named"
    ),
    pytest.param(
        ["updates/af_alg.ko", "extra/af_alg.ko", "kernel/crypto/af_alg.ko"],
        "search extra/ updates built-in", "updates/af_alg.ko", id="no-directory-ends-in-a-slash",
    ),
    pytest.param(
        ["updates/af_alg.ko", "extra/af_alg.ko", "kernel/crypto/af_alg.ko"],
        "# search extra updates built-in\nsearch updates \\\n extra built-in", "updates/af_alg.ko", id="two-lines",
    ),
    pytest.param(
        ["updates/af_alg.ko", "weak-updates/af_alg.ko", "kernel/crypto/af_alg.ko"],
        "search updates built-in\noverride af_alg 6.1[0-9].* weak-updates", "weak-updates/af_alg.ko", id="override",
    ),
    pytest.param(
        ["updates/af_alg.ko", "weak-updates/af_alg.ko", "kernel/crypto/af_alg.ko"],
        "search updates built-in\noverride af_alg 6.1.* weak-updates\noverride af_alg 5.* weak-updates",
        "weak-updates/af_alg.ko", id="override-is-a-regular-expression",
    ),
    pytest.param(
        ["updates/af_alg.ko", "weak-updates/af_alg.ko", "kernel/crypto/af_alg.ko"],
        "search updates built-in\noverride af_alg ^5.* weak-updates", "updates/af_alg.ko", id="override-of-another",
    ),
    pytest.param(
        ["updates/build/af_alg.ko", "build/crypto/af_alg.ko", "source/af_alg.ko", "kernel/crypto/af_alg.ko"],
        "", "kernel/crypto/af_alg.ko", id="links-to-sources",
    ),
]  # fmt: skip


def put(source: Path, paths: Sequence[str]) -> None:
    for path in paths:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(module("af_alg") + path.encode())


def depmod(root: Path, configuration: Path) -> str:
    """Return which af_alg depmod takes."""
    tool = process.find("depmod")
    assert tool is not None, "kmod is installed with the project"
    subprocess.run([tool, "-b", root, "-C", configuration, RELEASE], check=True, capture_output=True, timeout=60)
    index = root / "lib/modules" / RELEASE / "modules.dep"
    (path,) = [line.partition(":")[0] for line in index.read_text().splitlines()]
    return path


@pytest.mark.parametrize(("paths", "configuration", "expected"), CASES)
def test_the_module_that_depmod_takes_is_taken(
    tmp_path: Path, paths: list[str], configuration: str, expected: str
) -> None:
    source = tmp_path / "lib/modules" / RELEASE
    put(source, paths)
    folder = tmp_path / "etc/depmod.d"
    folder.mkdir(parents=True)
    (folder / "order.conf").write_text(configuration)
    (folder / "order.conf.dpkg-old").write_text("search nowhere built-in updates\n")
    before = installed.find(source)
    assert len(before) == 1
    assert depmod(tmp_path, folder) == (expected or depmod(tmp_path, folder))
    if expected:
        assert before == {"crypto/af_alg": source / expected}
    # Where depmod leaves it to chance, its index tells.
    assert installed.find(source)["crypto/af_alg"] == source / depmod(tmp_path, folder)


def test_without_a_word_about_extra_the_module_from_outside_of_kernel_is_taken(tmp_path: Path) -> None:
    source = tmp_path / "lib/modules" / RELEASE
    put(source, ["kernel/crypto/af_alg.ko"])
    (source / "modules.dep").write_text("kernel/crypto/af_alg.ko:\n")
    os.utime(source / "modules.dep", (1, 1))
    put(source, ["extra/crypto/af_alg.ko"])
    found = installed.find(source)
    assert found == {"crypto/af_alg": source / "extra/crypto/af_alg.ko"}
    assert installed.replaced(source, found) == ["extra/crypto/af_alg.ko"]


def test_of_two_suffixes_the_newer_file_is_taken(tmp_path: Path) -> None:
    source = tmp_path / "lib/modules" / RELEASE
    put(source, ["kernel/crypto/af_alg.ko", "kernel/crypto/af_alg.ko.xz"])
    os.utime(source / "kernel/crypto/af_alg.ko.xz", (1, 1))
    assert installed.find(source) == {"crypto/af_alg": source / "kernel/crypto/af_alg.ko"}
    os.utime(source / "kernel/crypto/af_alg.ko", (0, 0))
    assert installed.find(source) == {"crypto/af_alg": source / "kernel/crypto/af_alg.ko.xz"}


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    source = tmp_path / "lib/modules" / RELEASE
    put(source, ["kernel/crypto/af_alg.ko"])
    (source / "kernel/crypto/up").symlink_to("../..")
    (source / "weak-updates").symlink_to("kernel")
    assert installed.find(source) == {"crypto/af_alg": source / "kernel/crypto/af_alg.ko"}


def test_a_new_module_is_kept_when_it_is_an_algorithm_or_lies_where_one_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "lib/modules" / RELEASE
    contents = {
        "kernel/crypto/af_alg.ko": module("af_alg"),
        "updates/dkms/new.ko": module("new", ["helper"]) + b"\0alias=crypto-new\0",
        "updates/dkms/helper.ko": module("helper"),
        "updates/dkms/zfs.ko": module("zfs"),
        "extra/crypto/other.ko": module("other"),
    }
    for path, content in contents.items():
        put(source, [path])
        (source / path).write_bytes(content)
    view = modules.view(installed.find(source), source, RELEASE) / "lib/modules" / RELEASE
    kept = {path.relative_to(view).as_posix() for path in view.rglob("*.ko")}
    assert kept == set(contents) - {"updates/dkms/zfs.ko"}


def test_a_module_replaced_by_one_of_the_same_size_and_time_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages and reproducible builds set the time of every file."""
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "lib/modules" / RELEASE
    put(source, ["kernel/crypto/af_alg.ko"])
    file = source / "kernel/crypto/af_alg.ko"

    def seen(word: bytes) -> bytes:
        file.write_bytes(module("af_alg") + word)
        os.utime(file, (1, 1))
        view = modules.view(installed.find(source), source, RELEASE)
        return (view / "lib/modules" / RELEASE / "kernel/crypto/af_alg.ko").read_bytes()

    assert seen(b"old").endswith(b"old")
    assert seen(b"new").endswith(b"new")
