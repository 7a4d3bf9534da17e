"""The modules a guest needs out of those a kernel has: pruned, decompressed, indexed by depmod.

Distribution kernels have four thousand modules. With all of them a guest's coldplug takes half a minute
under TCG, and busybox's insmod, which loads the first ones, cannot decompress.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from vm.base import cache, files, process
from vm.base.arch import ARCHITECTURES
from vm.base.errors import UsageError
from vm.kernels import installed

# Part of every cache key: raise it when WANTED or what is done with a module changes.
RULES = 4

# Paths below kernel/ that are kept, with whatever they depend on.
WANTED = (
    # what is tested: every algorithm, af_alg itself, the library code and key types behind it
    "crypto/",
    *(place for row in ARCHITECTURES for place in row.crypto),
    "lib/",
    "security/keys/",
    # the one crypto device that QEMU has, for an asynchronous driver; the others need hardware
    "drivers/crypto/virtio/",
    # where the guest's root is
    "fs/squashfs/",
    # how the guest reaches the host
    "drivers/virtio/",
    "drivers/char/virtio_console",
    "drivers/char/hw_random/virtio-rng",
    "drivers/block/virtio_blk",
    "net/9p/9pnet",
    "net/9p/9pnet_virtio",
    "fs/9p/",
    "fs/fuse/",
    "fs/netfs/",
    "fs/fscache/",
    "fs/overlayfs/",
    # where spliced pages come from and go to: a disk file system's page cache, sockets
    "fs/ext4/",
    "drivers/block/loop",
    "drivers/block/brd",
    "net/unix/",
    "net/packet/",
    "net/netlink/",
    # what programs need that use AF_ALG (tests/programs): disks of device mapper, radios and Bluetooth controllers of
    # software, key input of the latter, filters of traffic control, tunnels of IPsec between network namespaces
    *("drivers/md/dm-crypt", "drivers/md/dm-verity", "drivers/md/dm-integrity"),
    *("drivers/net/wireless/mac80211_hwsim", "drivers/net/wireless/virtual/mac80211_hwsim", "net/rfkill/rfkill"),
    *("drivers/bluetooth/hci_vhci", "drivers/hid/uhid", "net/bluetooth/hidp/hidp", "net/bluetooth/bnep/bnep"),
    *("net/sched/cls_bpf", "net/sched/act_bpf", "net/sched/sch_ingress", "drivers/net/dummy"),
    *("net/xfrm/xfrm_user", "net/ipv4/esp4", "drivers/net/veth"),
)
# Kept by the above, and of no use: tests that run for minutes when loaded, buses that no guest has.
UNWANTED = ("lib/test_", "lib/tests/", "lib/memory-notifier", "lib/pm-notifier", "lib/notifier-error")

# Ends a signed module (kernel: include/linux/module_signature.h); stripping would undo the signature.
SIGNATURE_MARK = b"~Module signature appended~\n"
TABLES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


def view(modules: dict[str, Path], tables: Path, release: str) -> Path:
    """Return a directory of the cache that holds ``lib/modules/<release>`` made from ``modules``.

    It is made anew when one of the files is another, or was changed; the files themselves are left alone.

    Args:
        modules: each module's file, by its path below ``kernel/`` without suffix (``crypto/af_alg``).
        tables: the directory of ``modules.builtin`` and the like; missing ones are left out.
        release: ``uname -r`` of the kernel.

    Raises:
        UsageError: as for install().
    """
    state = hashlib.sha256(f"{RULES}\0{release}".encode())
    for name, file in sorted([*modules.items(), *((table, tables / table) for table in TABLES)]):
        if file.is_file():
            state.update(f"\0{name}\0{files.identity(file)}".encode())
    path = cache.cache_dir() / "modules" / f"{release}-{state.hexdigest()[:12]}"
    return cache.entry(path, lambda temporary: install_files(modules, tables, temporary, release))


def install(source: Path, target: Path, release: str) -> None:
    """Make ``target/lib/modules/<release>`` from the module directory ``source``, which is not changed.

    Args:
        source: holds ``kernel/`` with the modules and the ``modules.builtin*`` and ``modules.order`` tables.
        target: the directory that will hold ``lib/modules/<release>``.
        release: ``uname -r`` of the kernel.

    Raises:
        UsageError: a program is missing, or a module cannot be read.
    """
    install_files(installed.find(source), source, target, release)


def install_files(modules: dict[str, Path], tables: Path, target: Path, release: str) -> None:
    """Do the same for modules that are not laid out yet.

    Args:
        modules: each module's file, by its path below ``kernel/`` without suffix (``crypto/af_alg``).
        tables: the directory of ``modules.builtin`` and the like; missing ones are left out.
        target: as for install().
        release: as for install().
    """
    root = target / "lib" / "modules" / release
    # Also for the modules that are elsewhere: their names begin with ../
    (root / "kernel").mkdir(parents=True)
    for name, content in _closure(modules).items():
        _require_same_release(modules[name], content, release)
        file = root / "kernel" / f"{name}.ko"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        if b"\0.debug_info\0" in content and not content.endswith(SIGNATURE_MARK):
            _strip(file)
    for table in TABLES:
        if (tables / table).is_file():
            shutil.copyfile(tables / table, root / table)
    process.run(["depmod", "-b", str(target), release], deadline=300).require(f"depmod failed for {release}", root)


def _require_same_release(file: Path, content: bytes, release: str) -> None:
    """Raise UsageError for a module that the kernel would refuse (kernel/module: same_magic, "version magic")."""
    magic = re.search(rb"\0vermagic=([^\0]+)\0", content)
    words = magic[1].decode(errors="replace").split() if magic else []
    # With CONFIG_MODVERSIONS the symbols' checksums count instead.
    if words and words[0] != release and "modversions" not in words:
        raise UsageError(
            f"{file} is of {words[0]}, the kernel's image of {release}, which cannot load it; "
            "build image and modules together, and install both"
        )


def wanted(name: str) -> bool:
    """Say whether the module ``name`` (``crypto/af_alg``: below ``kernel/``, no suffix) is kept by itself.

    One from outside of ``kernel/`` (``../extra/crypto/af_alg``) is kept when it would be in there.
    """
    if name.startswith("../"):
        name = name.split("/", 2)[-1]
    if name.startswith(UNWANTED):
        return False
    return any(name.startswith(rule) if rule.endswith("/") else name == rule for rule in WANTED)


def _closure(modules: dict[str, Path]) -> dict[str, bytes]:
    """Return the content of the wanted modules and of all that they depend on."""
    by_name = {_name(path): path for path in modules}
    kept: dict[str, bytes] = {}
    waiting = sorted(name for name in modules if wanted(name) or _is_foreign_algorithm(name, modules[name]))
    while waiting:
        path = waiting.pop()
        if path not in kept:
            kept[path] = _content(modules[path])
            waiting += [by_name[name] for name in _needs(kept[path]) if name in by_name]
    return kept


def _is_foreign_algorithm(name: str, file: Path) -> bool:
    """Whether a module from outside of ``kernel/``, wherever it may be there, is loaded for AF_ALG."""
    return name.startswith("../") and re.search(rb"\0alias=(crypto-|algif-|net-pf-38\0)", _content(file)) is not None


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].replace("-", "_")


def _needs(content: bytes) -> Iterable[str]:
    """Return the names of the modules this one depends on: depends= and softdep= of its .modinfo section.

    The section is NUL-terminated texts, so that they can be found without taking the ELF file apart. A name
    found by accident is of no module, or of one more.
    """
    for depends in re.findall(rb"\0depends=([\w,-]+)\0", b"\0" + content):
        yield from (name.replace("-", "_") for name in depends.decode().split(","))
    for softdep in re.findall(rb"\0softdep=([\w :-]+)\0", content):
        # "pre: a b post: c"; alternatives that do not exist are skipped by the caller.
        yield from (name.replace("-", "_") for name in softdep.decode().split() if not name.endswith(":"))


def _content(file: Path) -> bytes:
    try:
        if file.suffix == ".xz":
            return lzma.decompress(file.read_bytes())
        if file.suffix == ".gz":
            return gzip.decompress(file.read_bytes())
        if file.suffix == ".zst":
            return _zstd(file)
        return file.read_bytes()
    except (lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise UsageError(f"the module {file} is damaged: {error}") from error


def _zstd(file: Path) -> bytes:
    # The standard library has no zstd before Python 3.14.
    if (program := process.find("zstd")) is None:
        raise UsageError(f"{file.name} needs zstd; install it (on Debian: apt-get install zstd)")
    result = subprocess.run([program, "-dcq", "--", str(file)], capture_output=True, timeout=60)
    if result.returncode:
        raise UsageError(f"the module {file} is damaged: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def _strip(file: Path) -> None:
    """Take the debug information out of ``file``, which makes 5 MB of 100 KB. A luxury: may fail."""
    if program := process.find("strip"):
        subprocess.run([program, "--strip-debug", str(file)], capture_output=True, timeout=60)
