"""A distribution mirror of a few kilobytes, and a machine whose apt is configured to use it: no network.

Its packages are real .deb files with tiny kernels in them, its indexes are real and signed, so that the real
apt is what the tests drive.
"""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HAS_GPG = shutil.which("gpg") is not None


def bzimage(release: str, *, magic: bytes = b"HdrS", flags: int = 1, size: int = 0x2000) -> bytes:
    """Return a file with the boot header of an x86 kernel (kernel: Documentation/arch/x86/boot.rst)."""
    image = bytearray(size)
    text = f"{release} (someone@example) #1 SMP fake\0".encode()
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = magic
    image[0x206:0x208] = (0x20F).to_bytes(2, "little")
    image[0x20E:0x210] = (0x1000 - 0x200).to_bytes(2, "little")
    image[0x236:0x238] = flags.to_bytes(2, "little")
    image[0x1000 : 0x1000 + len(text)] = text
    return bytes(image)


def module(name: str, depends: Sequence[str] = (), softdep: str = "") -> bytes:
    """Return what stands in a module's .modinfo section."""
    texts = [f"name={name}", f"depends={','.join(depends)}", *([f"softdep={softdep}"] if softdep else [])]
    return b"\x7fELF\0" + b"".join(text.encode() + b"\0" for text in texts)


# What a kernel has below kernel/: one of each kind that pruning must tell apart.
MODULES = {
    "crypto/af_alg": module("af_alg"),
    "crypto/algif_hash": module("algif_hash", ["af_alg"]),
    "crypto/seqiv": module("seqiv", ["geniv-x"]),  # names have _ where files have -
    "fs/ext4/ext4": module("ext4", ["mbcache"], softdep="pre: crc32c post: nothing-there"),
    "fs/mbcache": module("mbcache", ["deeper"]),
    "misc/deeper": module("deeper"),
    "misc/crc32c": module("crc32c"),
    "misc/geniv_x": module("geniv_x"),
    "drivers/gpu/radeon": module("radeon"),
    "net/9p/9pnet": module("9pnet"),
    "net/9p/9pnet_rdma": module("9pnet_rdma"),
    "lib/test_bpf": module("test_bpf"),
}
KEPT = {
    "crypto/af_alg", "crypto/algif_hash", "crypto/seqiv", "fs/ext4/ext4", "fs/mbcache", "misc/deeper",
    "misc/crc32c", "misc/geniv_x", "net/9p/9pnet",
}  # fmt: skip


def tree_files(release: str, *, compressed: bool) -> dict[str, bytes]:
    """Return the files of a module directory, by path below ``lib/modules/<release>``."""
    files = {
        f"kernel/{name}.ko{'.xz' if compressed else ''}": lzma.compress(content) if compressed else content
        for name, content in MODULES.items()
    }
    return {**files, "modules.order": b"", "modules.builtin": b"kernel/lib/x.ko\n"}


@dataclass(frozen=True)
class Deb:
    """A package to be built.

    Attributes:
        name, version, depends: fields of its control file.
        files: content by path.
    """

    name: str
    version: str
    files: Mapping[str, bytes]
    depends: str = ""


def whole(abi: str, version: str, *, unsigned: bool = False, image: bytes | None = None) -> Deb:
    """Return a kernel in one package, as they were up to 6.18."""
    files = {
        f"boot/vmlinuz-{abi}": image or bzimage(abi),
        f"boot/config-{abi}": f"CONFIG_LOCALVERSION={version}\n".encode(),
        f"boot/System.map-{abi}": b"",
    }
    for path, content in tree_files(abi, compressed=False).items():
        files[f"lib/modules/{abi}/{path}"] = content
    return Deb(f"linux-image-{abi}{'-unsigned' if unsigned else ''}", version, files, "kmod")


