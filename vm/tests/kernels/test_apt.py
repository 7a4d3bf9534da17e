"""Fetching by the real apt: what is not signed is refused, and whatever ends it, nothing is left behind."""

from __future__ import annotations

import functools
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vm.base import cache, process
from vm.base.errors import UsageError
from vm.base.files import ROOT
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.tests import archive
from vm.tests.apt_machine import SECONDS, Machine
from vm.tests.archive import World
from vm.tests.harness import poll

signed_only = pytest.mark.skipif(not archive.HAS_GPG, reason="gpg is not installed (Debian: gnupg)")

# Each runs apt a dozen times.
pytestmark = pytest.mark.deadline(120)


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
    machine.age_lists(apt.FRESH_SECONDS + 1)
    in_release = mirror.root / "debian/dists/trixie/InRelease"
    before = in_release.read_text()
    in_release.write_text(before.replace("Codename: trixie", "Codename: Trixie"))
    try:
        with pytest.raises(UsageError, match="signature of trixie is wrong"):
            machine.resolve("trixie/6")
    finally:
        in_release.write_text(before)


def test_no_hook_of_the_machine_runs(machine: Machine) -> None:
    machine.resolve("6.1")
    assert not (machine.world.root / "hook-ran").exists()


def test_nothing_is_left_beside_the_cache(machine: Machine) -> None:
    machine.resolve("6.1")
    assert machine.leftovers() == []
    assert list(machine.temporary.iterdir()) == []


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
    poll(lambda: archive.processes_of(str(stalling.cache)) == [], 5, "apt goes on")
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
    monkeypatch.setattr(apt_get, "STALL_SECONDS", 1.0)
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
        [*unshare, "sh", "-c", script, "sh", str(kilobytes), str(place), sys.executable, "-m", "vm", "resolve", "6.1"],
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
    with pytest.raises(UsageError, match=r"need apt-get.*give an image, a kernel tree or 'running' instead"):
        machine.resolve("6.1")
