"""Why a kernel lacks something, from what a machine answers; no AF_ALG needed. What the doctor says of it, too."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.doctor import absence
from tests.doctor.absence import Feature, of_algorithm, of_feature
from tests.doctor.features import examine_features
from tests.doctor.system import System
from tests.selftests.test_doctor import machine
from vm.run import skips
from vm.run.skips import State

BUDGET = skips.load(Path(__file__).parents[1] / "skips.toml")
HAVING = {
    **dict.fromkeys(("AIO", "IO_URING", "KEYS", "USER_NS", "IA32_EMULATION", "CRYPTO_USER_API"), "y"),
    **{f"CRYPTO_USER_API_{type_}": "m" for type_ in ("HASH", "SKCIPHER", "AEAD", "RNG")},
    **{f"CRYPTO_{name}": "m" for name in ("MD5", "SHA3", "AES", "CBC", "HMAC", "USER")},
}
LOADED = {"/proc/modules": "".join(f"algif_{name} 1 0 - Live 0\n" for name in ("hash", "skcipher", "aead", "rng"))}
FIPS = {"/proc/sys/crypto/fips_enabled": "1\n"}


def having(files: dict[str, str] | None = None, config: dict[str, str] | None = HAVING, modprobe: str = "") -> System:
    """Return a machine that has everything, but for what is given."""
    return machine(files={**LOADED, **(files or {})}, config=config, modprobe=modprobe)


def without(*options: str) -> dict[str, str]:
    return {name: value for name, value in HAVING.items() if name not in options}


WITH_MD4 = {**HAVING, "CRYPTO_MD4": "m", "CRYPTO_HMAC": "y"}


def cmdline(words: str) -> dict[str, str]:
    return {"/proc/cmdline": f"quiet {words}\n"}


def sysctl(name: str, value: str) -> dict[str, str]:
    return {f"/proc/sys/{name.replace('.', '/')}": f"{value}\n"}


FEATURES = [
    (absence.AIO, errno.ENOSYS, having(config=without("AIO")), "not built: kernel has no AIO"),
    (absence.AIO, errno.ENOSYS, having(config=None), "not built: kernel has no AIO"),
    (absence.AIO, errno.ENOSYS, having(), "unexplained: kernel has no AIO"),
    (absence.KEYRINGS, errno.ENOSYS, having(config=without("KEYS")), "not built: kernel has no keyrings"),
    (
        absence.KEY_SERIALS,
        errno.ENOPROTOOPT,
        having(config=without("KEYS")),
        "not built: kernel has no ALG_SET_KEY_BY_KEY_SERIAL",
    ),
    (
        absence.KEY_SERIALS,
        errno.ENOPROTOOPT,
        having(),
        "not in this version: kernel has no ALG_SET_KEY_BY_KEY_SERIAL",
    ),
    (
        absence.URING,
        errno.EPERM,
        having(sysctl("kernel.io_uring_disabled", "2")),
        "restricted by sysctl: kernel has no io_uring: kernel.io_uring_disabled=2",
    ),
    (
        absence.URING,
        errno.EPERM,
        having({**sysctl("kernel.io_uring_disabled", "0"), "/proc/self/status": "Seccomp:\t2\n"}),
        "seccomp or LSM: kernel has no io_uring: seccomp",
    ),
    (absence.URING, errno.EPERM, having(), "unexplained: kernel has no io_uring"),
    (absence.URING, errno.ENOSYS, having(config=without("IO_URING")), "not built: kernel has no io_uring"),
    (
        absence.USER_NAMESPACES,
        errno.ENOSPC,
        having(sysctl("user.max_user_namespaces", "0")),
        "restricted by sysctl: kernel has no user namespaces: user.max_user_namespaces=0",
    ),
    (
        absence.USER_NAMESPACES,
        errno.EINVAL,
        having(config=without("USER_NS")),
        "not built: kernel has no user namespaces",
    ),
    (
        absence.COMPAT,
        errno.ENOSYS,
        having(cmdline("ia32_emulation=off")),
        "architecture: kernel has no 32-bit system calls: ia32_emulation=off",
    ),
    (
        absence.COMPAT,
        errno.ENOSYS,
        having(config={**HAVING, "IA32_EMULATION_DEFAULT_DISABLED": "y"}),
        "architecture: kernel has no 32-bit system calls: CONFIG_IA32_EMULATION_DEFAULT_DISABLED",
    ),
    (
        absence.COMPAT,
        errno.ENOSYS,
        having(cmdline("ia32_emulation=on")),
        "unexplained: kernel has no 32-bit system calls",
    ),
    (
        absence.NETLINK_CRYPTO,
        errno.EPROTONOSUPPORT,
        having(cmdline("module_blacklist=crypto_user")),
        "module blacklisted: kernel has no NETLINK_CRYPTO: crypto_user by module_blacklist=crypto_user",
    ),
]


def state_of(system: System) -> State:
    """Return what the host would know of such a machine."""
    sysctls = {
        name: (system.read(f"/proc/sys/{name.replace('.', '/')}") or "").strip() for name in skips.sysctls(BUDGET)
    }
    seccomp = ("seccomp",) if "2" in (system.read("/proc/self/status") or "") else ()
    lines = tuple(system.modprobe(["--showconfig"]).splitlines())
    return State(system.config, system.read("/proc/cmdline") or "", system.machine, sysctls, lines, seccomp)


@pytest.mark.parametrize(("feature", "error", "system", "reason"), FEATURES, ids=lambda value: str(value)[:60])
def test_feature_has_its_class_and_the_budget_takes_it(
    feature: Feature, error: int, system: System, reason: str
) -> None:
    """But for what nothing explains, which no budget takes."""
    assert str(of_feature(feature, error, system)) == reason
    objection = skips.objection(reason, BUDGET, state_of(system))
    unknown = system.config is None and reason.startswith("not built")
    assert objection == skips.UNKNOWN if unknown else (objection is not None) == reason.startswith("unexplained")
    # The same words on a kernel that has everything.
    if not reason.startswith("not in this version"):
        assert skips.objection(reason, BUDGET, state_of(having())) is not None


def test_doctor_gives_a_feature_the_class_that_its_skip_has() -> None:
    def refused() -> None:
        raise OSError(errno.EPERM, "io_uring_setup")

    system = having(sysctl("kernel.io_uring_disabled", "2"))
    found = examine_features(system, [(absence.URING, refused), (absence.AIO, lambda: None)])
    assert [(finding.what, finding.state) for finding in found] == [
        ("io_uring", "restricted by sysctl"),
        ("AIO", "works"),
    ]
    assert found[0].detail == "kernel.io_uring_disabled is 2"


def test_another_machine_has_no_32_bit_calls_of_x86() -> None:
    arm = machine(config={})
    lack = of_feature(absence.COMPAT, errno.ENOSYS, System(**{**vars(arm), "machine": "aarch64"}))
    assert str(lack) == "architecture: kernel has no 32-bit system calls: aarch64"


ALGORITHMS = [
    ("hash", "md5", having(config=without("CRYPTO_MD5")), "not built: kernel has no hash md5"),
    ("hash", "md5", having(FIPS), "fips: kernel has no hash md5"),
    ("hash", "md5", having({**FIPS}, config=without("CRYPTO_MD5")), "not built: kernel has no hash md5"),
    ("hash", "md5", having(), "unexplained: kernel has no hash md5"),
    ("hash", "sha3-256", having(FIPS), "fips: kernel has no hash sha3-256"),
    ("hash", "hmac(md4)", having(config=WITH_MD4), "not in this version: kernel has no hash hmac(md4)"),
    ("hash", "hmac(md4)", having(config=HAVING), "not built: kernel has no hash hmac(md4)"),
    (
        "hash",
        "cryptd(sha256-generic)",
        having(config={**HAVING, "CRYPTO_CRYPTD": "m"}),
        "not in this version: kernel has no hash cryptd(sha256-generic)",
    ),
    ("hash", "cryptd(sha256-generic)", having(), "not built: kernel has no hash cryptd(sha256-generic)"),
    (
        "hash",
        "md5",
        having({**cmdline("module_blacklist=algif_hash"), "/proc/modules": ""}),
        "module blacklisted: kernel has no hash: algif_hash by module_blacklist=algif_hash",
    ),
    (
        "hash",
        "md5",
        having({"/proc/modules": ""}, config=without("CRYPTO_USER_API_HASH")),
        "not built: kernel has no hash",
    ),
    (
        "hash",
        "md5",
        having(sysctl("crypto.af_alg_restrict", "1")),
        "restricted by sysctl: kernel has no hash md5: crypto.af_alg_restrict=1",
    ),
]


@pytest.mark.parametrize(("type_", "name", "system", "reason"), ALGORITHMS, ids=lambda value: str(value)[:60])
def test_algorithm_has_its_class(type_: str, name: str, system: System, reason: str) -> None:
    assert str(of_algorithm(type_, name, system)) == reason


def test_what_fips_mode_approves_of_it_does_not_take_away() -> None:
    """The class says what the guest saw; the budget knows that it should have been there."""
    state = state_of(having(FIPS))
    assert skips.objection("fips: kernel has no hash md5", BUDGET, state) is None
    assert skips.objection("fips: kernel has no hash sha3-256", BUDGET, state) == "FIPS mode does not take it away"


def test_algorithm_whose_only_module_is_blacklisted() -> None:
    words = cmdline("module_blacklist=sha3_generic")
    system = System(**{**vars(having(words)), "modprobe": lambda _: "sha3_generic\n"})
    reason = "module blacklisted: kernel has no hash sha3-256: sha3_generic by module_blacklist=sha3_generic"
    assert str(of_algorithm("hash", "sha3-256", system)) == reason
    assert skips.objection(reason, BUDGET, state_of(having(words))) is None
    other = System(**{**vars(having(words)), "modprobe": lambda _: "sha3_generic\nsha3_fast\n"})
    assert str(of_algorithm("hash", "sha3-256", other)).startswith("unexplained: ")
