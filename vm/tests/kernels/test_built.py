"""Trees that somebody built: what a guest would not see as the user means it is said on the host, in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.kernels import built, image
from vm.kernels import resolve as kernel
from vm.kernels.build import sources
from vm.kernels.spec import Kernel
from vm.tests.archive import bzimage, module

RELEASE = "6.12.3-test+"
BZIMAGE = arch.default().image
BOOTS = {arch.default().config: "y", "VIRTIO_PCI": "y", **dict.fromkeys(built.BOOT, "y")}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))


def write(path: Path, content: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def config(**symbols: str) -> str:
    return "".join(f"CONFIG_{name}={value}\n" for name, value in {**BOOTS, **symbols}.items() if value)


def put_tree(tree: Path, settings: str, modules: list[str] | None = None) -> Path:
    """Build a tree; without ``modules`` only its image was made."""
    write(tree / BZIMAGE, bzimage(RELEASE))
    write(tree / ".config", settings)
    if modules is not None:
        write(tree / "modules.order", "".join(f"{name}.o\n" for name in modules))
    for name in modules or ():
        write(tree / f"{name}.ko", module(name))
    return tree


def resolve(path: Path, said: list[str] | None = None) -> Kernel:
    return kernel.resolve_one(str(path), (said if said is not None else []).append)


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(path)
    return str(caught.value)


def test_modules_that_are_configured_and_not_built_are_missed(tmp_path: Path) -> None:
    tree = put_tree(tmp_path / "linux", config(CRYPTO_USER_API="m", CRYPTO_AES="m"))
    assert refusal(tree) == (
        f"{tree} has no modules yet, but 2 options configured as such (CONFIG_CRYPTO_USER_API=m, …); "
        f"run make -C {tree} modules"
    )


def test_a_module_that_is_configured_and_not_in_modules_order_is_missed(tmp_path: Path) -> None:
    tree = put_tree(tmp_path / "linux", config(CRYPTO_USER_API="m", CRYPTO_USER_API_HASH="m"), ["crypto/af_alg"])
    assert refusal(tree).startswith(f"{tree} has CONFIG_CRYPTO_USER_API_HASH=m, but no module algif_hash; build")
    write(tree / "modules.order", "crypto/af_alg.o\ncrypto/algif_hash.o\n")
    assert "modules.order names 1 modules that are not there (crypto/algif_hash.ko, …)" in refusal(tree)
    write(tree / "crypto/algif_hash.ko", module("algif_hash"))
    assert resolve(tree).modules is not None


def test_a_tree_with_everything_built_in_needs_no_modules(tmp_path: Path) -> None:
    assert resolve(put_tree(tmp_path / "linux", config(CRYPTO_USER_API="y"))).modules is None


@pytest.mark.parametrize("absent", built.BOOT)
def test_what_a_guest_cannot_boot_without_is_said_before_it_is_booted(tmp_path: Path, absent: str) -> None:
    row = next(row for row in arch.ARCHITECTURES if not row.further_serial)
    values = {**dict.fromkeys(built.BOOT, "y"), row.config: "y", f"VIRTIO_{row.bus.upper()}": "y"}
    built.require_visible(values, [], "x")
    del values[absent]
    with pytest.raises(UsageError, match=f"^x cannot be booted here: its configuration lacks CONFIG_{absent};"):
        built.require_visible(values, [], "x")
    tree = put_tree(tmp_path / "other", config(**{absent: "m"}), ["crypto/af_alg"])
    assert f"has CONFIG_{absent}=m, but no module {built.BOOT[absent]}" in refusal(tree)


@pytest.mark.skipif(not arch.default().further_serial, reason="this machine's board has no serial ports to spare")
def test_a_board_with_serial_ports_boots_a_kernel_without_virtio(tmp_path: Path) -> None:
    tree = put_tree(tmp_path / "linux", config(VIRTIO_CONSOLE="", VIRTIO_PCI=""))
    assert resolve(tree).config == tree / ".config"


def test_an_installed_image_without_its_modules_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / f"boot/vmlinuz-{RELEASE}", bzimage(RELEASE))
    write(tmp_path / f"boot/config-{RELEASE}", config(VIRTIO_CONSOLE="m"))
    assert refusal(path).startswith(f"{path} has CONFIG_VIRTIO_CONSOLE=m, but no module virtio_console;")
    top = tmp_path / "lib/modules" / RELEASE
    write(top / "kernel/drivers/char/virtio_console.ko", module("virtio_console"))
    assert resolve(path).modules is not None


def test_a_file_named_config_beside_an_image_may_be_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "bzImage", bzimage(RELEASE))
    write(tmp_path / "config", "[core]\n\tbare = true\n")
    assert resolve(path).image == path


def test_a_tree_that_was_configured_anew_is_told(tmp_path: Path) -> None:
    tree = put_tree(tmp_path / "linux", config(CRYPTO_USER_API="y", LOCALVERSION='"-x"'))
    write(tree / "include/config/auto.conf", config(CRYPTO_USER_API="y", LOCALVERSION='"-y"'))
    assert resolve(tree).image == tree / BZIMAGE, "the compiler's version and the like are written by make"
    write(tree / "include/config/auto.conf", config(CRYPTO_USER_API="m"))
    assert refusal(tree).startswith(
        f"{tree} was configured anew since it was built (CONFIG_CRYPTO_USER_API was m, is y); run make -C"
    )


def test_modules_of_another_release_are_told(tmp_path: Path) -> None:
    tree = put_tree(tmp_path / "linux", config(CRYPTO_USER_API="m"), ["crypto/af_alg"])
    file = write(tree / "crypto/af_alg.ko", module("af_alg") + b"vermagic=6.12.3 SMP mod_unload \0")
    assert refusal(tree).startswith(f"{file} is of 6.12.3, the kernel's image of {RELEASE}, which cannot load it;")
    write(file, module("af_alg") + f"vermagic={RELEASE} SMP mod_unload \0".encode())
    assert resolve(tree).modules is not None
    write(file, module("af_alg") + b"vermagic=6.12.3 SMP mod_unload modversions \0")
    assert resolve(tree).modules is not None, "checksums of symbols count, not the release"


def test_an_image_older_than_its_vmlinux_is_told(tmp_path: Path) -> None:
    tree = put_tree(tmp_path / "linux", config())
    banner = f"\x7fELF…Linux version {RELEASE} (someone@example) (gcc 12) {{}}\n\0"
    said: list[str] = []
    write(tree / "vmlinux", banner.format("#1 SMP fake"))
    assert image.read(tree / BZIMAGE).version.endswith("#1 SMP fake")
    resolve(tree, said)
    assert said == []
    write(tree / "vmlinux", banner.format("#2 SMP fake"))
    resolve(tree, said)
    assert said == [f"{tree}: vmlinux is not the one in {BZIMAGE}, which is booted; else run make -C {tree} bzImage"]


MKMAKEFILE = {
    "since-5.4": "# Automatically generated by {source}/Makefile: don't edit\ninclude {source}/Makefile\n",
    "before": "# Automatically generated by {source}/scripts/mkmakefile: don't edit\n"
    "ifeq ($(KBUILD_VERBOSE),1)\nendif\nMAKEARGS := -C {source}\n",
}


@pytest.mark.parametrize("makefile", MKMAKEFILE.values(), ids=MKMAKEFILE)
def test_a_build_directory_apart_from_the_sources_is_known_as_such(tmp_path: Path, makefile: str) -> None:
    source = tmp_path / "linux"
    for name in ("Kbuild", "Makefile", "Kconfig", "arch/x86/Makefile"):
        write(source / name)
    apart = tmp_path / "out"
    write(apart / "Makefile", makefile.format(source=source))
    (apart / "source").symlink_to(source)
    assert refusal(apart) == (
        f"{apart} is a build directory (O=) of {source} without .config and {BZIMAGE}: "
        f"run make -C {apart} bzImage modules, or give {source}"
    )
    with pytest.raises(UsageError, match=re.escape(f"{apart} is a build directory (O=); variants are built of its")):
        sources.local(apart)
    put_tree(apart, config())
    assert resolve(apart).image == apart / BZIMAGE
    (apart / "source").unlink()
    assert built.source_of(apart) == (source if "include" in makefile else None)


def test_a_tree_configured_by_the_user_and_not_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "linux"
    for name in ("Kbuild", "Makefile", ".config"):
        write(tree / name)
    said: list[str] = []
    monkeypatch.setattr(kernel, "_build", lambda spec, _architecture, _progress: Kernel("x", spec, RELEASE, None))
    resolve(tree, said)
    assert said == [f"{tree} has a .config but no {BZIMAGE}: built apart, with kconfigs/ and not with that"]
