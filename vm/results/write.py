"""Put the views of a run into its directory, each complete or not at all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from vm.base.errors import UsageError
from vm.base.files import replace_text
from vm.results import junit, ktap, model


def write(run: model.Run, directory: Path) -> list[Path]:
    """Write ``results.json``, ``results.ktap``, ``junit.xml`` and ``environment.json`` and return their paths.

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
        "junit.xml": junit.render(run),
        "environment.json": json.dumps(environment(run), indent=1) + "\n",
    }
    for name, text in files.items():
        put(directory / name, text)
    return [directory / name for name in files]


def put(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` under a temporary name and rename it.

    Raises:
        UsageError: it cannot be written, or the disk is full.
    """
    try:
        replace_text(path, text)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; free some space, or give another directory for results"
        ) from error


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
