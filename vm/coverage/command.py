"""Measure what the suite reaches of AF_ALG: ``python -m vm coverage --kernel source:6.12+coverage [TEST…]``.

A run as of ``python -m vm test``, whose arguments it takes, on kernels that count
(kconfigs/coverage.config); at its end stand the lines that were not reached (vm/coverage/plugin.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from vm.run import command


def main(arguments: Sequence[str]) -> int:
    """Run it; return the exit status."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\nFurther options and tests are those of: python -m vm test --help")
        return 0
    return command.main(["-p", "vm.coverage.plugin", *arguments])
