"""Why AF_ALG does not work on this kernel, type by type; what else tests use, and which debugging aids the kernel has.

``python -m tests.doctor`` looks at the kernel it runs on, ``python -m tests.doctor SPEC`` at that kernel in a guest
(``running``: here). Its exit status is 0 when the socket family and all four types work, else 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tests.doctor.absence import fips_mode
from tests.doctor.aids import examine_aids
from tests.doctor.features import examine_features
from tests.doctor.findings import WORKS, Finding, examine, restriction
from tests.doctor.system import System, this_system


def report(
    system: System, findings: Sequence[Finding], aids: Sequence[Finding], features: Sequence[Finding] = ()
) -> str:
    """Return everything as text for people."""
    facts = [
        f"kernel   {system.release}",
        f"config   {system.config_source}",
        f"user     {'root' if os.geteuid() == 0 else f'uid {os.geteuid()}'}",
    ]
    if restricted := restriction(system):
        facts.append(restricted)
    if fips_mode(system):
        facts.append("FIPS mode: only approved algorithms can be bound, and weak keys are refused")
    lines = [*facts, "", *_table(findings)]
    if features:
        lines += ["", "what tests use beside it", *_table(features)]
    return "\n".join([*lines, "", "debugging aids", *_table(aids)])


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table for this kernel, or for the one that ``arguments`` names (a spec, see vm/kernels/resolve.py).

    Returns:
        0 when the family and all types work, 1 when not, 4 when no such kernel can be had or booted.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__, end="")
        return 0
    if arguments:
        # Only now: in a guest none of this is needed.
        from vm.shell import shell

        return shell.main(["--command", "python -m tests.doctor", "--timeout", "600", "--", *arguments])
    system = this_system()
    findings = examine(system)
    print(report(system, findings, examine_aids(system), examine_features(system)))
    return 0 if all(finding.state == WORKS for finding in findings) else 1


def _table(findings: Sequence[Finding]) -> list[str]:
    what = max(len(finding.what) for finding in findings)
    state = max(len(finding.state) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"  {finding.what:{what}}  {finding.state:{state}}  {finding.detail}".rstrip())
        if finding.advice:
            lines.append(f"  {'':{what}}  {'':{state}}  → {finding.advice}")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
