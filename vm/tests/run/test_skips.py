"""The skip budget."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vm.base.errors import UsageError
from vm.run import skips
from vm.run.skips import State

BLACKLIST = "module_blacklist=pcspkr,algif_aead"
AEAD = "module blacklisted: kernel has no aead"
URING = "restricted by sysctl: kernel has no io_uring"
COMPAT = "architecture: kernel has no 32-bit system calls"
DEFAULT_OFF = "CONFIG_IA32_EMULATION_DEFAULT_DISABLED"
BUDGET = """
[[skip]]
reason = "kernel has no rng ansi_cprng"
because = "an option"
config = ["CRYPTO_ANSI_CPRNG"]
fips = true

[[skip]]
reason = "kernel has no hash sha256"
because = "an option"
config = ["CRYPTO_SHA256"]

[[skip]]
reason = "kernel has no hash md[45]"
because = "gone"
config = ["CRYPTO_MD4|CRYPTO_MD5"]
until = ["6.1.20", "6.2"]

[[skip]]
reason = "kernel has no serials"
because = "newer, and an option"
config = ["KEYS"]
since = ["6.2"]

[[skip]]
reason = "kernel has no aead"
because = "a type"
config = ["USER_API_AEAD"]
modules = ["algif_aead"]

[[skip]]
reason = "kernel has no io_uring"
because = "an option"
config = ["IO_URING"]
sysctls = ["kernel.io_uring_disabled"]

[[skip]]
reason = "kernel has no 32-bit system calls"
because = "an option"
config = ["IA32_EMULATION"]
arguments = ["ia32_emulation", "CONFIG_IA32_EMULATION_DEFAULT_DISABLED"]

[[skip]]
reason = "kernel is not in FIPS mode"
because = "few are"
fips = false

[[skip]]
reason = "wp512 is built in"
because = "it may be"
built_in = ["WP512"]

[[skip]]
reason = "kernel has no TPM"
because = "guests have none"
guest = true

