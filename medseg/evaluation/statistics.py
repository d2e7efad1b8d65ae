"""How sure a figure is: intervals over patients, paired tests, and how firm a ranking stands.

Everything is drawn from patients, never from cases: two scans of one patient are no two witnesses.
All draws are seeded, so that a report is the same each time it is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import UsageError
from medseg.evaluation.score import CaseScores

LEVEL = 0.95
# With 8 % of the cases missed, a bootstrap over 12 patients covers 71 % instead of 95 %, and no kind of
# bootstrap mends that (20: 83 %, 30: 91 %, 50: 95 %, see docs/metrics.md): none below 20, a warning below 50.
FEWEST = 20
ENOUGH = 50
SIGNIFICANT = 0.05
_RESAMPLES = 2000
_SEED = 20

Scores = Mapping[str, Mapping[str, float | None]]  # model -> case -> figure


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it may lie.

    mean: over all defined values, None where there is none; low, high: the interval's ends, None where
    none is given; n_groups: patients with a defined value; note: why there is no interval, or why to
    read it with care; empty otherwise.
    """

    mean: float | None
    low: float | None
    high: float | None
    level: float
    n_groups: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two models on the same patients.

    n: patients that both have a figure for; difference: mean over them of first minus second; p: of the
    two-sided signed-rank test; p_holm: corrected for all comparisons made at once; both None without
    patients. note: what the reader must know, above all where .05 cannot be reached at all.
    """

    first: str
    second: str
    n: int
    difference: float | None
    p: float | None
    p_holm: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class RankStability:
    """How firm a ranking by mean figure stands when other patients are drawn.

    models: best first; means: theirs; mean_ranks: over all draws, 1 is best; shares: per model, in how
    many of the draws (0..1) it comes 1st, 2nd …; tau: mean Kendall correlation of the drawn rankings
    with this one, None for one model; n_groups: patients with a figure from every model.
    """

    models: tuple[str, ...]
    means: tuple[float, ...]
    mean_ranks: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    tau: float | None
    n_groups: int
    note: str = ""


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


# ---- intervals ------------------------------------------------------------------------------


def bootstrap_mean(values: Sequence[float | None], groups: Sequence[str]) -> Interval:
    """The mean of the defined values, with a BCa bootstrap interval over their patients.

    groups: the patient of each value. Below 20 patients no interval is given, below 50 its note warns.
    Raises UsageError where values and groups differ in number. Source: Efron 1987.
    """
    if len(values) != len(groups):
        raise UsageError(f"{len(values)} values need as many patients, not {len(groups)}")
    defined = [(group, 0, value) for group, value in zip(groups, values, strict=True) if value is not None]
    return _interval(*_per_patient(defined))


def bootstrap_interval(scores: Sequence[CaseScores], groups: Mapping[str, str], metric: str = "dice") -> dict[str, Any]:
    """The same for the mean over labels of the mean over cases of a metric, as a report keeps it.

    groups: case -> patient; a case without an entry is its own patient. Returns low, high, level,
    n_groups and note.
    """
    names = {label.label: None for score in scores for label in score.labels}
    place = {name: number for number, name in enumerate(names)}
    entries = [
        (groups.get(score.case, score.case), place[label.label], value)
        for score in scores
        for label in score.labels
        if (value := label.figures.get(metric)) is not None
    ]
    interval = _interval(*_per_patient(entries))
    return {key: getattr(interval, key) for key in ("low", "high", "level", "n_groups", "note")}


def _per_patient(entries: Sequence[tuple[str, int, float]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and number of values, [patients, labels] each, from (patient, label, value) entries."""
    patients = {patient: row for row, patient in enumerate(sorted({patient for patient, _, _ in entries}))}
    width = max((label for _, label, _ in entries), default=0) + 1
    sums = np.zeros((len(patients), width))
    numbers = np.zeros((len(patients), width), dtype=np.int64)
    for patient, label, value in entries:
        sums[patients[patient], label] += value
        numbers[patients[patient], label] += 1
    return sums, numbers


def _interval(sums: NDArray[np.float64], numbers: NDArray[np.int64]) -> Interval:
    patients = len(sums)
    if not patients:
        return Interval(None, None, None, LEVEL, 0, "no interval: no figure is defined")
    mean = float(_mean_over_labels(sums, numbers, np.arange(patients)))
    if patients < FEWEST:
        note = f"no interval: a bootstrap over {patients} patients promises more than it holds (below {FEWEST})"
        return Interval(mean, None, None, LEVEL, patients, note)
    if np.ptp(np.where(numbers > 0, sums / np.maximum(numbers, 1), mean), axis=0).max() < 1e-12:
        return Interval(mean, None, None, LEVEL, patients, "no interval: every patient has the same figure")
    low, high = _bca(sums, numbers)
    few = f"read with care: below {ENOUGH} patients a rare failure may not have been seen at all"
    return Interval(mean, low, high, LEVEL, patients, few if patients < ENOUGH else "")


