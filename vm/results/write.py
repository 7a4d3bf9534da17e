"""Put the views of a run into its directory, each complete or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path

from vm.errors import UsageError
from vm.results import ktap, model


def write(run: model.Run, directory: Path) -> list[Path]:
    """Write ``results.json``, ``results.ktap`` and ``environment.json`` and return their paths.

    Each is written under a temporary name and renamed: a reader sees the old file or the new one, never half.

    Args:
        run: what to write.
        directory: of the run; it exists.

    Raises:
        UsageError: the directory cannot be written, or the disk is full.
    """
    files = {
        "results.json": model.dump(run),
        "results.ktap": ktap.render(run),
        "environment.json": json.dumps(environment(run), indent=1) + "\n",
    }
    for name, text in files.items():
        _replace(directory / name, text)
    return [directory / name for name in files]


def environment(run: model.Run) -> dict[str, object]:
    """Return what the run ran on, without its tests: the host's versions and each kernel's facts."""
    kernels = []
    for kernel in run.kernels:
        facts = dataclasses.asdict(kernel)
        del facts["tests"], facts["vms"]
        kernels.append(facts)
    return {
        "id": run.id,
        "started": run.started,
        "command": run.command,
        "revision": run.revision,
        "host": dataclasses.asdict(run.host),
        "kernels": kernels,
    }


def _replace(path: Path, text: str) -> None:
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(
                f"cannot write {path}: {error.strerror}; free some space, or give another directory for results"
            ) from error
        raise