[[skip]]
reason = "not on the running kernel"
because = "it may go down"
guest = false
"""
SET = {
    "CRYPTO_ANSI_CPRNG": "m",
    "CRYPTO_SHA256": "y",
    "KEYS": "y",
    "USER_API_AEAD": "m",
    "IO_URING": "y",
    "IA32_EMULATION": "y",
}


@pytest.fixture
def rules(tmp_path: Path) -> list[skips.Rule]:
    path = tmp_path / "skips.toml"
    path.write_text(BUDGET)
    return skips.load(path)


@pytest.mark.parametrize(
    ("reason", "config", "objection"),
    [
        ("kernel has no rng ansi_cprng", {}, None),
        ("kernel has no rng ansi_cprng", None, "its .config is unknown"),
        ("not built: kernel has no rng ansi_cprng", None, "its .config is unknown"),
        ("module missing: kernel has no rng ansi_cprng", None, "its .config is unknown"),
        ("kernel has no rng ansi_cprng", {"CRYPTO_ANSI_CPRNG": "m"}, "CONFIG_CRYPTO_ANSI_CPRNG=m"),
        ("not built: kernel has no rng ansi_cprng", {}, None),
        ("not built: kernel has no rng ansi_cprng", {"CRYPTO_ANSI_CPRNG": "m"}, "CONFIG_CRYPTO_ANSI_CPRNG=m"),
        ("module missing: kernel has no rng ansi_cprng", {"CRYPTO_ANSI_CPRNG": "m"}, "has to be built and installed"),
        ("kernel has no hash md5", {}, None),
        ("kernel has no hash md5", {"CRYPTO_MD4": "y"}, "CONFIG_CRYPTO_MD4=y"),
        ("kernel has no hash md5", {"CRYPTO_MD5": "m"}, "CONFIG_CRYPTO_MD5=m"),
        ("wp512 is built in", {"WP512": "y"}, None),
        ("wp512 is built in", {"WP512": "m"}, "no option takes it away"),
        ("wp512 is built in", None, "its .config is unknown"),
        ("not in this version: kernel has no hash sha256", SET, "every version has it"),
        ("kernel has no hash md56", {}, "no entry"),
        ("because I say so", {}, "no entry"),
        ("unexplained: kernel has no hash sha256", {}, "should have it"),
    ],
)
def test_objection(rules: list[skips.Rule], reason: str, config: dict[str, str] | None, objection: str | None) -> None:
    check(skips.objection(reason, rules, State(config)), objection)


@pytest.mark.parametrize(
    ("reason", "state", "objection"),
    [
        ("fips: kernel has no rng ansi_cprng", State(SET, sysctls={"crypto.fips_enabled": "1"}), None),
        ("fips: kernel has no rng ansi_cprng", State(SET, sysctls={"crypto.fips_enabled": "0"}), "not in FIPS mode"),
        ("fips: kernel has no rng ansi_cprng", State(SET), "not in FIPS mode"),
        ("fips: kernel has no hash sha256", State(SET, sysctls={"crypto.fips_enabled": "1"}), "does not take it away"),
        ("kernel is not in FIPS mode", State(SET), None),
        ("kernel is not in FIPS mode", State(SET, sysctls={"crypto.fips_enabled": "1"}), "is in FIPS mode"),
        (f"{AEAD}: algif_aead by {BLACKLIST}", State(SET, f"quiet {BLACKLIST}"), None),
        (f"{AEAD}: algif_aead by {BLACKLIST}", State(SET, "quiet"), "nothing blacklists algif_aead"),
        (
            f"{AEAD}: algif_hash by {BLACKLIST}",
            State(SET, BLACKLIST),
            "does not say that it needs the module algif_hash",
        ),
        (f"{AEAD}: algif_aead by blacklist algif_aead", State(SET, blacklist=("blacklist algif_aead",)), None),
        (AEAD, State(SET, BLACKLIST), "does not say"),
        (f"{URING}: kernel.io_uring_disabled=2", State(SET, sysctls={"kernel.io_uring_disabled": "2"}), None),
        (f"{URING}: kernel.io_uring_disabled=2", State(SET, sysctls={"kernel.io_uring_disabled": "0"}), "is 0"),
        (f"{URING}: kernel.io_uring_disabled=2", State(SET), "is not there"),
        (f"{URING}: kernel.other=1", State(SET, sysctls={"kernel.other": "1"}), "does not say that kernel.other"),
        (f"{COMPAT}: ia32_emulation=off", State(SET, "ia32_emulation=off quiet"), None),
        (f"{COMPAT}: ia32_emulation=on", State(SET, "ia32_emulation=on"), "nothing switches it off"),
        (f"{COMPAT}: ia32_emulation=off", State(SET, "quiet", "x86_64"), "nothing switches it off"),
        (f"{COMPAT}: aarch64", State(SET, machine="aarch64"), None),
        (f"{COMPAT}: x86_64", State(SET, machine="x86_64"), "nothing switches it off"),
        (f"{COMPAT}: {DEFAULT_OFF}", State({**SET, DEFAULT_OFF[7:]: "y"}), None),
        (f"{COMPAT}: {DEFAULT_OFF}", State(SET), "nothing switches it off"),
        ("seccomp or LSM: kernel has no io_uring: seccomp", State(SET, judges=("seccomp",)), None),
        ("seccomp or LSM: kernel has no io_uring: seccomp", State(SET), "no seccomp filter"),
        (
            "autoload impossible: kernel has no aead: kernel.modprobe=",
            State(SET, sysctls={"kernel.modprobe": ""}),
            None,
        ),
        (
            "autoload impossible: kernel has no aead: kernel.modprobe=",
            State(SET, sysctls={"kernel.modprobe": "/sbin/modprobe"}),
            "kernel.modprobe is /sbin/modprobe",
        ),
    ],
)
def test_class_is_proven_by_the_state_of_the_kernel(
    rules: list[skips.Rule], reason: str, state: State, objection: str | None
) -> None:
    check(skips.objection(reason, rules, state), objection)


@pytest.mark.parametrize(
    ("reason", "version", "objection"),
    [
        ("kernel has no serials", "6.1.192-2", None),
        ("kernel has no serials", "6.2~rc3", None),
        ("kernel has no serials", "6.2", "6.2 should have it: kernels do since 6.2, says the skip budget"),
        ("kernel has no serials", "6.12.117-1~deb12u1", "should have it"),
        ("kernel has no serials", "", None),
        ("kernel has no hash md5", "6.1.19-1", "6.1.19-1 should have it: kernels do until 6.2"),
        ("kernel has no hash md5", "6.1.20-1", None),
        ("kernel has no hash md5", "5.10.262-1", "should have it"),
        ("kernel has no hash md5", "7.3.4", None),
        ("kernel has no hash sha256", "", "every version has it"),
    ],
)
def test_version_is_proven_by_that_of_the_kernel(
    rules: list[skips.Rule], reason: str, version: str, objection: str | None
) -> None:
    check(skips.objection(f"not in this version: {reason}", rules, State(SET, version=version)), objection)


@pytest.mark.parametrize("config", [SET, None], ids=["known", "unknown"])
def test_guests_lack_what_other_machines_have(rules: list[skips.Rule], config: dict[str, str] | None) -> None:
    here, there = State(config, guest=False), State(config, guest=True)
    check(skips.objection("kernel has no TPM", rules, there), None)
    check(skips.objection("kernel has no TPM", rules, here), "this is no guest")
    check(skips.objection("not on the running kernel", rules, here), None)
    check(skips.objection("not on the running kernel", rules, there), "this is a guest")


def test_state_is_what_the_guest_said(rules: list[skips.Rule]) -> None:
    facts = {"cmdline": BLACKLIST, "sysctls": {"crypto.fips_enabled": "1"}, "machine": "x86_64", "judges": ["seccomp"]}
    state = State.of_guest(SET, facts)
    assert state == State(SET, BLACKLIST, "x86_64", {"crypto.fips_enabled": "1"}, (), ("seccomp",))
    assert {"crypto.fips_enabled", "kernel.io_uring_disabled"} < set(skips.sysctls(rules))


def check(found: str | None, objection: str | None) -> None:
    assert (found is None) if objection is None else (found is not None and objection in found), found


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_config_is_read(tmp_path: Path, compressed: bool) -> None:
    text = b'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x"\n'
    path = tmp_path / "config"
    path.write_bytes(gzip.compress(text) if compressed else text)
    assert skips.read_config(path) == {"A": "y", "C": '"x"'}


@pytest.mark.parametrize(
    "text",
    [
        "[[skip]]\nreason = 'x'\nbecause = 'y'\nfips = 'yes'\n",
        "[[skip]]\nreason = 'x'\nbecause = 'y'\nmodules = 'algif_aead'\n",
        "[[skip]]\nreason = 'x'\nbecause = 'y'\nmodule = ['algif_aead']\n",
        "[[skip]]\nreason = 'x'\n",
        "[[skip]]\nreason = 'x'\nbecause = 'y'\n",
        "[[skip]]\nreason = 'x'\nbecause = 'y'\nconfig = []\n",
        "[[skip]]\nreason = 'x'\nbecause = 'y'\nsince = ['soon']\n",
        "[[skip]]\nreason = '('\nbecause = 'y'\n",
        "[[skip]]\nbecause = 'y'\n",
        "[[",
    ],
    ids=[
        "bad-flag",
        "bad-list",
        "unknown-key",
        "no-because",
        "no-proof",
        "nothing-as-proof",
        "no-version",
        "bad-pattern",
        "no-reason",
        "no-toml",
    ],
)
def test_bad_budget_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "skips.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="skip budget"):
        skips.load(path)
