"""Packaged kernels, fetched by the real apt from a mirror made for the purpose."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from vm import apt, cache, kernel, kernels, packaged, process
from vm.errors import UsageError
from vm.tests import archive
from vm.tests.archive import KEPT, World

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0

# Each runs apt a dozen times.
pytestmark = pytest.mark.deadline(120)

signed_only = pytest.mark.skipif(not archive.HAS_GPG, reason="gpg is not installed (Debian: gnupg)")


@pytest.fixture(scope="module")
def mirror() -> Iterator[World]:
    for root in archive.temporary_root():
        world = archive.build(root, archive.CONTENT)
        archive.spoil(world)
        yield world


class Lines(list[str]):
    """A progress callback that keeps what it was told."""

    def __call__(self, line: str) -> None:
        self.append(line)

    def count_of(self, text: str) -> int:
        return sum(text in line for line in self)


class Machine:
    """A machine with an empty cache whose apt knows ``world``."""

    def __init__(self, world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.cache, self.temporary = world, place / "cache", place / "tmp"
        self.temporary.mkdir()
        self.said = Lines()
        self.environment = {
            "APT_CONFIG": str(world.configuration),
            "AFALG_CACHE": str(self.cache),
            "TMPDIR": str(self.temporary),
        }
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        for name in ("AFALG_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)

    def resolve(self, *specs: str) -> list[kernel.Kernel]:
        return kernel.resolve(specs, self.said)

    def version(self, spec: str) -> str:
        return kernel.resolve_one(spec, self.said).version

    def start(self, *specs: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vm.kernel", *specs]
        return subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **self.environment},
        )  # fmt: skip

    def age_lists(self, seconds: float) -> None:
        """Make every kept list older."""
        for generation in self.cache.glob("apt/*/*/"):
            generation.rename(generation.with_name(str(int(generation.name) - int(seconds))))

    def entries(self) -> list[str]:
        return sorted(path.name for path in self.cache.glob("kernels/*") if path.suffix != ".lock")

    def leftovers(self) -> list[Path]:
        """What a run must not leave: work of apt, half-made entries, packages."""
        return [
            path
            for place in (self.cache, self.temporary)
            for path in place.rglob("*")
            if path.name.startswith(apt.WORK_PREFIX) or path.name.endswith((".tmp", ".deb"))
        ]


@pytest.fixture
def passable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from archive.temporary_root()


@pytest.fixture
def machine(mirror: World, passable: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(mirror, passable, monkeypatch)


@pytest.fixture(scope="module")
def shared(mirror: World) -> Iterator[Machine]:
    """Return a machine whose cache several tests fill: for those that do not care what is in it."""
    with pytest.MonkeyPatch.context() as patch:
        for place in archive.temporary_root():
            yield Machine(mirror, place, patch)


# -- which kernel a spec means -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        pytest.param("", "6.12.20-1~deb12u1", id="newest"),
        pytest.param("6", "6.12.20-1~deb12u1", id="one-number"),
        pytest.param("6.1", "6.1.120-2", id="series"),
        pytest.param("6.1.100", "6.1.100-1", id="point"),
        pytest.param("6.1.120", "6.1.120-2", id="newest-revision"),
        pytest.param("6.1.120-1", "6.1.120-1", id="revision"),
        pytest.param("6.12.20-1~deb12u1", "6.12.20-1~deb12u1", id="package-version"),
        pytest.param("6.12.20-1", "6.12.20-1~deb12u1", id="revision-without-suffix"),
        pytest.param("6.1.0-45-amd64", "6.1.120-1", id="release"),
        pytest.param("6.12.20+deb12-amd64", "6.12.20-1~deb12u1", id="release-with-plus"),
        pytest.param("bookworm", "6.1.110-1", id="suite"),
        pytest.param("bookworm/", "6.1.110-1", id="suite-slash"),
        pytest.param("bookworm/6.1.110", "6.1.110-1", id="unsigned-where-no-signed"),
        pytest.param("trixie/6.12", "6.12.20-1", id="other-suite"),
        pytest.param("trixie-security/6.12.30", "6.12.30-1", id="other-security-suite"),
        pytest.param("trixie-backports", "7.3.4-1~bpo13+1", id="split"),
        pytest.param("trixie-backports/7.2", "7.2.9-1~bpo13+1", id="split-without-base"),
        pytest.param("trixie-backports/7.2.6", "7.2.6-1~bpo13+1", id="split-unsigned-without-image"),
        pytest.param("experimental/7.3", "7.3~rc7-1~exp1", id="release-candidate"),
        pytest.param("experimental/7.3-rc7", "7.3~rc7-1~exp1", id="release-candidate-by-name"),
    ],
)
def test_spec_names_the_newest_that_matches(shared: Machine, spec: str, version: str) -> None:
    assert shared.version(spec) == version


def test_signed_package_is_preferred(machine: Machine) -> None:
    machine.resolve("6.1.100")
    assert machine.said.count_of("fetching linux-image-6.1.0-40-amd64 ") == 1


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("6.13", "no kernel matches '6.13' in bookworm, bookworm-security; newest is 6.12.20 (make kernels"),
        ("6.1.105", "no kernel matches '6.1.105' in bookworm, bookworm-security; nearest is 6.1.110, newest is"),
        ("6.1.200", "nearest is 6.1.120, newest is 6.12.20"),
        ("trixie/5.10", "no kernel matches '5.10' in trixie; newest is 6.12.20"),
        ("trixie-backports/7.1", "cannot be had: its index names no linux-modules-7.1.5+deb13-amd64; newest is 7.3.4"),
        ("nosuch/6.1", "no suite 'nosuch' on this machine's mirror"),
        ("empty/6.1", "no kernel matches '6.1' in empty; there is none for this machine"),
        ("broken/5.9.1", "broken: the mirror no longer has what its index names"),
        ("broken/5.9.2", "what came is not what the signed index says"),
        ("broken/5.9.3", "calls itself 5.9.99-amd64, its package 5.9.3-amd64"),
        ("broken/5.9.4", "is no kernel image; expected an x86-64 bzImage"),
    ],
)
def test_refusal_says_what_to_do(machine: Machine, spec: str, text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        machine.resolve(spec)
    assert text in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert (machine.entries(), machine.leftovers()) == ([], [])


@signed_only
@pytest.mark.parametrize(
    ("suite", "text"),
    [
        ("forged", "the signature of forged is wrong, the mirror cannot be trusted"),
        ("stranger", "the signature of stranger is by a key this machine does not have"),
        ("unsigned", "unsigned is not signed, so that nothing from it can be trusted"),
    ],
)
def test_bad_signature_is_refused(machine: Machine, suite: str, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        machine.resolve(f"{suite}/5.8")
    assert (machine.entries(), machine.leftovers()) == ([], [])


@signed_only
def test_bad_signature_is_refused_even_when_older_lists_are_kept(
    mirror: World, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.resolve("trixie/6.12")
    machine.age_lists(packaged.FRESH_SECONDS + 1)
    in_release = mirror.root / "debian/dists/trixie/InRelease"
    before = in_release.read_text()
    in_release.write_text(before.replace("Codename: trixie", "Codename: Trixie"))
    try:
        with pytest.raises(UsageError, match="signature of trixie is wrong"):
            machine.resolve("trixie/6")
    finally:
        in_release.write_text(before)


# -- what an entry holds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["6.1.100", "trixie-backports/7.3"], ids=["whole", "split"])
def test_entry_has_image_config_and_the_modules_a_guest_needs(machine: Machine, spec: str) -> None:
    (found,) = machine.resolve(spec)
    assert found.image is not None
    assert found.modules is not None
    assert found.config is not None
    release = found.release
    assert found.image == found.modules / f"boot/vmlinuz-{release}"
    assert found.image.read_bytes() == archive.bzimage(release)
    assert found.config.read_text() == f"CONFIG_LOCALVERSION={found.version}\n"
    tree = found.modules / "lib/modules" / release
    kept = {path.relative_to(tree / "kernel").with_suffix("").as_posix() for path in (tree / "kernel").rglob("*.ko")}
    assert kept == KEPT
    assert all(
        (tree / f"kernel/{name}.ko").read_bytes() == content
        for name, content in archive.MODULES.items()
        if name in KEPT
    ), "decompressed, otherwise unchanged"
    assert {path.suffix for path in (tree / "kernel").rglob("*") if path.is_file()} == {".ko"}
    assert "kernel/crypto/af_alg.ko:" in (tree / "modules.dep").read_text(), "depmod ran"
    assert (tree / "modules.builtin").read_text() == "kernel/lib/x.ko\n"
    assert {path.name for path in found.modules.iterdir()} == {"boot", "lib", "kernel.json"}


def test_entry_records_where_it_comes_from(machine: Machine) -> None:
    (found,) = machine.resolve("trixie-backports/7.3")
    assert found.modules is not None
    record = json.loads((found.modules / "kernel.json").read_text())
    assert (record["suite"], record["version"]) == ("trixie-backports", "7.3.4-1~bpo13+1")
    pool = machine.world.root / "debian/pool"
    digests = {p["name"]: p["sha256"] for p in record["packages"]}
    assert sorted(digests) == [f"linux-{part}-7.3.4+deb13-amd64" for part in ("base", "binary", "modules")]
    for name, digest in digests.items():
        (file,) = pool.glob(f"{name}_*")
        assert subprocess.check_output(["sha256sum", file], text=True).split()[0] == digest


def test_no_hook_of_the_machine_runs(machine: Machine) -> None:
    machine.resolve("6.1")
    assert not (machine.world.root / "hook-ran").exists()


def test_nothing_is_left_beside_the_cache(machine: Machine) -> None:
    machine.resolve("6.1")
    assert machine.leftovers() == []
    assert list(machine.temporary.iterdir()) == []


# -- the cache ---------------------------------------------------------------------------------------------


def forbid_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: Sequence[str], **options: Any) -> process.Result:
        assert argv[0] not in ("apt-get", str(apt.HELPER)), f"apt ran: {argv}"
        return run(argv, **options)

    run = process.run
    monkeypatch.setattr(process, "run", refuse)


@pytest.mark.parametrize("spec", ["", "6.1", "6.1.120", "trixie/6.12", "trixie-backports/7.3.4"])
def test_second_time_runs_no_apt(machine: Machine, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    first = machine.resolve(spec)
    machine.said.clear()
    forbid_apt(monkeypatch)
    assert machine.resolve(spec) == first
    assert machine.said == []


def test_exact_version_needs_no_new_lists_however_old(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = machine.resolve("6.1.120-2", "trixie/6.12.20")
    machine.age_lists(1e7)
    forbid_apt(monkeypatch)
    assert machine.resolve("6.1.120-2", "trixie/6.12.20") == first


def test_old_lists_are_renewed_for_a_series(machine: Machine) -> None:
    machine.resolve("trixie/6.12")
    machine.age_lists(packaged.FRESH_SECONDS + 1)
    machine.said.clear()
    machine.resolve("trixie/6.12")
    assert machine.said == ["trixie: asking the mirror what kernels there are"]


def test_same_package_in_two_suites_is_one_entry(passable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = archive.whole("6.1.0-1-amd64", "6.1.1-1")
    world = archive.build(passable, {"debian bookworm": [deb], "debian trixie": [deb]})
    place = passable / "machine"
    place.mkdir()
    machine = Machine(world, place, monkeypatch)
    one, other = machine.version("bookworm/6.1"), machine.version("trixie/6.1")
    assert one == other
    assert len(machine.entries()) == 1


@pytest.fixture
def changing(passable: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose mirror has one kernel, and may get more."""
    world = archive.build(
        passable,
        {"debian bookworm": [archive.whole("6.1.0-1-amd64", "6.1.1-1")], "debian-security bookworm-security": []},
    )
    (passable / "machine").mkdir()
    return Machine(world, passable / "machine", monkeypatch)


