"""The words that run the same again, on the same kernel."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from vm.base import arch, files
from vm.kernels import axes, versions
from vm.kernels.spec import Kernel


def exact(kernel: Kernel) -> str:
    """Return a spec that means this kernel and no newer one: ``6.12`` may be another tomorrow."""
    if kernel.axes:
        plain, names = axes.split(kernel.spec)
        return exact(dataclasses.replace(kernel, spec=plain, axes=())) + axes.suffix(names)
    word, colon, rest = kernel.spec.partition(":")
    if colon and arch.asked(word) is not None and not Path(kernel.spec).exists():
        return f"{word}:{exact(dataclasses.replace(kernel, spec=rest))}"
    path, plus, fragments = kernel.spec.partition("+")
    if path and Path(path).exists():
        return f"{Path(path).absolute()}{plus}{fragments}"
    if not kernel.version or kernel.image is None or kernel.spec.startswith("source:"):
        return kernel.spec
    suite, slash, _ = kernel.spec.rpartition("/")
    return f"{suite}{slash}{versions.with_flavour(kernel.version, kernel.release)}"


def pytest_words() -> list[str]:
    """Return the words that call pytest; unpacked from an archive it has no script (vm/roots/tarball.py)."""
    script = Path(sys.prefix) / "bin/pytest"
    if script.exists() or not os.environ.get("PYTHONPATH"):
        return [files.shown(script)]
    return ["env", f"PYTHONPATH={os.environ['PYTHONPATH']}", sys.executable, "-m", "pytest"]