def split(abi: str, version: str, *, without: Sequence[str] = (), unsigned: bool = False) -> list[Deb]:
    """Return a kernel in several packages, as they are since: all but those ``without``."""
    top = f"usr/lib/modules/{abi}"
    files: dict[str, dict[str, bytes]] = {"image": {}, "base": {}, "binary": {}, "modules": {}}
    files["binary"][f"{top}/vmlinuz"] = bzimage(abi)
    files["base"][f"{top}/config"] = f"CONFIG_LOCALVERSION={version}\n".encode()
    for path, content in tree_files(abi, compressed=True).items():
        files["modules" if path.startswith("kernel/") else "base"][f"{top}/{path}"] = content
    depends = {"image": ", ".join(f"linux-{part}-{abi} (= {version})" for part in ("base", "binary", "modules"))}
    names = {part: f"linux-{part}-{abi}" for part in files}
    if unsigned:
        names["binary"] = f"linux-binary-unsigned-{abi}"
    return [Deb(names[part], version, files[part], depends.get(part, "")) for part in files if part not in without]


def ubuntu(abi: str, version: str, *, without: Sequence[str] = ()) -> list[Deb]:
    """Return a kernel as Ubuntu packs it: the image alone, what belongs to it, and the rarer modules."""
    top = f"lib/modules/{abi}"
    tree = tree_files(abi, compressed=True)
    extra = {f"{top}/{path}": content for path, content in tree.items() if "/9p/" in path}
    files = {
        "image": {f"boot/vmlinuz-{abi}": bzimage(abi)},
        "modules": {
            f"boot/config-{abi}": f"CONFIG_LOCALVERSION={version}\n".encode(),
            f"boot/System.map-{abi}": b"",
            **{f"{top}/{path}": content for path, content in tree.items() if f"{top}/{path}" not in extra},
        },
        "modules-extra": extra,
    }
    needs = {
        "image": f"kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-{abi}",
        "modules-extra": f"linux-image-{abi} | linux-image-unsigned-{abi}, wireless-regdb",
    }
    return [
        Deb(f"linux-{part}-{abi}", version, files[part], needs.get(part, "")) for part in files if part not in without
    ]


def meta(name: str, target: str, version: str) -> Deb:
    """Return a package that only names another: linux-image-amd64."""
    return Deb(name, version, {}, f"{target} (= {version})")


CONTENT: dict[str, list[Deb]] = {
    "debian bookworm": [
        whole("6.1.0-9-amd64", "6.1.9-1"),
        whole("6.1.0-40-amd64", "6.1.100-1"),
        whole("6.1.0-40-amd64", "6.1.100-1", unsigned=True),
        whole("6.1.0-41-amd64", "6.1.110-1", unsigned=True),
        whole("6.1.0-41-cloud-amd64", "6.1.119-1"),
        whole("6.1.0-41-rt-amd64", "6.1.119-1"),
        Deb("linux-image-6.1.0-41-amd64-dbg", "6.1.119-1", {}),
        meta("linux-image-amd64", "linux-image-6.1.0-40-amd64", "6.1.100-1"),
        Deb("linux-image-amd64-signed-template", "6.1.119-1", {}),
    ],
    "debian-security bookworm-security": [
        whole("6.1.0-45-amd64", "6.1.120-1"),
        whole("6.1.0-46-amd64", "6.1.120-2"),
        meta("linux-image-6.12-amd64", "linux-image-6.12.20+deb12-amd64", "6.12.20-1~deb12u1"),
        whole("6.12.20+deb12-amd64", "6.12.20-1~deb12u1"),
    ],
    "debian trixie": [whole("6.12.20+deb13-amd64", "6.12.20-1")],
    "debian-security trixie-security": [whole("6.12.30+deb13-amd64", "6.12.30-1")],
    "debian trixie-backports": [
        *split("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"),
        *split("7.2.9+deb13-amd64", "7.2.9-1~bpo13+1", without=["base"]),
        *split("7.2.6+deb13-amd64", "7.2.6-1~bpo13+1", without=["image"], unsigned=True),
        *split("7.1.5+deb13-amd64", "7.1.5-1~bpo13+1", without=["modules", "base"]),
    ],
    "debian experimental": split("7.3-amd64", "7.3~rc7-1~exp1"),
    # Indexed, and not there, or not what the index says.
    "debian broken": [
        whole("5.9.1-amd64", "5.9.1-1"),
        whole("5.9.2-amd64", "5.9.2-1"),
        whole("5.9.3-amd64", "5.9.3-1", image=bzimage("5.9.99-amd64")),
        whole("5.9.4-amd64", "5.9.4-1", image=b"no image at all"),
    ],
    "debian empty": [Deb("busybox", "1-1", {})],
    # Signed, but its Release was changed afterwards; signed by a stranger; not signed.
    "debian forged": [whole("5.8.1-amd64", "5.8.1-1")],
    "debian stranger": [whole("5.8.1-amd64", "5.8.1-1")],
    "debian unsigned": [whole("5.8.1-amd64", "5.8.1-1")],
}


