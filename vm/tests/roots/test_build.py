"""Making a root: what of a wheel and of packages is in it, and how it is told of."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from vm.base import arch, cache
from vm.base.errors import UsageError
from vm.kernels.apt import apt_get
from vm.kernels.apt import packages as apt
from vm.roots import build, command, parts

RELEASE = parts.RELEASES[0]


def wheel(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, name)
    return path


def test_of_a_wheel_modules_are_taken_wherever_it_has_them(tmp_path: Path) -> None:
    names = [
        "x/__init__.py",
        "x-1.data/platlib/y.so",
        "x-1.data/purelib/z/a.py",
        "x-1.data/scripts/run",
        "x-1.dist-info/RECORD",
    ]
    build.unpack_wheel(wheel(tmp_path / "x.whl", *names), tmp_path / "site")
    found = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    assert found == {"x/__init__.py", "y.so", "z/a.py", "x-1.dist-info/RECORD"}


def test_packages_with_files_outside_of_usr_are_joined(tmp_path: Path) -> None:
    for name in ("lib/x86/libc.so", "usr/lib/x86/libz.so", "lib64/ld.so", "bin/bash"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    build._join(tmp_path)
    assert (tmp_path / "lib").readlink() == Path("usr/lib")
    assert (tmp_path / "lib64").readlink() == Path("usr/lib64")
    assert (tmp_path / "usr/lib/x86/libc.so").read_text() == "lib/x86/libc.so"
    assert (tmp_path / "lib/x86/libz.so").exists()
    assert (tmp_path / "bin/bash").read_text() == "bin/bash"


def test_what_scripts_would_have_made_is_there_and_what_nobody_reads_is_not(tmp_path: Path) -> None:
    for name in (
        "usr/bin/dash",
        "usr/bin/mount",
        "usr/share/man/x",
        f"{RELEASE.site}/cryptography_vectors/x509/y",
        "etc/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    build._arrange(RELEASE, tmp_path)
    assert (tmp_path / "usr/bin/sh").readlink() == Path("dash")
    assert (tmp_path / "usr/bin/ls").readlink() == Path("busybox")
    assert not (tmp_path / "usr/bin/mount").is_symlink()
    assert "root:x:0:0:" in (tmp_path / "etc/passwd").read_text()
    assert not (tmp_path / "usr/share/man").exists()
    assert not (tmp_path / RELEASE.site / "cryptography_vectors/x509").exists()
    assert (tmp_path / "usr/local/bin" / (tmp_path / "usr/local/bin/python3").readlink()).resolve() == (
        tmp_path / RELEASE.interpreter[1:]
    )


def test_the_next_release_is_taken_where_the_mirror_lacks_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(release: parts.Release, *_rest: object) -> list[Path]:
        asked.append(release.suite)
        if release == RELEASE:
            raise apt_get.Gone("404")
        return []

    monkeypatch.setattr(build, "_fetch_packages", fetch)
    said: list[str] = []
    release, _ = build._fetch_release(arch.default(), parts.NOTHING, tmp_path, said.append)
    assert asked == [each.suite for each in parts.RELEASES]
    assert release == parts.RELEASES[1]
    assert f"not of {RELEASE.suite}: 404" in said[0]


def test_without_any_release_the_last_word_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(release: parts.Release, *_rest: object) -> list[Path]:
        raise apt.NoMatch(f"nothing in {release.suite}")

    monkeypatch.setattr(build, "_fetch_packages", fetch)
    with pytest.raises(apt.NoMatch, match=f"nothing in {parts.RELEASES[-1].suite}"):
        build._fetch_release(arch.default(), parts.NOTHING, tmp_path, lambda _line: None)


def test_a_mirror_of_another_distribution_is_told_what_roots_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(release: parts.Release, *_rest: object) -> list[Path]:
        raise apt_get.NoSuite(f"no suite {release.suite!r} on this machine's mirror")

    monkeypatch.setattr(build, "_fetch_packages", fetch)
    with pytest.raises(UsageError, match=r"no suite 'bookworm' .*; roots are made of Debian: .* give --root host"):
        build._fetch_release(arch.default(), parts.NOTHING, tmp_path, lambda _line: None)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have roots made by a stub, and return of which architectures."""
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    found: list[str] = []

    def make(architecture: arch.Architecture, _extra: object, entry: Path, _progress: object) -> None:
        found.append(architecture.debian)
        (entry / "root.squashfs").write_bytes(b"x")
        (entry / "root.json").write_text(json.dumps({"suite": RELEASE.suite, "sha256": "abc"}))

    monkeypatch.setattr(build, "_make", make)
    return found


