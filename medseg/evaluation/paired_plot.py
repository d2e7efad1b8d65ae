"""Every case as a line from model to model: what a table of means hides, who gains and who loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from medseg.evaluation.ticks import between, round_ticks

_WIDTH, _LEFT, _RIGHT, _TOP, _HEIGHT, _BOTTOM = 960, 64, 150, 20, 330, 56
_INDENT = 60  # of the first model
_WIDEST, _NARROWEST, _MANY = 300, 130, 7  # from one model to the next
_NAME = 24


def paired_plot(scores: Mapping[str, Mapping[str, float | None]]) -> str:
    """An SVG element: models side by side, a dot per case and model, a line per case, a bar at each mean.

    scores: model -> case -> Dice, or None where there is none. The axis spans the figures, and says where
    it starts.
    """
    models = list(scores)
    values = [value for column in scores.values() for value in column.values() if value is not None]
    ticks = round_ticks(min(values, default=0.0), max(values, default=1.0))
    y = between(ticks, _TOP + _HEIGHT, _TOP)
    step = min(_WIDEST, (_WIDTH - _LEFT - _RIGHT) / max(1, len(models) - 1)) if len(models) < _MANY else _NARROWEST
    width = _LEFT + _RIGHT + step * (len(models) - 1)
    places = {model: _LEFT + _INDENT + step * number for number, model in enumerate(models)}
    cases = list(dict.fromkeys(case for column in scores.values() for case in column))
    parts = [_axis(ticks, y, width)]
    parts += [_case(case, [(places[model], scores[model].get(case)) for model in models], y) for case in cases]
    for model, x in places.items():
        defined = [value for value in scores[model].values() if value is not None]
        if defined:
            mean = sum(defined) / len(defined)
            parts.append(
                f'<line class="mean" x1="{x - 17:.1f}" x2="{x + 17:.1f}" y1="{y(mean):.1f}" y2="{y(mean):.1f}"/>'
                f'<text class="figure" x="{x + 22:.1f}" y="{y(mean) + 4:.1f}">{mean:.3f}</text>'
            )
        short = model if len(model) <= _NAME else f"…{model[1 - _NAME :]}"
        parts.append(f'<text class="model" x="{x:.1f}" y="{_TOP + _HEIGHT + 24}">{escape(short)}</text>')
    return (
        f'<svg class="dots" viewBox="0 0 {width:.0f} {_TOP + _HEIGHT + _BOTTOM}" role="img" '
        f'style="max-width: {width:.0f}px" aria-label="Dice of every case, per model">{"".join(parts)}</svg>'
    )


def _axis(ticks: Sequence[float], y: Callable[[float], float], width: float) -> str:
    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{width - 10:.1f}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        f'<text class="side" x="{_LEFT - 8}" y="{y(t) + 4:.1f}">{t:.3g}</text>'
        for t in ticks
    )
    title = "mean Dice of a case" if ticks[0] == 0 else f"mean Dice of a case (axis starts at {ticks[0]:.3g})"
    return f'{lines}<text class="tick" x="{width / 2:.1f}" y="{_TOP + _HEIGHT + 46}">{title}</text>'


def _case(case: str, points: Sequence[tuple[float, float | None]], y: Callable[[float], float]) -> str:
    known = [(x, value) for x, value in points if value is not None]
    path = "L".join(f"{x:.1f} {y(value):.1f}" for x, value in known)
    told = f"{case}: {', '.join('–' if value is None else f'{value:.3f}' for _, value in points)}"
    dots = "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y(value):.1f}" r="4"/>' for x, value in known)
    line = f'<path class="case" d="M{path}"/>' if len(known) > 1 else ""
    return f"<g>{line}{dots}<title>{escape(told)}</title></g>"