def test_lists_are_renewed_once_before_saying_no(changing: Machine) -> None:
    changing.resolve("")
    changing.age_lists(packaged.JUST_NOW_SECONDS + 1)
    archive.add(changing.world, "debian bookworm", [archive.whole("6.1.0-2-amd64", "6.1.2-1")])
    assert changing.version("") == "6.1.1-1", "fresh lists are taken as they are"
    assert changing.version("6.1.2") == "6.1.2-1"
    changing.said.clear()
    with pytest.raises(UsageError, match=r"no kernel matches '6.1.3'.* nearest is 6.1.2"):
        changing.version("6.1.3")
    assert changing.said == [], "they are a moment old"


def test_package_that_left_the_mirror_makes_the_lists_new(changing: Machine) -> None:
    changing.resolve("")
    archive.add(changing.world, "debian bookworm", [archive.whole("6.1.0-2-amd64", "6.1.2-1")])
    changing.age_lists(packaged.JUST_NOW_SECONDS + 1)
    shutil.rmtree(changing.cache / "kernels")
    changing.world.deb("linux-image-6.1.0-1-amd64").unlink()
    assert changing.version("") == "6.1.2-1"


def test_damaged_entry_is_named(machine: Machine) -> None:
    (found,) = machine.resolve("6.1")
    assert found.modules is not None
    (found.modules / "kernel.json").write_text("{")
    with pytest.raises(UsageError, match=f"{found.modules} is damaged; remove that directory"):
        machine.resolve("6.1")


