"""Scoring one case: voxel counts, Dice, IoU and volumes of every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.core.errors import DataError
from medseg.core.geometry import Geometry
from medseg.core.labels import IGNORE, Label
from medseg.core.volume import LabelMap
from medseg.metrics import metric
from medseg.metrics.confusion import Counts, Presence, confusion
from medseg.metrics.instances import InstanceCounts


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of one case. Dice and IoU are None where the label is absent in both masks.

    volume_ml and reference_volume_ml: predicted and true volume without the ignored voxels;
    reason: why there is no figure, or why it is 0; empty where both masks hold the label.
    """

    label: str
    counts: Counts
    dice: float | None
    iou: float | None
    volume_ml: float
    reference_volume_ml: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CaseScores:
    """All labels of one case. `outcome` says what was odd about the prediction, '' where nothing was.

    flat: the case is a picture one voxel thick, whose millilitres mean nothing; instances: matches of its
    objects, for tasks that tell them apart.
    """

    case: str
    labels: tuple[LabelScore, ...]
    flat: bool = False
    outcome: str = ""
    instances: InstanceCounts | None = None

    @property
    def mean_dice(self) -> float | None:
        """Mean over the labels that have a Dice; None where none has."""
        return mean_defined([score.dice for score in self.labels])

    @property
    def mean_iou(self) -> float | None:
        """Mean over the labels that have an IoU; None where none has."""
        return mean_defined([score.iou for score in self.labels])


def score_case(
    case_id: str,
    prediction: LabelMap,
    reference: LabelMap,
    labels: Sequence[Label],
    *,
    ignore: int | None = IGNORE,
    outcome: str = "",
) -> CaseScores:
    """Score a prediction against its reference, both on one grid.

    labels: the structures to score (background is never one); ignore: the reference value of voxels
    that leave both masks, None where there is none. `outcome` is kept for the report.
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
    counts = confusion(prediction.array, reference.array, [label.value for label in labels], ignore).counts
    voxel = reference.geometry.voxel_volume_ml
    rows = tuple(label_score(label.name, counts[label.value], voxel) for label in labels)
    return CaseScores(case_id, rows, flat=reference.geometry.shape[2] == 1, outcome=outcome)


def label_score(name: str, counts: Counts, voxel_volume_ml: float) -> LabelScore:
    """The figures of one label from its voxel counts."""
    presence: Presence = counts.presence
    return LabelScore(
        label=name,
        counts=counts,
        dice=metric("dice")(counts),
        iou=metric("iou")(counts),
        volume_ml=counts.predicted * voxel_volume_ml,
        reference_volume_ml=counts.reference * voxel_volume_ml,
        reason=str(presence),
    )


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
