"""Machines that are saved and go on, against a QEMU without a machine: each way in which it goes wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base import cache
from vm.base.files import ROOT
from vm.guest import wake
from vm.machine import course, saved
from vm.machine.vm import Status, Vm
from vm.tests import stub_qemu
from vm.tests.archive import bzimage
from vm.tests.harness import poll

pytestmark = pytest.mark.deadline(120)

ASKED = stub_qemu.message(b"code") + stub_qemu.message(b"tests/a")
OTHERS = stub_qemu.message(b"code") + stub_qemu.message(b"tests/b")
RUN = stub_qemu.message(b"1")
RAN = stub_qemu.COLLECTED + stub_qemu.message(b"ran 1")
SECONDS = 60.0


@dataclasses.dataclass
class Bench:
    """Runs machines.

    Attributes:
        directory: of all files.
        vm: what each is.
    """

    directory: Path
    vm: Vm
    count: int = 0

    @property
    def machines(self) -> Path:
        """Where they are kept."""
        return self.directory / "cache/machines"

    @property
    def kept(self) -> list[Path]:
        """Those that are kept, sorted by stage: collected, imported."""
        found = [path for path in self.machines.glob("*/about.json") if not path.parent.name.startswith(".")]
        return [path.parent for path in sorted(found, key=lambda path: json.loads(path.read_text())["stage"])]

    @property
    def log(self) -> list[str]:
        """What the QEMUs did."""
        with contextlib.suppress(FileNotFoundError):
            return (self.directory / "log").read_text().splitlines()
        return []

    @property
    def began(self) -> list[str]:
        """How each QEMU began."""
        return [line for line in self.log if line in ("boots", "resumes")]

    @contextlib.contextmanager
    def started(self, *faults: str, vm: Vm | None = None) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """Start a machine and give its process, and its directory."""
        self.count += 1
        place = self.directory / f"vm-{self.count}"
        place.mkdir()
        dataclasses.replace(vm or self.vm, name=f"k-{self.count}").save(place)
        environment = {
            **os.environ,
            "AFALG_CACHE": str(self.directory / "cache"),
            "PYTHONPATH": str(ROOT),
            "STUB": " ".join(faults),
            "STUB_LOG": str(self.directory / "log"),
        }
        with subprocess.Popen(
            [sys.executable, "-m", "vm.machine.relay", str(place)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=ROOT,
        ) as process:  # fmt: skip
            try:
                yield process, place
            finally:
                process.kill()

    def run(self, *faults: str, asked: bytes = ASKED, vm: Vm | None = None) -> Status:
        """Run a machine that collects, and one test on it; return how far it came."""
        with self.started(*faults, vm=vm) as (process, place):
            return converse(process, place, asked)


def converse(process: subprocess.Popen[bytes], place: Path, asked: bytes = ASKED) -> Status:
    """Be execnet's other end for one test; return how far the machine came."""
    say(process, b"import it\n" + asked)
    assert read(process, 1 + len(stub_qemu.COLLECTED)) == b"1" + stub_qemu.COLLECTED
    say(process, RUN)
    assert stub_qemu.COLLECTED + read(process, len(RAN) - len(stub_qemu.COLLECTED)) == RAN
    assert json.loads((place / "guest.json").read_text()) == {"release": "stub"}
    return Status.load(place)