# -- no network --------------------------------------------------------------------------------------------


def nobody() -> str:
    """Return the address of a port that nobody serves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def cut_off(mirror: World, passable: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    world = archive.served_by(mirror, nobody(), passable / "world")
    return Machine(world, passable, monkeypatch)


def test_no_network_and_nothing_cached_is_said(cut_off: Machine) -> None:
    with pytest.raises(UsageError) as refusal:
        cut_off.resolve("6.1")
    assert re.match(r"no network, .*no cached kernel matches '6.1' \(cached: nothing\)$", str(refusal.value))
    assert cut_off.leftovers() == []


def test_no_network_takes_what_is_cached_and_says_so(cut_off: Machine, mirror: World) -> None:
    unreachable = cut_off.world
    archive.configure(dataclasses.replace(unreachable, address=f"copy:{mirror.root}"))
    (first,) = cut_off.resolve("6.1.100")
    archive.configure(unreachable)
    cut_off.said.clear()
    (again,) = cut_off.resolve("6.1")
    assert again.image == first.image, "6.1.120 is newer, and not cached"
    assert cut_off.said.count_of("no network") == 1
    assert cut_off.said.count_of("taking the cached 6.1.100-1 of bookworm") == 1


def test_offline_asks_nobody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.resolve("6.1.9", "6.1.100", "trixie/6.12")
    machine.age_lists(1e7)
    monkeypatch.setenv("AFALG_OFFLINE", "1")
    forbid_apt(monkeypatch)
    machine.said.clear()
    assert machine.version("") == "6.1.100-1", "of the machine's own suites"
    assert machine.said == ["AFALG_OFFLINE is set; taking the cached 6.1.100-1 of bookworm"]
    with pytest.raises(
        UsageError, match=r"no cached kernel matches '6.12' \(cached: trixie/6.12.20, bookworm/6.1.100, .*9\)"
    ):
        machine.version("6.12")


# -- several at once, and ends of all kinds ----------------------------------------------------------------


def test_runs_at_once_fetch_once(machine: Machine) -> None:
    runs = [machine.start("6.1", "trixie/6.12") for _ in range(4)]
    results = [run.communicate(timeout=SECONDS) for run in runs]
    assert [run.returncode for run in runs] == [0] * 4, results
    assert len({output for output, _ in results}) == 1
    errors = "".join(errors for _, errors in results)
    assert errors.count("fetching linux-image-6.1.0-46-amd64") == 1
    assert errors.count("trixie: asking") == 1
    assert len(machine.entries()) == 2
    assert machine.leftovers() == []


class Stalling(http.server.SimpleHTTPRequestHandler):
    """Serves indexes, and of a package the first half."""

    asked = threading.Event()
    go_on = threading.Event()
    well_again = threading.Event()

    def copyfile(self, source: object, outputfile: object) -> None:
        content: bytes = source.read()  # type: ignore[attr-defined]
        write: Callable[[bytes], None] = outputfile.write  # type: ignore[attr-defined]
        if self.path.endswith(".deb") and not self.well_again.is_set():
            write(content[: len(content) // 2])
            self.asked.set()
            self.go_on.wait(SECONDS)
        else:
            write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def stalling(mirror: World, passable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    handler = functools.partial(Stalling, directory=str(mirror.root))
    for event in (Stalling.asked, Stalling.go_on, Stalling.well_again):
        event.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        world = archive.served_by(mirror, address, passable / "world")
        yield Machine(world, passable, monkeypatch)
        Stalling.go_on.set()
        server.shutdown()


def wait_until(condition: Callable[[], bool], seconds: float) -> float:
    """Poll until ``condition``, and return how long it took; fail after ``seconds``."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "in vain"
        time.sleep(0.02)
    return time.monotonic() - started


