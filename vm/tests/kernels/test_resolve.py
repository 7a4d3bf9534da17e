"""Kernels by name: images, trees, the running one, and the labels they get. None of this asks a mirror."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from vm.base import arch
from vm.base.errors import UsageError
from vm.kernels import image
from vm.kernels import resolve as kernel
from vm.kernels.catalogue import Catalogue, Entry
from vm.kernels.spec import Kernel
from vm.tests.archive import KEPT, MODULES, bzimage, module

RELEASE = "6.12.3-test+"


@pytest.fixture(autouse=True)
def _no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def refuse(suite: str | None, version: str, progress: object, architecture: str) -> Entry:
        raise AssertionError(f"asked for the package {suite}/{version}")

    monkeypatch.setattr(Catalogue, "resolve", staticmethod(refuse))


def resolve(spec: str | Path) -> Kernel:
    return kernel.resolve_one(str(spec), lambda _line: None)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_modules(top: Path, *, suffix: str = ".ko") -> None:
    """Lay MODULES out as installed modules in ``top`` (``…/lib/modules/<release>``)."""
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".ko": bytes, ".ko.xz": lzma.compress, ".ko.gz": gzip.compress, ".ko.zst": zstd,
    }  # fmt: skip
    pack = packers[suffix]
    for name, content in MODULES.items():
        put(top / "kernel" / f"{name}{suffix}", pack(content))
    put(top / "modules.order", b"")


def zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=content, capture_output=True, check=True).stdout


def kept_of(found: Kernel) -> dict[str, bytes]:
    """Return the modules of ``found`` by their path below kernel/."""
    assert found.modules is not None
    base = found.modules / "lib/modules" / found.release / "kernel"
    return {p.relative_to(base).with_suffix("").as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}


def test_image_alone_has_everything_built_in(tmp_path: Path) -> None:
    path = put(tmp_path / "bzImage", bzimage(RELEASE))
    said: list[str] = []
    found = kernel.resolve_one("bzImage", said.append)
    assert found == Kernel(RELEASE, "bzImage", RELEASE, path, None, None, RELEASE, None)
    assert said == [f"no lib/modules/{RELEASE} beside {path}: everything it needs must be built in"]


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz", ".ko.gz", ".ko.zst"])
@pytest.mark.parametrize("lib", ["lib", "usr/lib"])
def test_installed_image_finds_its_modules_and_config(tmp_path: Path, lib: str, suffix: str) -> None:
    if suffix == ".ko.zst" and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    path = put(tmp_path / f"root/boot/vmlinuz-{RELEASE}", bzimage(RELEASE))
    config = put(tmp_path / f"root/boot/config-{RELEASE}", b"CONFIG_X=y\n")
    put_modules(tmp_path / "root" / lib / "modules" / RELEASE, suffix=suffix)
    found = resolve(path)
    assert (found.image, found.config, found.release) == (path, config, RELEASE)
    assert kept_of(found) == {name: content for name, content in MODULES.items() if name in KEPT}
    assert found.modules is not None
    assert found.modules.is_relative_to(tmp_path / "cache")


def test_image_beside_its_modules_as_fedora_and_debian_7_have_it(tmp_path: Path) -> None:
    top = tmp_path / "usr/lib/modules" / RELEASE
    path = put(top / "vmlinuz", bzimage(RELEASE))
    config = put(top / "config", b"")
    put_modules(top)
    found = resolve(path)
    assert set(kept_of(found)) == KEPT
    assert found.config == config


def test_modules_installed_by_make_with_one_directory_win_over_the_kernels_own(tmp_path: Path) -> None:
    path = put(tmp_path / f"root/boot/vmlinuz-{RELEASE}", bzimage(RELEASE))
    top = tmp_path / "root/lib/modules" / RELEASE
    put_modules(top)
    before = resolve(path)
    changed = module("af_alg") + b"changed"
    put(top / "updates/crypto/af_alg.ko", changed)
    said: list[str] = []
    found = kernel.resolve_one(str(path), said.append)
    assert kept_of(found)["crypto/af_alg"] == changed
    assert set(kept_of(found)) == KEPT
    assert found.modules != before.modules
    assert said == [f"{top}: 1 module from outside of kernel/: updates/crypto/af_alg.ko"]


def test_kernels_of_the_user_keep_the_cache_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was kept after builds alone: the limit of a machine that builds none meant nothing."""
    monkeypatch.setenv("AFALG_CACHE_LIMIT", "1K")
    old = put(tmp_path / "cache/kernels/old/file", bytes(10_000)).parent
    top = tmp_path / "root/lib/modules" / RELEASE
    path = put(tmp_path / f"root/boot/vmlinuz-{RELEASE}", bzimage(RELEASE))
    put_modules(top)
    said: list[str] = []
    (found,) = kernel.resolve([str(path)], said.append)
    assert [line.partition(" (")[0] for line in said] == ["removed from the cache: kernels/old"]
    assert not old.exists()
    assert set(kept_of(found)) == KEPT, "in use"
    put(old / "file", bytes(10_000))
    kernel.resolve([str(path)], said.append)
    assert old.exists(), "counted only when something was added"


