"""Where training patches are cut: often on a labelled structure or its border, otherwise anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.core.geometry import Shape, Triple
from medseg.core.labels import IGNORE
from medseg.data.cache import PreparedCase


def draw_case(cases: Sequence[PreparedCase], rng: np.random.Generator) -> int:
    """The place of a case that holds a label drawn evenly among those of all cases (any case where none has one)."""
    held = [{value for value, voxels in case.centers.items() if len(voxels)} for case in cases]
    labels = sorted(set().union(*held))
    if not labels:
        return int(rng.integers(len(cases)))
    wanted = labels[int(rng.integers(len(labels)))]
    places = [place for place, values in enumerate(held) if wanted in values]
    return places[int(rng.integers(len(places)))]


def draw_center(
    case: PreparedCase, patch: Shape, foreground: float, rng: np.random.Generator, boundary: float = 0.0
) -> Triple:
    """The centre of a patch in voxels of the prepared grid (fractional where the patch is even).

    With probability `foreground` the patch holds a voxel of a label drawn evenly among those the
    case has (so that small structures are seen as often as large ones), in its middle half where
    the scan's border allows it; otherwise it lies anywhere. With probability `boundary` that voxel
    lies at the border of its structure. Patches stay inside the scan; where the scan is smaller than
    the patch, it lies in the patch's middle.
    """
    labels = sorted(value for value, voxels in case.centers.items() if len(voxels))
    wanted = None
    if rng.random() < foreground and labels:
        voxels = case.centers[labels[int(rng.integers(len(labels)))]]
        if boundary > 0 and rng.random() < boundary:
            voxels = _at_border(voxels, case.label)
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


def _at_border(voxels: NDArray[np.int32], label: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Those of the voxels [N, 3] that have a neighbour of another known value; all where none has."""
    own = label[tuple(voxels.T)]
    found = np.zeros(len(voxels), dtype=np.bool_)
    for axis, size in enumerate(label.shape):
        for step in (-1, 1):
            beside = voxels.copy()
            beside[:, axis] = np.clip(beside[:, axis] + step, 0, size - 1)
            other = label[tuple(beside.T)]
            found |= (other != own) & (other != IGNORE)
    return voxels[found] if found.any() else voxels
