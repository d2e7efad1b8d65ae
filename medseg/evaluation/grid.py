"""Label maps from one grid onto another, where the user asked for it."""

from __future__ import annotations

import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap


def onto_grid(labelmap: LabelMap, target: Geometry) -> LabelMap:
    """The label map on another grid: every voxel takes the label of the voxel in which its centre lies.

    Voxels whose centre lies outside the label map's field of view become background.
    """
    step = np.linalg.inv(labelmap.geometry.affine) @ target.affine  # target voxel -> label map voxel
    limits = np.asarray(labelmap.array.shape)
    _, rows, columns = target.shape
    plane = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1)  # [J, K, 2]
    within = plane @ step[:3, 1:3].T + step[:3, 3]
    moved = np.zeros(target.shape, dtype=labelmap.array.dtype)
    for i in range(target.shape[0]):  # plane by plane, so that coordinates of a large scan fit into memory
        nearest = np.floor(within + i * step[:3, 0] + 0.5).astype(np.int64)
        inside = ((nearest >= 0) & (nearest < limits)).all(axis=-1)
        moved[i][inside] = labelmap.array[tuple(nearest[inside].T)]
    return LabelMap(moved, target, labelmap.labels)
