"""Building a kernel: with a tree of a few files whose Makefile behaves like the kernel's, in seconds."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vm.base import cache, process
from vm.base.errors import BuildFailed, UsageError
from vm.kernels import kconfig
from vm.kernels.build import build, sources
from vm.kernels.build import make as build_make
from vm.kernels.spec import Kernel

# Make, compilers and processes that wait for each other: seconds, which a busy machine makes a minute.
pytestmark = pytest.mark.deadline(120)

# What the kernel's Makefile does as seen from outside: O=, KCONFIG_ALLCONFIG, lines of progress, command files
# after the target, refusal of a tree that was built in place.
MAKEFILE = """\
# SPDX-License-Identifier: MIT
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 77
EXTRAVERSION = -rc1
MAKEFLAGS += -rR --no-print-directory
objects := $(patsubst %.c,$(O)/%.o,$(wildcard crypto/*.c))

allnoconfig:
\t@test ! -e .config -a ! -d include/config || { echo '*** The source tree is not clean'; exit 2; }
\t@if grep -q syntax Kconfig; then echo 'Kconfig:1: syntax error' >&2; exit 1; fi
\t@grep -v -x -F -f vanished $(KCONFIG_ALLCONFIG) > $(KCONFIG_CONFIG)
prepare:
\t@mkdir -p $(O)/crypto $(O)/include/config $(O)/arch/x86/boot
\t@echo 6.12.77-rc1 > $(O)/include/config/kernel.release
bzImage: prepare $(O)/arch/x86/boot/bzImage
$(O)/arch/x86/boot/bzImage: $(O)/vmlinux
\tcp $< $@
$(O)/vmlinux: $(objects)
\t@echo '  LD      vmlinux'
\t@cat $(sort $(objects)) > $@.tmp && mv $@.tmp $@
$(O)/%.o: %.c $(O)/.config
\t@echo '  CC      $*.o'
\t@test ! -e slow || { echo $$PPID > slow.pid; while test -e slow; do sleep 0.05; done; }
\t@$(CC) -Os -g0 -c $< -o $@
\t@echo 'cmd_$@' > $(O)/$(dir $*).$(notdir $*).o.cmd
.PHONY: allnoconfig prepare bzImage
"""

# A vanished option that the fragments explain, so that the fake is a good 6.12.
VANISHED = ("CONFIG_CRYPTO_CFB=y", "CONFIG_CRYPTO_KRB5ENC=y")


@pytest.fixture(autouse=True)
def cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache of its own."""
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source tree that builds in a second."""
    tree = tmp_path / "linux"
    for name, text in {
        "Makefile": MAKEFILE,
        "Kbuild": "",
        "Kconfig": 'mainmenu "x"\nconfig SMP\n\tbool "SMP"\n',
        "vanished": "\n".join(VANISHED) + "\n",
        "arch/x86/Makefile": "",
        "crypto/af_alg.c": "int af_alg(void) { return 1; }\n",
        "crypto/algif_hash.c": "int algif_hash(void) { return 2; }\n",
        "crypto/algif_aead.c": "int algif_aead(void) { return 3; }\n",
    }.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


@pytest.fixture
def said() -> list[str]:
    """Return what progress was told."""
    return []


@pytest.fixture
def make_kernel(tree: Path, said: list[str]) -> Callable[..., Kernel]:
    """Return a function that builds the tree with variants."""
    return lambda *variants: build.build(sources.local(tree), variants, said.append)


def compiled(tree: Path, variant: str = "") -> list[str]:
    """Return what the newest build of the tree compiled, sorted: two jobs finish in any order."""
    (log,) = cache.cache_dir().glob(f"builds/*/build{variant}/build.log")
    return sorted(line.split()[1] for line in log.read_text().splitlines() if line.startswith("  CC "))


def contents(tree: Path) -> dict[str, tuple[int, bytes]]:
    """Return all files of a tree with their times and contents."""
    files = [p for p in sorted(tree.rglob("*")) if p.is_file()]
    return {str(p.relative_to(tree)): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


# -- specs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "base", "variants"),
    [
        ("source:6.12", "source:6.12", ()),
        ("source:6.12+debug", "source:6.12", ("debug",)),
        ("source:6.12+faults+debug+debug", "source:6.12", ("debug", "faults")),
        ("source:6.12.94-1~bpo12+1+debug", "source:6.12.94-1~bpo12+1", ("debug",)),
        ("source:6.12.94-1~bpo12+1", "source:6.12.94-1~bpo12+1", ()),
        ("~/no-such-tree+debug", "~/no-such-tree", ("debug",)),
        ("6.12.95+deb12", "6.12.95+deb12", ()),
    ],
)
def test_split_tells_variants_from_versions(spec: str, base: str, variants: tuple[str, ...]) -> None:
    assert build.split(spec) == (base, variants)


def test_a_directory_with_a_plus_in_its_name_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "linux+debug").mkdir()
    assert build.split(f"{tmp_path}/linux+debug+faults") == (f"{tmp_path}/linux+debug", ("faults",))


def test_an_unknown_variant_is_refused_before_anything_is_made(tree: Path, cache_directory: Path) -> None:
    with pytest.raises(UsageError, match=r"no kernel variant \+debgu; there are: "):
        build.resolve(f"{tree}+debgu", lambda _: None)
    assert not cache_directory.exists()


# -- what comes out ----------------------------------------------------------------------------------------


def test_a_tree_becomes_a_kernel(tree: Path, said: list[str]) -> None:
    kernel = build.resolve(str(tree), said.append)
    assert (kernel.name, kernel.release, kernel.spec) == (
        "linux-6.12.77-rc1", "6.12.77-rc1", str(tree),
    )  # fmt: skip
    assert kernel.image is not None
    assert b"ELF" in kernel.image.read_bytes()[:4]
    assert kernel.modules is None
    assert kernel.config is not None
    assert kconfig.read_config(kernel.config)["CRYPTO_USER_API_AEAD"] == "y"
    assert said[0] == "linux-6.12.77-rc1: configuring"
    assert "built, 3 files compiled" in said[-1]


def test_the_tree_is_never_written_to(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    before = contents(tree)
    make_kernel()
    make_kernel("faults")
    assert contents(tree) == before


def test_variants_are_kernels_of_their_own(make_kernel: Callable[..., Kernel]) -> None:
    plain, faults, both = make_kernel(), make_kernel("faults"), make_kernel("faults", "accelerated")
    assert [k.name.partition("rc1")[2] for k in (plain, faults, both)] == ["", "+faults", "+faults+accelerated"]
    assert len({k.image for k in (plain, faults, both)}) == 3
    assert plain.config is not None
    assert faults.config is not None
    assert "FAILSLAB" not in kconfig.read_config(plain.config)
    assert kconfig.read_config(faults.config)["FAILSLAB"] == "y"


def test_a_kernel_under_test_does_not_change_when_its_tree_is_built_again(
    tree: Path, make_kernel: Callable[..., Kernel]
) -> None:
    old = make_kernel()
    assert old.image is not None
    content = old.image.read_bytes()
    (tree / "crypto/af_alg.c").write_text("int af_alg(void) { return 42; }\n")
    new = make_kernel()
    assert new.image != old.image
    assert old.image.read_bytes() == content


def test_a_tree_built_in_place_is_built_apart_and_left_alone(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    for name in (".config", "include/config/auto.conf", "include/generated/autoconf.h", "crypto/af_alg.o"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("made in place\n")
    before = contents(tree)
    assert make_kernel().image is not None
    assert compiled(tree) == ["crypto/af_alg.o", "crypto/algif_aead.o", "crypto/algif_hash.o"]
    assert contents(tree) == before
    # And after make mrproper as before it.
    for name in (".config", "include", "crypto/af_alg.o"):
        shutil.rmtree(tree / name) if (tree / name).is_dir() else (tree / name).unlink()
    make_kernel()
    assert compiled(tree) == []


def test_in_a_git_tree_new_files_count_and_ignored_ones_do_not(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    (tree / ".gitignore").write_text("*.o\n.config\nignored.c\n")
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    subprocess.run(["git", "-C", str(tree), "add", "Makefile", "crypto"], check=True)
    (tree / ".config").write_text("made in place\n")
    (tree / "crypto/new.c").write_text("int new;\n")
    (tree / "crypto/ignored.c").write_text("this does not compile\n")
    make_kernel()
    assert "crypto/new.o" in compiled(tree)
    assert "crypto/ignored.o" not in compiled(tree)


# -- incremental -------------------------------------------------------------------------------------------


def test_an_unchanged_tree_compiles_nothing(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    first = make_kernel()
    assert len(compiled(tree)) == 3
    second = make_kernel()
    assert compiled(tree) == []
    assert second == first


def test_one_touched_file_is_all_that_is_compiled(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    make_kernel()
    (tree / "crypto/algif_hash.c").write_text("int algif_hash(void) { return 7; }\n")
    make_kernel()
    assert compiled(tree) == ["crypto/algif_hash.o"]


def test_a_new_and_a_removed_file_are_noticed(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    make_kernel()
    (tree / "crypto/new.c").write_text("int new;\n")
    (tree / "crypto/algif_hash.c").unlink()
    (tree / "new_at_the_top").write_text("")
    (tree / "vanished").unlink()
    (tree / "vanished").write_text("\n".join(VANISHED) + "\n")
    make_kernel()
    assert compiled(tree) == ["crypto/new.o"]
    (shadow,) = (p for p in cache.cache_dir().glob("builds/linux*") if p.is_dir())
    assert (shadow / "new_at_the_top").exists()
    (tree / "new_at_the_top").unlink()
    make_kernel()
    assert not (shadow / "new_at_the_top").is_symlink()


def test_a_file_removed_from_a_tree_built_in_place_is_noticed(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    (tree / ".config").write_text("made in place\n")
    make_kernel()
    (link,) = cache.cache_dir().glob("builds/*/crypto/algif_hash.c")
    (tree / "crypto/algif_hash.c").unlink()
    make_kernel()
    assert not link.is_symlink()


def test_config_is_written_only_when_it_changed(
    tree: Path, make_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_kernel()
    (config,) = cache.cache_dir().glob("builds/*/build/.config")
    before = config.stat().st_mtime_ns
    make_kernel()
    assert config.stat().st_mtime_ns == before
    shutil.copytree(kconfig.FRAGMENTS, tmp_path / "kconfigs")
    with (tmp_path / "kconfigs/af_alg.config").open("a") as file:
        file.write("CONFIG_SOMETHING=y # new\n")
    monkeypatch.setattr(kconfig, "FRAGMENTS", tmp_path / "kconfigs")
    make_kernel()
    assert "CONFIG_SOMETHING=y" in config.read_text()
    assert len(compiled(tree)) == 3


def test_a_tree_of_the_cache_needs_no_make_at_all(tree: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = replace(sources.local(tree), fixed=True)
    first = build.build(fixed, (), said.append)
    monkeypatch.setattr(build_make, "make", lambda *_args, **_kw: pytest.fail("make was run"))
    assert build.build(fixed, (), said.append) == first


# -- validation --------------------------------------------------------------------------------------------


def test_a_vanished_option_fails_the_build_by_name(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    (tree / "vanished").write_text("\n".join((*VANISHED, "CONFIG_CRYPTO_GCM=y", "CONFIG_SMP=y")) + "\n")
    with pytest.raises(BuildFailed) as caught:
        make_kernel()
    text = str(caught.value)
    assert "CONFIG_CRYPTO_GCM=y (algorithms.config:" in text
    assert "got n: unknown in this version and 1 more; all are in " in text
    assert "\n" not in text
    listed = Path(text.split("all are in ")[1].split(";")[0]).read_text()
    assert "CONFIG_SMP=y (base.config:" in listed
    assert "CONFIG_CRYPTO_CFB=y" in listed
    assert compiled(tree) == []


# -- failures ----------------------------------------------------------------------------------------------


def test_the_compilers_first_error_is_quoted(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    (tree / "crypto/af_alg.c").write_text("#warning first a warning\nint af_alg(void) { return nowhere; }\n")
    with pytest.raises(
        BuildFailed, match=r"crypto/af_alg\.c:2:\d+: error: .*nowhere.* \(all of it: .*build\.log\)"
    ) as caught:
        make_kernel()
    assert "\n" not in str(caught.value)


def test_a_repaired_tree_builds_on(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    good = (tree / "crypto/algif_hash.c").read_text()
    (tree / "crypto/algif_hash.c").write_text("broken\n")
    with pytest.raises(BuildFailed):
        make_kernel()
    (tree / "crypto/algif_hash.c").write_text(good)
    make_kernel()
    assert "crypto/algif_hash.o" in compiled(tree)


def test_kconfig_that_does_not_parse_is_quoted(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    (tree / "Kconfig").write_text("syntax\n")
    with pytest.raises(BuildFailed, match=r"Kconfig:1: syntax error"):
        make_kernel()


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("  CC a.o\n../a.c:1:2: error: no\nmake[1]: *** [a.o] Error 1\n", "a.c:1:2: error: no"),
        ("a.c:3: fatal error: gelf.h: No such file\n../b.c:1: error: x\n", "a.c:3: fatal error: gelf.h: No such file"),
        ("a.S:7: Error: bad insn\n", "a.S:7: Error: bad insn"),
        ("ld: a.o: undefined reference to `x'\nmake: *** [vmlinux] Error 1\n", "ld: a.o: undefined reference to `x'"),
        ("make: *** No rule to make target 'x'.  Stop.\n", "make: *** No rule to make target 'x'.  Stop."),
        ("/bin/sh: 1: flex: not found\nmake: *** [x] Error 127\n", "/bin/sh: 1: flex: not found"),
        ("only this\n\n", "only this"),
        ("", "it does not say why"),
    ],
)  # fmt: skip
def test_first_error_finds_the_cause(log: str, line: str) -> None:
    assert build_make.first_error(log) == line


def test_a_missing_tool_is_named_with_its_package(
    make_kernel: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "find", lambda name: None if name in ("gcc", "ld") else f"/bin/{name}")
    with pytest.raises(UsageError, match=r"needs gcc, ld, not found here; .*apt-get install gcc binutils"):
        make_kernel()


@pytest.mark.parametrize("lacking", ["Makefile", "Kbuild", "Kconfig", "arch/x86/Makefile"])
def test_a_directory_that_is_no_kernel_is_told(tree: Path, lacking: str) -> None:
    (tree / lacking).unlink()
    with pytest.raises(UsageError, match=r"is no kernel source tree for x86: it lacks"):
        build.resolve(str(tree), lambda _: None)


def test_a_makefile_without_a_version_is_told(tree: Path) -> None:
    (tree / "Makefile").write_text("all:\n")
    with pytest.raises(UsageError, match=r"names no kernel version"):
        build.resolve(str(tree), lambda _: None)


def test_no_such_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no directory .*/none; expected a kernel source tree"):
        build.resolve(f"{tmp_path}/none+debug", lambda _: None)


def test_a_full_disk_is_the_users_to_put_right(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    (tree / "Makefile").write_text(
        MAKEFILE.replace("@$(CC) -Os", "@echo 'as: x.o: No space left on device'; exit 1; $(CC) -Os")
    )
    with pytest.raises(UsageError, match=r"no space left in .*set AFALG_CACHE") as caught:
        make_kernel()
    assert not isinstance(caught.value, BuildFailed)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_disk(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "none", str(small)])
    if mount.returncode:
        pytest.skip("this machine does not let root mount")
    try:
        monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(small))
        # In a process of its own: what it keeps open ends with it.
        output = start(tree).communicate(timeout=60)[0]
        assert re.search(r"UsageError: [Nn]o space left .*AFALG_CACHE", output), output
        assert not list(small.glob("built/*/[!.]*/bzImage"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


# -- several at once, and cut off --------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
from vm.kernels.build import build, sources
kernel = build.build(sources.local(Path(sys.argv[1])), sys.argv[2:], lambda line: print(line, flush=True))
print("image", kernel.image)
"""


def start(tree: Path, *variants: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tree), *variants],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=kconfig.FRAGMENTS.parent,
    )  # fmt: skip


def test_two_builds_of_one_tree_at_once_make_one(tree: Path) -> None:
    both = [start(tree), start(tree)]
    outputs = [run.communicate(timeout=60)[0] for run in both]
    assert [run.returncode for run in both] == [0, 0], outputs
    images = {output.splitlines()[-1] for output in outputs}
    assert len(images) == 1
    assert sorted("files compiled in" in output for output in outputs) == [False, True]


def test_who_waits_for_another_build_says_for_which_and_since_when(tree: Path) -> None:
    (tree / "slow").write_text("")
    first = start(tree)
    _appearing(lambda: list(cache.cache_dir().glob("builds/*/slow.pid")))
    second = start(tree)
    assert second.stdout is not None
    line = second.stdout.readline()
    assert re.match(
        rf"linux-6\.12\.77-rc1: waiting, for process {first.pid} since \d\d:\d\d:\d\d builds it "
        r"\(what it does: .*/build\.log\)$",
        line,
    ), line
    (tree / "slow").unlink()
    outputs = [run.communicate(timeout=60)[0].splitlines()[-1] for run in (first, second)]
    assert outputs[0] == outputs[1]


def test_a_build_keeps_the_cache_within_its_limit(
    tree: Path, make_kernel: Callable[..., Kernel], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_kernel("faults")
    monkeypatch.setenv("AFALG_CACHE_LIMIT", "0")
    kernel = make_kernel()
    # The builds may go; what this run is about to boot may not.
    assert kernel.image is not None
    assert kernel.image.exists()
    assert not list(cache.cache_dir().glob("builds/*/build-faults/*"))
    assert any(line.startswith("removed from the cache: builds/") for line in said)


def test_two_variants_of_one_tree_at_once(tree: Path) -> None:
    both = [start(tree), start(tree, "faults")]
    outputs = [run.communicate(timeout=60)[0] for run in both]
    assert [run.returncode for run in both] == [0, 0], outputs
    assert len({output.splitlines()[-1] for output in outputs}) == 2


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "Ctrl-C"])
def test_an_interrupted_build_ends_at_once_and_continues(
    tree: Path, end: signal.Signals, make_kernel: Callable[..., Kernel]
) -> None:
    (tree / "slow").write_text("")
    run = start(tree)
    # The make of the shadow writes beside the tree's links: this is a file of the shadow.
    (pid_file,) = _appearing(lambda: list(cache.cache_dir().glob("builds/*/slow.pid")))
    wait_for(lambda: pid_file.read_text().strip().isdigit(), "the compiler to start")
    maker = int(pid_file.read_text())
    run.send_signal(end)
    run.communicate(timeout=10)
    wait_for(lambda: not _alive(maker), "make to end", 10)
    (marker,) = cache.cache_dir().glob("builds/*/build/running")
    (tree / "slow").unlink()
    kernel = make_kernel()
    assert kernel.image is not None
    assert kernel.image.exists()
    assert not marker.exists()


def test_what_a_killed_build_left_half_written_is_compiled_again(
    tree: Path, make_kernel: Callable[..., Kernel]
) -> None:
    good = make_kernel()
    assert good.image is not None
    (out,) = cache.cache_dir().glob("builds/*/build")
    old = time.time() - 100
    for path in out.rglob("*"):
        os.utime(path, (old, old))
    for path in tree.rglob("*"):
        os.utime(path, (old - 100, old - 100))
    # A compiler that was killed: the object is newer than its command file, and cut off.
    (out / "crypto/algif_aead.o").write_bytes(b"\\x7fELF cut off")
    (out / build.MARKER).touch()
    (out / "vmlinux").unlink()
    kernel = make_kernel()
    assert "crypto/algif_aead.o" in compiled(tree)
    assert kernel.image is not None
    assert kernel.image.read_bytes() == good.image.read_bytes()


def test_what_a_clock_that_was_ahead_has_built_is_built_again(tree: Path, make_kernel: Callable[..., Kernel]) -> None:
    """To make it is newer than every change that is made now: the old code would be tested."""
    make_kernel()
    (out,) = cache.cache_dir().glob("builds/*/build")
    ahead = time.time() + 1e6
    for name in ("algif_aead.o", ".algif_aead.o.cmd"):
        os.utime(out / "crypto" / name, (ahead, ahead))
    (tree / "crypto/algif_aead.c").write_text("int algif_aead(void) { return 4; }\n")
    make_kernel()
    assert compiled(tree) == ["crypto/algif_aead.o"]


def _appearing(find: Callable[[], list[Path]]) -> list[Path]:
    wait_for(lambda: bool(find()), "a file")
    return find()


def _alive(pid: int) -> bool:
    # A zombie that nobody waits for is dead enough.
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
