"""Instances found, missed and invented: F1, accuracy, panoptic quality and AJI.

A predicted and a reference instance match at a threshold t where their intersection over union is t or
more; each belongs to one match at most, chosen so that most match (Kuhn 1955). "Pooled" figures add up
matches of all images before dividing, as StarDist's do (its "AP" is `accuracy` here); "per image"
figures are means over images, as Cellpose's are. The two differ where images hold few cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import UsageError
from medseg.metrics.contingency import Contingency, contingency

THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # .5, .55 … .95

Figures = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class InstanceCounts:
    """Matches of one image, one entry per IoU threshold in each tuple.

    tp: matched instances; fp: predicted ones without a match; fn: reference ones without; iou: sum of the
    matches' IoU; shared, united: voxels of the aggregated Jaccard index's numerator and denominator.
    """

    thresholds: tuple[float, ...]
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]
    iou: tuple[float, ...]
    shared: int
    united: int

    @property
    def predicted(self) -> int:
        """Instances in the prediction."""
        return self.tp[0] + self.fp[0]

    @property
    def reference(self) -> int:
        """Instances in the reference."""
        return self.tp[0] + self.fn[0]

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        """Counts of both images together. Raises UsageError where their thresholds differ."""
        if self.thresholds != other.thresholds:
            raise UsageError("counts of instances at different thresholds cannot be added")
        return InstanceCounts(
            self.thresholds,
            tuple(a + b for a, b in zip(self.tp, other.tp, strict=True)),
            tuple(a + b for a, b in zip(self.fp, other.fp, strict=True)),
            tuple(a + b for a, b in zip(self.fn, other.fn, strict=True)),
            tuple(a + b for a, b in zip(self.iou, other.iou, strict=True)),
            self.shared + other.shared,
            self.united + other.united,
        )


def match_instances(
    predicted: NDArray[Any],
    reference: NDArray[Any],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    ignored: NDArray[np.bool_] | None = None,
) -> InstanceCounts:
    """Match the instances of two maps of one shape (2D or 3D), in which every value but 0 is one instance.

    Voxels where `ignored` is true leave both maps. Raises MedsegError for maps of different shapes or
    of other than whole numbers, UsageError for a threshold that is not in (0, 1].
    """
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise UsageError(f"IoU thresholds lie above 0 and up to 1, not {list(thresholds)}")
    table = contingency(predicted, reference, ignored)
    found, true = table.sizes()
    pairs, iou = pair_ious(table)
    matched = [_matched(pairs, iou, threshold) for threshold in thresholds]
    tp = tuple(len(values) for values in matched)
    shared, united = _aggregated(pairs, iou, found, true)
    return InstanceCounts(
        thresholds=tuple(float(threshold) for threshold in thresholds),
        tp=tp,
        fp=tuple(len(found) - hits for hits in tp),
        fn=tuple(len(true) - hits for hits in tp),
        iou=tuple(float(values.sum()) for values in matched),
        shared=shared,
        united=united,
    )


def pair_ious(table: Contingency) -> tuple[Contingency, NDArray[np.float64]]:
    """Every pair of a predicted and a reference instance that share voxels, and their IoU [pairs]."""
    found, true = table.sizes()
    pairs = table.without_background()
    union = _sizes_of(pairs.predicted, found) + _sizes_of(pairs.reference, true) - pairs.shared
    return pairs, pairs.shared / union


def pooled(counts: Sequence[InstanceCounts]) -> Figures:
    """Figures over all images together: f1_50, accuracy_50, pq_50, sq_50, rq_50 … _95, mean_…, aji, instances.

    `mean_f1`, `mean_accuracy` and `mean_pq` are means over the thresholds. A figure is None where nothing
    decides it: no instance on either side, or, for sq, no match.
    """
    if not counts:
        return {}
    total = counts[0]
    for other in counts[1:]:
        total = total + other
    return {**_figures(total), "n_predicted": float(total.predicted), "n_reference": float(total.reference)}


def per_image(counts: Sequence[InstanceCounts]) -> Figures:
    """The same figures, each the mean over the images in which it is defined."""
    each = [_figures(one) for one in counts]
    return {key: _mean([figures[key] for figures in each]) for key in (each[0] if each else ())}


def _figures(counts: InstanceCounts) -> Figures:
    figures: Figures = {}
    for place, threshold in enumerate(counts.thresholds):
        tp, fp, fn, iou = counts.tp[place], counts.fp[place], counts.fn[place], counts.iou[place]
        name = f"{100 * threshold:.0f}"
        figures[f"f1_{name}"] = _ratio(2 * tp, 2 * tp + fp + fn)
        figures[f"accuracy_{name}"] = _ratio(tp, tp + fp + fn)
        figures[f"pq_{name}"] = _ratio(2 * iou, 2 * tp + fp + fn)
        figures[f"sq_{name}"] = _ratio(iou, tp)
        figures[f"rq_{name}"] = figures[f"f1_{name}"]
    for kind in ("f1", "accuracy", "pq"):
        figures[f"mean_{kind}"] = _mean([figures[f"{kind}_{100 * threshold:.0f}"] for threshold in counts.thresholds])
    figures["aji"] = _ratio(counts.shared, counts.united)
    return figures


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _sizes_of(values: NDArray[np.int64], sizes: Mapping[int, int]) -> NDArray[np.int64]:
    return np.array([sizes[int(value)] for value in values], dtype=np.int64)


def _matched(pairs: Contingency, iou: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """IoU of the matches at one threshold: most of them, and among those the best."""
    near = iou >= threshold - 1e-12  # .55 as a sum of tenths is not quite .55
    rows, columns, values = pairs.predicted[near], pairs.reference[near], iou[near]
    _, row, row_often = np.unique(rows, return_inverse=True, return_counts=True)
    _, column, column_often = np.unique(columns, return_inverse=True, return_counts=True)
    if not values.size or max(row_often.max(), column_often.max()) == 1:
        return values  # as is always so above one half, where no two instances can claim a third
    from scipy.optimize import linear_sum_assignment

    gain = np.zeros((len(row_often), len(column_often)))
    gain[row, column] = 1 + values / (2 * values.size)  # one more match outweighs any better overlap
    chosen: NDArray[np.float64] = gain[linear_sum_assignment(gain, maximize=True)]
    return np.asarray((chosen[chosen > 0] - 1) * 2 * values.size)


def _aggregated(
    pairs: Contingency, iou: NDArray[np.float64], found: Mapping[int, int], true: Mapping[int, int]
) -> tuple[int, int]:
    """Numerator and denominator of the aggregated Jaccard index.

    Each reference instance takes the prediction of best IoU (one prediction may be taken by several);
    predictions that none takes enlarge the denominator. Of equally good ones the larger overlap is taken, then
    the larger value. Source: Kumar et al. 2017, algorithm 1.
    """
    shared, united, used = 0, sum(true.values()), set()
    order = np.lexsort((pairs.predicted, pairs.shared, iou, pairs.reference))
    last = np.flatnonzero(np.diff(pairs.reference[order], append=-1))
    for place in order[last]:
        prediction, common = int(pairs.predicted[place]), int(pairs.shared[place])
        shared += common
        united += found[prediction] - common
        used.add(prediction)
    return shared, united + sum(size for value, size in found.items() if value not in used)
