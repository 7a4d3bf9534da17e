"""What AF_ALG costs beside a library in user space: ``python -m tests.bench [SPEC]``, in a guest of that kernel.

Prints system calls and descriptors of an operation, what getting ready costs, and throughput by message size as a ratio
to the library's, all from one run. The same goes to ``results/bench-KERNEL.json``, and as a plot to ``….svg``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.plot import Curve, plot

RESULTS = Path(__file__).parents[2] / "results"
LIBRARY = "library"
COLOURS = {"sha256": "#1b6ca8", "hmac(sha256)": "#7a4ea0", "cbc(aes)": "#b3541e", "gcm(aes)": "#2e7d32"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    command = [sys.executable, "-m", "vm", "shell", "--command", "python -m tests.bench.measure", "--timeout", "900"]
    done = subprocess.run([*command, "--", *words], stdout=subprocess.PIPE, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("[{")), "")
    if done.returncode or not line:
        print(done.stdout, end="", file=sys.stderr)
        return done.returncode or 1
    ways = json.loads(line)
    print(tables(ways))
    kernel = "".join(words) or "newest"
    name = "bench-" + "".join(letter if letter.isalnum() or letter in ".+-" else "-" for letter in kernel)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(ways, indent=1) + "\n")
    title = f"AF_ALG of {kernel}: throughput, the library's being 1"
    (RESULTS / f"{name}.svg").write_text(plot(title, curves(ways), LIBRARY))
    print(f"\n{RESULTS / name}.svg, {name}.json")
    return 0


def ratios(ways: Sequence[Mapping[str, object]]) -> dict[tuple[str, str], dict[int, float]]:
    """Return, by algorithm and way, operations a second over those of the library, by message size."""
    rates = {(str(way["algorithm"]), str(way["way"])): way["rates"] for way in ways}
    found = {}
    for (algorithm, way), own in rates.items():
        base = rates[algorithm, LIBRARY]
        if way != LIBRARY:
            assert isinstance(own, dict)
            assert isinstance(base, dict)
            found[algorithm, way] = {int(size): rate / base[size] for size, rate in own.items()}
    return found


def tables(ways: Sequence[Mapping[str, object]]) -> str:
    """Return both tables."""
    lines = [f"{'':30} {'descriptors':>11} {'set-up calls':>13} {'calls each':>11} {'set-up takes':>13}"]
    for way in ways:
        rates = way["rates"]
        assert isinstance(rates, dict)
        first = float(next(iter(rates.values())))
        assert isinstance(way["setup"], float)
        lines.append(
            f"{way['algorithm']!s:14} {way['way']!s:15} {way['descriptors']:>11} {way['setup_calls']:>13} "
            f"{way['calls']:>11} {way['setup'] * first:>13.1f}"
        )
    lines += ["", "calls each: of one operation; set-up takes: so many operations on the shortest message", ""]
    found = ratios(ways)
    sizes = list(next(iter(found.values())))
    lines += ["throughput, the library's being 1, by bytes of message"]
    lines.append(f"{'':30}" + "".join(f"{size:>8}" for size in sizes))
    for (algorithm, name), by_size in found.items():
        lines.append(f"{algorithm:14} {name:15}" + "".join(f"{by_size[size]:>8.2f}" for size in sizes))
    return "\n".join(lines)


def curves(ways: Sequence[Mapping[str, object]]) -> list[Curve]:
    """Return what the plot shows."""
    return [
        Curve(way.replace("AF_ALG", algorithm), COLOURS[algorithm], "splice" in way, by_size)
        for (algorithm, way), by_size in ratios(ways).items()
    ]


if __name__ == "__main__":
    sys.exit(main())