def test_interrupt_ends_a_fetch_at_once_and_cleans_up(stalling: Machine) -> None:
    run = stalling.start("6.1")
    assert Stalling.asked.wait(SECONDS)
    assert archive.processes_of(str(stalling.cache)), "apt is at work"
    started = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=SECONDS)
    assert time.monotonic() - started < 2
    assert run.returncode == 130
    assert "Traceback" not in errors
    assert archive.processes_of(str(stalling.cache)) == []
    assert (stalling.leftovers(), stalling.entries()) == ([], [])


def test_killed_run_takes_apt_along_and_the_next_one_cleans_up(stalling: Machine) -> None:
    run = stalling.start("6.1")
    assert Stalling.asked.wait(SECONDS)
    assert archive.processes_of(str(stalling.cache)), "apt is at work"
    run.kill()
    run.communicate(timeout=SECONDS)
    wait_until(lambda: archive.processes_of(str(stalling.cache)) == [], 5)
    assert stalling.leftovers() != [], "what the next one has to remove"
    Stalling.well_again.set()
    Stalling.go_on.set()
    stalling.resolve("6.1")
    assert stalling.leftovers() == []
    assert len(stalling.entries()) == 1


def test_connection_that_breaks_off_leaves_nothing(stalling: Machine) -> None:
    Stalling.go_on.set()
    with pytest.raises(UsageError) as refusal:
        stalling.resolve("6.1")
    assert "\n" not in str(refusal.value)
    assert (stalling.leftovers(), stalling.entries()) == ([], [])