def test_modules_of_another_release_are_not_taken(tmp_path: Path) -> None:
    path = put(tmp_path / "root/boot/bzImage", bzimage(RELEASE))
    put_modules(tmp_path / "root/lib/modules/6.12.4")
    assert resolve(path).modules is None


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(11) + machine.to_bytes(2, "little") + bytes(100)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"", "is an empty file", id="empty"),
        pytest.param(b"hello\n" * 500, "is no kernel image", id="text"),
        pytest.param(elf(183), "is an ELF file for aarch64 (vmlinux?)", id="elf-arm64"),
        pytest.param(elf(62), "is an ELF file for x86_64 (vmlinux?)", id="vmlinux"),
        pytest.param(elf(9999), "is an ELF file for machine 9999", id="elf-unknown"),
        pytest.param(b"MZ\0\0zimg" + bytes(99), "is an EFI zboot image", id="zboot"),
        pytest.param(b"\x1f\x8b\x08" + bytes(99), "is gzip data (an initrd", id="gzip"),
        pytest.param(b"!<arch>\ndebian-binary", "is a package or an ar archive; unpack it first", id="deb"),
        pytest.param(bzimage(RELEASE, magic=b"XXXX"), "is no kernel image", id="boot-sector"),
        pytest.param(
            bzimage(""), "has a boot header without a kernel's version ('(someone@example)')", id="no-version"
        ),
        pytest.param(bzimage("../6"), "has a boot header without a kernel's version ('../6')", id="no-release"),
        pytest.param(bzimage(RELEASE)[:0x240], "has a boot header without a kernel's version ('')", id="cut-off"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = put(tmp_path / "vmlinuz", content)
    with pytest.raises(UsageError) as refusal:
        resolve(path)
    assert str(refusal.value).startswith(f"{path} {text}")
    assert str(refusal.value).endswith(f"expected {image.WANTED}")


def test_special_file_is_refused_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe is no regular file"):
        resolve(tmp_path / "pipe")


def test_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UsageError, match=r"cannot read /proc/self/mem: Input/output error; expected an x86-64"):
        resolve("/proc/self/mem")


def test_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match=r"cannot read .*link: No such file or directory"):
        resolve(tmp_path / "link")


def put_tree(tree: Path, *, names: Sequence[str] = tuple(MODULES), form: str = "{}.o") -> None:
    put(tree / "arch/x86/boot/bzImage", bzimage(RELEASE))
    put(tree / ".config", b"CONFIG_MODULES=y\n")
    put(tree / "vmlinux", b"\x7fELF")
    put(tree / "modules.order", "".join(form.format(name) + "\n" for name in names).encode())
    for name in names:
        put(tree / f"{name}.ko", MODULES[name])


def state_of(tree: Path) -> dict[Path, tuple[int, bytes]]:
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tree.rglob("*") if p.is_file()}


