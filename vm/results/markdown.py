"""A run in short, as Markdown: for the summary of a step on GitHub, a comment on a merge request, or a mail.

What changed comes first, then known issues, then failures by cause with the command that runs the first of each again.
It is bounded: a summary that is longer than GitHub's megabyte is not shown at all, and nobody reads it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from vm.base.words import plural
from vm.results import changes
from vm.results.cause import Group, groups
from vm.results.changes import Change
from vm.results.matrix import differences, untested
from vm.results.model import KernelRun, Run, TestResult, Verdict

MOST_CAUSES = 20
MOST_OF_A_CLASS = 10
_MOST_CHARACTERS = 300


def render(run: Run, base: Run | None = None) -> str:
    """Return ``run`` as Markdown.

    Args:
        run: one run, or several merged.
        base: an earlier one to compare with, kernel by kernel as they were asked for.
    """
    lines = [f"## Kernel tests: {_outcome(run)}", "", *_table(run)]
    lines += list(_changed(run, base)) if base else list(_differences(run))
    found = groups(run.kernels)
    lines += _known([group for group in found if group.cause.issue])
    lines += _causes([group for group in found if not group.cause.issue])
    return "\n".join(lines).rstrip() + "\n"


def _outcome(run: Run) -> str:
    if run.finished is None:
        return "cut off before the end"
    bad = sum(not test.verdict.good for kernel in run.kernels for test in kernel.tests)
    return {0: "all well", 1: f"{plural(bad, 'bad result')}"}.get(run.status, f"ended with status {run.status}")


def _table(run: Run) -> Iterator[str]:
    counts = sum((kernel.counts() for kernel in run.kernels), Counter[Verdict]())
    verdicts = [verdict for verdict in Verdict if counts[verdict]]
    yield _row(["kernel", *(verdict.value for verdict in verdicts), "accelerator"])
    yield _row(["---", *("---:" for _ in verdicts), "---"])
    for kernel in run.kernels:
        own = kernel.counts()
        numbers = [str(own[verdict]) if own[verdict] else "" for verdict in verdicts]
        yield _row([_code(kernel.name), *numbers, kernel.accelerator or "none"])
    for kernel in run.kernels:
        if kernel.reason:
            yield from ("", f"{_code(kernel.name)}: {_text(kernel.reason)}")


def _changed(run: Run, base: Run) -> Iterator[str]:
    """Tell what changed since ``base`` on the kernels that both asked for."""
    before = {kernel.spec: kernel for kernel in base.kernels}
    for kernel in run.kernels:
        old = before.get(kernel.spec)
        yield from ("", f"### {_code(kernel.name)} since {_code(f'{old.name}, {base.id}' if old else base.id)}", "")
        if old is None:
            yield f"{_code(kernel.spec)} was not in that run."
            continue
        classes: dict[Change, list[TestResult]] = {}
        after = {test.test: test for test in kernel.tests}
        earlier = {test.test: test for test in old.tests}
        for name in {**after, **earlier}:
            there = after.get(name)
            kind = changes.change(
                earlier[name].verdict if name in earlier else None, there.verdict if there is not None else None
            )
            if kind is not None:
                classes.setdefault(kind, []).append(there or earlier[name])
        if not classes:
            yield "Nothing changed."
        for kind in Change:
            if kind in classes:
                yield from _class(kind, classes[kind])


def _class(kind: Change, tests: Sequence[TestResult]) -> Iterator[str]:
    yield f"- **{kind.value}**: {plural(len(tests), 'test')}"
    if kind in (Change.STILL_FAILING, Change.NEW_PASS, Change.APPEARED):
        return
    for test in tests[:MOST_OF_A_CLASS]:
        why = f": {_text(test.known_issue or test.reason)}" if test.verdict is not Verdict.PASSED else ""
        yield f"  - {_code(test.test)}{why}"
    if len(tests) > MOST_OF_A_CLASS:
        yield f"  - and {len(tests) - MOST_OF_A_CLASS} more"


def _differences(run: Run) -> Iterator[str]:
    """Tell where the kernels of the run differ, of several."""
    if len(run.kernels) < 2:
        return
    found = differences(run.kernels)
    # What a kernel lacks is most of it, and no news.
    told = [each for each in found if {*each.verdicts.values()} - {"passed", "skipped", "absent"}]
    others = len(found) - len(told)
    yield from ("", "### Where the kernels differ", "")
    if not found:
        yield "No difference is known." if untested(run.kernels) else "Nowhere."
    if told:
        yield _row(["test", "cases", *(_code(kernel.name) for kernel in run.kernels)])
        yield _row(["---", "---:", *("---" for _ in run.kernels)])
        for each in told[:MOST_CAUSES]:
            verdicts = [each.verdicts[kernel.name] for kernel in run.kernels]
            yield _row([_code(each.test), str(each.cases), *verdicts])
    more = max(0, len(told) - MOST_CAUSES)
    if more:
        yield from ("", f"And {more} more.")
    if others:
        yield from ("", f"{others} more differ only in what a kernel does not have.")


def _known(found: Sequence[Group]) -> list[str]:
    if not found:
        return []
    lines = ["", "### Known issues", ""]
    for group in found:
        issue = group.cause.issue
        assert issue is not None
        fix = f", fix [{issue.fix}]({issue.link})" if issue.fix else ""
        cve = f" ([{issue.cve}]({issue.cve_link}))" if issue.cve else ""
        where = ", ".join(map(_code, group.kernels))
        lines.append(f"- {_text(issue.name)}{cve}{fix}: {plural(len(group.tests), 'test')} on {where}")
    return lines


def _causes(found: Sequence[Group]) -> list[str]:
    if not found:
        return []
    lines = ["", "### Failures by cause"]
    for group in found[:MOST_CAUSES]:
        kernel, test = group.tests[0]
        lines += ["", f"**{_text(group.cause.title)}**  ", _where(group, kernel, test)]
        if test.rerun:
            lines += ["", *_fenced(test.rerun)]
    if len(found) > MOST_CAUSES:
        lines += ["", f"And {plural(len(found) - MOST_CAUSES, 'cause')} more."]
    return lines


def _where(group: Group, kernel: KernelRun, test: TestResult) -> str:
    kinds = Counter(each.verdict.value for _, each in group.tests)
    said = ", ".join(f"{count} {verdict}" for verdict, count in kinds.items())
    return f"{said} on {', '.join(map(_code, group.kernels))}, first {_code(test.test)} on {_code(kernel.name)}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Return a line of free text in which nothing is markup."""
    line = " ".join(text.split())
    line = line if len(line) <= _MOST_CHARACTERS else f"{line[: _MOST_CHARACTERS - 1]}…"
    return re.sub(r"([\\`*_{}\[\]<>#|~@&])", r"\\\1", _printable(line))


def _code(text: str) -> str:
    """Return text as code in a line, which a table bears as well."""
    line = _printable(" ".join(text.split())).replace("|", "¦")
    ticks = max((len(run) for run in re.findall("`+", line)), default=0) + 1
    space = " " if "`" in line else ""
    return f"{'`' * ticks}{space}{line}{space}{'`' * ticks}"


def _fenced(text: str) -> list[str]:
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return [fence, _printable(text), fence]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text)
