"""The probe of the accelerator against QEMUs that run code, fail, hang, are slow or are not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.machine import accel

MakeQemu = Callable[[str], str]

CODE_RAN = "exit 33"
TCG_ONLY = 'case "$*" in *"-accel tcg"*) exit 33;; esac; '


@pytest.fixture
def make_qemu(tmp_path: Path) -> MakeQemu:
    """Return a function that makes an executable fake QEMU from the body of a shell script."""

    def make(body: str) -> str:
        path = tmp_path / "qemu"
        path.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n{body}\n')
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture(autouse=True)
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for /dev/kvm: a file that opens; and forget what earlier tests found out."""
    path = tmp_path / "kvm"
    path.touch()
    monkeypatch.setattr(accel, "KVM_DEVICE", path)
    monkeypatch.setattr(accel, "_answers", {})
    return path


def calls(tmp_path: Path) -> list[str]:
    """Return the command lines the fake QEMU was called with."""
    log = tmp_path / "calls"
    return log.read_text().splitlines() if log.exists() else []


def alive(marker: str) -> list[str]:
    """Return the command lines of all living processes that contain ``marker``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if marker in words:
            found.append(words)
    return found


def test_code_that_ran_proves_kvm(make_qemu: MakeQemu, tmp_path: Path) -> None:
    found = accel.probe(make_qemu(CODE_RAN))
    assert (found.name, found.factor) == ("kvm", 1.0)
    assert found.reason.startswith("ran code in")
    assert len(calls(tmp_path)) == 1
    assert "-accel kvm" in calls(tmp_path)[0]


def test_qemu_gets_the_boot_sector_and_the_exit_device(make_qemu: MakeQemu, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    take = f'for w in "$@"; do case $w in file=*) f=${{w#file=}}; cat ${{f%%,*}} >{copy};; esac; done'
    accel.probe(make_qemu(f"{take}; exit 33"))
    sector = copy.read_bytes()
    assert sector[:5] == bytes.fromhex("b010e6f4f4")
    assert sector[510:] == b"\x55\xaa"
    assert "isa-debug-exit,iobase=0xf4" in calls(tmp_path)[0]


@pytest.mark.parametrize("status", [0, 1, 32, 34])
def test_any_other_exit_status_is_no_proof(make_qemu: MakeQemu, status: int) -> None:
    found = accel.probe(make_qemu(f"{TCG_ONLY} echo 'qemu: warning: old' >&2; echo 'kvm: broken' >&2; exit {status}"))
    assert (found.name, found.factor) == ("tcg", 10.0)
    assert f"exit status {status}" in found.reason
    assert found.reason.endswith("kvm: broken")


def test_an_abort_is_told_with_its_signal(make_qemu: MakeQemu) -> None:
    found = accel.probe(make_qemu(f"{TCG_ONLY} kill -ABRT $$"))
    assert found.name == "tcg"
    assert "signal 6" in found.reason


def test_kvm_that_opens_but_never_runs_is_given_up_and_killed(make_qemu: MakeQemu) -> None:
    nap = f"{os.getpid()}0.5"  # a duration no other process sleeps for, to find it by
    started = time.monotonic()
    found = accel.probe(make_qemu(f"{TCG_ONLY} sleep {nap} & sleep {nap}"), seconds=0.3)
    assert found == accel.Accelerator("tcg", "no KVM: no guest code ran within 0.3 s under KVM", 10.0)
    assert time.monotonic() - started < 5
    assert not alive(nap)


def test_a_wrapper_that_leaves_its_qemu_behind_is_cleaned_up(make_qemu: MakeQemu) -> None:
    nap = f"{os.getpid()}0.6"
    found = accel.probe(make_qemu(f"sleep {nap} 2>/dev/null & exit 33"))
    assert found.name == "kvm"
    deadline = time.monotonic() + 5
    while alive(nap) and time.monotonic() < deadline:
        os.sched_yield()
    assert not alive(nap)


def test_the_qemu_dies_with_a_killed_prober(make_qemu: MakeQemu, tmp_path: Path) -> None:
    nap = f"{os.getpid()}0.7"
    script = f"from vm.machine import accel; accel.probe({make_qemu(f'exec sleep {nap}')!r}, 'tcg', 60)"
    prober = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 20
    while not alive(f"sleep {nap}") and time.monotonic() < deadline:
        assert prober.poll() is None
    assert alive(f"sleep {nap}")
    prober.kill()
    prober.wait(10)
    while alive(f"sleep {nap}") and time.monotonic() < deadline:
        pass
    assert not alive(f"sleep {nap}")


def test_kvm_slower_than_emulation_is_not_taken(make_qemu: MakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "_SUSPICIOUS_SECONDS", 0.3)
    found = accel.probe(make_qemu(f"{TCG_ONLY} sleep 0.6; exit 33"))
    assert found.name == "tcg"
    assert "slower than emulation" in found.reason


def test_slow_kvm_is_taken_when_emulation_is_slower_still(make_qemu: MakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "_SUSPICIOUS_SECONDS", 0.1)
    found = accel.probe(make_qemu('case "$*" in *"-accel tcg"*) sleep 1;; *) sleep 0.2;; esac; exit 33'))
    assert found.name == "kvm"
    assert "slowly" in found.reason


def test_no_device_means_tcg_without_trying_kvm(make_qemu: MakeQemu, tmp_path: Path, device: Path) -> None:
    device.unlink()
    found = accel.probe(make_qemu(CODE_RAN))
    assert found.name == "tcg"
    assert found.reason.startswith(f"no KVM: no {device}")
    assert [call for call in calls(tmp_path) if "kvm" in call] == []


def test_a_device_without_permission_is_told_so(
    make_qemu: MakeQemu, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: os.PathLike[str], flags: int) -> int:
        if Path(path) == device:
            raise PermissionError(13, "Permission denied")  # root may open what mode bits forbid: pretend
        return real(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    found = accel.probe(make_qemu(CODE_RAN))
    assert found.name == "tcg"
    assert "permission denied" in found.reason
    assert "group kvm" in found.reason


def test_a_device_that_fails_otherwise_is_told_so(make_qemu: MakeQemu, device: Path) -> None:
    device.unlink()
    device.mkdir()
    assert "Is a directory" in accel.probe(make_qemu(CODE_RAN)).reason


def test_requested_kvm_that_does_not_run_is_the_users_to_know(make_qemu: MakeQemu) -> None:
    with pytest.raises(UsageError, match=r"as requested: no guest code .* kvm: broken; use tcg"):
        accel.probe(make_qemu(f"{TCG_ONLY} echo kvm: broken >&2; exit 1"), "kvm")


def test_requested_tcg_never_touches_kvm(make_qemu: MakeQemu, tmp_path: Path) -> None:
    assert accel.probe(make_qemu(CODE_RAN), "tcg") == accel.Accelerator("tcg", "requested", 10.0)
    assert ["kvm" in call for call in calls(tmp_path)] == [False]


@pytest.mark.parametrize("requested", ["auto", "tcg"])
def test_tcg_that_runs_nothing_is_a_broken_qemu(make_qemu: MakeQemu, requested: str) -> None:
    with pytest.raises(UsageError, match=r"under TCG.*exit status 1.*install"):
        accel.probe(make_qemu("exit 1"), requested)


@pytest.mark.parametrize("qemu", ["no-such-qemu", "/etc/hostname", "/"])
def test_missing_qemu_names_its_package(qemu: str) -> None:
    with pytest.raises(UsageError, match="qemu-system-x86") as raised:
        accel.probe(qemu)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("requested", "seconds"), [("xen", 5.0), ("auto", 0.0), ("auto", float("nan"))])
def test_senseless_arguments_are_refused(make_qemu: MakeQemu, requested: str, seconds: float) -> None:
    with pytest.raises(UsageError, match="expected"):
        accel.probe(make_qemu(CODE_RAN), requested, seconds)


def test_the_answer_is_found_once_per_process(make_qemu: MakeQemu, tmp_path: Path) -> None:
    qemu = make_qemu(CODE_RAN)
    assert accel.probe(qemu) == accel.probe(qemu)
    assert len(calls(tmp_path)) == 1
    accel.probe(qemu, "tcg")
    assert len(calls(tmp_path)) == 2


def test_a_processor_is_tried_before_anything_boots(make_qemu: MakeQemu, tmp_path: Path) -> None:
    qemu = make_qemu('case "$*" in *"-cpu Unheard"*) echo "unable to find CPU model" >&2; exit 1;; esac; exit 33')
    assert accel.probe(qemu, "tcg", cpu="Nehalem").name == "tcg"
    with pytest.raises(UsageError, match=r"no guest with --cpu Unheard-of: .*unable to find CPU model.*-cpu help"):
        accel.probe(qemu, "tcg", cpu="Unheard-of")


def test_command_line_prints_one_line_and_usage_exits_4(
    make_qemu: MakeQemu, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accel.main(["--qemu", make_qemu(CODE_RAN), "--accel", "tcg"]) == 0
    assert capsys.readouterr().out == "tcg: requested; deadlines ×10\n"
    assert accel.main(["--accel", "xen"]) == 4
    assert "expected accelerator" in capsys.readouterr().err


def test_no_descriptor_stays_open(make_qemu: MakeQemu) -> None:
    qemu = make_qemu(f"{TCG_ONLY} exit 1")
    before = set(Path("/proc/self/fd").iterdir())
    accel.probe(qemu)
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.vm
def test_the_real_qemu_runs_the_boot_sector_under_tcg() -> None:
    assert accel.probe(requested="tcg", seconds=5).name == "tcg"


@pytest.mark.vm
def test_the_real_device_gives_an_answer_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path("/dev/kvm")
    monkeypatch.setattr(accel, "KVM_DEVICE", real)
    found = accel.probe(seconds=3)
    usable = real.exists() and stat.S_ISCHR(real.stat().st_mode) and os.access(real, os.R_OK | os.W_OK)
    assert found.name == "tcg" if not usable else found.name in ("kvm", "tcg")
    assert found.reason