@dataclass(frozen=True)
class World:
    """The mirror and the machine.

    Attributes:
        root: holds ``debian`` and ``debian-security``, the key, the machine's ``etc/apt``. Everybody may read
            it, since apt fetches as a user of its own.
        address: what the machine's sources have before ``/debian``: ``copy:<root>``.
        key: signs the indexes; None without gpg, and the machine then trusts them as they are.
    """

    root: Path
    address: str
    key: Key | None

    @property
    def configuration(self) -> Path:
        """File to name in $APT_CONFIG."""
        return self.root / "apt-config"

    @property
    def sources(self) -> Path:
        """The machine's deb822 source file."""
        return self.root / "etc/apt/sources.list.d/debian.sources"

    def deb(self, name: str) -> Path:
        """Return the file in the pool whose name begins with ``name``."""
        (found,) = (self.root / "debian/pool").glob(f"{name}_*")
        return found


def build(root: Path, content: Mapping[str, Sequence[Deb]]) -> World:
    """Build the archives of ``content`` (by archive and suite) in the empty directory ``root``."""
    world = World(root, f"copy:{root}", Key(root, "key") if HAS_GPG else None)
    configure(world)
    for place, debs in content.items():
        add(world, place, debs)
    return world


def add(world: World, place: str, debs: Sequence[Deb]) -> None:
    """Add ``debs`` to the archive and suite ``place`` (``debian bookworm``), and sign its index anew."""
    archive, suite = world.root / place.split()[0], place.split()[1]
    packages = archive / "dists" / suite / "main/binary-amd64/Packages"
    before = packages.read_text() if packages.exists() else ""
    _publish(archive, suite, before + "".join(_package(archive, deb) for deb in debs), world.key)


def spoil(world: World) -> None:
    """Do to CONTENT's bad suites what their names say."""
    world.deb("linux-image-5.9.1-amd64").unlink()
    changed = world.deb("linux-image-5.9.2-amd64")
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    if world.key:
        forged = world.root / "debian/dists/forged/InRelease"
        forged.write_text(forged.read_text().replace("Suite: forged", "Suite: Forged"))
        (world.root / "debian/dists/unsigned/InRelease").unlink()
        release = (world.root / "debian/dists/stranger/Release").read_text()
        (world.root / "debian/dists/stranger/InRelease").write_bytes(Key(world.root, "stranger").sign(release))


