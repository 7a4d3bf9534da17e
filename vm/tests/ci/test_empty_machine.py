""".ci/run: what runs on its empty machine ends with it, and what this machine's pip is told is told there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.machine.initramfs import busybox
from vm.tests import archive
from vm.tests.harness import poll

sys.path.insert(0, str(ROOT / ".ci"))
import empty_machine
import namespaces

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a machine that has busybox."""
    for directory in ("bin", "dev/pts", "dev/shm", "proc", "sys", "var/lib/dpkg", empty_machine.REAL, "home"):
        (tmp_path / "root" / directory).mkdir(parents=True)
    shutil.copy(busybox(), tmp_path / "root/bin/sh")
    (tmp_path / "root/var/lib/dpkg/status").touch()
    return tmp_path / "root"


def run(script: str, root: Path | None = None, shown: tuple[Path, ...] = ()) -> tuple[int, list[str]]:
    lines: list[str] = []
    status = namespaces.run(["/bin/sh", "-c", script], environment={}, say=lines.append, root=root, shown=shown)
    return status, lines


def endless() -> str:
    """Return a number of seconds that no other process sleeps."""
    return f"{10**6 + uuid.uuid4().int % 10**9}"


@needs_root
def test_status_and_output_come_back() -> None:
    assert run("echo out; echo err >&2; exit 3") == (3, ["out\n", "err\n"])
    assert run("kill -KILL $$") == (128 + signal.SIGKILL, [])
    assert namespaces.run(["/no/program"], environment={}, say=lambda _line: None) == 127


@needs_root
def test_the_rest_ends_with_the_program() -> None:
    seconds = endless()
    assert run(f"sleep {seconds} >/dev/null 2>&1 & echo started") == (0, ["started\n"])
    assert archive.processes_of(seconds) == []


@needs_root
def test_an_exception_ends_all(root: Path) -> None:
    seconds = endless()

    def interrupt(_line: str) -> None:
        assert archive.processes_of(seconds)
        raise KeyboardInterrupt

    script = f"echo started; sleep {seconds}; :"
    with pytest.raises(KeyboardInterrupt):
        namespaces.run(["/bin/sh", "-c", script], environment={}, say=interrupt, root=root)
    assert archive.processes_of(seconds) == []


@needs_root
def test_whoever_is_killed_takes_all_along() -> None:
    seconds = endless()
    script = f"import namespaces; namespaces.run(['/bin/sh', '-c', 'sleep {seconds}; :'], environment={{}}, say=print)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT / ".ci", start_new_session=True)
    poll(lambda: len(archive.processes_of(f"sleep\0{seconds}")) == 1, 30, "it did not start")
    process.kill()
    process.wait()
    poll(lambda: archive.processes_of(seconds) == [], 30, "something goes on")


@needs_root
def test_its_root_is_all_it_sees(root: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "file").write_text("here\n")
    before = Path("/proc/self/mountinfo").read_text()
    status, lines = run(f"cat {shown}/file; touch {shown}/new; ls /; ls '/proc/1/root{ROOT}'; echo $$", root, (shown,))
    assert status == 0
    assert lines[0] == "here\n"
    assert "Read-only file system" in lines[1]
    assert "".join(lines[2:-2]).split() == sorted(["bin", "dev", "home", "proc", "srv", "sys", "var", shown.parts[1]])
    assert "No such file" in lines[-2]
    assert lines[-1] == "2\n", "the second process of its namespace"
    assert Path("/proc/self/mountinfo").read_text() == before


@needs_root
@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("echo 3 passed in 0.1s", ""),
        ("echo 3 passed in 0.1s; exit 2", "exit status 2"),
        ("echo hello", "no summary of pytest"),
        ("echo setup: making .venv; echo 3 passed in 0.1s", "installs (setup: making .venv)"),
        ("echo new >/var/lib/dpkg/status; echo 3 passed in 0.1s", "changed Debian's packages"),
        ("mkdir .venv; echo new >.venv/file; echo 3 passed in 0.1s", "changed .venv"),
    ],
)
def test_a_stage_that_installs_again_has_failed(root: Path, command: str, wrong: str) -> None:
    (root / empty_machine.REAL / "checkout").mkdir()
    (root / empty_machine.LINK).symlink_to(f"/{empty_machine.REAL}")
    machine = empty_machine.Machine(root)
    outcome = machine.run(empty_machine.Stage(command, installs=False))
    assert outcome.wrong == wrong


def test_what_killed_runs_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with empty_machine.workplace() as running:
        left = shutil.copytree(running, tmp_path / f"{empty_machine.PREFIX}left")
        (tmp_path / "other").touch()
        with empty_machine.workplace() as second:
            assert not left.exists()
            assert running.exists()
            (second / "file").touch()
        assert not second.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@needs_root
def test_nothing_that_is_mounted_there_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory of the same disk, which looks to rm as if it were part of the machine."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "ours here").mkdir()
    (tmp_path / "ours here/file").touch()
    with empty_machine.workplace() as place:
        (place / "shown here").mkdir()
        subprocess.run(["mount", "--bind", str(tmp_path / "ours here"), str(place / "shown here")], check=True)
    subprocess.run(["umount", str(place / "shown here")], check=True)
    assert (tmp_path / "ours here/file").exists()
    assert "is left: something is mounted there" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "3492 passed, 5 skipped in 317.12s (0:05:17)",
        "===== 1 failed, 2 passed, 3 xfailed, 1 warning in 0.75s =====",
        "================= 3 vm lost, 793 not run in 106.04s (0:01:46) ==================",
        "12 deselected in 0.05s",
        "no tests ran in 0.01s",
    ],
)
def test_summaries_are_found(line: str) -> None:
    assert empty_machine.SUMMARY.search(line)
    assert not empty_machine.SUMMARY.search("passed in a moment")


def test_pip_is_configured_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "XDG_"))]:
        monkeypatch.delenv(name)
    texts = {
        "system/pip/pip.conf": "[global]\nindex-url = a\ntimeout = 1\ncert = /x\n",
        "home/.config/pip/pip.conf": "[global]\ntimeout = 2\n[install]\nfind-links =\n  /wheels\n  file:///more\n",
        "own.conf": "[global]\ntimeout = 3\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "b")
    found = empty_machine.pip_configuration()
    assert found["timeout"] == "2"
    assert found["index-url"] == "a"
    assert found["extra-index-url"] == "b"
    assert found["find-links"].split() == ["/wheels", "file:///more"]
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "own.conf"))
    assert empty_machine.pip_configuration()["timeout"] == "3"
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert empty_machine.pip_configuration() == {"extra-index-url": "b"}
