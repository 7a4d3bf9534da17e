"""The notebook of a bisection."""

from __future__ import annotations

from pathlib import Path

from vm.bisect.judge import Judgement
from vm.bisect.notebook import Notebook


def test_what_was_judged_is_kept_until_the_question_is_answered(tmp_path: Path) -> None:
    notebook = Notebook.open(tmp_path, ["q"], print)
    notebook.add("6.1", Judgement("good", "passed", ("f",), {"total": 1.0}, 1, "log"))
    again = Notebook.open(tmp_path, ["q"], print)
    assert again.of("6.1") == notebook.of("6.1")
    assert Notebook.open(tmp_path, ["other"], print).of("6.1") is None
    again.save(finished=True)
    assert Notebook.open(tmp_path, ["q"], print).steps == []
    assert not (again.directory / "bisect.json").exists(), "the answered one was put aside"