def say(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Write to a worker."""
    assert process.stdin
    process.stdin.write(data)
    process.stdin.flush()


def read(process: subprocess.Popen[bytes], length: int) -> bytes:
    """Read so many bytes; fewer when it ends."""
    assert process.stdout
    data = b""
    os.set_blocking(process.stdout.fileno(), False)
    until = time.monotonic() + SECONDS
    while len(data) < length and time.monotonic() < until and process.poll() is None:
        data += process.stdout.read(length - len(data)) or b""
        time.sleep(0.002)
    return data


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Return means to run machines whose QEMU is the stub."""
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    qemu = tmp_path / "qemu"
    version = '[ "$1" != --version ] || { echo QEMU emulator version 7.2.0; exit; }'
    qemu.write_text(f'#!/bin/sh\n{version}\nexec {shlex.quote(sys.executable)} -m vm.tests.stub_qemu "$@"\n')
    qemu.chmod(0o755)
    files = {name: tmp_path / name for name in ("image", "root", "busybox")}
    files["image"].write_bytes(bzimage("6.1.0-fake"))
    files["root"].write_bytes(b"root")
    files["busybox"].write_bytes(Path("/bin/true").read_bytes())
    vm = Vm(
        name="k-1", kernel="k", release="6.1.0-fake", image=str(files["image"]), modules=None, accelerator="tcg",
        memory=64, boot_deadline=SECONDS, qemu=str(qemu), root="image", images={"root": str(files["root"])},
        busybox=str(files["busybox"]), python="/usr/bin/python3", resumes=True, cwd=str(ROOT),
    )  # fmt: skip
    return Bench(tmp_path, vm)


def test_the_first_machine_boots_and_others_go_on_from_where_it_had_collected(bench: Bench) -> None:
    first, second, third = bench.run(), bench.run(), bench.run()
    assert bench.began == ["boots", "resumes", "resumes"]
    assert [first.resumed, second.resumed, third.resumed] == [False, True, True]
    assert [first.note, second.note] == ["", ""]
    assert (bench.directory / "vm-2/console.log").read_text() == "stub: booted\n"
    assert len(bench.kept) == 2


def test_a_machine_that_is_asked_for_other_tests_goes_on_from_before_it_knew_any(bench: Bench) -> None:
    bench.run()
    assert bench.run(asked=OTHERS).resumed
    assert len(bench.kept) == 3
    assert bench.run(asked=OTHERS).resumed
    assert bench.began == ["boots", "resumes", "resumes"]


def test_each_is_told_its_own_name_and_bytes_and_the_time(bench: Bench) -> None:
    bench.run()
    bench.run()
    bench.run()
    told = [json.loads(line.removeprefix("told ")) for line in bench.log if line.startswith("told ")]
    assert [each["name"] for each in told] == ["k-1", "k-1", "k-2", "k-3"], "the first paused twice"
    assert len({each["entropy"] for each in told}) == len(told)
    assert all(len(bytes.fromhex(each["entropy"])) == wake.ENTROPY for each in told)
    assert all(abs(each["time"] - time.time()) < 10 * SECONDS for each in told)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no-getfd", "not saved: QEMU refuses getfd: The command getfd has not been found"),
        ("no-migration", "not saved: QEMU refuses migrate: The command migrate has not been found"),
        ("no-parameters", "QEMU refuses migrate-set-parameters"),
        ("fails-to-migrate", "not saved: QEMU did not write the machine's state: failed"),
        ("tainted", "not saved: its kernel is tainted: W"),
        ("warns", "not saved: its kernel complained: BUG: kernel NULL pointer dereference"),
    ],
)
def test_a_machine_that_cannot_be_saved_runs_on_and_says_why(bench: Bench, fault: str, words: str) -> None:
    status = bench.run(fault)
    assert status.state == "up"
    assert words in status.note
    assert bench.kept == []
    assert not list(bench.machines.glob(".*"))
    assert not bench.run().resumed
    assert len(bench.kept) == 2, "the lock was let go"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("dies", "load of migration failed"),
        ("mute", "it did not answer"),
        ("newer", "it was saved by QEMU 7.2.0 stub, this is 7.2.1 stub"),
        ("no-getfd", "QEMU refuses getfd"),
        ("deaf", "QEMU's monitor does not answer"),
    ],
)
def test_a_saved_machine_that_does_not_come_back_is_thrown_away_and_a_boot_takes_its_place(
    bench: Bench, fault: str, words: str
) -> None:
    bench.run()
    before = bench.kept
    status = bench.run(fault)
    assert not status.resumed
    assert status.note.count("a saved machine was thrown away") == 2, "the one that had collected, and the other"
    assert words in status.note
    assert bench.began[-1] == "boots"
    assert not {path.name for path in before} & {path.name for path in bench.kept if fault in ("no-getfd", "deaf")}
    assert (bench.directory / "vm-2/console.log").read_text() == "stub: booted\n"


