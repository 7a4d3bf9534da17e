"""What the kernel's documentation promises to programs: a kernel that breaks it is red, and its report says by what.

The kernel is a packaged 7.3 with its own code, some of whose names are others in the list of crypto.af_alg_restrict=1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vm.base.files import ROOT
from vm.kernels import resolve
from vm.kernels.modules import SIGNATURE_MARK

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.deadline(1800)]

KERNEL = "trixie-backports/7.3"
BROKEN = {
    "iwd start": ("hash", "sha256"),
    "bluetooth-meshd": ("aead", "ccm(aes)"),
    "bluez smp-tester": ("hash", "cmac(aes)"),
    "cryptsetup benchmark": ("skcipher", "xts(aes)"),
    "kcapi-dgst sha1": ("hash", "sha1"),
}
"""Programs, and the type and name that each has to have at level 1 as root."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the image of a kernel whose lists lack the names of BROKEN."""
    kernel = resolve.resolve_one(KERNEL, print)
    assert kernel.image
    assert kernel.modules
    place = tmp_path_factory.mktemp("broken")
    shutil.copytree(kernel.modules / "lib", place / "lib", symlinks=True)
    for type_, name in BROKEN.values():
        module = place / f"lib/modules/{kernel.release}/kernel/crypto/algif_{type_}.ko"
        # A kernel takes a module that is not signed, and none whose signature is wrong.
        content = module.read_bytes().removesuffix(SIGNATURE_MARK)
        old, new = (f"\0{word}\0".encode() for word in (name, f"{name[:-1]}x"))
        assert content.count(old) == 1, (module, name)
        module.write_bytes(content.replace(old, new))
    return Path(shutil.copy(kernel.image, place / f"vmlinuz-{kernel.release}"))


def test_a_kernel_that_breaks_a_promise_is_red(image: Path, tmp_path: Path) -> None:
    """The report has the program, as whom, the algorithm, and the call that was refused."""
    chosen = "level-1 and root and not without and not namespace"
    words = ["--kernels", str(image), "--only", ",".join(BROKEN), "-k", chosen, "--vms=1", f"--results={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs", *words], cwd=ROOT, capture_output=True, text=True, timeout=1700
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (kernel,) = json.loads((tmp_path / "latest/results.json").read_text())["kernels"]
    told = {test["nodeid"]: (test["verdict"], test["details"]) for test in kernel["tests"]}
    for program, (type_, name) in BROKEN.items():
        verdict, report = next(value for test, value in told.items() if f"{program}-level-1,root" in test)
        assert verdict == "failed", program
        assert f"{program} fails under level-1,root" in report
        assert f"{type_} {name}: bind: ENOENT" in report
