"""What JUnit's file is told beside pytest's own content: properties of the run and of each kernel."""

from __future__ import annotations

from vm.results.model import Run


def properties(run: Run) -> list[tuple[str, str]]:
    """Return name and value of every property, those of a kernel named ``kernel.<name>.<what>``."""
    found = [("run", run.id), ("revision", run.revision), ("qemu", run.host.qemu), ("host", run.host.os)]
    for kernel in run.kernels:
        facts = {
            "spec": kernel.spec,
            "release": kernel.release,
            "version": kernel.version,
            "accelerator": f"{kernel.accelerator} ({kernel.accelerator_reason})" if kernel.accelerator else "",
            "boot_seconds": " ".join(map(str, kernel.boot_seconds)),
            "processor": kernel.processor,
            "cmdline": kernel.cmdline,
            "config": kernel.config,
            "proc_crypto": kernel.proc_crypto,
            "taint": str(kernel.taint),
            "reason": kernel.reason,
        }
        facts |= {verdict.value.replace(" ", "_"): str(count) for verdict, count in kernel.counts().items()}
        found += [(f"kernel.{kernel.name}.{what}", value) for what, value in facts.items() if value]
    return found
