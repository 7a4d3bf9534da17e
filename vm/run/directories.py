"""Directories of results."""

from __future__ import annotations

import os
import time
from pathlib import Path

from vm.base.command import say


def new(parent: Path) -> Path:
    """Make the directory of a new run."""
    parent = parent.absolute()
    parent.mkdir(parents=True, exist_ok=True)
    stem = time.strftime("%Y-%m-%dT%H-%M-%S")
    for number in range(1, 1000):
        directory = parent / (stem if number == 1 else f"{stem}.{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory
    raise FileExistsError(f"too many runs in {parent} at {stem}")


def point_latest_to(directory: Path) -> None:
    """Have ``latest`` beside a run's directory lead to it, where that can be."""
    link = directory.parent / f".latest.{os.getpid()}"
    try:
        link.symlink_to(directory.name)
        link.rename(directory.parent / "latest")
    except OSError as error:  # a directory of that name, from an archive; a file system without links
        link.unlink(missing_ok=True)
        say(f"no link {directory.parent / 'latest'} to these results: {error.strerror}")
