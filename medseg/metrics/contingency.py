"""How two partitions of one grid overlap: the table behind instance matching, Rand error and information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import MedsegError

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contingency:
    """Voxels that region `predicted[n]` and region `reference[n]` share: `shared[n]` > 0, for every such pair.

    predicted, reference: numbers of regions, in the files' own values; 0 is background and counted like
    any other. The pairs are sorted by predicted, then reference value.
    """

    predicted: Integers  # [pairs]
    reference: Integers  # [pairs]
    shared: Integers  # [pairs]

    def without_background(self) -> Contingency:
        """The pairs of two regions."""
        keep = (self.predicted != 0) & (self.reference != 0)
        return Contingency(self.predicted[keep], self.reference[keep], self.shared[keep])

    def sizes(self) -> tuple[dict[int, int], dict[int, int]]:
        """Voxels of every predicted and of every reference region, background left out."""
        predicted, reference = _totals(self.predicted, self.shared), _totals(self.reference, self.shared)
        predicted.pop(0, None)
        reference.pop(0, None)
        return predicted, reference


def contingency(
    predicted: NDArray[Any], reference: NDArray[Any], ignored: NDArray[np.bool_] | None = None
) -> Contingency:
    """Count every pair of values in two maps of whole numbers from 0, of one shape and any number of axes.

    Voxels where `ignored` is true leave both maps.
    Raises MedsegError where the shapes differ, or a value is negative or no whole number.
    """
    if predicted.shape != reference.shape:
        raise MedsegError(f"a prediction of shape {predicted.shape} has no reference of shape {reference.shape}")
    for role, array in (("prediction", predicted), ("reference", reference)):
        if array.dtype.kind not in "iub" or (array.size and array.min() < 0):
            raise MedsegError(
                f"a map of regions holds whole numbers from 0, which this {role} ({array.dtype}) does not"
            )
    found, true = (predicted, reference) if ignored is None else (predicted[~ignored], reference[~ignored])
    width = int(true.max(initial=0)) + 1
    codes, shared = np.unique(found.astype(np.int64) * width + true, return_counts=True)
    return Contingency(codes // width, codes % width, shared.astype(np.int64))


def _totals(values: Integers, shared: Integers) -> dict[int, int]:
    names, place = np.unique(values, return_inverse=True)
    totals = np.bincount(place, weights=shared, minlength=len(names)).astype(np.int64)
    return {int(name): int(total) for name, total in zip(names, totals, strict=True)}
