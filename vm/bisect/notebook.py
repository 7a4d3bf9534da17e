"""What a bisection has found out so far, kept in a file: an interrupted one goes on with it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.base import files
from vm.base.progress import Progress
from vm.bisect.judge import Judgement


@dataclass
class Notebook:
    """The judgements of one bisection.

    Attributes:
        directory: of this bisection.
        steps: label and judgement, in the order they were made.
    """

    directory: Path
    steps: list[tuple[str, Judgement]]

    @classmethod
    def open(cls, place: Path, question: Sequence[object], progress: Progress) -> Notebook:
        """Return the notebook of the bisection that asks ``question``; an answered one is begun anew."""
        key = hashlib.sha256(json.dumps(question, default=str).encode()).hexdigest()[:12]
        directory = place / key
        kept = files.json_of(directory / "bisect.json")
        if kept.get("finished") or not kept:
            stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
            if kept:
                directory.rename(place / f"{key}.{stamp}.{os.getpid()}")
            directory.mkdir(parents=True, exist_ok=True)
            return cls(directory, [])
        steps = [(str(label), Judgement.load(data)) for label, data in kept["steps"]]
        progress(f"going on with {len(steps)} kernels judged before, in {files.shown(directory)}")
        return cls(directory, steps)

    def of(self, label: str) -> Judgement | None:
        """Return what was said of ``label``; what stopped the bisection is asked again."""
        return next((said for name, said in self.steps if name == label and said.answer != "stop"), None)

    def add(self, label: str, said: Judgement) -> None:
        """Write one judgement down at once."""
        self.steps.append((label, said))
        self.save(finished=False)

    def save(self, *, finished: bool, found: Sequence[str] = ()) -> None:
        """Write the file, whole or not at all.

        Args:
            finished: whether the question is answered.
            found: the answer, in the lines that are printed; a report of the test quotes them (vm/results/mail.py).
        """
        data = {
            "finished": finished,
            "found": list(found),
            "steps": [[label, said.dump()] for label, said in self.steps],
        }
        files.replace_text(self.directory / "bisect.json", json.dumps(data, indent=1) + "\n")

    def place(self, label: str) -> Path:
        """Return a new directory for the runs of one step."""
        number = len(list(self.directory.glob("step-*"))) + 1
        return self.directory / f"step-{number:02}-{''.join(c if c.isalnum() or c in '.+-' else '-' for c in label)}"