def test_fetch_that_stalls_is_given_up(stalling: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "STALL_SECONDS", 1.0)
    with pytest.raises(UsageError, match="nothing came from the mirror for 1 s"):
        stalling.resolve("6.1")
    assert (stalling.leftovers(), stalling.entries()) == ([], [])


def on_small_disk(machine: Machine, place: Path, kilobytes: int) -> subprocess.CompletedProcess[str]:
    """Resolve 6.1 with a file system of ``kilobytes`` at ``place``, which only that run sees."""
    place.mkdir(exist_ok=True)
    script = (
        'mount -t tmpfs -o size="$1"k,mode=755 none "$2" && shift 2 && "$@"; status=$?; '
        'ls -A "$AFALG_CACHE/kernels"; exit $status'
    )
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", str(place)], capture_output=True).returncode:
        pytest.skip("this machine allows no mount, not even in a namespace")
    return subprocess.run(
        [*unshare, "sh", "-c", script, "sh", str(kilobytes), str(place), sys.executable, "-m", "vm.kernel", "6.1"],
        cwd=ROOT, env={**os.environ, **machine.environment}, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip


# Lists need some 40 KB, an unpacked kernel 70 KB, its package a little more.
@pytest.mark.parametrize("kilobytes", [0, 32, 64, 128, 160])
def test_full_cache_disk_is_said_and_leaves_nothing(machine: Machine, kilobytes: int) -> None:
    result = on_small_disk(machine, machine.cache, max(kilobytes, 4))
    assert result.returncode == 4, result.stderr
    assert re.search(
        r"^error: no space left in .*cache.*free some, or set AFALG_CACHE to a directory on a larger disk$",
        result.stderr,
        re.MULTILINE,
    ), result.stderr
    assert "Traceback" not in result.stderr
    assert [line for line in result.stdout.split() if not line.endswith(".lock")] == []


@pytest.mark.parametrize("kilobytes", [4, 40])
def test_full_work_disk_is_said(machine: Machine, kilobytes: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's apt works in the cache")
    machine.cache.mkdir(mode=0o700)
    result = on_small_disk(machine, machine.temporary, kilobytes)
    assert result.returncode == 4, result.stderr
    assert re.search(r"^error: no space.*set TMPDIR to a directory on a larger disk$", result.stderr, re.MULTILINE)
    assert "Traceback" not in result.stderr
    assert machine.leftovers() == []


def test_cache_that_cannot_be_written_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, "/proc/nowhere")
    with pytest.raises(UsageError, match=r"cannot create the cache directory /proc/nowhere: .*set AFALG_CACHE"):
        machine.resolve("6.1")


def test_machine_without_apt_is_told_what_works(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "find", lambda _program: None)
    with pytest.raises(UsageError, match=r"need apt-get.*give a bzImage, a kernel tree or 'running' instead"):
        machine.resolve("6.1")


# -- the machine's sources ---------------------------------------------------------------------------------


def test_both_formats_of_sources_are_read(machine: Machine) -> None:
    sources = apt.machine_sources()
    assert apt.own_suites(sources) == ["bookworm", "bookworm-security"]
    text = apt.source_text("bookworm-security", sources)
    assert f"uris: {machine.world.address}/debian-security\n" in text
    assert "components: main\n" in text
    trust = f"signed-by: {machine.world.root}/key.gpg\n" if archive.HAS_GPG else "trusted: yes\n"
    assert trust in text
    assert "arch:" not in text


def test_key_inside_a_source_is_kept(machine: Machine) -> None:
    block = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n"
    machine.world.sources.with_name("other.sources").write_text(
        f"Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main\n{block}"
    )
    try:
        text = apt.source_text("sid", apt.machine_sources())
    finally:
        machine.world.sources.with_name("other.sources").unlink()
    assert block.replace("Signed-By", "signed-by") in text


def source(uri: str, *suites: str, **options: str) -> apt.Source:
    return apt.Source((uri,), suites, ("main",), options)


def test_other_suite_gets_the_distribution_s_keys_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "KEYRINGS", tmp_path)
    for name in ("debian-archive-keyring.gpg", "debian-archive-removed-keys.gpg", "other.gpg"):
        (tmp_path / name).touch()
    configured = apt.Source(("http://m.example/debian",), ("bookworm",), ("main",), {"signed-by": "/k/mine.gpg"})
    assert f"signed-by: /k/mine.gpg {tmp_path}/debian-archive-keyring.gpg\n" in apt.source_text("trixie", [configured])
    assert "signed-by: /k/mine.gpg\n" in apt.source_text("bookworm", [configured])


