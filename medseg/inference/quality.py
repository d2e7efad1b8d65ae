"""What a prediction shows of its own quality: sums over the probabilities, taken while they pass by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.core.labels import Label
from medseg.core.quality import Evidence
from medseg.core.volume import LabelMap

# Below it a probability is the network's floor, which added up over a large background would hide
# a small structure.
_FLOOR = 0.1
_LOW, _HIGH = 0.3, 0.7  # probabilities between which a border is drawn
_MOST_VOXELS = 2**25  # in which pieces are counted; larger label maps are thinned out further
_DIGITS = 6  # kept of every figure: what another order of summing changes must not change a bundle's hash


@dataclass(frozen=True, slots=True)
class Certainty:
    """Figures of a whole probability map.

    confidence: mean winning probability over the foreground, None without any; overlaps and
    stability: per label 1, 2, … as in `Evidence`, None where the label won nowhere.
    """

    confidence: float | None
    overlaps: tuple[float | None, ...]
    stability: tuple[float | None, ...]


class QualityStatistics:
    """Adds up a probability map that is never whole in memory, in blocks of any shape and order."""

    def __init__(self) -> None:
        # Per label: voxels won, probability in them, probability in all, voxels above _LOW and above _HIGH.
        self._sums: NDArray[np.float64] = np.zeros((0, 5))

    def add(self, probabilities: Tensor) -> None:
        """Probabilities [L, …] of one block; every voxel of the map lies in one block."""
        if not len(self._sums):
            self._sums = np.zeros((len(probabilities), 5))
        best, winner = (part.reshape(-1) for part in probabilities.max(dim=0))
        self._sums[:, 0] += torch.bincount(winner, minlength=len(probabilities)).cpu().numpy()
        self._sums[:, 1] += torch.bincount(winner, best.double(), minlength=len(probabilities)).cpu().numpy()
        for label, one in enumerate(probabilities):
            if label and float(one.max()) >= _FLOOR:
                told = one[one >= _FLOOR]
                self._sums[label, 2] += float(told.sum(dtype=torch.float64))
                self._sums[label, 3] += int((told >= _LOW).sum())
                self._sums[label, 4] += int((told >= _HIGH).sum())

    def finish(self) -> Certainty:
        """The figures of all blocks so far.

        overlaps: 2 sum_A p / (|A| + sum p) for the voxels A of a label, the Dice that the
        probabilities p expect (Soft Dice Confidence, arXiv 2402.10665), without those below 0.1.
        stability: the same of the voxels above 0.7 and above 0.3, so how far the border moves with
        the threshold (as an IoU the stability score of Kirillov et al., Segment Anything, ICCV 2023).
        """
        rows = self._sums[1:].tolist()
        return Certainty(
            confidence=_ratio(sum(row[1] for row in rows), sum(row[0] for row in rows)),
            # A label may win with less than _FLOOR where there are many.
            overlaps=tuple(_ratio(2 * inside, won + max(mass, inside), won) for won, inside, mass, *_ in rows),
            stability=tuple(_ratio(2 * high, high + low, won) for won, *_, low, high in rows),
        )


def _ratio(part: float, whole: float, won: float = 1.0) -> float | None:
    """part / whole; None where that is no number, as after a network that gave none, or nothing was won."""
    return part / whole if won and whole and math.isfinite(part / whole) else None


def evidence_of(certainty: Certainty, labelmap: LabelMap, spacing: Sequence[float]) -> Evidence:
    """The evidence of one prediction: `labelmap` as it is given out; spacing: the network's, in mm (RAS axes)."""
    volumes = {name: round(ml, _DIGITS) for name, ml in labelmap.volumes_ml().items() if ml > 0}
    given = [label for label in labelmap.labels if label.name in volumes]
    return Evidence(
        confidence=None if certainty.confidence is None or not volumes else round(certainty.confidence, _DIGITS),
        overlaps=_named(certainty.overlaps, given),
        stability=_named(certainty.stability, given),
        volumes_ml=volumes,
        pieces=count_pieces(labelmap, spacing),
    )


def _named(figures: Sequence[float | None], labels: Sequence[Label]) -> dict[str, float]:
    known = {label.name: figures[label.value - 1] for label in labels if label.value <= len(figures)}
    return {name: round(figure, _DIGITS) for name, figure in known.items() if figure is not None}


def count_pieces(labelmap: LabelMap, spacing: Sequence[float]) -> dict[str, int]:
    """Connected components of every label found; voxels that touch by a corner are one piece.

    The map is thinned out to about `spacing` (mm, RAS axes), so that the count hardly depends on
    the scan's resolution and takes little time and memory.
    """
    from scipy import ndimage

    axes, _ = labelmap.geometry.to_canonical()
    own, steps = labelmap.geometry.spacing, [1, 1, 1]
    for axis, wanted in zip(axes, spacing, strict=True):
        steps[axis] = max(1, round(wanted / own[axis]))
    while np.prod([-(-n // step) for n, step in zip(labelmap.array.shape, steps, strict=True)]) > _MOST_VOXELS:
        steps = [step + 1 for step in steps]
    array: NDArray[Any] = labelmap.array[:: steps[0], :: steps[1], :: steps[2]]
    boxes = ndimage.find_objects(array)
    touching = np.ones((3, 3, 3))
    return {
        label.name: int(ndimage.label(array[boxes[label.value - 1]] == label.value, touching)[1])
        for label in labelmap.labels
        if label.value <= len(boxes) and boxes[label.value - 1] is not None
    }
