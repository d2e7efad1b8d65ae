"""What a label map loses at the end: specks, and everything but the largest piece of some labels."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.task import Task
from medseg.core.volume import LabelMap

# Pieces are found in so many voxels at a time: numbering them takes 12 bytes each, which for a whole
# CT would be more than the CT.
_SLAB_VOXELS = 2**22


def postprocess(labelmap: LabelMap, task: Task) -> LabelMap:
    """The label map after `task.postprocess`; what is removed becomes background.

    Of every label the pieces below `min_volume_ml` go (voxels that touch by a corner are one piece);
    of those in `keep_largest` all but the largest piece, of two as large the one that comes first.
    Extra memory: the copy that is returned and some tens of megabytes.
    """
    rules = task.postprocess
    if not rules.keep_largest and rules.min_volume_ml <= 0:
        return labelmap
    from scipy import ndimage

    array = labelmap.array.copy()
    # A voxel's volume comes out of a determinant: a piece of just that volume must not fall to rounding.
    least = rules.min_volume_ml / labelmap.geometry.voxel_volume_ml * (1 - 1e-9)
    boxes = ndimage.find_objects(array)
    for label in task.label_table():
        box = boxes[label.value - 1] if label.value <= len(boxes) else None
        if box is not None:
            _clean(array[box], label.value, least, label.name in rules.keep_largest)
    return LabelMap(array, labelmap.geometry, labelmap.labels)


def _clean(part: NDArray[Any], value: int, least: float, only_largest: bool) -> None:
    """Zero the voxels of `value` in pieces of fewer than `least` voxels, or not in the largest one, in place."""
    rows = max(1, _SLAB_VOXELS // (part.shape[1] * part.shape[2]))
    slabs = [part[start : start + rows] for start in range(0, len(part), rows)]
    sizes: list[NDArray[Any]] = []  # voxels of every piece of every slab, pieces numbered on from slab to slab
    pairs: list[NDArray[np.int64]] = []  # pieces of neighbouring slabs that touch
    first, above = 0, None
    for slab in slabs:
        pieces, count = _pieces(slab, value)
        sizes.append(np.bincount(pieces.reshape(-1), minlength=count + 1)[1:])
        if above is not None:
            pairs.append(_touching(above, np.where(pieces[0] > 0, pieces[0] + np.int64(first), 0)))
        above = np.where(pieces[-1] > 0, pieces[-1] + np.int64(first), 0)
        first += count
    gone = _gone(np.concatenate(sizes), np.concatenate(pairs) if pairs else np.zeros((0, 2), int), least, only_largest)
    if not gone.any():
        return
    first = 0
    for slab in slabs:
        if len(slabs) > 1:
            pieces, count = _pieces(slab, value)
        slab[np.concatenate(([False], gone[first : first + count]))[pieces]] = 0
        first += count


def _pieces(slab: NDArray[Any], value: int) -> tuple[NDArray[np.int32], int]:
    from scipy import ndimage

    pieces, count = ndimage.label(slab == value, structure=np.ones((3, 3, 3)))
    return pieces, int(count)


def _touching(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers [N, 2] of pieces in two neighbouring planes (0: none) that touch by a face, an edge or a corner."""
    j, k = above.shape
    found = []
    for dj, dk in product((-1, 0, 1), repeat=2):
        one = above[max(0, -dj) : j - max(0, dj), max(0, -dk) : k - max(0, dk)]
        other = below[max(0, dj) : j - max(0, -dj), max(0, dk) : k - max(0, -dk)]
        both = (one > 0) & (other > 0)
        found.append(np.unique(np.stack([one[both], other[both]], axis=1), axis=0))
    return np.unique(np.concatenate(found), axis=0)


def _gone(
    sizes: NDArray[Any], pairs: NDArray[np.int64], least: float, only_largest: bool
) -> NDArray[np.bool_]:  # fmt: skip
    """Which pieces go, once those that `pairs` (numbered from 1) join are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(sizes)
    joined = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0] - 1, pairs[:, 1] - 1)), shape=(n, n))
    count, owner = connected_components(joined, directed=False)
    whole = np.bincount(owner, weights=sizes, minlength=count)
    gone = whole < least
    if only_largest:
        gone |= np.arange(count) != whole.argmax()
    removed: NDArray[np.bool_] = gone[owner]
    return removed
