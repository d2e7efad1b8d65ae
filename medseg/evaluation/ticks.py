"""Axes of the plots that are drawn by hand: round numbers, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence


def round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers from below `low` to above `high`."""
    width = high - low or abs(high) or 1.0
    rough = width / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * place for place in range(first, max(last, first + 1) + 1)]


def between(ticks: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Where a value lies between `start` (the first tick) and `end` (the last)."""
    return lambda value: start + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start)
