"""How sure a mean is: spread over cases, and a bootstrap interval over patients where it means something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.score import CaseScores

LEVEL = 0.95
# A percentile bootstrap covers far less than it promises on few patients (71 % at 12, 92.5 % at 50,
# with 8 % of the cases missed): none below 20, a warning below 50.
FEWEST = 20
ENOUGH = 50
_RESAMPLES = 2000
_SEED = 20


def spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """min, median and max of the defined values, and how many there are (n)."""
    defined = np.array([value for value in values if value is not None], dtype=np.float64)
    if not defined.size:
        return {"n": 0, "min": None, "median": None, "max": None}
    return {
        "n": int(defined.size),
        "min": float(defined.min()),
        "median": float(np.median(defined)),
        "max": float(defined.max()),
    }


def bootstrap_interval(scores: Sequence[CaseScores], groups: Mapping[str, str]) -> dict[str, Any]:
    """Percentile bootstrap of mean_dice (mean over labels of the mean over cases), over patients.

    groups: case -> patient; a case without an entry is its own patient. Returns low, high, level,
    n_groups and note; low and high are None below 20 patients, where no interval is given, and note
    warns below 50. Source: Efron & Tibshirani 1993, chapter 13.
    """
    patients = sorted({groups.get(score.case, score.case) for score in scores})
    result: dict[str, Any] = {"low": None, "high": None, "level": LEVEL, "n_groups": len(patients)}
    if len(patients) < FEWEST:
        note = f"no interval: a bootstrap over {len(patients)} patients promises more than it holds (below {FEWEST})"
        return {**result, "note": note}
    sums, numbers = _per_patient(scores, groups, patients)
    if not numbers.any():
        return {**result, "note": "no interval: no figure is defined"}
    low, high = _percentiles(sums, numbers)
    few = len(patients) < ENOUGH
    note = f"read with care: below {ENOUGH} patients a percentile bootstrap is too narrow" if few else ""
    return {**result, "low": low, "high": high, "note": note}


def _per_patient(
    scores: Sequence[CaseScores], groups: Mapping[str, str], patients: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and number of defined Dice values, [patients, labels] each."""
    names = list(dict.fromkeys(label.label for score in scores for label in score.labels))
    row = {patient: place for place, patient in enumerate(patients)}
    column = {name: place for place, name in enumerate(names)}
    sums = np.zeros((len(patients), len(names)))
    numbers = np.zeros((len(patients), len(names)), dtype=np.int64)
    for score in scores:
        for label in score.labels:
            if label.dice is not None:
                place = row[groups.get(score.case, score.case)], column[label.label]
                sums[place] += label.dice
                numbers[place] += 1
    return sums, numbers


def _percentiles(sums: NDArray[np.float64], numbers: NDArray[np.int64]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def mean_dice(drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        patients = np.moveaxis(drawn, axis, -1)  # [..., patients drawn]
        totals, count = sums[patients].sum(axis=-2), numbers[patients].sum(axis=-2)  # [..., labels]
        means = np.divide(totals, count, out=np.zeros_like(totals), where=count > 0)
        present = (count > 0).sum(axis=-1)
        # A draw that holds no defined value at all is as likely as it is empty: it says nothing.
        return np.where(present > 0, means.sum(axis=-1) / np.maximum(present, 1), np.nan)

    drawn = bootstrap(
        (np.arange(len(sums)),),
        mean_dice,
        n_resamples=_RESAMPLES,
        batch=200,
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).bootstrap_distribution
    tail = 50 * (1 - LEVEL)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
