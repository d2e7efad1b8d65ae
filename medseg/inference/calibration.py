"""From evidence to an expected Dice with an interval, learnt from a handful of held-out cases.

Three figures of each prediction (overlap, stability, confidence) are put on the logit scale,
standardised and averaged with equal weights, which for few cases predicts as well as fitted weights
and more robustly (Dawes, American Psychologist 34:571, 1979). A line with a slope of at least zero
leads from that score to the logit of the Dice. The interval is the jackknife+ (Barber et al., Annals
of Statistics 49:486, 2021): it assumes no distribution, only that new cases are like the held-out
ones; it covers about 90 %, provably never less than 80 %, and needs nine cases to be bounded at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.core.quality import Calibration, Evidence, Expected

Floats = NDArray[np.float64]

LEVEL = 0.90  # of the interval
LEAST = 4  # held-out cases from which a Dice is estimated
# Below nine cases the jackknife+ at 90 % is unbounded; the threshold leaves each case out once more.
LEAST_FOR_INTERVAL = 10
_FIGURES = 3
_WORST = 0.1  # the part of the cases that a review should not miss
_RECALL = 0.8  # and how much of that part it should hold
# One or two bad cases say too little about others: three are the fewest with which the list held four
# fifths of the worst tenth in every world of tests/inference/test_calibration.py.
_FEWEST_WORST = 3
# Dice is kept between these, as the logit of 0 and 1 is infinite: whether 0 or 0.01, it failed.
_LOWEST, _HIGHEST = 0.01, 0.999
_SHARE = 1e-3  # the figures of the evidence are kept this far from 0 and 1
_RIDGE = 1.0  # pseudo-cases that say: the score means nothing
_SPREAD = 1e-3  # a figure that varies less between the cases tells nothing


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """One fit per row: center and scale [B, F] of the figures, mean [B] of the logits, slope [B] >= 0."""

    center: Floats
    scale: Floats
    mean: Floats
    slope: Floats

    def at(self, figures: Floats) -> Floats:
        """The logit of the Dice that every fit expects for these figures [F] -> [B] or [N, F] -> [B, N]."""
        scores = _scores(figures, self.center, self.scale)
        if figures.ndim == 1:
            return self.mean + self.slope * scores
        return self.mean[:, None] + self.slope[:, None] * scores


class Estimator:
    """Expects a Dice of new predictions, as far as the held-out cases of a bundle's calibration allow.

    cases: how many of them can be learnt from; promises: whether they are enough for an interval;
    threshold: predictions whose lower bound does not lie above it belong on the review list (None
    without intervals).
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        known = [(figures_of(case.evidence), case.dice) for case in calibration.cases]
        pairs = [(figures, dice) for figures, dice in known if figures is not None and dice is not None]
        self.cases = len(pairs)
        self.promises = self.cases >= LEAST_FOR_INTERVAL
        self._figures = np.array([figures for figures, _ in pairs], dtype=np.float64).reshape(self.cases, _FIGURES)
        self._truth = _logit(np.array([dice for _, dice in pairs], dtype=np.float64), _LOWEST, _HIGHEST)
        self.threshold: float | None = None
        if self.cases >= LEAST:
            self._whole = _fit(self._figures, self._truth, np.ones((1, self.cases)))
            self._without = _fit(self._figures, self._truth, 1 - np.eye(self.cases))
            self._errors = np.abs(self._truth - np.diagonal(self._without.at(self._figures)))
        if self.promises:
            self.threshold = self._threshold()

    def expect(self, evidence: Evidence) -> Expected | None:
        """The expected Dice; None where nothing was found or fewer than four held-out cases are known."""
        figures = figures_of(evidence)
        if figures is None or self.cases < LEAST:
            return None
        dice = float(_dice(self._whole.at(figures))[0])
        if not self.promises:
            return Expected(dice, 0.0, 1.0)
        low, high = jackknife_plus(self._without.at(figures), self._errors)
        return Expected(dice, min(low, dice), max(high, dice))

    def reviewed(self) -> float | None:
        """The part of the held-out cases whose lower bound, given by all others, lies at or below the threshold."""
        if self.threshold is None:
            return None
        return float(np.mean([self._bound_without(place) <= self.threshold for place in range(self.cases)]))

    def _threshold(self) -> float:
        """The lower bound that four in five further cases like the worst held-out ones do not exceed.

        Each of the worst tenth (three cases at least) gets the lower bound that all others give it.
        The threshold is the conformal quantile of those m bounds (Vovk et al., Algorithmic Learning
        in a Random World, 2005): their highest where m < 9, which m in m + 1 such cases do not exceed.
        """
        count = max(_FEWEST_WORST, math.ceil(_WORST * self.cases))
        worst = np.argsort(self._truth, kind="stable")[:count]
        bounds = sorted(self._bound_without(int(place)) for place in worst)
        return bounds[min(count, math.ceil(_RECALL * (count + 1))) - 1]

    def _bound_without(self, place: int) -> float:
        others = np.arange(self.cases) != place
        figures, truth = self._figures[others], self._truth[others]
        without = _fit(figures, truth, 1 - np.eye(len(truth)))
        errors = np.abs(truth - np.diagonal(without.at(figures)))
        return jackknife_plus(without.at(self._figures[place]), errors)[0]