@pytest.mark.parametrize(
    "harm", ["truncated", "changed", "without-about", "half-of-about", "open-to-others", "empty", "said"]
)
def test_a_damaged_one_is_thrown_away(bench: Bench, harm: str) -> None:
    bench.run()
    collected = bench.kept[0]
    state = collected / saved.STATE
    match harm:
        case "truncated":
            os.truncate(state, stub_qemu.STATE // 2)
        case "changed":
            with state.open("r+b") as file:
                file.seek(stub_qemu.STATE // 2)
                file.write(b".x.")
        case "without-about":
            (collected / "about.json").unlink()
        case "half-of-about":
            (collected / "about.json").write_text('{"stage": "coll')
        case "open-to-others":
            state.chmod(0o622)
        case "said":
            (collected / "said").write_bytes(b"")
        case "empty":
            for path in collected.iterdir():
                path.unlink()
    status = bench.run()
    assert status.resumed, "from before it knew any test"
    assert "a saved machine was thrown away" in status.note
    assert bench.began == ["boots", "resumes"] if harm not in ("truncated", "changed") else bench.began[-1] == "resumes"
    again = bench.run()
    assert (again.resumed, again.note) == (True, "")


@pytest.mark.parametrize("other", ["memory", "kernel", "root", "qemu", "argument"])
def test_one_of_another_kind_is_not_gone_on_from(bench: Bench, other: str) -> None:
    bench.run()
    vm = bench.vm
    match other:
        case "memory":
            vm = dataclasses.replace(vm, memory=65)
        case "kernel":
            Path(str(vm.image)).write_bytes(bzimage("6.1.0-fake") + b"another")
        case "root":
            # As when it was removed, and made again.
            Path(vm.images["root"]).unlink()
            Path(vm.images["root"]).write_bytes(b"root")
        case "qemu":
            Path(str(vm.qemu)).touch()
        case "argument":
            vm = dataclasses.replace(vm, kernel_arguments=["fips=1"])
    status = bench.run(vm=vm)
    assert not status.resumed
    assert status.note == ""
    assert bench.began == ["boots", "boots"]


def test_two_at_once_boot_once(bench: Bench) -> None:
    with bench.started("slow") as one, bench.started("slow") as two:
        for process, _ in (one, two):
            say(process, b"import it\n" + ASKED)
        for process, place in (one, two):
            assert read(process, 1 + len(stub_qemu.COLLECTED)) == b"1" + stub_qemu.COLLECTED
            assert Status.load(place).state == "up"
    assert sorted(bench.began) == ["boots", "resumes"]
    assert len(bench.kept) == 2


@pytest.mark.parametrize("stage", wake.STAGES)
def test_a_run_that_is_killed_while_it_saves_leaves_nothing_that_is_used(bench: Bench, stage: str) -> None:
    with bench.started(f"hangs-{stage}") as (process, _):
        say(process, b"import it\n" + ASKED)
        poll(lambda: "hangs" in bench.log, SECONDS, "it never came to be saved")
        assert list(bench.machines.glob(".*.tmp"))
    status = bench.run()
    assert status.resumed == (stage == wake.COLLECTED)
    assert status.note == ""
    assert len(bench.kept) == 2
    assert not list(bench.machines.glob(".*.tmp"))


def test_a_qemu_that_stops_for_good_when_it_saves_is_no_verdict_on_the_kernel(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.started("stops") as (process, place):
        say(process, b"import it\n" + ASKED)
        assert process.wait(SECONDS) == 0
        assert Status.load(place).reason.startswith(course.DID_NOT_GO_ON)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_is_said_and_leaves_nothing(bench: Bench) -> None:
    bench.machines.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(bench.machines)], check=True)
    try:
        status = bench.run()
        assert status.state == "up"
        assert "not saved: no space left" in status.note
        assert bench.kept == []
        assert not list(bench.machines.glob(".*.tmp"))
    finally:
        subprocess.run(["umount", "-l", str(bench.machines)], check=True)


def test_a_guest_that_asks_without_end_to_go_on_does_not_stop_its_relay(bench: Bench) -> None:
    assert bench.run("floods").state == "up"


def test_only_so_many_are_kept_those_that_were_used_last(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int) -> saved.State:
        os.write(descriptor, b"x")
        return saved.State("7.2", 1, "")

    for number in range(saved.MOST + 3):
        assert saved.save(f"key{number:02}", wake.IMPORTED, {}, write) == ""
        cache.let_go(bench.machines / f"key{number:02}")
        stamp = 1_700_000_000 + number
        os.utime(bench.machines / f"key{number:02}.lock", (stamp, stamp))
    found = sorted(path.name for path in bench.machines.iterdir() if path.is_dir())
    assert found == [f"key{number:02}" for number in range(3, saved.MOST + 3)]
    assert all(stat.S_IMODE((bench.machines / name / saved.STATE).stat().st_mode) == 0o600 for name in found)


def test_a_machine_in_use_is_not_removed(bench: Bench) -> None:
    bench.run()
    with bench.started() as (process, place):
        converse(process, place)
        assert not cache.remove(bench.kept[0])
    assert cache.remove(bench.kept[0])
