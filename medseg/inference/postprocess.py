"""What a label map loses at the end: specks, and everything but the largest piece of some labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.core.task import Task
from medseg.core.volume import LabelMap


def postprocess(labelmap: LabelMap, task: Task) -> LabelMap:
    """The label map after `task.postprocess`; what is removed becomes background.

    Of every label the pieces below `min_volume_ml` go (voxels that touch by a corner are one piece);
    of those in `keep_largest` all but the largest piece.
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
            part = array[box]
            part[_removed(part == label.value, least, label.name in rules.keep_largest)] = 0
    return LabelMap(array, labelmap.geometry, labelmap.labels)


def _removed(mask: NDArray[np.bool_], least: float, only_largest: bool) -> NDArray[Any]:
    """The voxels of `mask` that lie in pieces of fewer than `least` voxels, or not in the largest one."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    gone = sizes < least
    if only_largest:
        gone |= np.arange(count + 1) != sizes.argmax()
    gone[0] = False
    removed: NDArray[Any] = gone[pieces]
    return removed