@pytest.mark.parametrize(
    ("suite", "uri"),
    [
        ("trixie", "http://m.example/debian"),
        ("trixie-backports", "http://m.example/debian"),
        ("experimental", "http://m.example/debian"),
        ("trixie-security", "http://s.example/"),
        ("buster/updates", "http://s.example/"),
    ],
)
def test_suite_is_looked_for_on_the_right_archive(suite: str, uri: str) -> None:
    sources = [
        source("http://third.example/apt", "bookworm"),
        source("http://m.example/debian", "bookworm"),
        source("http://s.example/", "bookworm-security"),
    ]
    assert f"uris: {uri}\n" in apt.source_text(suite, sources)


def test_security_suite_without_a_security_archive_is_explained() -> None:
    with pytest.raises(UsageError, match=r"trixie-security is on the distribution's security archive.*name none; add"):
        apt.source_text("trixie-security", [source("http://m.example/debian", "bookworm")])


def test_machine_without_sources_is_explained() -> None:
    with pytest.raises(UsageError, match="name no archive of the distribution"):
        apt.source_text("bookworm", [])


# -- versions ----------------------------------------------------------------------------------------------

ORDER = [
    "5.10.9-1", "5.10.223-1", "6.1.9-1", "6.1.120-1", "6.1.120-2", "6.1.120-10", "6.12.20-1~bpo12+1",
    "6.12.20-1~deb12u1", "6.12.20-1", "7.3~rc7-1~exp1", "7.3-1~exp1", "7.3-1", "7.3.1-1", "7.3.1+a-1", "1:1.0-1",
]  # fmt: skip


