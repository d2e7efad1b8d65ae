"""What more labelled cases are worth: a curve over their number, a law fitted to it, and how sure that is.

Witnesses of a curve are independent draws of its training cases (subsets), or seeds where there is one
subset only; several trainings of one draw are averaged first. Below three witnesses no interval is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 3  # witnesses for an interval, and numbers of cases for a law
LEVEL = 0.95
Witness = Mapping[int, float]  # number of cases -> Dice


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Dice at a number of cases: the mean over witnesses and Student's interval, None below three of them."""

    cases: int
    mean: float
    low: float | None
    high: float | None
    witnesses: int


@dataclass(frozen=True, slots=True)
class Law:
    """Dice(n) = top - scale * n^-exponent, the power law of errors (Hestness 2017) with a ceiling."""

    top: float
    scale: float
    exponent: float

    def __call__(self, cases: float) -> float:
        return self.top - self.scale * float(cases**-self.exponent)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What `more` cases than `start` are worth: gain in Dice, plus or minus half a 95 % interval, None if unknown."""

    start: int
    more: int
    gain: float
    plus_minus: float | None
    note: str = ""


def curve(witnesses: Sequence[Witness]) -> list[CurvePoint]:
    """The mean at every number of cases, over the witnesses that have it, with t intervals from three on."""
    numbers = sorted({n for witness in witnesses for n in witness})
    points = []
    for n in numbers:
        values = np.array([witness[n] for witness in witnesses if n in witness])
        half = None if len(values) < FEWEST else _half_width(float(values.std(ddof=1)) / math.sqrt(len(values)), values)
        mean = float(values.mean())
        low, high = (None, None) if half is None else (max(0.0, mean - half), min(1.0, mean + half))
        points.append(CurvePoint(n, mean, low, high, len(values)))
    return points


def fit_law(points: Sequence[tuple[float, float]], ceiling: float | None = None) -> Law:
    """The law that comes closest (least squares) to (cases, Dice) points; with `ceiling`, its top is given.

    Dice neither falls with more cases nor exceeds 1.
    """
    from scipy.optimize import least_squares

    n, dice = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))

    def misses(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        scale, exponent = parameters[:2]
        top = parameters[2] if ceiling is None else ceiling
        return np.asarray(top - scale * n**-exponent - dice)

    best = min(1.0, float(dice.max()))
    start, low, high = [max(best - float(dice.min()), 0.01), 0.5], [0.0, 0.02], [5.0, 3.0]
    if ceiling is None:
        # A ceiling below what was reached on average would let the curve fall.
        start, low, high = [*start, min(1.0, best + 0.02)], [*low, 0.0], [*high, 1.0 + 1e-9]
    found = least_squares(misses, start, bounds=(low, high)).x
    return Law(float(found[2]) if ceiling is None else ceiling, float(found[0]), float(found[1]))


def expect(witnesses: Sequence[Witness], more: int) -> Expectation | None:
    """The gain in Dice of `more` cases beyond the largest number that was tried; None below three numbers.

    Two laws are fitted, one with a free ceiling and one that climbs to 1. The gain is the mean of theirs;
    its uncertainty reaches over both laws' jackknife intervals over witnesses, so that not knowing
    where the curve ends counts, too, and grows by what the law misses of the means beyond their own error.
    """
    numbers = sorted({n for witness in witnesses for n in witness})
    if len(numbers) < FEWEST:
        return None
    start = numbers[-1]
    gains = [_gain(ceiling, start, more) for ceiling in (None, 1.0)]
    estimates = [gain(witnesses) for gain in gains]
    middle = sum(estimates) / len(estimates)
    if len(witnesses) < FEWEST:
        note = f"no interval: {len(witnesses)} draws of the training cases are fewer than {FEWEST}"
        return Expectation(start, more, middle, None, note)
    reach = 0.0
    for gain, estimate in zip(gains, estimates, strict=True):
        left_out = np.array([gain([*witnesses[:i], *witnesses[i + 1 :]]) for i in range(len(witnesses))])
        count = len(left_out)
        error = math.sqrt((count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum()))
        reach = max(reach, abs(estimate - middle) + _half_width(error, left_out))
    return Expectation(start, more, middle, math.hypot(reach, _misfit(witnesses)))


def _misfit(witnesses: Sequence[Witness]) -> float:
    """How far (root mean square) the means lie from the law beyond what their standard errors explain."""
    law = fit_law(means(witnesses))
    missed, explained = [], []
    for point in curve(witnesses):
        values = np.array([witness[point.cases] for witness in witnesses if point.cases in witness])
        missed.append((point.mean - law(point.cases)) ** 2)
        explained.append(float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0)
    return math.sqrt(max(0.0, float(np.mean(missed)) - float(np.mean(explained))))


def _gain(ceiling: float | None, start: int, more: int) -> Callable[[Sequence[Witness]], float]:
    def gain(witnesses: Sequence[Witness]) -> float:
        law = fit_law(means(witnesses), ceiling)
        return law(start + more) - law(start)

    return gain


def means(witnesses: Sequence[Witness]) -> list[tuple[float, float]]:
    """(cases, mean Dice over the witnesses) at every number of cases."""
    return [(float(point.cases), point.mean) for point in curve(witnesses)]


def _half_width(error: float, values: NDArray[np.float64]) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
