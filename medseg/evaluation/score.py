"""Scoring one case: every label's figures, from what was counted and measured of it once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import DataError
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE, Label
from medseg.core.task import STANDARD_METRICS, Task
from medseg.core.volume import LabelMap
from medseg.metrics import METRICS
from medseg.metrics.case import LabelMeasurements, Wanted, measure_case
from medseg.metrics.confusion import Counts
from medseg.metrics.instances import InstanceCounts
from medseg.metrics.lesions import LesionCounts

BACKGROUND = "background"
ALWAYS = ("dice", "iou")  # figures of every report, whatever else is asked for


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of one case.

    figures: metric -> value, None where it is undefined (see `medseg.metrics.METRICS`); volume_ml and
    reference_volume_ml: predicted and true volume without the ignored voxels; reason: why there is no
    figure, or why it is 0; empty where both masks hold the label; lesions: where a metric asks for them.
    """

    label: str
    counts: Counts
    figures: Mapping[str, float | None]
    volume_ml: float
    reference_volume_ml: float
    reason: str = ""
    lesions: LesionCounts | None = None

    @property
    def dice(self) -> float | None:
        """Dice; None where the label is absent in both masks."""
        return self.figures["dice"]

    @property
    def iou(self) -> float | None:
        """Intersection over union; None where the label is absent in both masks."""
        return self.figures["iou"]


@dataclass(frozen=True, slots=True)
class CaseScores:
    """All labels of one case. `outcome` says what was odd about the prediction, '' where nothing was.

    flat: the case is a picture one voxel thick, whose millilitres mean nothing; instances: matches of its
    objects, for tasks that tell them apart; regions: unions of labels, which no mean holds; overlaps:
    voxels by (name in the reference, name in the prediction), background included, of all pairs that
    occur; tolerance: that of NSD, in mm.
    """

    case: str
    labels: tuple[LabelScore, ...]
    flat: bool = False
    outcome: str = ""
    instances: InstanceCounts | None = None
    regions: tuple[LabelScore, ...] = ()
    overlaps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    tolerance: float | None = None

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels that have a Dice; None where none has."""
        return mean_defined([score.dice for score in self.labels])

    @property
    def mean_iou(self) -> float | None:
        """Mean over the labels that have an IoU; None where none has."""
        return mean_defined([score.iou for score in self.labels])


def wanted(task: Task | None, ignore: int | None = IGNORE) -> Wanted:
    """What a task asks to be measured, Dice and IoU in any case; without a task what tasks ask for by default."""
    names = task.metrics if task is not None else STANDARD_METRICS
    tolerance = task.nsd_tolerance if task is not None else None
    return Wanted(tuple(dict.fromkeys([*ALWAYS, *names])), ignore, tolerance)


def score_case(
    case_id: str,
    prediction: LabelMap,
    reference: LabelMap,
    labels: Sequence[Label],
    *,
    measured: Wanted | None = None,
    outcome: str = "",
) -> CaseScores:
    """Score a prediction against its reference, both on one grid.

    labels: the structures to score (background is never one); measured: which figures, and which
    reference value leaves both masks (by default `wanted(None)`). `outcome` is kept for the report.
    Raises DataError naming case and both grids where they differ.
    """
    if not prediction.geometry.same_grid(reference.geometry):
        raise DataError(
            f"{case_id}: prediction and reference lie on different grids",
            [
                f"prediction: {describe_grid(prediction.geometry)}",
                f"reference: {describe_grid(reference.geometry)}",
                *_distance(prediction.geometry, reference.geometry),
            ],
        )
    asked = measured or wanted(None)
    geometry = reference.geometry
    values = [label.value for label in labels]
    case = measure_case(prediction.array, reference.array, geometry.spacing, values, asked)
    surfaces = [one.surfaces for one in case.labels.values() if one.surfaces is not None]
    return CaseScores(
        case_id,
        tuple(label_score(label.name, case.labels[label.value], asked.metrics) for label in labels),
        flat=geometry.shape[2] == 1,
        outcome=outcome,
        overlaps=_overlaps(case.matrix, [BACKGROUND, *(label.name for label in labels)]),
        tolerance=surfaces[0].tolerance if surfaces else None,
    )


def label_score(name: str, measured: LabelMeasurements, metrics: Collection[str] = ALWAYS) -> LabelScore:
    """The figures of one label from what was measured of it."""
    return LabelScore(
        label=name,
        counts=measured.counts,
        figures={key: measured.figure(key) for key in METRICS if key in metrics},
        volume_ml=measured.volumes.predicted,
        reference_volume_ml=measured.volumes.reference,
        reason=str(measured.counts.presence),
        lesions=measured.lesions,
    )


def _overlaps(matrix: NDArray[np.int64], names: Sequence[str]) -> dict[tuple[str, str], int]:
    predicted, true = np.nonzero(matrix)
    return {(names[t], names[p]): int(matrix[p, t]) for p, t in zip(predicted.tolist(), true.tolist(), strict=True)}


def mean_defined(values: Sequence[float | None]) -> float | None:
    """The mean of those that are not None; None where all are."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def describe_grid(geometry: Geometry) -> str:
    """A grid in words: shape, spacing, orientation and origin."""
    shape = "x".join(str(n) for n in geometry.shape)
    spacing = "x".join(f"{s:.4g}" for s in geometry.spacing)
    origin = ", ".join(f"{x:.2f}" for x in geometry.origin)
    return f"{shape} voxels of {spacing} mm, {geometry.orientation}, first voxel at ({origin}) mm"


def _distance(one: Geometry, other: Geometry) -> list[str]:
    if one.shape != other.shape:
        return []
    return [f"their corners lie up to {one.corner_distance(other):.3g} mm apart"]