@pytest.mark.parametrize("form", ["{}.o", "{}.ko", "kernel/{}.ko"], ids=["since-6.3", "between", "before-5.3"])
def test_built_tree_gives_image_config_symbols_and_modules(tmp_path: Path, form: str) -> None:
    tree = tmp_path / "linux"
    put_tree(tree, form=form)
    before = state_of(tree)
    found = resolve(tree)
    assert found.image == tree / "arch/x86/boot/bzImage"
    assert (found.config, found.vmlinux) == (tree / ".config", tree / "vmlinux")
    assert (found.name, found.release, found.version) == (RELEASE, RELEASE, RELEASE)
    assert kept_of(found) == {name: content for name, content in MODULES.items() if name in KEPT}
    assert state_of(tree) == before, "never written to"


def test_image_inside_its_tree_is_the_tree(tmp_path: Path) -> None:
    put_tree(tmp_path / "linux")
    of_tree, of_image = resolve(tmp_path / "linux"), resolve(tmp_path / "linux/arch/x86/boot/bzImage")
    assert (of_image.modules, of_image.image) == (of_tree.modules, of_tree.image)


def test_tree_without_modules_has_none(tmp_path: Path) -> None:
    put_tree(tmp_path / "linux", names=())
    assert resolve(tmp_path / "linux").modules is None
    (tmp_path / "linux/modules.order").unlink()
    assert resolve(tmp_path / "linux").modules is None


def test_rebuilt_module_is_seen(tmp_path: Path) -> None:
    put_tree(tmp_path / "linux")
    first = resolve(tmp_path / "linux")
    assert resolve(tmp_path / "linux").modules == first.modules
    changed = module("af_alg") + b"new"
    put(tmp_path / "linux/crypto/af_alg.ko", changed)
    second = resolve(tmp_path / "linux")
    assert kept_of(second)["crypto/af_alg"] == changed
    assert kept_of(first)["crypto/af_alg"] == MODULES["crypto/af_alg"], "a run that uses it is not disturbed"


def test_tree_built_in_part_is_explained(tmp_path: Path) -> None:
    put_tree(tmp_path / "linux")
    (tmp_path / "linux/crypto/af_alg.ko").unlink()
    with pytest.raises(UsageError, match=r"names 1 modules that are not there \(crypto/af_alg.ko, …\); run make -C"):
        resolve(tmp_path / "linux")


