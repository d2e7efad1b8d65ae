"""How far cases spread, drawn by hand as SVG: a dot a case on a line a quantity, and a bar a case for intensities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT = 960, 170, 150
_RADIUS, _LEVELS = 4.2, 5
_LOG = 20.0  # largest over smallest, from which an axis is logarithmic
_BARS = 170.0  # height of the bars
_MOST_TICKS = 7


@dataclass(frozen=True, slots=True)
class Dot:
    """One case's value; `odd` ones stand out."""

    value: float
    case: str
    odd: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """One quantity: its name, what the cases have, and (lowest, highest) of the training cases where known."""

    name: str
    dots: Sequence[Dot]
    trained: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One case's intensities: the 0.5th, 50th and 99.5th percentile."""

    low: float
    middle: float
    high: float
    case: str
    odd: bool = False


def strips(rows: Sequence[Strip], unit: str, aria: str) -> str:
    """One line of dots a quantity over a common axis, as an SVG element; logarithmic where they span a factor of 20.

    The tick is the median; the shaded part is the training cases' range.
    """
    values = [dot.value for row in rows for dot in row.dots]
    values += [end for row in rows for end in row.trained or ()]
    place, ticks = _axis(values)
    parts: list[str] = []
    top = 14.0
    for row in rows:
        drawn, height = _strip(row, place, top, unit)
        parts.append(drawn)
        top += height
    for tick in ticks:
        x = place(tick)
        parts.insert(0, f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{top:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{top + 18:.1f}">{_figure(tick)}</text>')
    parts.append(f'<text class="tick" x="{_WIDTH - _RIGHT + 64}" y="{top + 18:.1f}">{escape(unit)}</text>')
    return _svg(parts, top + 26, aria)


def bars(cases: Sequence[Bar], trained: tuple[float, float] | None, aria: str) -> str:
    """One vertical bar a case, sorted by the middle one: outer percentiles and median, as an SVG element.

    The axis is compressed (inverse hyperbolic sine) where some cases are far brighter than most.
    """
    ends = [end for case in cases for end in (case.low, case.high)] + list(trained or ())
    shrink = _shrinking(ends)
    low, high = shrink(min(ends)), shrink(max(ends))
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return 10 + _BARS * (high - shrink(value)) / span

    left, right = 80.0, 20.0
    step = (_WIDTH - left - right) / max(len(cases), 8)
    parts = []
    if trained is not None:
        top, height = y(trained[1]), max(1.0, y(trained[0]) - y(trained[1]))
        parts.append(_rect("trained", (left, _WIDTH - left - right), (top, height)))
    for tick in _round_ticks(min(ends), max(ends), shrink):
        parts.append(f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="side" x="{left - 8}" y="{y(tick) + 4:.1f}">{_figure(tick)}</text>')
    thick = min(9.0, 0.6 * step)
    for number, case in enumerate(sorted(cases, key=lambda case: (case.middle, case.case))):
        x = left + (number + 0.5) * step
        told = f"<title>{escape(case.case)}: {case.low:.4g} … {case.middle:.4g} … {case.high:.4g}</title>"
        height = max(1.5, y(case.low) - y(case.high))
        parts.append(
            f"<g>{_rect('bar odd' if case.odd else 'bar', (x - thick / 2, thick), (y(case.high), height))}"
            f'<line class="mean" x1="{x - thick / 2:.1f}" x2="{x + thick / 2:.1f}" '
            f'y1="{y(case.middle):.1f}" y2="{y(case.middle):.1f}"/>{told}</g>'
        )
    return _svg(parts, _BARS + 24, aria)


def _strip(row: Strip, place: Callable[[float], float], top: float, unit: str) -> tuple[str, float]:
    """One line of dots and its height."""
    ordered = sorted(row.dots, key=lambda dot: (dot.value, dot.case))
    levels = _stack([place(dot.value) for dot in ordered])
    height = 34.0 + 1.5 * _RADIUS * max(levels, default=0)
    base = top + height - 14
    parts = [
        f'<text class="name" x="{_LEFT - 18}" y="{base:.1f}">{escape(_short(row.name))}</text>',
        f'<line class="base" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base:.1f}" y2="{base:.1f}"/>',
    ]
    if row.trained is not None:
        x0, x1 = place(row.trained[0]), place(row.trained[1])
        parts.insert(0, _rect("trained", (x0, max(2.0, x1 - x0)), (base - 8, 16)))
    for dot, level in zip(ordered, levels, strict=True):
        parts.append(
            f'<circle class="dot{" odd" if dot.odd else ""}" cx="{place(dot.value):.1f}" '
            f'cy="{base - 1.5 * _RADIUS * level:.1f}" r="{_RADIUS}"><title>{escape(dot.case)}: {_figure(dot.value)} '
            f"{escape(unit)}</title></circle>"
        )
    middle = ordered[len(ordered) // 2].value
    x = place(middle)
    parts.append(f'<line class="mean" x1="{x:.1f}" x2="{x:.1f}" y1="{base - 9:.1f}" y2="{base + 9:.1f}"/>')
    ends = f"{_figure(ordered[0].value)} … {_figure(ordered[-1].value)}"
    if ordered[0].value == ordered[-1].value:
        ends = _figure(middle)
    parts.append(f'<text class="figure" x="{_WIDTH - _RIGHT + 18}" y="{base + 4:.1f}">{ends}</text>')
    return "".join(parts), height


def _axis(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """value -> x, and the ticks."""
    low, high = min(values), max(values)
    log = low > 0 and high / low > _LOG
    scale: Callable[[float], float] = math.log10 if log else float
    if not log:
        low = 0.0 if low >= 0 and low < 0.7 * high else low
    first, last = scale(low), scale(high)
    pad = 0.03 * (last - first) if last > first else max(abs(first), 1.0) * 0.5
    first, last = (first if not log and low == 0 else first - pad), last + pad

    def place(value: float) -> float:
        return _LEFT + (scale(value) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    ends = (10**first, 10**last) if log else (first, last)
    return place, _log_ticks(*ends) if log else _round_ticks(*ends, float)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    whole = [tick for tick in inside if math.log10(tick) == round(math.log10(tick))]
    return inside if len(inside) <= _MOST_TICKS else whole[:: len(whole) // _MOST_TICKS + 1]


def _round_ticks(low: float, high: float, shrink: Callable[[float], float]) -> list[float]:
    """Round values between two; powers of ten where the axis is compressed."""
    if shrink(1e6) < 1e5:
        powers = [sign * 10.0**p for p in range(0, 12, 1) for sign in (-1, 1)]
        return [0.0] * (low <= 0 <= high) + sorted(tick for tick in powers if low <= tick <= high)
    rough = (high - low) / 5 or 1.0
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 5, 10) if m * size >= rough)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _shrinking(ends: Sequence[float]) -> Callable[[float], float]:
    tops = sorted(abs(end) for end in ends if end)
    spread = tops[-1] / tops[len(tops) // 2] if tops else 1.0
    return math.asinh if spread > 3 * _LOG else float


def _stack(places: Sequence[float]) -> list[int]:
    """Levels that keep dots apart, upwards; the highest takes all that find no room."""
    free = [-math.inf] * _LEVELS
    levels = []
    for x in places:
        level = next((n for n in range(_LEVELS) if x - free[n] >= 1.7 * _RADIUS), _LEVELS - 1)
        free[level] = x
        levels.append(level)
    return levels


def _svg(parts: Sequence[str], height: float, aria: str) -> str:
    head = f'<svg class="dots" viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(aria)}">'
    return f"{head}{''.join(parts)}</svg>"


def _rect(kind: str, across: tuple[float, float], down: tuple[float, float]) -> str:
    """across: x and width; down: y and height."""
    (x, width), (y, height) = across, down
    return f'<rect class="{kind}" x="{x:.1f}" width="{width:.1f}" y="{y:.1f}" height="{height:.1f}"/>'


def _short(name: str) -> str:
    return name if len(name) <= 21 else name[:20] + "…"


def _figure(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
