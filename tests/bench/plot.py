"""A plot of ratios by message size as SVG, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 220, 40, 50
"""Margins. That at the right holds the legend: a sample of the line, and about 24 letters."""


@dataclass(frozen=True)
class Curve:
    """One line of the plot.

    Attributes:
        label: for the legend.
        colour: of SVG.
        dashed: whether it is.
        points: ratio by size in bytes.
    """

    label: str
    colour: str
    dashed: bool
    points: dict[int, float]


def plot(title: str, curves: Sequence[Curve], unit: str) -> str:
    """Return the SVG document; ``unit`` is what has the ratio 1."""
    sizes = sorted({size for curve in curves for size in curve.points})
    values = [value for curve in curves for value in curve.points.values()]
    low = 10 ** math.floor(math.log10(min(*values, 1)))
    high = 10 ** math.ceil(math.log10(max(*values, 1.0001)))

    def x(size: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * _share(size, sizes[0], sizes[-1])

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * _share(value, low, high)

    parts = [_text(LEFT, TOP - 16, title, "start", 15)]
    for size in sizes:
        parts.append(_line(x(size), TOP, x(size), HEIGHT - BOTTOM, "#eee"))
        parts.append(_text(x(size), HEIGHT - BOTTOM + 18, _bytes(size), "middle"))
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = y(10.0**exponent)
        parts.append(_line(LEFT, at, WIDTH - RIGHT, at, "#000" if exponent == 0 else "#ccc"))
        parts.append(_text(LEFT - 8, at + 4, f"{10.0**exponent:g}", "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "bytes of message", "middle"))
    for number, curve in enumerate(curves):
        dashes = ' stroke-dasharray="6 4"' if curve.dashed else ""
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in sorted(curve.points.items()))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="2"{dashes}/>')
        parts += _legend(number, curve.label, curve.colour, dashes)
    parts += _legend(len(curves), unit, "#000", "")
    body = "\n".join(parts)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">'
    return f'{head}\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'


def _legend(number: int, label: str, colour: str, dashes: str) -> list[str]:
    at = TOP + 10 + 22 * number
    sample = _line(WIDTH - RIGHT + 14, at, WIDTH - RIGHT + 44, at, colour, 2, dashes)
    return [sample, _text(WIDTH - RIGHT + 50, at + 4, label, "start")]


def _share(value: float, low: float, high: float) -> float:
    return math.log(value / low) / math.log(high / low)


def _bytes(size: int) -> str:
    return f"{size // 1024} Ki" if size >= 1024 else str(size)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1, more: str = "") -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
