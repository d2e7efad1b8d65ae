"""Where training patches are cut: often on a labelled structure, otherwise anywhere."""

from __future__ import annotations

import numpy as np

from medseg.core.geometry import Shape, Triple
from medseg.data.cache import PreparedCase


def draw_center(case: PreparedCase, patch: Shape, foreground: float, rng: np.random.Generator) -> Triple:
    """The centre of a patch in voxels of the prepared grid (fractional where the patch is even).

    With probability `foreground` the patch holds a voxel of a label drawn evenly among those the
    case has (so that small structures are seen as often as large ones), in its middle half where
    the scan's border allows it; otherwise it lies anywhere. Patches stay inside the scan; where the
    scan is smaller than the patch, it lies in the patch's middle.
    """
    labels = sorted(value for value, voxels in case.centers.items() if len(voxels))
    wanted = None
    if rng.random() < foreground and labels:
        voxels = case.centers[labels[int(rng.integers(len(labels)))]]
        wanted = voxels[int(rng.integers(len(voxels)))]
    starts = []
    for axis, (size, window) in enumerate(zip(case.label.shape, patch, strict=True)):
        last = size - window
        if last <= 0:
            starts.append(last // 2)
        elif wanted is None:
            starts.append(int(rng.integers(last + 1)))
        else:
            inside = window // 4 + int(rng.integers(window - 2 * (window // 4)))
            starts.append(min(max(int(wanted[axis]) - inside, 0), last))
    i, j, k = (start + (window - 1) / 2 for start, window in zip(starts, patch, strict=True))
    return i, j, k
