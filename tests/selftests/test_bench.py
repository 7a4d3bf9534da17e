"""What `make bench` says of AF_ALG: counts are exact, ratios are right, the plot is a picture."""

from __future__ import annotations

import os
import platform
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.afalg.trace import calls_of
from tests.bench.__main__ import COLOURS, curves, ratios, tables
from tests.bench.plot import RIGHT, WIDTH, Curve, plot

GETUID, WRITE = 102, 1


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls are the architecture's")
def test_every_call_is_counted_in_order() -> None:
    with open(os.devnull, "wb", buffering=0) as null:
        calls = calls_of(lambda: (os.getuid(), null.write(b"x"), os.getuid()))
    assert calls == [GETUID, WRITE, GETUID]


def test_a_function_that_makes_no_call_has_none() -> None:
    assert calls_of(lambda: sum(range(100))) == []


def way(name: str, **rates: float) -> dict[str, Any]:
    by_size = {size.removeprefix("b"): rate for size, rate in rates.items()}
    counts = {"descriptors": 2, "setup_calls": 6, "calls": 2, "setup": 0.5}
    return {"algorithm": "sha256", "way": name, "rates": by_size, **counts}


WAYS = [way("library", b16=200.0, b4096=10.0), way("AF_ALG", b16=50.0, b4096=20.0)]


def test_ratios_are_those_to_the_library() -> None:
    assert ratios(WAYS) == {("sha256", "AF_ALG"): {16: 0.25, 4096: 2.0}}


def test_tables_show_counts_and_ratios() -> None:
    text = tables(WAYS).splitlines()
    assert text[2].split() == ["sha256", "AF_ALG", "2", "6", "2", "25.0"]
    assert text[-1].split() == ["sha256", "AF_ALG", "0.25", "2.00"]


def test_plot_has_a_line_a_curve_and_higher_is_more() -> None:
    (curve,) = curves(WAYS)
    dashed = Curve("<spliced>", "#123456", True, {16: 0.5, 4096: 0.5})
    root = ET.fromstring(plot("title", [curve, dashed], "the unit"))
    lines = [
        [tuple(map(float, p.split(","))) for p in line.get("points", "").split()]
        for line in root
        if "polyline" in line.tag
    ]
    assert len(lines) == 2
    (x1, y1), (x2, y2) = lines[0]
    assert x1 < x2
    assert y1 > y2, "0.25 is below 2"
    assert lines[1][0][1] == lines[1][1][1]
    words = [text for text in root.iter() if text.tag.endswith("text")]
    assert [text.text for text in words if float(text.get("x", 0)) > WIDTH - RIGHT + 20] == [
        "sha256",
        "<spliced>",
        "the unit",
    ]


def test_legend_fits() -> None:
    """The longest label there is, in letters of 7.5 units, which is wide for the size of 12."""
    ways = [
        {**way(name, b16=1.0), "algorithm": algorithm}
        for algorithm in COLOURS
        for name in ("library", "AF_ALG", "AF_ALG, splice")
    ]
    assert max(50 + 7.5 * len(curve.label) for curve in curves(ways)) <= RIGHT
