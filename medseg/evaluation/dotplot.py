"""Every case as a dot: an SVG drawn by hand, so that it prints sharp and follows the page's colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import quantiles
from typing import Any

_WIDTH, _LEFT, _RIGHT = 960, 170, 150
_RADIUS = 5.0
_CROWDED = 200
_BOX, _FEWEST_IN_BOX = 26.0, 4


def dot_plot(cases: Sequence[dict[str, Any]], labels: Sequence[str]) -> str:
    """Dice of every case, one line of dots per label, as an SVG element (text).

    cases: as `report.case_table` gives them. Dots that would cover each other are stacked. The axis
    starts at 0, or higher (it says where) when every case lies above 0.6. Cases where one mask is
    empty are drawn as crosses at 0. The box holds the middle half of the cases, the long tick is the
    mean, the short one the median.
    """
    rows = [(name, _values(cases, name)) for name in labels]
    lowest = min((value for _, values in rows for value, _, _ in values), default=0.0)
    start = int(lowest * 10 - 1) / 10 if lowest > 0.6 else 0.0
    radius = _RADIUS if max((len(values) for _, values in rows), default=0) <= _CROWDED else 2.5
    parts, top = [], 16.0
    for name, values in rows:
        drawn, height = _line(name, values, start, radius, top)
        parts.append(drawn)
        top += height
    axis = _axis(start, top)
    return (
        f'<svg class="dots" viewBox="0 0 {_WIDTH} {top + 44:.0f}" role="img" '
        f'aria-label="Dice of every case, per label">{axis}{"".join(parts)}</svg>'
    )


def _values(cases: Sequence[dict[str, Any]], name: str) -> list[tuple[float, str, str]]:
    """(Dice, case, reason) of every case where the label is defined, sorted."""
    found = [(case["labels"][name], case["id"]) for case in cases if name in case["labels"]]
    return sorted((figures["dice"], case, figures["reason"]) for figures, case in found if figures["dice"] is not None)


def _x(value: float, start: float) -> float:
    return _LEFT + (value - start) / (1 - start) * (_WIDTH - _LEFT - _RIGHT)


def _line(
    name: str, values: Sequence[tuple[float, str, str]], start: float, radius: float, top: float
) -> tuple[str, float]:
    """One label's dots and its height in the plot."""
    levels = _stack([_x(value, start) for value, _, _ in values], 2 * radius)
    step = 1.7 * radius
    height = max(46.0, step * (max(levels, default=0) - min(levels, default=0)) + 32)
    middle = top + height / 2
    offset = (max(levels, default=0) + min(levels, default=0)) / 2
    parts = [
        f'<text class="name" x="{_LEFT - 18}" y="{middle:.1f}">{escape(_short(name))}</text>',
        f'<line class="base" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{middle:.1f}" y2="{middle:.1f}"/>',
    ]
    for (value, case, reason), level in zip(values, levels, strict=True):
        x, y = _x(value, start), middle + step * (level - offset)
        parts.append(_mark(x, y, radius, reason, f"{case}: {value:.3f}{f' ({reason})' if reason else ''}"))
    if values:
        parts.insert(2, _box([value for value, _, _ in values], start, middle))
        parts.append(_averages([value for value, _, _ in values], start, middle, height))
    else:
        parts.append(f'<text class="figure" x="{_LEFT + 12}" y="{middle - 10:.1f}">no case has this label</text>')
    return f"<g>{''.join(parts)}</g>", height


def _mark(x: float, y: float, radius: float, reason: str, title: str) -> str:
    told = f"<title>{escape(title)}</title>"
    if reason:
        a, b, c, d = x - radius, x + radius, y - radius, y + radius
        return f'<path class="cross" d="M{a:.1f} {c:.1f}L{b:.1f} {d:.1f}M{a:.1f} {d:.1f}L{b:.1f} {c:.1f}">{told}</path>'
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{told}</circle>'


def _box(values: Sequence[float], start: float, middle: float) -> str:
    """The middle half of the cases; below four cases there is none."""
    if len(values) < _FEWEST_IN_BOX:
        return ""
    low, _, high = quantiles(values, n=4, method="inclusive")
    left, right = _x(low, start), _x(high, start)
    return (
        f'<rect class="box" x="{left:.1f}" y="{middle - _BOX / 2:.1f}" width="{max(1.0, right - left):.1f}" '
        f'height="{_BOX}" rx="3"/>'
    )


def _averages(values: Sequence[float], start: float, middle: float, height: float) -> str:
    mean = sum(values) / len(values)
    ordered, half = sorted(values), len(values) // 2
    median = ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
    reach = height / 2 - 4
    lines = "".join(
        f'<line class="{kind}" x1="{_x(value, start):.1f}" x2="{_x(value, start):.1f}" '
        f'y1="{middle - part * reach:.1f}" y2="{middle + part * reach:.1f}"/>'
        for kind, value, part in (("mean", mean, 1.0), ("median", median, 0.6))
    )
    x = _WIDTH - _RIGHT + 22
    return (
        f'{lines}<text class="figure" x="{x}" y="{middle - 8:.1f}">mean {mean:.3f}</text>'
        f'<text class="figure faint" x="{x}" y="{middle + 9:.1f}">median {median:.3f}</text>'
    )


def _axis(start: float, bottom: float) -> str:
    step = 0.2 if start == 0 else 0.1 if start < 0.85 else 0.05
    ticks = [start + place * step for place in range(round((1 - start) / step) + 1)]
    lines = "".join(
        f'<line class="grid" x1="{_x(tick, start):.1f}" x2="{_x(tick, start):.1f}" y1="8" y2="{bottom:.1f}"/>'
        f'<text class="tick" x="{_x(tick, start):.1f}" y="{bottom + 18:.1f}">{tick:.2g}</text>'
        for tick in ticks
    )
    title = "Dice" if start == 0 else f"Dice (axis starts at {start:.2g})"
    return f'{lines}<text class="tick" x="{_x((1 + start) / 2, start):.1f}" y="{bottom + 38:.1f}">{title}</text>'


def _stack(places: Sequence[float], width: float) -> list[int]:
    """For every place (sorted) the level nearest to 0 (0, -1, 1, -2, …) that keeps `width` of its neighbours."""
    last: dict[int, float] = {}
    levels: list[int] = []
    order = _around(len(places))
    for place in places:
        level = next(n for n in order if place - last.get(n, float("-inf")) >= width)
        last[level] = place
        levels.append(level)
    return levels


def _around(most: int) -> list[int]:
    """0, -1, 1, -2, 2, … up to `most` levels."""
    return [(place + 1) // 2 * (-1 if place % 2 else 1) for place in range(most)]


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
