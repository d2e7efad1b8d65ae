"""Bland-Altman plots: how far predicted volumes lie from true ones, and whether that depends on their size."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from medseg.evaluation.ticks import between, round_ticks

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 480, 300, 84, 26, 12, 44
_FEWEST = 3  # pairs below which a standard deviation says nothing
_LIMIT = 1.96


def bland_altman(pairs: Sequence[tuple[float, float, str]], unit: str, name: str) -> str:
    """An SVG element of (predicted, true, case): the difference of every pair over its mean.

    Lines: no difference, the mean difference and, from three pairs on, the limits of agreement, mean ± 1.96
    standard deviations (Bland & Altman 1986). Raises ValueError where there is no pair.
    """
    if not pairs:
        raise ValueError("nothing to plot")
    found, true = np.array([pair[:2] for pair in pairs], dtype=np.float64).T
    means, differences = (found + true) / 2, found - true
    bias = float(differences.mean())
    reach = _LIMIT * float(differences.std(ddof=1)) if len(pairs) >= _FEWEST else 0.0
    across, down = (
        round_ticks(float(means.min()), float(means.max())),
        round_ticks(min(float(differences.min()), bias - reach, 0.0), max(float(differences.max()), bias + reach, 0.0)),
    )
    x, y = between(across, _LEFT, _WIDTH - _RIGHT), between(down, _HEIGHT - _BOTTOM, _TOP)
    lines = [("zero", 0.0, ""), ("bias", bias, f"mean {_number(bias)}")]
    if reach:
        lines += [("limit", bias + side * reach, _number(bias + side * reach)) for side in (1, -1)]
    parts = [
        *(f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
          f'<text class="tick" x="{x(t):.1f}" y="{_HEIGHT - _BOTTOM + 17}">{_number(t)}</text>' for t in across),
        *(f'<text class="side" x="{_LEFT - 7}" y="{y(t) + 4:.1f}">{_number(t)}</text>' for t in down),
        *(_line(kind, y(value), text) for kind, value, text in lines),
        *(_dot(x(mean), y(difference), f"{case}: {_number(difference)} {unit} at {_number(mean)} {unit}")
          for mean, difference, (_, _, case) in zip(means, differences, pairs, strict=True)),
        f'<text class="tick" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 7}">mean of both [{unit}]</text>',
        f'<text class="tick" transform="translate(13 {(_TOP + _HEIGHT - _BOTTOM) / 2}) rotate(-90)">'
        f"predicted − reference [{unit}]</text>",
    ]  # fmt: skip
    told = f"Bland-Altman plot of {escape(name)}: mean difference {_number(bias)} {unit}"
    drawn = "".join(parts)
    return f'<svg class="dots" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{told}">{drawn}</svg>'


def _line(kind: str, y: float, text: str) -> str:
    drawn = f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return drawn + (f'<text class="told" x="{_WIDTH - _RIGHT - 3}" y="{y - 4:.1f}">{text}</text>' if text else "")


def _dot(x: float, y: float, title: str) -> str:
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(title)}</title></circle>'


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}".replace("-", "−")