def configure(world: World) -> None:
    """Write the machine's apt configuration: both formats of sources, a third party, and a source package."""
    trust = f"Signed-By: {world.root}/key.gpg" if HAS_GPG else "Trusted: yes"
    one_line = f"signed-by={world.root}/key.gpg" if HAS_GPG else "trusted=yes"
    world.sources.parent.mkdir(parents=True, exist_ok=True)
    (world.root / "etc/apt/apt.conf.d").mkdir(exist_ok=True)
    world.sources.write_text(
        f"# comment\nTypes: deb deb-src\nURIs: {world.address}/debian\nSuites: bookworm\n"
        f"Components: main contrib\n{trust}\n\n"
        f"Enabled: no\nTypes: deb\nURIs: {world.address}/debian\nSuites: sid\nComponents: main\n{trust}\n\n"
        f"Types: deb\nURIs: https://third.example/apt\nSuites: bookworm\nComponents: main\n"
    )
    world.sources.with_name("security.list").write_text(
        f"deb-src {world.address}/debian-security trixie-security main\n"
        f"deb [arch=amd64 {one_line}] {world.address}/debian-security bookworm-security main # comment\n"
    )
    world.configuration.write_text(
        f'Dir::Etc "{world.root}/etc/apt";\nAPT::Update::Post-Invoke {{ "touch {world.root}/hook-ran"; }};\n'
    )


def served_by(world: World, address: str, into: Path) -> World:
    """Return ``world`` as a machine with another mirror sees it: its files linked, its configuration of its own."""
    into.mkdir()
    into.chmod(0o755)
    for name in ("debian", "debian-security", *(["key.gpg"] if HAS_GPG else [])):
        (into / name).symlink_to(world.root / name)
    other = dataclasses.replace(world, root=into, address=address)
    configure(other)
    return other


def temporary_root() -> Iterator[Path]:
    """Provide a directory that every user may read, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="afalg-archive-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


class Key:
    """A throw-away signing key; its public half is ``<root>/<name>.gpg``."""

    def __init__(self, root: Path, name: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="gpg-", dir=root))  # short: it holds a socket
        self._gpg("--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never")
        (root / f"{name}.gpg").write_bytes(self._gpg("--export"))

    def sign(self, text: str) -> bytes:
        return self._gpg("--clearsign", given=text.encode())

    def _gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ["gpg", "--batch", "--quiet", "--homedir", str(self.home), *arguments]
        return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout

    def __del__(self) -> None:
        # Its agent ends by itself when its home is gone.
        shutil.rmtree(self.home, ignore_errors=True)


def _package(archive: Path, deb: Deb) -> str:
    """Build ``deb`` into the pool of ``archive``, and return its stanza of the index."""
    pool = archive / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    control = (
        f"Package: {deb.name}\nVersion: {deb.version}\nArchitecture: amd64\nMaintainer: nobody <nobody@example>\n"
        + (f"Depends: {deb.depends}\n" if deb.depends else "")
        + "Description: fake\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for path, content in {**deb.files, "DEBIAN/control": control.encode()}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        tree.chmod(0o755)
        (tree / "DEBIAN").chmod(0o755)
        file = pool / f"{deb.name}_{deb.version}_amd64.deb"
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(file)]
        # The same content gives the same package.
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        subprocess.run(command, check=True, capture_output=True, timeout=60, env=environment)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f"{control}Filename: pool/{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n\n"


def _publish(archive: Path, suite: str, index: str, key: Key | None) -> None:
    top = archive / "dists" / suite
    packages = top / "main/binary-amd64/Packages"
    packages.parent.mkdir(parents=True, exist_ok=True)
    packages.write_text(index)
    digest = hashlib.sha256(index.encode()).hexdigest()
    release = (
        f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: {email.utils.formatdate(usegmt=True)}\n"
        "Architectures: amd64\nComponents: main\nSHA256:\n"
        f" {digest} {len(index.encode())} main/binary-amd64/Packages\n"
    )
    (top / "Release").write_text(release)
    if key:
        (top / "InRelease").write_bytes(key.sign(release))


def processes_of(text: str) -> list[int]:
    """Return the processes that have ``text`` in their command line or working directory, but this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            mentions = text in (path / "cmdline").read_text() or text in os.readlink(path / "cwd")
        except OSError:
            continue
        if mentions and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found