def test_a_root_is_made_once_listed_and_renewed(made: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["s390x"]) in (0, None)
    assert command.main(["s390x"]) in (0, None)
    assert made == ["s390x"]
    capsys.readouterr()
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(arch.ARCHITECTURES)
    assert next(line for line in lines if "sha256:abc" in line).startswith("s390x ")
    cache._held.clear()  # as after the end of that process
    command.main(["--renew", "s390x"])
    assert made == ["s390x"] * 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vax"], "no architecture 'vax'; there are amd64"),
        (["--renew"], "--renew needs the architectures"),
        (["--pack", "x.tar.gz"], "--pack needs one architecture"),
        (["--unpack", "x.tar.gz", "s390x"], "--unpack needs no architecture"),
        (["--unpack", "/no/such.tar.gz"], "cannot read /no/such.tar.gz: No such file"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) not in (0, None)
    assert said in capsys.readouterr().err


def test_a_root_is_brought_along_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(_architecture: object, _extra: object, entry: Path, _progress: object) -> None:
        (entry / "root.squashfs").write_bytes(b"image")
        (entry / "busybox").write_bytes(b"#!/bin/sh")
        digest = hashlib.sha256(b"image").hexdigest()
        (entry / "root.json").write_text(json.dumps({"suite": RELEASE.suite, "sha256": digest}))

    file = tmp_path / "root.tar.gz"
    monkeypatch.setattr(build, "_make", make)
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "here"))
    assert command.main(["--pack", str(file), "s390x"]) in (0, None)
    monkeypatch.setattr(build, "_make", lambda *_rest: pytest.fail("made, although it was brought along"))
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "there"))
    assert command.main(["--unpack", str(file)]) in (0, None)
    root = build.cached(next(row for row in arch.ARCHITECTURES if row.name == "s390x"), lambda _line: None)
    assert root.image.read_bytes() == b"image"
    assert root.busybox.stat().st_mode & 0o111
    capsys.readouterr()
    monkeypatch.setattr(parts, "RULES", parts.RULES + 1)
    assert command.main(["--unpack", str(file)]) not in (0, None)
    assert "is a root of other pins than this project's" in capsys.readouterr().err


def test_a_damaged_archive_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "root.tar.gz"
    file.write_bytes(b"no archive")
    assert command.main(["--unpack", str(file)]) not in (0, None)
    assert "is damaged" in capsys.readouterr().err
    with tarfile.open(file, "w:gz") as archive:
        archive.add(Path(__file__), "somewhere/else.py")
    assert command.main(["--unpack", str(file)]) not in (0, None)
    assert "holds no root" in capsys.readouterr().err


def test_without_apt_the_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(apt_get, "available", lambda: False)
    with pytest.raises(UsageError, match=r"not found here; bring one along .*--help\), or give --root host"):
        build.cached(arch.default(), lambda _line: None)


def test_roots_are_no_archives_of_the_host(tmp_path: Path) -> None:
    """A wheel that climbs out of its directory stays in it."""
    file = tmp_path / "x.whl"
    file.write_bytes(b"")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("../../escaped", "x")
    file.write_bytes(data.getvalue())
    build.unpack_wheel(file, tmp_path / "deep/site")
    assert not (tmp_path / "escaped").exists()
