"""The doctor's conclusions from what a machine answers; no AF_ALG needed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.doctor import findings
from tests.doctor.__main__ import main, report
from tests.doctor.aids import examine_aids
from tests.doctor.findings import Finding, examine
from tests.doctor.kinds import Kind
from tests.doctor.system import System, parse_config
from vm.results.absence import Absence

RELEASE = "6.12.0-test"
FILE = "insmod /lib/modules/kernel/crypto/algif_hash.ko.xz \n"
CRYPTO = """\
name         : sha256
driver       : sha256-generic
priority     : 100
type         : shash

name         : sha256
driver       : __sha256-hidden
internal     : yes
priority     : 900
type         : shash

name         : sha256
driver       : sha256-avx2
priority     : 170
type         : shash

name         : sha256
driver       : sha256-of-another-type
priority     : 500
type         : aead
"""


def raising(code: int) -> Callable[[], bool]:
    def fail() -> bool:
        raise OSError(code, os.strerror(code))

    return fail


def hash_kind(answer: Callable[[], bool] = lambda: True) -> Kind:
    return Kind("hash", "algif_hash", "CRYPTO_USER_API_HASH", [("sha256", answer)], frozenset({"shash", "ahash"}))


def machine(
    answer: Callable[[], bool] = lambda: True,
    family: Callable[[], object] = lambda: None,
    files: dict[str, str] | None = None,
    config: dict[str, str] | None = None,
    modprobe: str = "",
    depends: str = FILE,
    executable: bool = True,
) -> System:
    """A machine where modules could be loaded, and nothing is wrong but what is asked for."""
    there = {
        "/proc/modules": "overlay 1 0 - Live 0x0\n",
        "/proc/sys/kernel/modprobe": "/sbin/modprobe\n",
        "/proc/sys/kernel/modules_disabled": "0\n",
        "/proc/crypto": CRYPTO,
        **(files or {}),
    }

    def open_socket() -> None:
        family()

    return System(
        socket=open_socket,
        read=there.get,
        exists=lambda path: path in there,
        modprobe=lambda arguments: modprobe if arguments == ["--showconfig"] else depends,
        executable=lambda _: executable,
        release=RELEASE,
        machine="x86_64",
        config=config,
        config_source="a test",
        kinds=[hash_kind(answer)],
    )


def of_hash(system: System) -> Finding:
    family, finding = examine(system)
    assert family.state == findings.WORKS
    return finding


NO_TYPE = raising(errno.ENOENT)
NO_FAMILY = raising(errno.EAFNOSUPPORT)


def test_what_works_names_the_driver_of_highest_priority_of_its_type() -> None:
    assert of_hash(machine()) == Finding("hash", "works", "sha256 by sha256-avx2")


def test_a_wrong_answer_is_not_working() -> None:
    assert of_hash(machine(lambda: False)).state == findings.WRONG


def test_the_second_algorithm_is_tried_when_the_first_is_not_there() -> None:
    kind = replace(hash_kind(), algorithms=[("md4", NO_TYPE), ("sha256", lambda: True)])
    assert of_hash(replace(machine(), kinds=[kind])).state == findings.WORKS


def test_an_option_not_set_is_not_built() -> None:
    finding = of_hash(machine(NO_TYPE, config={"CRYPTO_USER_API": "y"}, depends=""))
    assert finding.state == Absence.NOT_BUILT
    assert "CONFIG_CRYPTO_USER_API_HASH" in finding.detail


@pytest.mark.parametrize("config", [{"CRYPTO_USER_API_HASH": "m"}, None], ids=["config-says-m", "config-unknown"])
def test_a_module_without_file_is_missing(config: dict[str, str] | None) -> None:
    assert of_hash(machine(NO_TYPE, config=config, depends="")).state == Absence.MODULE_MISSING


@pytest.mark.parametrize("line", ["blacklist algif_hash", "blacklist algif-hash", "install algif_hash /bin/true"])
def test_a_line_of_modprobe_blacklists(line: str) -> None:
    finding = of_hash(machine(NO_TYPE, modprobe=f"blacklist pcspkr\n{line}\n"))
    assert finding.state == Absence.BLACKLISTED
    assert line in finding.detail


def test_the_kernel_command_line_blacklists() -> None:
    finding = of_hash(machine(NO_TYPE, files={"/proc/cmdline": "quiet module_blacklist=pcspkr,algif_hash"}))
    assert finding.state == Absence.BLACKLISTED


@pytest.mark.parametrize(
    ("files", "executable"),
    [
        ({"/proc/sys/kernel/modprobe": "\n"}, True),
        ({"/proc/sys/kernel/modules_disabled": "1\n"}, True),
        ({}, False),
    ],
    ids=["kernel.modprobe-empty", "modules_disabled", "no-modprobe"],
)
def test_nothing_can_be_loaded(files: dict[str, str], executable: bool) -> None:
    assert of_hash(machine(NO_TYPE, files=files, executable=executable)).state == Absence.NO_AUTOLOAD


@pytest.mark.parametrize(
    ("files", "depends"),
    [
        ({"/proc/modules": "algif_hash 20480 0 - Live 0x0\n"}, FILE),
        ({}, "builtin algif_hash\n"),
    ],
    ids=["loaded", "built-in"],
)
def test_a_type_that_is_there_lacks_algorithms(files: dict[str, str], depends: str) -> None:
    assert of_hash(machine(NO_TYPE, files=files, depends=depends)).state == findings.NO_ALGORITHM


def test_the_restriction_hides_algorithms() -> None:
    finding = of_hash(machine(NO_TYPE, files={"/proc/sys/crypto/af_alg_restrict": "1\n"}))
    assert finding.state == Absence.RESTRICTED
    assert finding.advice == "sysctl crypto.af_alg_restrict=0"


def test_the_restriction_denies_the_family_and_so_every_type() -> None:
    system = machine(family=NO_FAMILY, files={"/proc/sys/crypto/af_alg_restrict": "2\n"})
    assert [finding.state for finding in examine(system)] == [Absence.RESTRICTED] * 2


def test_a_lifted_restriction_is_not_blamed() -> None:
    system = machine(NO_TYPE, files={"/proc/sys/crypto/af_alg_restrict": "0\n"}, depends="")
    assert of_hash(system).state == Absence.MODULE_MISSING


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES])
def test_a_refusal_names_seccomp_when_the_process_has_a_filter(code: int) -> None:
    files = {"/proc/self/status": "Name:\tx\nSeccomp:\t2\n", "/sys/kernel/security/lsm": "capability,selinux"}
    family = examine(machine(family=raising(code), files=files))[0]
    assert family.state == Absence.BLOCKED
    assert "seccomp" in family.detail


def test_a_refusal_names_the_security_modules_that_judge_sockets() -> None:
    files = {"/proc/self/status": "Seccomp:\t0\n", "/sys/kernel/security/lsm": "capability,yama,selinux"}
    finding = of_hash(machine(raising(errno.EACCES), files=files))
    assert finding.state == Absence.BLOCKED
    assert "selinux" in finding.detail
    assert "yama" not in finding.detail


@pytest.mark.parametrize("code", [errno.ELIBBAD, errno.ENOMEM])
def test_other_errors_are_shown_as_they_are(code: int) -> None:
    finding = of_hash(machine(raising(code)))
    assert finding.state == findings.FAILS
    assert errno.errorcode[code] in finding.detail


def test_a_family_that_is_not_built_is_said_once_and_fails_every_type() -> None:
    family, finding = examine(machine(family=NO_FAMILY, config={"NET": "y"}))
    assert family.state == Absence.NOT_BUILT
    assert "CONFIG_CRYPTO_USER_API " in family.detail
    assert finding.state == Absence.NOT_BUILT


def test_a_kernel_without_modules_and_config_has_not_built_it() -> None:
    bare = replace(machine(NO_TYPE, depends=""), read=lambda _: None)
    assert of_hash(bare).state == Absence.NOT_BUILT


def test_debugging_aids_come_from_what_is_seen_before_the_config() -> None:
    seen = {
        "/sys/kernel/debug/kmemleak": "",
        "/sys/module/kfence/parameters/sample_interval": "0\n",
        "/sys/module/cryptomgr/parameters/notests": "Y\n",
    }
    config = parse_config("CONFIG_KASAN=y\nCONFIG_KFENCE=y\n# CONFIG_UBSAN is not set\nCONFIG_DEBUG_FS=y\n")
    states = {aid.what: aid.state for aid in examine_aids(machine(files=seen, config=config))}
    assert states["KASAN"] == "yes"
    assert states["kmemleak"] == "yes"
    assert states["KFENCE"] == "off"
    assert states["UBSAN"] == "no"
    assert states["debugfs"] == "hidden"
    assert states["crypto self-tests"] == "off"


def test_without_config_what_cannot_be_seen_is_unknown() -> None:
    states = {aid.what: aid.state for aid in examine_aids(machine())}
    assert states["KASAN"] == "unknown"


def test_config_values() -> None:
    text = '# comment\nCONFIG_A=y\nCONFIG_B="x y"\n# CONFIG_C is not set\nCONFIG_D=m\n'
    assert parse_config(text) == {"A": "y", "B": "x y", "C": "n", "D": "m"}


def test_the_table_has_advice_below_what_does_not_work() -> None:
    system = machine(NO_TYPE, files={"/proc/sys/crypto/af_alg_restrict": "1\n"})
    lines = report(system, examine(system), examine_aids(system)).splitlines()
    row = next(index for index, line in enumerate(lines) if "restricted by sysctl" in line)
    assert lines[row].split()[0] == "hash"
    assert lines[row + 1].strip() == "→ sysctl crypto.af_alg_restrict=0"


@pytest.mark.parametrize(("answer", "status"), [(lambda: True, 0), (lambda: False, 1)], ids=["right", "wrong"])
def test_the_exit_status_tells(answer: Callable[[], bool], status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.doctor.__main__.this_system", lambda: machine(answer))
    assert main() == status