def _mean_over_labels(
    sums: NDArray[np.float64], numbers: NDArray[np.int64], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Per draw [..., patients] the mean over the labels of the mean over cases; a label may lack in a draw."""
    totals, count = sums[drawn].sum(axis=-2), numbers[drawn].sum(axis=-2)  # [..., labels]
    means = np.divide(totals, count, out=np.zeros_like(totals), where=count > 0)
    return np.asarray(means.sum(axis=-1) / (count > 0).sum(axis=-1))


def _bca(sums: NDArray[np.float64], numbers: NDArray[np.int64]) -> tuple[float, float]:
    from scipy.stats import bootstrap

    def statistic(drawn: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        return _mean_over_labels(sums, numbers, np.moveaxis(drawn, axis, -1))

    found = bootstrap(
        (np.arange(len(sums)),),
        statistic,
        n_resamples=_RESAMPLES,
        batch=200,
        vectorized=True,
        confidence_level=LEVEL,
        method="BCa",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


# ---- models beside each other -----------------------------------------------------------------


def paired_tests(scores: Scores, groups: Mapping[str, str] | None = None) -> list[PairedTest]:
    """Wilcoxon's signed-rank test for every pair of models, with Holm's correction over all pairs.

    scores: model -> case -> figure; groups: case -> patient (a case without an entry is its own), whose
    scans are averaged first. Only patients with a figure from both models count.
    Sources: Wilcoxon 1945 (exact up to 50 patients without ties), Holm 1979.
    """
    pairs = list(combinations(scores, 2))
    differences = [_differences(scores[first], scores[second], groups or {}) for first, second in pairs]
    found = [_signed_rank(values) for values in differences]
    corrected = _holm([p for p in found if p is not None])
    tests = []
    for (first, second), values, p in zip(pairs, differences, found, strict=True):
        difference = float(values.mean()) if values.size else None
        p_holm = None if p is None else corrected.pop(0)
        tests.append(PairedTest(first, second, values.size, difference, p, p_holm, _test_note(values, len(pairs))))
    return tests


def _differences(
    first: Mapping[str, float | None], second: Mapping[str, float | None], groups: Mapping[str, str]
) -> NDArray[np.float64]:
    """First minus second, the mean over each patient's cases [patients]."""
    patients: dict[str, list[float]] = {}
    for case, value in first.items():
        other = second.get(case)
        if value is not None and other is not None:
            patients.setdefault(groups.get(case, case), []).append(value - other)
    return np.array([np.mean(values) for _, values in sorted(patients.items())], dtype=np.float64)


def _signed_rank(differences: NDArray[np.float64]) -> float | None:
    from scipy.stats import wilcoxon

    if not differences.size:
        return None
    rounded = differences.round(12)  # equal differences that were added up otherwise are ties
    different = rounded[rounded != 0]
    return float(wilcoxon(different).pvalue) if different.size else 1.0


def _holm(p_values: Sequence[float]) -> list[float]:
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _test_note(differences: NDArray[np.float64], comparisons: int) -> str:
    """What keeps the test from reaching .05, if anything does: its smallest p is 2 / 2^n."""
    if not differences.size:
        return "no patient has a figure from both models"
    different = int(np.count_nonzero(differences.round(12)))
    smallest = min(1.0, 2.0 ** (1 - different))
    unequal = "" if different == differences.size else f" ({different} of them with a difference)"
    if smallest > SIGNIFICANT:
        return f"{differences.size} patients{unequal} are too few for p below .05: {smallest:.3g} is the least possible"
    if smallest * comparisons > SIGNIFICANT:
        return (
            f"with {comparisons} comparisons, {differences.size} patients{unequal} may be too few "
            f"for a corrected p below .05: {smallest * comparisons:.3g} is the least where no other test is clear"
        )
    return ""


def rank_stability(
    scores: Scores, resamples: int = 1000, *, groups: Mapping[str, str] | None = None, higher_is_better: bool = True
) -> RankStability:
    """Rank models by their mean over patients, again for every bootstrap draw of patients.

    scores and groups: as in `paired_tests`; only cases with a figure from every model count, and without
    any there is no ranking (`models` is empty). Source: Wiesenfarth et al. 2021 (ranking by mean, then bootstrap).
    """
    values = _table(scores, groups or {})  # [patients, models]
    if not values.size:
        return RankStability((), (), (), (), None, 0, "no ranking: no patient has a figure from every model")
    means = values.mean(axis=0)
    best_first = np.argsort(-means if higher_is_better else means, kind="stable")
    values = values[:, best_first]
    drawn = np.random.default_rng(_SEED).integers(0, len(values), (resamples, len(values)))
    ranks, tau = _drawn_ranks(values[drawn].mean(axis=1) * (-1 if higher_is_better else 1))
    places = np.arange(1, len(best_first) + 1)
    shares = (ranks[:, :, None] == places).mean(axis=0)  # [models, places]
    names = list(scores)
    return RankStability(
        models=tuple(names[place] for place in best_first),
        means=tuple(map(float, values.mean(axis=0))),
        mean_ranks=tuple(map(float, ranks.mean(axis=0))),
        shares=tuple(tuple(map(float, row)) for row in shares),
        tau=tau,
        n_groups=len(values),
        note=f"read with care: fewer than {FEWEST} patients ({len(values)})" if len(values) < FEWEST else "",
    )


def _table(scores: Scores, groups: Mapping[str, str]) -> NDArray[np.float64]:
    """Figures [patients, models] of the cases that every model has one for, a patient's cases averaged."""
    patients: dict[str, list[list[float]]] = {}
    columns = list(scores.values())
    for case in columns[0] if columns else ():
        row = [value for column in columns if (value := column.get(case)) is not None]
        if len(row) == len(columns):
            patients.setdefault(groups.get(case, case), []).append(row)
    return np.array([np.mean(rows, axis=0) for _, rows in sorted(patients.items())], dtype=np.float64)


def _drawn_ranks(means: NDArray[np.float64]) -> tuple[NDArray[np.int64], float | None]:
    """Ranks [draws, models] where the least is first and equals share the better rank, and their mean tau.

    Columns stand in the order of the ranking with which the draws are compared.
    """
    from scipy.stats import rankdata

    ranks = rankdata(means, method="min", axis=1).astype(np.int64)
    pairs = list(combinations(range(means.shape[1]), 2))
    agreements = [np.sign(ranks[:, worse] - ranks[:, better]) for better, worse in pairs]
    return ranks, float(np.mean(agreements)) if pairs else None
