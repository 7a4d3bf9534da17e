"""The machine's apt sources: both formats, and where a suite is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.kernels.apt import sources as apt_sources
from vm.tests import archive
from vm.tests.apt_machine import Machine


def test_both_formats_of_sources_are_read(machine: Machine) -> None:
    sources = apt_sources.machine_sources()
    assert apt_sources.own_suites(sources) == ["bookworm", "bookworm-security"]
    text = apt_sources.source_text("bookworm-security", sources)
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
        text = apt_sources.source_text("sid", apt_sources.machine_sources())
    finally:
        machine.world.sources.with_name("other.sources").unlink()
    assert block.replace("Signed-By", "signed-by") in text


def source(uri: str, *suites: str, **options: str) -> apt_sources.Source:
    return apt_sources.Source((uri,), suites, ("main",), options)


def test_other_suite_gets_the_distribution_s_keys_besides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_sources, "KEYRINGS", tmp_path)
    for name in ("debian-archive-keyring.gpg", "debian-archive-removed-keys.gpg", "other.gpg"):
        (tmp_path / name).touch()
    configured = apt_sources.Source(
        ("http://m.example/debian",), ("bookworm",), ("main",), {"signed-by": "/k/mine.gpg"}
    )
    assert f"signed-by: /k/mine.gpg {tmp_path}/debian-archive-keyring.gpg\n" in apt_sources.source_text(
        "trixie", [configured]
    )
    assert "signed-by: /k/mine.gpg\n" in apt_sources.source_text("bookworm", [configured])


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
    assert f"uris: {uri}\n" in apt_sources.source_text(suite, sources)


def test_security_suite_without_a_security_archive_is_explained() -> None:
    with pytest.raises(UsageError, match=r"trixie-security is on the distribution's security archive.*name none; add"):
        apt_sources.source_text("trixie-security", [source("http://m.example/debian", "bookworm")])


def test_machine_without_sources_is_explained() -> None:
    with pytest.raises(UsageError, match="name no archive of the distribution"):
        apt_sources.source_text("bookworm", [])
