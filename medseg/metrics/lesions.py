"""Lesions found, missed and invented: connected components of one label.

Voxels that touch by a face, an edge or a corner are one lesion. A lesion of the reference is found where
the prediction covers any voxel of it; a predicted one that touches none of the reference's voxels is a
false positive. (Carass et al. 2017 count lesions of multiple sclerosis so.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Diameters in mm of the sphere (in pictures: disc) of a lesion's size, between which sensitivities are given.
DIAMETERS = (5.0, 10.0)
STRATA = ("below 5 mm", "5 to 10 mm", "10 mm or more")


@dataclass(frozen=True, slots=True)
class LesionCounts:
    """Lesions of one label in one scan, or in `scans` of them added up.

    found, reference: lesions of the reference that were found, and all of them, one entry per stratum
    of `STRATA`; predicted: lesions in the prediction; false_positives: those among them that touch
    nothing of the reference.
    """

    found: tuple[int, ...]
    reference: tuple[int, ...]
    predicted: int
    false_positives: int
    scans: int = 1

    def __add__(self, other: LesionCounts) -> LesionCounts:
        return LesionCounts(
            tuple(a + b for a, b in zip(self.found, other.found, strict=True)),
            tuple(a + b for a, b in zip(self.reference, other.reference, strict=True)),
            self.predicted + other.predicted,
            self.false_positives + other.false_positives,
            self.scans + other.scans,
        )

    def sensitivities(self) -> dict[str, float | None]:
        """Share of the reference's lesions that were found, per stratum of size; None where it holds no lesion."""
        return {
            name: found / all_ if all_ else None
            for name, found, all_ in zip(STRATA, self.found, self.reference, strict=True)
        }


def lesions(found: NDArray[np.bool_], true: NDArray[np.bool_], spacing: Sequence[float]) -> LesionCounts:
    """Count the lesions of two masks of one shape (2D or 3D); spacing: mm between voxels along each axis."""
    from scipy.ndimage import label

    touching = np.ones((3,) * found.ndim, dtype=np.uint8)
    reference, count = label(true, structure=touching)
    predicted, n_predicted = label(found, structure=touching)
    # Component 0 is what lies around all lesions.
    covered = np.bincount(reference[found], minlength=count + 1)[1:] > 0
    right = np.bincount(predicted[true], minlength=n_predicted + 1)[1:] > 0
    stratum = np.searchsorted(DIAMETERS, _diameters(np.bincount(reference.ravel())[1:], found.shape, spacing), "right")
    return LesionCounts(
        found=_per_stratum(stratum[covered]),
        reference=_per_stratum(stratum),
        predicted=int(n_predicted),
        false_positives=int(n_predicted - np.count_nonzero(right)),
    )


def _diameters(voxels: NDArray[Any], shape: Sequence[int], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Diameters in mm of spheres (discs, where the grid is one voxel thick) as large as so many voxels."""
    steps = [step for size, step in zip(shape, spacing, strict=True) if size > 1] or list(spacing)
    size = voxels * float(np.prod(steps))
    return np.asarray(np.cbrt(6 * size / np.pi) if len(steps) > 2 else np.sqrt(4 * size / np.pi))


def _per_stratum(stratum: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.bincount(stratum, minlength=len(STRATA)))
