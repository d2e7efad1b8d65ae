"""Adapted Rand error (Arganda-Carreras et al. 2015), the SNEMI3D and CREMI figure for cells and neurites."""

from __future__ import annotations

import numpy as np

from medseg.metrics.contingency import Contingency


def adapted_rand(table: Contingency) -> tuple[float, float, float] | None:
    """Error, precision and recall of the adapted Rand index; an error of 0 is none.

    precision: of the pairs of voxels in one predicted region, the share that is in one region of the
    reference, too; recall: the other way round. (scikit-image's error is the same; its precision and
    recall are exchanged.) Voxels that are background (0) in the reference are left out. None where no
    other voxel is left.
    """
    keep = table.reference != 0
    total = int(table.shared[keep].sum())
    if not total:
        return None
    together = float((table.shared[keep].astype(np.float64) ** 2).sum() - total)
    predicted, reference = (_pairs(side[keep], table.shared[keep]) for side in (table.predicted, table.reference))
    # Regions of one voxel each hold no pair that could be wrong.
    precision = together / predicted if predicted else 1.0
    recall = together / reference if reference else 1.0
    rand = 2 * together / (predicted + reference) if predicted + reference else 1.0
    return 1 - rand, precision, recall


def _pairs(regions: np.ndarray, shared: np.ndarray) -> float:
    """Ordered pairs of different voxels within one region."""
    _, place = np.unique(regions, return_inverse=True)
    sizes = np.bincount(place, weights=shared)
    return float((sizes**2).sum() - sizes.sum())
