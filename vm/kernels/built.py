"""Trees in which somebody built a kernel: in the sources or apart from them (O=), whole or in part."""

from __future__ import annotations

import contextlib
import mmap
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vm.base import arch, files
from vm.base.errors import UsageError
from vm.base.words import plural
from vm.kernels import kconfig
from vm.kernels.image import Image

# What a guest cannot be without, besides the driver of its bus: symbol, the module's name when it is one. What it has
# its root on is chosen when it is booted (vm/machine/own_root.py).
BOOT = {"VIRTIO_CONSOLE": "virtio_console"}
# What is tested. A kernel may lack it; what is configured must be there.
TESTED = {
    "CRYPTO_USER_API": "af_alg",
    "CRYPTO_USER_API_HASH": "algif_hash",
    "CRYPTO_USER_API_SKCIPHER": "algif_skcipher",
    "CRYPTO_USER_API_AEAD": "algif_aead",
    "CRYPTO_USER_API_RNG": "algif_rng",
    "CRYPTO_USER": "crypto_user",
}


def source_of(tree: Path) -> Path | None:
    """Return the sources of a build directory (``make O=``), None for what is none.

    The kernel's Makefile leaves a link ``source`` in it, and a Makefile that includes its own.
    """
    if (tree / "Kbuild").exists():
        return None
    included = re.search(r"^include (\S+)/Makefile$", files.text_of(tree / "Makefile"), re.MULTILINE)
    places = [tree / "source", *([tree / included[1]] if included else [])]
    return next((place.resolve() for place in places if (place / "Kbuild").exists()), None)


def modules(tree: Path) -> dict[str, Path]:
    """Return the modules that ``modules.order`` names, by their path below ``kernel/`` without suffix.

    Raises:
        UsageError: some are not there, or none was built of those that are configured.
    """
    order = tree / "modules.order"
    if not order.exists():
        _require_none(tree)
    found = {}
    for line in files.text_of(order).splitlines():
        # "kernel/crypto/af_alg.ko" before 5.3, "crypto/af_alg.o" since 6.3.
        name = line.strip().removeprefix("kernel/").removesuffix(".ko").removesuffix(".o")
        found[name] = tree / f"{name}.ko"
    missing = [file for file in found.values() if not file.exists()]
    if missing:
        raise UsageError(
            f"{tree} is built in part: modules.order names {len(missing)} modules that are not there "
            f"({missing[0].relative_to(tree)}, …); run make -C {tree} modules"
        )
    return found


def _require_none(tree: Path) -> None:
    asked = [symbol for symbol, value in kconfig.read_config(tree / ".config").items() if value == "m"]
    if asked:
        named = next((symbol for symbol in (*TESTED, *BOOT) if symbol in asked), asked[0])
        raise UsageError(
            f"{tree} has no modules yet, but {plural(len(asked), 'option')} configured as such "
            f"(CONFIG_{named}=m, …); run make -C {tree} modules"
        )


def require_current(tree: Path, architecture: arch.Architecture) -> None:
    """Check that a tree was built with the configuration it has.

    ``include/config/auto.conf`` is what make went by. Which of the two is newer says little: a ``.config`` that was
    copied may have an old time.

    Raises:
        UsageError: it was configured otherwise since.
    """
    config, used = tree / ".config", tree / "include/config/auto.conf"
    if not used.exists():
        return
    before, now = kconfig.read_config(used), kconfig.read_config(config)
    for symbol in sorted({*before, *now}):
        old, new = before.get(symbol, "n"), now.get(symbol, "n")
        if old != new and {old, new} & {"y", "m"}:
            raise UsageError(
                f"{tree} was configured anew since it was built (CONFIG_{symbol} was {old}, is {new}); "
                f"run make -C {tree} {architecture.image.name} modules"
            )


def require_visible(config: Mapping[str, str], names: Iterable[str], where: str) -> None:
    """Check on the host what a guest will see: what it boots with, and what of AF_ALG is configured.

    Args:
        config: of the kernel (kconfig.read_config).
        names: of the modules that the guest will have, as paths or alone.
        where: whose they are, for the message.

    Raises:
        UsageError: the kernel cannot be booted here, or would be tested without a module that it should have.
    """
    architecture = arch.of_config(config)
    if architecture is None:
        return  # no kernel's .config: a file of that name beside an image may be anything
    boot = {f"VIRTIO_{architecture.bus.upper()}": f"virtio_{architecture.bus}", **BOOT}
    there = {name.rpartition("/")[2].replace("-", "_") for name in names}
    # Where the board has serial ports, a kernel is talked to by those.
    absent = [] if architecture.further_serial else [symbol for symbol in boot if symbol not in config]
    if absent:
        raise UsageError(
            f"{where} cannot be booted here: its configuration lacks "
            f"{', '.join(f'CONFIG_{symbol}' for symbol in absent)}; set them and build it again"
        )
    for symbol, module in {**boot, **TESTED}.items():
        if config.get(symbol) == "m" and module not in there:
            raise UsageError(
                f"{where} has CONFIG_{symbol}=m, but no module {module}; "
                "build and install its modules (make modules, make modules_install)"
            )


def is_stale(tree: Path, image: Image) -> bool:
    """Whether the kernel was linked again after its image was made: each link has a number and a time."""
    number = image.version.partition(") ")[2].encode()
    with (
        contextlib.suppress(OSError, ValueError),
        (tree / "vmlinux").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as linked,
    ):
        start = linked.find(b"Linux version ")
        return start >= 0 and bool(number) and number not in linked[start : start + 1024].partition(b"\n")[0]
    return False