def figures_of(evidence: Evidence) -> Floats | None:
    """The evidence as logits [3], higher is better; None where nothing was found."""
    if evidence.confidence is None or not evidence.overlaps or not evidence.stability:
        return None
    overlap, stability = (np.mean(list(part.values())) for part in (evidence.overlaps, evidence.stability))
    return _logit(np.array([overlap, stability, evidence.confidence]), _SHARE, 1 - _SHARE)


def jackknife_plus(centers: Floats, errors: Floats) -> tuple[float, float]:
    """The interval for one Dice from leave-one-out predictions [N] and leave-one-out errors [N], both in logits.

    Bounds that the number of cases does not allow are 0 and 1.
    """
    n = len(errors)
    rank = math.ceil(LEVEL * (n + 1) - 1e-9)
    if rank > n:
        return 0.0, 1.0
    low = float(_dice(np.sort(centers - errors)[n - rank]))
    high = float(_dice(np.sort(centers + errors)[rank - 1]))
    # A bound at the ends of what logits are taken of (but for rounding) reaches whatever lies beyond.
    return (0.0 if low <= _LOWEST + 1e-9 else low), (1.0 if high >= _HIGHEST - 1e-9 else high)


def explain(estimator: Estimator) -> str:
    """What the calibration promises, in a sentence for the training's log and report."""
    n = estimator.cases
    if n < LEAST:
        return f"no Dice is expected of new scans: {n} held-out cases are too few to learn from ({LEAST} are needed)"
    if estimator.threshold is None:
        return (
            f"new scans get an expected Dice, learnt from {n} held-out cases, but no interval and no review by it: "
            f"{LEAST_FOR_INTERVAL} cases are needed"
        )
    return (
        f"new scans get an expected Dice with a {LEVEL:.0%} interval, learnt from {n} held-out cases; "
        f"those whose lower bound is {estimator.threshold:.2f} or less are marked for review, "
        f"about {estimator.reviewed() or 0:.0%} of scans like these"
    )


def _fit(figures: Floats, truth: Floats, kept: Floats) -> _Lines:
    """A line through the cases that each row of `kept` [B, N] (0 or 1) keeps: figures [N, F], truth [N]."""
    counts = kept.sum(axis=1, keepdims=True)
    center = kept @ figures / counts
    variance = np.maximum(kept @ figures**2 / counts - center**2, 0.0)
    scale = np.sqrt(variance)
    scores = _scores(figures, center, scale)  # [B, N], mean 0 over the kept
    mean = (kept @ truth) / counts[:, 0]
    together = (kept * scores * (truth - mean[:, None])).sum(axis=1)
    slope = np.maximum(together / ((kept * scores**2).sum(axis=1) + _RIDGE), 0.0)
    return _Lines(center, scale, mean, slope)


def _scores(figures: Floats, center: Floats, scale: Floats) -> Floats:
    """Mean of the standardised figures: [F] -> [B], [N, F] -> [B, N]."""
    told = scale > _SPREAD
    steepness = np.where(told, 1 / np.where(told, scale, 1.0), 0.0) / center.shape[1]
    offset = (center * steepness).sum(axis=1)
    if figures.ndim == 1:
        single: Floats = steepness @ figures - offset
        return single
    many: Floats = steepness @ figures.T - offset[:, None]
    return many


def _logit(share: Floats, lowest: float, highest: float) -> Floats:
    kept = np.clip(share, lowest, highest)
    logits: Floats = np.log(kept / (1 - kept))
    return logits


def _dice(logit: Floats) -> Floats:
    share: Floats = 1 / (1 + np.exp(-np.asarray(logit, dtype=np.float64)))
    return share
