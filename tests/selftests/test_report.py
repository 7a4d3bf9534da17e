"""The table of algorithms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.algorithms import report
from tests.oracle.sources import source
from vm.results import write
from vm.results.model import KernelRun, Run, TestResult, Verdict

PROC = """\
name         : sha256
driver       : sha256-generic
priority     : 100
selftest     : passed
internal     : no
type         : shash

name         : sha256
driver       : sha256-avx2
priority     : 170
selftest     : passed
internal     : no
type         : shash

name         : sha999
driver       : sha999-generic
priority     : 100
selftest     : passed
internal     : no
type         : shash

name         : __cbc(aes)
driver       : __cbc-aes-aesni
priority     : 400
selftest     : passed
internal     : yes
type         : skcipher
"""


def ran(test: str, verdict: str) -> TestResult:
    return TestResult(f"tests/algorithms/{test}", test, Verdict(verdict))


def test_each_algorithm_has_its_drivers_and_verdicts() -> None:
    tests = [
        ran("test_hash.py::test_digest_of_every_length[sha256]", "passed"),
        ran("test_drivers.py::test_every_driver_of_a_hash[sha256]", "failed"),
        ran("test_aead.py::test_one_flipped_bit_is_ebadmsg[gcm(aes)]", "passed"),
        ran("test_hash.py::test_digest_of_every_length[md4]", "skipped"),
    ]
    gcm, sha256, sha999 = report.lines(PROC, tests)
    assert (sha256.drivers, sha256.verdicts) == (("sha256-avx2", "sha256-generic"), {"passed": 1, "failed": 1})
    assert (sha256.good, gcm.good, gcm.name) == (False, True, "gcm(aes)")
    assert (sha999.good, sha999.missing.startswith("no row")) == (False, True)


def write_run(directory: Path, tests: list[TestResult]) -> None:
    write.write(Run("id", "", kernels=(KernelRun("6.1", "6.1", proc_crypto="proc", tests=tuple(tests)),)), directory)


def test_report_of_a_run_and_its_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proc").write_text(PROC)
    tests = [ran("test_hash.py::test_digest_of_every_length[sha256]", "passed")]
    write_run(tmp_path, tests)
    assert report.main([str(tmp_path)]) == 1
    assert "6.1: 2 algorithms, 1 tested, 1 good" in capsys.readouterr().out
    (tmp_path / "proc").write_text(PROC.replace("sha999", "sha256"))
    write_run(tmp_path, [*tests, ran("test_hash.py::test_collision[sha256]", "skipped")])
    assert report.main([str(tmp_path)]) == 0
    assert "1 tested, 1 good" in capsys.readouterr().out
    assert report.main([str(tmp_path / "nowhere")]) == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sha256", "hashlib"),
        ("hmac(sha256)", "own code over hashlib"),
        ("cbc(aes)", "libgcrypt"),
        ("xts(cast6)", "own code"),
        ("gcm(aria)", "own code over libcrypto"),
        ("authenc(hmac(sha1),cbc(aes))", "own code over hashlib and libgcrypt"),
    ],
)
def test_where_an_answer_comes_from(name: str, expected: str) -> None:
    assert source(name) == expected
