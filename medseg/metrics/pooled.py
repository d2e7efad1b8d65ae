"""Figures of all voxels of a set of cases together: what segmentation benchmarks call accuracy and mIoU.

Each takes a matrix of voxels [predicted class, reference class] with background as class 0, as
`confusion` gives it, added up over the cases. Source of all four: Long et al. 2015, section 5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]


def pixel_accuracy(matrix: Matrix) -> float | None:
    """Share of all voxels, background included, that have the right class; None without voxels."""
    total = int(matrix.sum())
    return float(np.trace(matrix) / total) if total else None


def mean_iou(matrix: Matrix) -> float | None:
    """Mean of the classes' pooled IoU, background included: the mIoU of PASCAL VOC and Cityscapes.

    Classes that are neither predicted nor in the reference are left out; None without voxels.
    """
    iou, present = _iou(matrix)
    return float(iou[present].mean()) if present.any() else None


def frequency_weighted_iou(matrix: Matrix) -> float | None:
    """The classes' pooled IoU weighted by how many of the reference's voxels they have, background included."""
    iou, _ = _iou(matrix)
    total = int(matrix.sum())
    return float((matrix.sum(axis=0) * iou).sum() / total) if total else None


def _iou(matrix: Matrix) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    hits = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return hits / np.maximum(union, 1), union > 0
