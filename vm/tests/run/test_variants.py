"""What the variants promise, shown on real machines: a splat, a failed allocation, counters, modules.

Kernels are built from ``$VM_TEST_SOURCE`` (``source:6.12``), which takes an hour of processor time at first and
a second when they are there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from vm.tests.harness import Project, Run

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.deadline(4 * 3600)]

SOURCE = os.environ.get("VM_TEST_SOURCE", "source:6.12")


def run(directory: Path, variant: str, tests: str, *options: str) -> Run:
    """Run ``tests`` on a kernel with ``variant``."""
    project = Project(directory, factor=4.0)
    project.tests("from pathlib import Path\nimport errno, socket, subprocess\n" + tests)
    arguments = ["-v", f"--kernel={SOURCE}{variant}", "--vm-memory=1024", *options]
    with project.started(*arguments, kernels=[], fake=None, qemu="qemu-system-x86_64") as process:
        done = project.finish(process, seconds=3 * 3600)
    project.assert_nothing_left()
    return done


def verdicts(done: Run) -> dict[str, str]:
    return {nodeid.split("::")[1].split("[")[0]: word for nodeid, word in done.verdicts.items()}


def text_of(done: Run, test: str) -> str:
    return "".join(case.text for name, case in done.cases.items() if name.startswith(f"{test}["))


HASH = """
def sha256(data):
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as tfm:
        tfm.bind(("hash", "sha256"))
        op, _ = tfm.accept()
        with op:
            op.sendall(data)
            return op.recv(32).hex()

def test_hash():
    # FIPS 180-4, the example "abc".
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""


def test_plain_kernel_boots_and_hashes(tmp_path: Path) -> None:
    done = run(tmp_path, "", HASH)
    assert verdicts(done) == {"test_hash": "passed"}
    assert done.status == 0


def test_debug_blames_the_test_that_uses_memory_after_free(tmp_path: Path) -> None:
    """lkdtm is the kernel's own means to do so (Documentation/fault-injection/provoke-crashes.rst)."""
    crash = """
def test_before(): test_hash()
def test_use_after_free():
    Path("/sys/kernel/debug/provoke-crash/DIRECT").write_text("WRITE_AFTER_FREE")
def test_after(): test_hash()
"""
    done = run(tmp_path, "+debug", HASH + crash)
    assert verdicts(done) == {
        "test_hash": "passed", "test_before": "passed", "test_use_after_free": "failed", "test_after": "passed",
    }  # fmt: skip
    text = text_of(done, "test_use_after_free")
    assert "BUG: KASAN: " in text
    assert "lkdtm_WRITE_AFTER_FREE" in text
    assert "KASAN" not in text_of(done, "test_after")


def test_faults_make_an_allocation_of_af_alg_fail_for_user_space(tmp_path: Path) -> None:
    """fail-nth counts the places that may fail in this thread (Documentation/fault-injection)."""
    fault = """
def test_accept_without_memory():
    # As it is, allocations that may sleep are spared, and these are nearly all.
    Path("/sys/kernel/debug/failslab/ignore-gfp-wait").write_text("N")
    nth = Path("/proc/thread-self/fail-nth")
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as tfm:
        tfm.bind(("skcipher", "cbc(aes)"))
        tfm.setsockopt(socket.SOL_ALG, socket.ALG_SET_KEY, bytes(16))
        seen = []
        for n in range(1, 100):
            descriptor = os.open(nth, os.O_RDWR)
            try:
                os.write(descriptor, str(n).encode())
                try:
                    tfm.accept()[0].close()
                    seen.append(0)
                except OSError as error:
                    seen.append(error.errno)
                try:
                    left = int(os.pread(descriptor, 20, 0))
                except OSError as error:
                    # accept had fewer such places: the answer itself was the next, a copy to user space.
                    assert error.errno == errno.EFAULT
                    left = 1
                os.write(descriptor, b"0")
            finally:
                os.close(descriptor)
            if left:
                break
        assert left, "accept has no end of allocations"
        assert errno.ENOMEM in seen, seen
        assert set(seen) <= {0, errno.ENOMEM, errno.ENFILE}, seen
        tfm.accept()[0].close()
"""
    done = run(tmp_path, "+faults", HASH + fault)
    assert verdicts(done) == {"test_hash": "passed", "test_accept_without_memory": "passed"}


