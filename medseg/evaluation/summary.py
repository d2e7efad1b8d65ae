"""Figures over all cases: per label, and of the voxels of all cases pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.evaluation.score import BACKGROUND, CaseScores, LabelScore, mean_defined
from medseg.evaluation.statistics import spread
from medseg.metrics import metric
from medseg.metrics.confusion import Counts, Presence
from medseg.metrics.lesions import LesionCounts
from medseg.metrics.pooled import frequency_weighted_iou, mean_iou, pixel_accuracy

# What is counted over case and label pairs, by which of the masks hold the label.
COUNTED: dict[str, tuple[Presence, ...]] = {
    "n_defined": (Presence.BOTH, Presence.ONLY_PREDICTED, Presence.MISSED),
    "n_both_empty": (Presence.NEITHER,),
    "n_empty_reference": (Presence.ONLY_PREDICTED,),
    "n_missed": (Presence.MISSED,),
}
_FEWEST_VOLUMES = 3  # two points always lie on a line


def label_summary(scores: Sequence[LabelScore | None]) -> dict[str, Any]:
    """One label over all cases that were asked for it: means, pooled figures, counts of what is empty, spread."""
    present = [score for score in scores if score is not None]
    pooled = sum((score.counts for score in present), Counts(0, 0, 0))
    presences = [score.counts.presence for score in present]
    metrics = dict.fromkeys(name for score in present for name in score.figures)
    return {
        **{f"mean_{name}": mean_defined([score.figures.get(name) for score in present]) for name in metrics},
        "dataset_dice": metric("dice")(pooled),
        "dataset_iou": metric("iou")(pooled),
        "volume_correlation": _correlation(present),
        **{key: sum(presence in kinds for presence in presences) for key, kinds in COUNTED.items()},
        "spread": spread([score.dice for score in present]),
        **_lesions(present),
    }


def dataset_figures(scores: Sequence[CaseScores], labels: Sequence[str]) -> dict[str, Any]:
    """Figures of the voxels of all cases, background included, and how classes are taken for each other.

    confusion: classes, and voxels in one row per class of the reference, one column per predicted class.
    """
    classes = [BACKGROUND, *labels]
    place = {name: number for number, name in enumerate(classes)}
    matrix: NDArray[np.int64] = np.zeros((len(classes), len(classes)), dtype=np.int64)  # [predicted, reference]
    for score in scores:
        for (true, found), voxels in score.overlaps.items():
            matrix[place[found], place[true]] += voxels
    if not matrix.any():
        return {}
    return {
        "dataset_miou_with_background": mean_iou(matrix),
        "frequency_weighted_iou": frequency_weighted_iou(matrix),
        "pixel_accuracy": pixel_accuracy(matrix),
        "confusion": {"classes": classes, "voxels": matrix.T.tolist()},
    }


def _correlation(scores: Sequence[LabelScore]) -> float | None:
    """Pearson's r of predicted and true volume over the cases; None below three, or where one does not vary."""
    volumes = np.array([[score.volume_ml, score.reference_volume_ml] for score in scores]).reshape(-1, 2)
    if len(volumes) < _FEWEST_VOLUMES or not np.ptp(volumes, axis=0).all():
        return None
    return float(np.corrcoef(volumes.T)[0, 1])


def _lesions(scores: Sequence[LabelScore]) -> dict[str, Any]:
    counted = [score.lesions for score in scores if score.lesions is not None]
    if not counted:
        return {}
    total: LesionCounts = sum(counted[1:], counted[0])
    return {
        "lesions": {
            "reference": sum(total.reference),
            "found": sum(total.found),
            "f1": metric("lesion_f1")(total),
            "sensitivity": metric("lesion_sensitivity")(total),
            "sensitivity_by_size": total.sensitivities(),
            "false_positives_per_scan": metric("lesion_false_positives")(total),
        }
    }