def test_directory_that_is_no_tree_is_explained(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    with pytest.raises(UsageError, match=r"some is no kernel tree: it has neither arch/x86/boot/bzImage"):
        resolve("some")


def asked(spec: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return what is asked of the packages, or of the builder, for ``spec``."""
    from vm.kernels.build import build

    class Asked(Exception):
        pass

    def package(suite: str | None, version: str, progress: object, architecture: str) -> Entry:
        raise Asked((suite, version) if architecture == arch.default().debian else (architecture, suite, version))

    def source(spec: str, progress: object) -> Kernel:
        raise Asked(spec)

    monkeypatch.setattr(Catalogue, "resolve", staticmethod(package))
    monkeypatch.setattr(build, "resolve", source)
    with pytest.raises(Asked) as caught:
        resolve(spec)
    return caught.value.args[0]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", (None, "")),
        ("6.12", (None, "6.12")),
        ("6.1.192-2", (None, "6.1.192-2")),
        ("6.12.95-1~bpo12+1", (None, "6.12.95-1~bpo12+1")),
        ("6.12.95+deb12-amd64", (None, "6.12.95+deb12-amd64")),
        ("7.3-rc7", (None, "7.3-rc7")),
        ("trixie-backports/7.3", ("trixie-backports", "7.3")),
        ("bookworm", ("bookworm", "")),
        ("bookworm/", ("bookworm", "")),
        ("buster/updates/4.19", ("buster/updates", "4.19")),
        ("s390x:", ("s390x", None, "")),
        ("arm64:6.12", ("arm64", None, "6.12")),
        ("aarch64:6.12", ("arm64", None, "6.12")),
        ("s390x:trixie/6.12", ("s390x", "trixie", "6.12")),
        ("amd64:6.12", (None, "6.12")),
        ("amd64:source:6.12", "source:6.12"),
        ("source:6.12", "source:6.12"),
        ("source:6.12+debug", "source:6.12+debug"),
        ("6.12+debug+coverage", "6.12+debug+coverage"),
        ("~/linux+debug", "~/linux+debug"),
    ],
)
def test_spec_goes_to_its_source(monkeypatch: pytest.MonkeyPatch, spec: str, expected: object) -> None:
    assert asked(spec, monkeypatch) == expected


def test_a_kernel_of_another_architecture_is_not_built_here() -> None:
    with pytest.raises(UsageError, match="for this machine's own architecture only; build it elsewhere"):
        resolve("s390x:source:6.12")


def test_a_file_is_of_the_architecture_that_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "bzImage", bzimage(RELEASE))
    assert resolve(f"amd64:{path}").release == RELEASE
    with pytest.raises(UsageError, match="is of amd64, not of arm64"):
        resolve(f"arm64:{path}")


def test_kernels_of_two_architectures_have_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, {"6.12": "6.12.3-1"})
    found = kernel.resolve(["6.12", "s390x:6.12"], lambda _line: None)
    assert [each.name for each in found] == ["6.12.3", "6.12.3-s390x"]
    assert [each.architecture.debian for each in found] == [arch.default().debian, "s390x"]


def test_source_tree_goes_to_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "linux/Kbuild", b"")
    put(tmp_path / "linux/Makefile", b"VERSION = 6\n")
    assert asked("linux", monkeypatch) == "linux"


def test_existing_file_comes_before_a_suite_of_that_name(tmp_path: Path) -> None:
    put(tmp_path / "bookworm/6.12", bzimage(RELEASE))
    put(tmp_path / "sid", bzimage(RELEASE))
    assert resolve("bookworm/6.12").image == tmp_path / "bookworm/6.12"
    assert resolve("sid").image == tmp_path / "sid"


def test_existing_tree_comes_before_a_variant_of_that_name(tmp_path: Path) -> None:
    put_tree(tmp_path / "linux+debug")
    assert resolve("linux+debug").image == tmp_path / "linux+debug/arch/x86/boot/bzImage"


def test_version_comes_before_a_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "6.12", bzimage(RELEASE))
    assert resolve("./6.12").image == tmp_path / "6.12"
    assert asked("6.12", monkeypatch) == (None, "6.12")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("no/such/bzImage", "no file or directory no/such/bzImage; a kernel is an image"),
        ("./nothing", "no file or directory ./nothing"),
        ("~nobody-at-all/linux", "no file or directory ~nobody-at-all/linux"),
        ("bzImage", "'bzImage' names no kernel; a kernel is an image, a kernel tree, a version (6.12)"),
        ("six", None),
        ("6.12 ", "'6.12 ' names no kernel"),
        ("x\0y", "'x\\x00y' names no kernel"),
        ("L" * 5000, f"'{'L' * 5000}' names no kernel"),
    ],
)
def test_spec_that_is_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch, spec: str, text: str | None) -> None:
    if text is None:  # may be a suite
        assert asked(spec, monkeypatch) == (spec, "")
        return
    with pytest.raises(UsageError) as refusal:
        resolve(spec)
    assert str(refusal.value).startswith(text)
    assert "\n" not in str(refusal.value)


def test_running_is_this_kernel() -> None:
    found = resolve("running")
    assert (found.name, found.image, found.release) == ("running", None, os.uname().release)
    if found.modules is not None:
        assert (found.modules / "lib/modules" / found.release).is_dir()
    if found.config is not None:
        assert found.config.exists()


def give(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> None:
    """Let each spec resolve to a package of its version, as ``SUITE/…`` of that suite."""

    def package(suite: str | None, version: str, progress: object, architecture: str) -> Entry:
        spec = f"{suite}/{version}" if suite else version
        return Entry(Path("/cache") / spec.replace("/", "_"), suite or "own", "r", versions[spec])

    monkeypatch.setattr(Catalogue, "resolve", staticmethod(package))


@pytest.mark.parametrize(
    ("versions", "names"),
    [
        pytest.param({"6.12": "6.12.94-1", "6.1": "6.1.192-2"}, ["6.12.94", "6.1.192"], id="short"),
        pytest.param(
            {"6.1.192-1": "6.1.192-1", "6.1.192-2": "6.1.192-2", "6.12": "6.12.94-1"},
            ["6.1.192-1", "6.1.192-2", "6.12.94"],
            id="revisions",
        ),
        pytest.param(
            {"a/6.1": "6.1.192-2~bpo1", "b/6.1": "6.1.192-2~bpo1", "6.1": "6.1.192-2"},
            ["a-6.1", "b-6.1", "6.1.192-2"],
            id="suites",
        ),
        pytest.param({"experimental/7.3": "7.3~rc7-1~exp1"}, ["7.3-rc7"], id="release-candidate"),
    ],
)
def test_labels_are_short_and_unique(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], names: list[str]
) -> None:
    give(monkeypatch, versions)
    assert [found.name for found in kernel.resolve(list(versions), lambda _line: None)] == names


def test_images_of_one_release_get_labels_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b", "a-b"):
        put(tmp_path / folder / "bzImage", bzimage(RELEASE))
    names = [k.name for k in kernel.resolve(["a/bzImage", "b/bzImage", "a-b/bzImage"], lambda _line: None)]
    assert names == ["a-bzImage", "b-bzImage", "a-b-bzImage"]


def test_labels_that_no_form_tells_apart_are_numbered(tmp_path: Path) -> None:
    for folder in ("a b", "a-b"):
        put(tmp_path / folder / "bzImage", bzimage(RELEASE))
    names = [k.name for k in kernel.resolve(["a b/bzImage", "a-b/bzImage"], lambda _line: None)]
    assert names == [f"{RELEASE}.1", f"{RELEASE}.2"]


def test_same_kernel_is_taken_once(tmp_path: Path) -> None:
    put(tmp_path / "bzImage", bzimage(RELEASE))
    said: list[str] = []
    found = kernel.resolve(["bzImage", "./bzImage"], said.append)
    assert [k.spec for k in found] == ["bzImage"]
    assert "'./bzImage' is the same kernel as 'bzImage': taken once" in said


def test_label_has_only_characters_of_test_ids(tmp_path: Path) -> None:
    put(tmp_path / "bzImage", bzimage("7.3~rc7+x_y"))
    assert resolve("bzImage").name == "7.3-rc7+x_y"


def test_command_prints_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(tmp_path / "bzImage", bzimage(RELEASE))
    assert kernel.main(["bzImage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == RELEASE
    assert f"  image    {path}" in lines


def test_command_refuses_with_status_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel.main(["no/such"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: no file or directory no/such;")
    assert captured.err.count("\n") == 1


def test_damaged_module_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "root/boot/vmlinuz", bzimage(RELEASE))
    put(tmp_path / "root/lib/modules" / RELEASE / "kernel/crypto/af_alg.ko.xz", b"no xz at all")
    with pytest.raises(UsageError, match=r"the module .*af_alg.ko.xz is damaged"):
        resolve(path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('CONFIG_CMDLINE="cryptomgr.notests=0 quiet cryptomgr.x=1"', ["cryptomgr.notests=0", "cryptomgr.x=1"]),
        ('CONFIG_CMDLINE="root=/dev/sda"', []),
        ("# CONFIG_CMDLINE_BOOL is not set", []),
    ],
)  # fmt: skip
def test_what_is_built_in_about_self_tests_wins(tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "config").write_text(f"{line}\n")
    assert Kernel("6.12", "6.12", "6.12.1", tmp_path / "bzImage", config=tmp_path / "config").own_arguments == words