def test_coverage_counts_what_ran_and_not_what_did_not(tmp_path: Path) -> None:
    done = run(tmp_path, "+coverage", HASH, "-p", "vm.coverage.plugin", "--coverage-dir=cov")
    assert verdicts(done) == {"test_hash": "passed"}
    shares = {
        line.split()[0]: float(line.split()[2].rstrip("%"))
        for line in done.output.splitlines()
        if line.startswith(("crypto/", "total")) and "%" in line
    }
    assert set(shares) == {
        *(f"crypto/{name}.c" for name in ("af_alg", "algif_hash", "algif_skcipher", "algif_aead", "algif_rng")),
        "total",
    }
    assert shares["crypto/algif_hash.c"] > 20
    assert shares["crypto/af_alg.c"] > 20
    # Registered at boot, and nothing more.
    assert shares["crypto/algif_aead.c"] < 10
    assert (tmp_path / "cov/html/index.html").exists()


def test_modules_are_loaded_by_use_and_can_be_unloaded(tmp_path: Path) -> None:
    unload = """
def loaded():
    return {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}

def test_unload():
    test_hash()
    assert {"af_alg", "algif_hash"} <= loaded()
    subprocess.run(["modprobe", "-r", "algif_hash"], check=True, timeout=60)
    assert "algif_hash" not in loaded()
    test_hash()
"""
    done = run(tmp_path, "+modules", HASH + unload)
    assert verdicts(done) == {"test_hash": "passed", "test_unload": "passed"}


def test_selftests_run_and_would_stop_the_kernel(tmp_path: Path) -> None:
    """Without them /proc/crypto says "passed" too; the kernel's own parameters tell the difference."""
    tested = """
def test_parameters():
    parameters = Path("/sys/module/cryptomgr/parameters")
    assert (parameters / "panic_on_fail").read_text().strip() == "Y"
    assert (parameters / "notests").read_text().strip() == "N"
    assert Path("/proc/sys/kernel/panic_on_warn").read_text().strip() == "1"

def test_no_algorithm_failed():
    test_hash()
    assert "selftest     : failed" not in Path("/proc/crypto").read_text()
"""
    done = run(tmp_path, "+selftests", HASH + tested)
    assert set(verdicts(done).values()) == {"passed"}, verdicts(done)
    assert len(verdicts(done)) == 3


def test_fips_refuses_what_is_not_approved(tmp_path: Path) -> None:
    """FIPS 140: sha256 is approved, md5 is not (crypto/testmgr.c, fips_allowed)."""
    mode = """
import pytest

def test_mode():
    assert Path("/proc/sys/crypto/fips_enabled").read_text().strip() == "1"

def test_md5():
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as tfm, pytest.raises(OSError) as refused:
        tfm.bind(("hash", "md5"))
    # ELIBBAD: the instance that the self-test did not let through, where that is told.
    assert refused.value.errno in (errno.ENOENT, errno.ELIBBAD)
"""
    done = run(tmp_path, "+fips", HASH + mode)
    assert verdicts(done) == {"test_hash": "passed", "test_mode": "passed", "test_md5": "passed"}


def test_accelerated_implementations_are_there_and_chosen(tmp_path: Path) -> None:
    """The driver of cbc(aes) with the highest priority is AES-NI's, if the processor that QEMU makes has it."""
    driver = """
def test_driver():
    assert " aes " in Path("/proc/cpuinfo").read_text()
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as tfm:
        tfm.bind(("skcipher", "cbc(aes)"))
    shown = Path("/proc/crypto").read_text().replace(" ", "").split("\\n\\n")
    entries = [dict(line.split(":", 1) for line in entry.splitlines() if ":" in line) for entry in shown]
    chosen = max((e for e in entries if e.get("name") == "cbc(aes)"), key=lambda e: int(e["priority"]))
    assert "aesni" in chosen["driver"]
"""
    done = run(tmp_path, "+accelerated", HASH + driver)
    assert verdicts(done) == {"test_hash": "passed", "test_driver": "passed"}


def test_debuginfo_gives_the_source_lines_of_a_crash(tmp_path: Path) -> None:
    """sysrq's c is the kernel's own means to crash (Documentation/admin-guide/sysrq.rst)."""
    crash = """
def test_crash(): Path("/proc/sysrq-trigger").write_text("c")
"""
    done = run(tmp_path, "+debuginfo", HASH + crash)
    assert verdicts(done) == {"test_hash": "passed", "test_crash": "crashed"}
    text = text_of(done, "test_crash")
    assert re.search(r"sysrq_handle_crash\+0x[0-9a-f]+/0x[0-9a-f]+ \(drivers/tty/sysrq\.c:\d+\)", text), text
