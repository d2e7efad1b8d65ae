"""What agreement between two label maps is: one file per metric, each measured from what a case counts once.

`medseg.metrics.case.measure_case` counts voxels, surface distances, centre lines and lesions of a case;
every metric of the table below is made of one of them. Beside the table: `instances`, `rand` and
`information` (partitions), `pooled` (all cases together), `calibration` (probabilities).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any, cast

from medseg.core.errors import UsageError


class Source(StrEnum):
    """What a metric is made of: a field of `case.LabelMeasurements`."""

    COUNTS = "counts"
    VOLUMES = "volumes"
    SURFACES = "surfaces"
    SKELETONS = "skeletons"
    LESIONS = "lesions"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. definition: as reports print it; unit: '' for a share; better: more is."""

    source: Source
    module: str
    definition: str
    unit: str = ""
    better: bool = True


_BOTH = "undefined where the label is absent in both masks"
_ONE = f"0 where the label is in one mask only, {_BOTH}"
_FAR = f"the image's diagonal where the label is in one mask only, {_BOTH}"
_SURFACE = "surface voxels are those with a face on another label or the image's edge"

METRICS: dict[str, Metric] = {
    "dice": Metric(Source.COUNTS, "medseg.metrics.dice", f"2|P∩R| / (|P| + |R|); {_ONE}"),
    "iou": Metric(Source.COUNTS, "medseg.metrics.iou", f"|P∩R| / |P∪R|; {_ONE}"),
    "precision": Metric(Source.COUNTS, "medseg.metrics.precision", f"|P∩R| / |P|; {_ONE}"),
    "recall": Metric(Source.COUNTS, "medseg.metrics.recall", f"|P∩R| / |R|; {_ONE}"),
    "specificity": Metric(
        Source.COUNTS,
        "medseg.metrics.specificity",
        "share of the voxels outside the reference that are outside the prediction, too; "
        "undefined where the label fills the reference",
    ),
    "volume_difference_ml": Metric(
        Source.VOLUMES, "medseg.metrics.volume_difference", f"predicted minus true volume; {_BOTH}", "ml", False
    ),
    "hd": Metric(
        Source.SURFACES,
        "medseg.metrics.hd",
        f"Hausdorff distance: the largest from a voxel of either surface to the other; {_SURFACE}; {_FAR}",
        "mm",
        False,
    ),
    "hd95": Metric(
        Source.SURFACES,
        "medseg.metrics.hd95",
        f"the larger of the two directed 95th percentiles of surface distances; {_SURFACE}; {_FAR}",
        "mm",
        False,
    ),
    "assd": Metric(
        Source.SURFACES,
        "medseg.metrics.assd",
        f"mean distance to the other surface over the voxels of both surfaces; {_SURFACE}; {_FAR}",
        "mm",
        False,
    ),
    "nsd": Metric(
        Source.SURFACES,
        "medseg.metrics.nsd",
        "normalised surface Dice: share of both surfaces' voxels within the tolerance of the other; "
        f"{_SURFACE}; {_ONE}",
    ),
    "cldice": Metric(
        Source.SKELETONS,
        "medseg.metrics.cldice",
        f"harmonic mean of the shares of each centre line that lie inside the other mask; {_ONE}",
    ),
    "skeleton_recall": Metric(
        Source.SKELETONS,
        "medseg.metrics.skeleton_recall",
        f"share of the reference's centre line that the prediction covers; {_ONE}",
    ),
    "lesion_f1": Metric(
        Source.LESIONS,
        "medseg.metrics.lesion_f1",
        "2 TP / (2 TP + FP + FN) of connected components (26 or 8 neighbours), found by any common voxel; "
        f"{_BOTH}",
    ),
    "lesion_sensitivity": Metric(
        Source.LESIONS,
        "medseg.metrics.lesion_sensitivity",
        "share of the reference's lesions of which any voxel is predicted; undefined where it has none",
    ),
    "lesion_false_positives": Metric(
        Source.LESIONS,
        "medseg.metrics.lesion_false_positives",
        "predicted lesions per scan that touch nothing of the reference; 0 where nothing is predicted",
        "per scan",
        False,
    ),
}  # fmt: skip

Measure = Callable[[Any], float | None]


def metric(name: str) -> Measure:
    """The function `measure(counts, surfaces … as its source says) -> value or None` of the metric of that name.

    Raises UsageError with the list of known metrics for any other name.
    """
    if name not in METRICS:
        raise UsageError(f"there is no metric {name!r}; there are {', '.join(METRICS)}")
    return cast(Measure, import_module(METRICS[name].module).measure)
