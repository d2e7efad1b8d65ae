"""Label maps from one grid onto another, where the user asked for it."""

from __future__ import annotations

import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.volume import LabelMap


def onto_grid(labelmap: LabelMap, target: Geometry) -> LabelMap:
    """The label map on another grid: every voxel takes the label nearest to its centre in the world.

    Voxels whose centre lies outside the label map's field of view become background.
    """
    from scipy.ndimage import affine_transform

    step = np.linalg.inv(labelmap.geometry.affine) @ target.affine  # target voxel -> label map voxel
    # Half a voxel beyond the last centre still belongs to the field of view, hence "grid-constant" on a rim.
    padded = np.pad(labelmap.array, 1, mode="edge")
    moved = affine_transform(
        padded, step[:3, :3], offset=step[:3, 3] + 1, output_shape=target.shape, order=0, mode="constant", cval=0
    )
    index = np.indices(target.shape, sparse=True, dtype=np.float32)
    for axis, n in enumerate(labelmap.array.shape):
        place = sum(np.float32(step[axis, a]) * index[a] for a in range(3)) + np.float32(step[axis, 3])
        moved[(place < -0.5 - 1e-4) | (place > n - 0.5 + 1e-4)] = 0
    return LabelMap(moved, target, labelmap.labels)
