"""Centre lines of tubular structures, behind clDice and skeleton recall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SkeletonCounts:
    """Voxels of the centre lines of one label, in the prediction and in the reference.

    predicted, reference: their numbers; predicted_inside: those of the predicted centre line that lie
    within the reference; reference_inside: those of the reference's that the prediction covers.
    """

    predicted: int
    predicted_inside: int
    reference: int
    reference_inside: int


def skeletons(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> SkeletonCounts:
    """Thin two masks of one shape (2D or 3D; axes of one voxel do not count) and count what lies in the other.

    Thinning: Zhang & Suen 1984 in 2D, Lee et al. 1994 in 3D, as in scikit-image. It knows no spacing.
    """
    either = found | true
    if not either.any():
        return SkeletonCounts(0, 0, 0, 0)
    box = _box(either)
    found, true = found[box].squeeze(), true[box].squeeze()
    predicted, reference = _thinned(found), _thinned(true)
    return SkeletonCounts(_count(predicted), _count(predicted & true), _count(reference), _count(reference & found))


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    from scipy.ndimage import find_objects

    box: tuple[slice, ...] = find_objects(mask.view(np.uint8))[0]
    return box


def _thinned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The centre line; of what thins away altogether, or is one voxel wide, the mask itself."""
    from skimage.morphology import skeletonize

    if mask.ndim < 2 or not mask.any():
        return mask
    line = np.asarray(skeletonize(np.pad(mask, 1)), dtype=np.bool_)[(slice(1, -1),) * mask.ndim]
    return line if line.any() else mask


def _count(mask: NDArray[Any]) -> int:
    return int(np.count_nonzero(mask))
