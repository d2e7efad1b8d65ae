"""Models in two dimensions: Dice against cost, and against the number of labelled cases; SVG drawn by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 960, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 16, 52
_KINDS = 6  # colours (classes m0 … m5) and markers before they repeat
_MARKERS = ("circle", "square", "diamond", "triangle", "down", "ring")
_APART = 17.0  # pixels between two names
_SHIFT, _BESIDE = 22.0, 9.0  # pixels from one curve's marks to the next one's, and to their dots

Place = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Point:
    """A model: what it costs, how good it is, the ends of its interval where it has one."""

    name: str
    cost: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """A model over numbers of cases.

    points: (cases, mean, low or None, high or None); dots: (cases, value) of single trainings; fitted:
    (cases, value) along the fitted law.
    """

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]
    dots: Sequence[tuple[float, float]] = ()
    fitted: Sequence[tuple[float, float]] = ()


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other beats at no higher cost, cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.value)):
        if not front or point.value > front[-1].value:
            front.append(point)
    return front


def cost_plot(points: Sequence[Point], cost: str, aria: str) -> str:
    """Dice of every model against a cost (logarithmic, named `cost`), with their Pareto front, as an SVG element."""
    ends = [end for p in points for end in (p.value, p.low, p.high) if end is not None]
    x, x_ticks = _logarithmic([p.cost for p in points], 1.6)
    y, y_ticks = _linear(ends)
    parts = [_axes((x, x_ticks), (y, y_ticks), cost)]
    front = pareto(points)
    if front:
        steps = [f"M{x(front[0].cost):.1f} {y(front[0].value):.1f}"]
        steps += [f"H{x(p.cost):.1f}V{y(p.value):.1f}" for p in front[1:]]
        parts.append(f'<path class="front" d="{"".join(steps)}H{_WIDTH - _RIGHT}"><title>Pareto front</title></path>')
    for number, point in enumerate(points):
        told = f"{point.name}: Dice {point.value:.3f} at {_figure(point.cost)} {cost}"
        parts.append(_whisker(x(point.cost), point.low, point.high, y, number))
        parts.append(_marker(x(point.cost), y(point.value), number, told))
    parts += _names([(p.name, x(p.cost) + 10, y(p.value) - 9) for p in points])  # above the front's line
    return _svg(parts, aria)


def curve_plot(curves: Sequence[Curve], unit: str, aria: str) -> str:
    """Dice over the number of cases (logarithmic) of every model, as an SVG element.

    Faint dots are single trainings, markers their means, whiskers intervals, dashed lines the fitted laws.
    """
    ends = [end for c in curves for _, *values in c.points for end in values if end is not None]
    ends += [value for c in curves for _, value in c.dots]
    numbers = sorted({n for c in curves for n, *_ in c.points})
    reach = [n for c in curves for n, _ in c.fitted] or numbers
    x, _ = _logarithmic([*numbers, *reach], 1.12)
    y, y_ticks = _linear(ends)
    parts = [_axes((x, numbers), (y, y_ticks), unit)]
    for number, curve in enumerate(curves):
        shift = _SHIFT * (number - (len(curves) - 1) / 2)  # so that whiskers do not cover each other
        if curve.fitted:
            parts.append(_line(curve.fitted, x, y, f"fit m{number % _KINDS}"))
        parts += [
            f'<circle class="run m{number % _KINDS}" cx="{x(n) + shift + _BESIDE:.1f}" cy="{y(value):.1f}" r="3">'
            f"<title>{escape(curve.name)}, {n:g} cases: {value:.3f}</title></circle>"
            for n, value in curve.dots
        ]
        for n, mean, low, high in curve.points:
            parts.append(_whisker(x(n) + shift, low, high, y, number))
            parts.append(_marker(x(n) + shift, y(mean), number, f"{curve.name}, {n:g} cases: {mean:.3f}"))
    lasts = [(c.name, _WIDTH - _RIGHT + 12.0, y(_end(c)) + 5) for c in curves if c.points]
    parts += _names(lasts)
    return _svg(parts, aria)


def _end(curve: Curve) -> float:
    return curve.fitted[-1][1] if curve.fitted else curve.points[-1][1]


# ---- axes -----------------------------------------------------------------------------------


def _logarithmic(values: Sequence[float], room: float) -> tuple[Place, list[float]]:
    """value -> x, and ticks at 1, 2, 5 times powers of ten; `room` is a factor beyond both ends."""
    low, high = math.log10(min(values) / room), math.log10(max(values) * room)

    def place(value: float) -> float:
        return _LEFT + (math.log10(value) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= math.log10(m * 10.0**p) <= high]
    return place, ticks if len(ticks) <= 10 else ticks[::3]


def _linear(values: Sequence[float]) -> tuple[Place, list[float]]:
    """Dice -> y within 0..1, and ticks at round values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    margin = max(0.08 * (high - low), 0.01)
    low, high = max(0.0, low - margin), min(1.0, high + margin)
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 7)

    def place(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    return place, [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axes(across: tuple[Place, Sequence[float]], up: tuple[Place, Sequence[float]], unit: str) -> str:
    (x, x_ticks), (y, y_ticks) = across, up
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in x_ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 20}">{_figure(tick)}</text>')
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="side" x="{_LEFT - 8}" y="{y(tick) + 4:.1f}">{tick:.3g}</text>')
    parts.append(f'<text class="tick" x="{(_LEFT + right) / 2}" y="{bottom + 42}">{escape(unit)}</text>')
    parts.append(f'<text class="side" x="{_LEFT - 8}" y="{_TOP + 2}">Dice</text>')
    return "".join(parts)


# ---- marks ----------------------------------------------------------------------------------


def _marker(x: float, y: float, number: int, told: str) -> str:
    """Models differ by shape as well as by colour."""
    kind = f'class="mark m{number % _KINDS}"'
    title = f"<title>{escape(told)}</title>"
    shape, r = _MARKERS[number % _KINDS], 6.0
    if shape in ("circle", "ring"):
        ring = ' style="fill: var(--card)"' if shape == "ring" else ""
        return f'<circle {kind}{ring} cx="{x:.1f}" cy="{y:.1f}" r="{r}">{title}</circle>'
    corners = {
        "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
        "diamond": ((0, -7), (7, 0), (0, 7), (-7, 0)),
        "triangle": ((0, -7), (6.5, 5), (-6.5, 5)),
        "down": ((0, 7), (6.5, -5), (-6.5, -5)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {kind} points="{points}">{title}</polygon>'


def _whisker(x: float, low: float | None, high: float | None, y: Place, number: int) -> str:
    if low is None or high is None:
        return ""
    # Ends beyond 0 or 1 are no Dice: the whisker stops at the plot's edge.
    top, bottom = max(y(high), _TOP), min(y(low), _HEIGHT - _BOTTOM)
    kind = f'class="whisker m{number % _KINDS}"'
    path = f"M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 5:.1f} {top:.1f}H{x + 5:.1f}M{x - 5:.1f} {bottom:.1f}H{x + 5:.1f}"
    return f'<path {kind} d="{path}"><title>{low:.3f} … {high:.3f}</title></path>'


def _line(points: Sequence[tuple[float, float]], x: Place, y: Place, kind: str) -> str:
    inside = [(x(n), min(max(y(value), _TOP), _HEIGHT - _BOTTOM)) for n, value in points]
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in inside)
    return f'<path class="{kind}" d="M{path}"/>'


def _names(places: Sequence[tuple[str, float, float]]) -> list[str]:
    """Names beside their marks, in their colour and order, moved down until no two cover each other."""
    drawn: list[tuple[float, float, float]] = []
    parts = []
    for number, (name, x, wished) in sorted(enumerate(places), key=lambda place: place[1][2]):
        width, y = 7.6 * len(name), wished
        while any(abs(y - other) < _APART and x < end and begin < x + width for begin, end, other in drawn):
            y += 2.0
        drawn.append((x, x + width, y))
        parts.append(f'<text class="label m{number % _KINDS}" x="{x:.1f}" y="{y:.1f}">{escape(name)}</text>')
    return parts


def _svg(parts: Sequence[str], aria: str) -> str:
    head = f'<svg class="dots" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(aria)}">'
    return f"{head}{''.join(parts)}</svg>"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
