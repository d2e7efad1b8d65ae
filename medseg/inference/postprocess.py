"""What a label map loses at the end: specks, and everything but the largest piece of some labels."""

from __future__ import annotations

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
    starts = range(0, len(part), rows)
    sizes: list[NDArray[Any]] = []  # voxels of every piece of every slab, pieces numbered on from slab to slab
    pairs: list[NDArray[np.int64]] = []  # numbers of what is one piece in two slabs
    first, above = 0, np.zeros(part.shape[1:], dtype=np.int64)
    for start in starts:
        pieces, count, shared = _pieces(part, start, rows, value)
        sizes.append(np.bincount(pieces[shared:].reshape(-1), minlength=count + 1)[1:])
        if shared:
            pairs.append(_pairs(above, pieces[0] + np.int64(first)))
        above = np.where(pieces[-1] > 0, pieces[-1] + np.int64(first), 0)
        first += count
    gone = _gone(np.concatenate(sizes), np.concatenate(pairs) if pairs else np.zeros((0, 2), int), least, only_largest)
    if not gone.any():
        return
    # Backwards, so that the plane before a slab is still as it was when its pieces were numbered.
    for start in reversed(starts):
        if len(starts) > 1:
            pieces, count, shared = _pieces(part, start, rows, value)
        first -= count
        taken = np.concatenate(([False], gone[first : first + count]))[pieces[shared:]]
        part[start : start + rows][taken] = 0


def _pieces(part: NDArray[Any], start: int, rows: int, value: int) -> tuple[NDArray[np.int32], int, int]:
    """Pieces in the planes from `start` on and in the one before them, their count, and the planes before.

    A plane that two slabs have in common tells which of their pieces are one.
    """
    from scipy import ndimage

    shared = min(start, 1)
    pieces, count = ndimage.label(part[start - shared : start + rows] == value, structure=np.ones((3, 3, 3)))
    return pieces, int(count), shared


def _pairs(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The distinct pairs [N, 2] of numbers that two maps of one plane give its voxels, where `one` is not 0."""
    both = np.stack([one[one > 0], other[one > 0]], axis=1)
    changed = np.ones(len(both), dtype=bool)
    changed[1:] = (both[1:] != both[:-1]).any(axis=1)  # runs of one pair are long, so sorting comes after
    return np.unique(both[changed], axis=0)


def _gone(
    sizes: NDArray[Any], pairs: NDArray[np.int64], least: float, only_largest: bool
) -> NDArray[np.bool_]:  # fmt: skip
    """Which pieces go, once those that `pairs` (numbered from 1) join are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, owner = len(sizes), np.arange(len(sizes))
    if len(pairs):
        joined = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0] - 1, pairs[:, 1] - 1)), shape=(count, count))
        count, owner = connected_components(joined, directed=False)
    whole = np.bincount(owner, weights=sizes, minlength=count)
    gone = whole < least
    if only_largest:
        gone |= np.arange(count) != whole.argmax()
    removed: NDArray[np.bool_] = gone[owner]
    return removed