def test_versions_sort_as_dpkg_sorts_them() -> None:
    for low, high in itertools.pairwise(ORDER):
        assert subprocess.run(["dpkg", "--compare-versions", low, "lt", high]).returncode == 0, "the list is right"
    assert sorted(sorted(ORDER), key=packaged.version_key) == ORDER


@pytest.mark.parametrize(
    ("wanted", "version", "expected"),
    [
        ("6.1", "6.1.120-1", True),
        ("6.1", "6.12.20-1", False),
        ("6.1.1", "6.1.120-1", False),
        ("6.1.120-1", "6.1.120-10", False),
        ("6.1.120-1", "6.1.120-1~bpo12+1", True),
        ("7.3", "7.3~rc7-1~exp1", True),
        ("7.3-rc7", "7.3~rc7-1~exp1", True),
        ("7.3-rc6", "7.3~rc7-1~exp1", False),
        ("7", "7.3~rc7-1~exp1", True),
        ("", "7.3-1", True),
    ],
)
def test_whole_numbers_match(wanted: str, version: str, *, expected: bool) -> None:
    assert packaged.matches(wanted, version, "release") is expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("6.12", False), ("7.3-rc7", True), ("6.12.94", True), ("6.1.192-2", True), ("", False), ("6", False)],
)
def test_exact_is_one_point_release(version: str, *, expected: bool) -> None:
    assert packaged.is_exact(version) is expected


# -- the list ----------------------------------------------------------------------------------------------


def table(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert kernels.main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KERNEL=", "version", "suite", "MB"]
    return {line.split()[0]: " ".join(line.split()[1:]) for line in lines[1:]}


def test_table_names_what_is_cached_and_what_can_be_had(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.resolve("6.1.100", "trixie/6.12")
    found = table(capsys)
    assert found["6.1.100"] == "6.1.100-1 bookworm 0 cached"
    assert found["trixie/6.12.20-1"] == "6.12.20-1 trixie cached"
    assert found["6.1.120-1"] == "6.1.120-1 bookworm-security 0", "typed in full: there are two revisions"
    assert found["6.1.120-2"] == "6.1.120-2 bookworm-security 0"
    others = [spec for spec in found if "6.12.20" not in spec]
    assert others == ["6.1.120-2", "6.1.120-1", "6.1.110", "6.1.100", "6.1.9"], "newest first"


def test_every_spec_of_the_table_works(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {**table(capsys), **table(capsys, "--suite", "trixie-backports", "--suite", "experimental")}
    for spec, rest in rows.items():
        if "cannot be had" not in rest:
            assert machine.version(spec) == rest.split()[0]
    assert sum("cannot be had: the suite has no linux-modules-7.1.5+deb13-amd64" in rest for rest in rows.values()) == 1


def test_table_of_an_unknown_suite_is_one_line(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["--suite", "nosuch"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("error: no suite 'nosuch'")


def test_table_without_a_network_has_what_is_cached(
    cut_off: Machine, mirror: World, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable = cut_off.world
    archive.configure(dataclasses.replace(unreachable, address=f"copy:{mirror.root}"))
    cut_off.resolve("bookworm/6.1.100")
    archive.configure(unreachable)
    cut_off.age_lists(packaged.FRESH_SECONDS + 1)
    assert table(capsys) == {"bookworm/6.1.100-1": "6.1.100-1 bookworm cached"}
    assert kernels.main([]) == 0
    assert re.search(r"no network.*only what is cached:$", capsys.readouterr().err, re.MULTILINE)


# -- the real mirror ---------------------------------------------------------------------------------------


@pytest.mark.skipif("AFALG_TEST_NETWORK" not in os.environ, reason="asks the machine's mirror: AFALG_TEST_NETWORK=1")
@pytest.mark.parametrize("suite", ["bullseye", "bookworm-backports", "trixie-security", "trixie-backports", "sid"])
def test_real_suites_have_kernels(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path))
    found = packaged.candidates(suite, lambda _line: None)
    assert any(not candidate.missing for candidate in found)
