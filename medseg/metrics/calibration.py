"""Whether probabilities keep their word: expected calibration error and Brier score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.errors import MedsegError
from medseg.core.labels import IGNORE

BINS = 15


@dataclass(frozen=True, slots=True)
class CalibrationCounts:
    """Voxels by the probability of their winning class, in `BINS` bins of equal width over 0..1.

    voxels, right: how many, and for how many the winning class is the reference's; confidence: sum of
    the winning probabilities; squares: sum over voxels of the squared error of all classes.
    """

    voxels: tuple[int, ...]
    right: tuple[int, ...]
    confidence: tuple[float, ...]
    squares: float

    def __add__(self, other: CalibrationCounts) -> CalibrationCounts:
        return CalibrationCounts(
            tuple(a + b for a, b in zip(self.voxels, other.voxels, strict=True)),
            tuple(a + b for a, b in zip(self.right, other.right, strict=True)),
            tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
            self.squares + other.squares,
        )

    @property
    def ece(self) -> float | None:
        """Expected calibration error: the mean over voxels of |share right - mean probability| of their bin.

        In 0..1; None without voxels. Source: Guo et al. 2017.
        """
        gaps = sum(abs(right - sure) for right, sure in zip(self.right, self.confidence, strict=True))
        return gaps / sum(self.voxels) if sum(self.voxels) else None

    @property
    def brier(self) -> float | None:
        """Brier score (1950): mean over voxels of the squared error summed over all classes, in 0..2; None without."""
        return self.squares / sum(self.voxels) if sum(self.voxels) else None


def calibration(probabilities: NDArray[Any], reference: NDArray[Any], ignore: int | None = IGNORE) -> CalibrationCounts:
    """Count how sure and how right the winning classes are.

    probabilities: [classes, *axes], background first, sums over classes are 1; reference: [*axes] holds
    the class of every voxel, or `ignore`, which leaves it out.
    Raises MedsegError where shapes do not fit or the reference holds a class without probabilities.
    """
    if probabilities.shape[1:] != reference.shape:
        raise MedsegError(f"probabilities {probabilities.shape} do not fit a reference of shape {reference.shape}")
    keep = np.ones(reference.shape, dtype=np.bool_) if ignore is None else reference != ignore
    classes = reference[keep].astype(np.int64)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(probabilities):
        raise MedsegError(f"the reference holds a class beyond the {len(probabilities)} that have probabilities")
    given = probabilities[:, keep].astype(np.float64)  # [classes, voxels]
    sure = given.max(axis=0)
    right = given.argmax(axis=0) == classes
    bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    at_true = given[classes, np.arange(classes.size)]
    squares = float((given**2).sum() - 2 * at_true.sum() + classes.size)
    return CalibrationCounts(
        voxels=tuple(int(n) for n in np.bincount(bins, minlength=BINS)),
        right=tuple(int(n) for n in np.bincount(bins[right], minlength=BINS)),
        confidence=tuple(float(x) for x in np.bincount(bins, weights=sure, minlength=BINS)),
        squares=squares,
    )
