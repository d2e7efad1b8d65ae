"""Normalised surface Dice (Nikolov et al. 2021)."""

from __future__ import annotations

import numpy as np

from medseg.metrics.surface import SurfaceDistances

_SLACK = 1 + 1e-9  # a distance that is the tolerance but for rounding lies within it


def measure(surfaces: SurfaceDistances) -> float | None:
    """Share of both surfaces' voxels that lie within the tolerance of the other surface, in 0..1.

    Every surface voxel counts alike, whatever its area. None where the label is absent in both masks,
    0 where it is in one only.
    """
    if not surfaces.defined:
        return None
    if surfaces.missing is not None:
        return 0.0
    sides = (surfaces.from_predicted, surfaces.from_reference)
    near = sum(int(np.count_nonzero(side <= surfaces.tolerance * _SLACK)) for side in sides)
    return near / sum(side.size for side in sides)
