"""Packaged kernels: which one a spec means, what its entry holds, and when the mirror is asked."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.kernels import packaged
from vm.kernels.apt import packages as apt
from vm.kernels.apt import sources as apt_sources
from vm.tests import archive
from vm.tests.apt_machine import Machine, forbid_apt
from vm.tests.archive import KEPT, World

# Each runs apt a dozen times.
pytestmark = pytest.mark.deadline(120)


@pytest.fixture(scope="module")
def shared(mirror: World) -> Iterator[Machine]:
    """Return a machine whose cache several tests fill: for those that do not care what is in it."""
    with pytest.MonkeyPatch.context() as patch:
        for place in archive.temporary_root():
            yield Machine(mirror, place, patch)


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
    machine.age_lists(apt.FRESH_SECONDS + 1)
    machine.said.clear()
    machine.resolve("trixie/6.12")
    assert machine.said == ["trixie: asking the mirror what kernels there are"]


def test_lists_of_a_clock_that_was_ahead_are_renewed_and_replaced(machine: Machine) -> None:
    machine.resolve("trixie/6.12")
    machine.age_lists(-1e7)
    machine.said.clear()
    machine.resolve("trixie/6.12")
    assert machine.said == ["trixie: asking the mirror what kernels there are"]
    machine.said.clear()
    machine.resolve("trixie/6.12")
    assert machine.said == [], "those of today are taken, not those of the future"
    lists = apt.kept("trixie", apt_sources.machine_sources())
    assert lists is not None
    assert lists.age < 60
    # The next refresh removes what is of the future, as it does the oldest.
    for older in (2, 1):
        (lists.directory).rename(lists.directory.with_name(str(int(time.time()) - 100000 * older)))
        machine.resolve("trixie/6.12")
        lists = apt.kept("trixie", apt_sources.machine_sources())
        assert lists is not None
    assert all(int(path.name) <= time.time() + 1 for path in machine.cache.glob("apt/trixie-*/*/"))


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
    changing.age_lists(apt.JUST_NOW_SECONDS + 1)
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
    changing.age_lists(apt.JUST_NOW_SECONDS + 1)
    shutil.rmtree(changing.cache / "kernels")
    changing.world.deb("linux-image-6.1.0-1-amd64").unlink()
    assert changing.version("") == "6.1.2-1"


def test_damaged_entry_is_named(machine: Machine) -> None:
    (found,) = machine.resolve("6.1")
    assert found.modules is not None
    (found.modules / "kernel.json").write_text("{")
    with pytest.raises(UsageError, match=f"{found.modules} is damaged; remove that directory"):
        machine.resolve("6.1")


def test_no_network_and_nothing_cached_is_said(cut_off: Machine) -> None:
    with pytest.raises(UsageError) as refusal:
        cut_off.resolve("6.1")
    assert re.match(r"no network, .*no cached kernel matches '6.1' \(cached: nothing\)$", str(refusal.value))
    assert cut_off.leftovers() == []


def test_a_mirror_that_cannot_be_reached_is_nobody_elses_port(cut_off: Machine) -> None:
    port = int(cut_off.world.address.rpartition(":")[2])
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))


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


@pytest.mark.skipif("AFALG_TEST_NETWORK" not in os.environ, reason="asks the machine's mirror: AFALG_TEST_NETWORK=1")
@pytest.mark.parametrize("suite", ["bullseye", "bookworm-backports", "trixie-security", "trixie-backports", "sid"])
def test_real_suites_have_kernels(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFALG_CACHE", str(tmp_path))
    found = packaged.KERNELS.candidates(suite, lambda _line: None)
    assert any(not candidate.missing for candidate in found)


def test_ubuntus_index_names_its_generic_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    index = (Path(__file__).parents[1] / "data/ubuntu.packages").read_text()
    lists = apt.Lists("noble", tmp_path, tuple(apt._parse_index(index)))
    monkeypatch.setattr(apt, "renewed", lambda _suite, _progress, **_age: [lists])
    (whole, *partial) = packaged.KERNELS.candidates("noble", lambda _line: None)
    assert (whole.release, whole.version, whole.missing) == ("6.8.0-45-generic", "6.8.0-45.45", ())
    abi = "6.8.0-45-generic"
    assert [p.name for p in whole.packages] == [f"linux-{r}-{abi}" for r in ("image", "modules", "modules-extra")]
    assert whole.size == 14662346 + 34932930 + 114645640
    assert [(c.version, c.missing) for c in partial] == [
        ("6.8.0-44.44", ("linux-binary-6.8.0-44-generic",)),
    ]


@pytest.fixture
def ubuntu(passable: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose sources are as those of GitHub's runners: Ubuntu, its updates, and a third party."""
    world = archive.build(
        passable,
        {
            "ubuntu noble": archive.ubuntu("6.8.0-31-generic", "6.8.0-31.31"),
            "ubuntu noble-updates": [
                *archive.ubuntu("6.8.0-45-generic", "6.8.0-45.45"),
                *archive.ubuntu("6.8.0-1024-azure", "6.8.0-1024.26"),
                *archive.ubuntu("6.8.0-44-generic", "6.8.0-44.44", without=["modules-extra"]),
                archive.meta("linux-image-generic", "linux-image-6.8.0-45-generic", "6.8.0-45.45"),
            ],
            "ubuntu jammy": archive.ubuntu("5.15.0-25-generic", "5.15.0-25.25"),
            "ppa noble": archive.ubuntu("6.9.0-1-generic", "6.9.0-1.1"),
        },
    )
    trust = f"Signed-By: {world.root}/key.gpg" if archive.HAS_GPG else "Trusted: yes"
    (world.root / "third").mkdir()
    (world.root / "third/ubuntu").symlink_to(world.root / "ppa")
    world.sources.write_text(
        f"Types: deb\nURIs: {world.address}/third/ubuntu\nSuites: noble\nComponents: main\n{trust}\n\n"
        f"Types: deb\nURIs: {world.address}/ubuntu\nSuites: noble noble-updates\n"
        f"Components: main universe restricted multiverse\n{trust}\n"
    )
    world.sources.with_name("security.list").unlink()
    (passable / "machine").mkdir()
    return Machine(world, passable / "machine", monkeypatch)


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        ("", "6.8.0-45.45"),
        ("6.8", "6.8.0-45.45"),
        ("6.8.0-44", "6.8.0-44.44"),
        ("6.8.0-31-generic", "6.8.0-31.31"),
        ("noble/6.8", "6.8.0-31.31"),
        ("jammy/5.15", "5.15.0-25.25"),
    ],
)
def test_kernels_of_ubuntu_are_found_and_laid_out(ubuntu: Machine, spec: str, version: str) -> None:
    (found,) = ubuntu.resolve(spec)
    assert found.version == version
    assert found.name == version.rpartition(".")[0]
    assert found.config is not None
    assert found.modules is not None
    tree = found.modules / "lib/modules" / found.release / "kernel"
    kept = {path.relative_to(tree).with_suffix("").as_posix() for path in tree.rglob("*.ko")}
    assert kept == (KEPT if spec != "6.8.0-44" else KEPT - {"net/9p/9pnet"}), "of all its packages"
